"""Arrays that know neither rules nor partitions: typed vectors, runs, exact sums, hash tables.

Every room below may import any module of it; it imports only ``errors`` and ``definitions``.
"""
