"""The rule language: text, typed tree, plan, vectorised evaluation, and the reference evaluator.

The engine imports ``tree``, ``evaluation`` and ``catalogue``, the client ``explain``.
"""
