"""Rows become typed columns: per-row verdicts, quarantine records, files.

The driver imports ``door``, ``row_blocks`` and ``route``; the engine ``offsets`` and the names in
``hidden_columns``.
"""
