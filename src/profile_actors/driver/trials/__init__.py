"""Trials: what definitions would do to a running store, nothing saved.

The driver's half: partitions and ledger answer, this adds up.
"""
