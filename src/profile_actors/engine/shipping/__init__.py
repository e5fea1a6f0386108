"""Copying sequencers elsewhere: which positions of them belong together.

Others import: ``frontiers``.
"""
