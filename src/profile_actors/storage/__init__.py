"""What the engine's protocols ask for, on LMDB and files: log, feed, checkpoints, catalogue.

Actors import its modules and give them to the engine; ``lmdb`` is imported nowhere else.
"""
