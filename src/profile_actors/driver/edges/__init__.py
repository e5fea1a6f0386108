"""Edges as a program sees them: look-ups at one, beside it, and how it compares with the hub.

Others import ``remote_edge``, ``open_edge`` and ``watching_doors``.
"""
