"""What one value means: comparison, arithmetic, text tests, calendar; for both evaluators.

The reference and the vectorised evaluation import it.
"""
