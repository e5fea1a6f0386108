"""Log segments of many small entries written anew as few large ones.

See docs/ARCHITECTURE.md.
"""
