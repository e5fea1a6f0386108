"""Copying sequencers elsewhere: what belongs together, what is missing, how a standby follows.

Others import ``frontiers``, ``pieces``, ``replication``, ``shipper`` and ``standby_copy``.
"""
