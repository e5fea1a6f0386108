"""Files of every form as blocks of rows, each with its number: the same rows however they came.

The driver imports ``forms``, ``places`` and ``file_contents``; storage and actors the last.
"""
