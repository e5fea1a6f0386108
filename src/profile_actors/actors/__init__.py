"""The thin Ray shells around the pure engine: partitions, coordinator, and calls that retry.

The driver's half imports ``calls`` and ``wire``; the actors themselves are only called by name.
"""
