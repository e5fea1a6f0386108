"""One step from one instant to a later one: computed beside the state, then published at once.

The partition imports ``entry_fold`` and ``state``; a look-up uses the same ``fold`` and publishes
nothing.
"""
