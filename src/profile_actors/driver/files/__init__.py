"""Files into a store, and out of it.

``client`` imports ``file_doors``.
"""
