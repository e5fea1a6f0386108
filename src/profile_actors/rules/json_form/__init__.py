"""Rules as JSON trees, both ways, without loss.

The package's front imports ``json_writer``; ``json_reader`` is its other half.
"""
