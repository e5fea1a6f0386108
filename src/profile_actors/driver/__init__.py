"""The driver's half of a store: connections, sending, files, iterators, and the Ray it lives on.

``client`` and ``cli`` import from it; it calls actors by name and never touches their state.
"""
