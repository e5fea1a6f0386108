"""Logs that are kept twice, as programs ask for it.

Others import ``replica_doors`` (the store) and ``standby_processes`` (whoever starts one).
"""
