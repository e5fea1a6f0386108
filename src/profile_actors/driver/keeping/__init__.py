"""Keeping: who runs a store, on which Ray, and how other processes find it.

Others import ``Placement``, ``RUNTIME``, and what ``attach`` says of a directory.
"""
