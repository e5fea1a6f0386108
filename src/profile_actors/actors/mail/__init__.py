"""How messages between sequencers travel, and the ledger as an actor.

Others import ``postman`` (shells of sequencers), ``ledger_actor`` (drivers) and ``peers`` (both).
"""
