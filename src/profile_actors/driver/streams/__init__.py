"""Streams: rows that come one by one gather in the driver and travel as batches.

``client`` imports ``writing_doors``; the package hands on ``RowStream`` and ``AsyncRowStream``.
"""
