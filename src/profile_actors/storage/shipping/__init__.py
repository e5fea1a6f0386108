"""Files by content at a place that may be anywhere: what is copied there, and put back from there.

Others import ``depot``, ``backups``, ``log_shipping``, ``environments``, ``known_backups``,
``restoring`` and ``erased_again``.
"""
