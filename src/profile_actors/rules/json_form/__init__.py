"""Rules as JSON trees, both ways, without loss.

The package's front imports ``json_writer``, which checks itself with ``json_reader``.
"""
