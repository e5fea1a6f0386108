"""What the engine's protocols ask for, on LMDB and files: log, feed, checkpoints, catalogue."""
