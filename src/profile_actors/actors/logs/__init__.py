"""How an actor comes by its log.

Others import ``enlisted_log`` (the shells of partitions and of the ledger).
"""
