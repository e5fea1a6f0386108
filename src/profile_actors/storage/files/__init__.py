"""Files as storage needs them: written whole, checksummed, locked, laid out.

Only storage imports it.
"""
