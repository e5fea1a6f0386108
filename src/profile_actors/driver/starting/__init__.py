"""Starting: what begins a store's actors, and the process that keeps them up.

Others import ``starting.opened``, ``keeper``, ``metrics_port``.
"""
