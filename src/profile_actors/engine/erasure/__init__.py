"""Room: what is left of a log's entries when a person is taken out of them.

Begin with ``eraser``.
"""
