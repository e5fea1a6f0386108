"""Rows become typed columns: per-row verdicts, quarantine records, files."""
