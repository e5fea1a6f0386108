"""A log that is kept twice, over processes.

Others import ``copies_registry`` (the coordinator), ``shipped_log`` (whoever opens a log), and
``standby_actor`` (whoever starts a store).
"""
