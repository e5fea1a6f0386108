"""The shell of an edge, and what a partition answers to it.

Others import ``edge_actor`` (drivers) and ``edge_pulls`` (the partition's shell).
"""
