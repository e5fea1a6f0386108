"""Files of a log that is kept twice.

Others import ``copied_log`` and ``standby_files`` (the shells of partitions and of standbys).
"""
