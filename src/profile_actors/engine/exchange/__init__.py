"""What one entry takes in and sends out: rows of producers, and messages between partitions.

The partition imports it; it writes nothing of the state but new identities.
"""
