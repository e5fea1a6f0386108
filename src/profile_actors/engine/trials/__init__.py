"""Trials: what changed definitions would do to who there is, over the stored log, nothing saved.

The driver adds up what partitions find; nothing here writes state.
"""
