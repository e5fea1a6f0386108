"""Edges: which profiles changed since when, in pages, and the copy that is made of them.

Others import ``projector`` (the hub's side), ``projections`` (what a destination gets), and for the
copy ``edge_pages``, ``edge_rows`` and ``edge_copy``.
"""
