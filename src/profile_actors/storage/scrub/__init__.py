"""Everything on a disk read again and compared with its checksum, and what is damaged mended.

Others import ``scrubbing`` (the shells of sequencers) and ``log_mending``.
"""
