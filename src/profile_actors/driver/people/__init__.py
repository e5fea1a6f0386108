"""People as a program sees them: who is one person, what would change, and how one is erased.

Others import ``people_doors`` (what ``Store`` inherits) and ``erasing`` (what it returns).
"""
