"""One value's verdict, and the same verdict over whole columns and whole texts.

The door imports ``typed_columns`` and ``verdicts``; ``verdicts.judge`` is the authority over every
faster way.
"""
