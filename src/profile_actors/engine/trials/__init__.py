"""Trials: what changed definitions would do to who there is, and what is held on an identity.

The driver adds up what partitions find in the stored log; nothing here writes state.
"""
