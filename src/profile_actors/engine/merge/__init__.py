"""From rows of several data sets to one person's documents.

Others import ``documents`` and ``record_union``; the order of ties is this room's alone.
"""
