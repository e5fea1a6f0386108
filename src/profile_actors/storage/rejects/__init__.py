"""Rejected rows, kept until they are repaired or leave.

Others import ``quarantine`` (the rows) and ``quarantine_loss`` (that it was gone).
"""
