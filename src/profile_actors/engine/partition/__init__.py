"""The machine: admission, entries, the clock, checkpoints, recovery.

Actors import ``partition.Partition``; nothing in the engine imports this room.
"""
