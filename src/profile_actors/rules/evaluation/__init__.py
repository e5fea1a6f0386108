"""Vectorised evaluation: one NumPy pass per node over many profiles, and when a value next changes.

The engine imports ``planned_values``, ``frames``, ``windows`` and ``horizons``; who has rules
planned hands on ``trial``.
"""
