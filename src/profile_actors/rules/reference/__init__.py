"""The reference evaluator: slow, obvious, the whole language, with the value's valid_until.

Others import ``validity``; the vectorised evaluator is checked against it, rescans are done by it.
"""
