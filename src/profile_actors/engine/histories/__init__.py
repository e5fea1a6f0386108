"""Histories: the events that sequences, joins and per-key maps read, kept per profile in columns.

Others import ``EventHistory`` and its rows; how the arena places them is nobody else's business.
"""
