"""The machine: entries, the clock, checkpoints, recovery.

Actors import ``partition.Partition`` and ``feed_mending``; nothing in the engine imports this room.
"""
