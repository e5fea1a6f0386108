"""The formats of the log, and what is asked of whoever stores it.

Every other room of the engine may import it; storage implements ``ports``.
"""
