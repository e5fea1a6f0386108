"""Files into a store, and out of it.

``client`` and ``cli`` import ``file_ingest`` and ``exports``.
"""
