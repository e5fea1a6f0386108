"""Backups as a program asks for them: made of a running store, and a store made from one.

Others import ``backup_doors``, ``places_of_backups`` and ``restored_stores``.
"""
