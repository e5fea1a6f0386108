"""Copying sequencers elsewhere: which positions of them belong together, and what is to be copied.

Others import ``frontiers`` and ``pieces``.
"""
