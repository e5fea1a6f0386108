"""The rule language: text, typed tree, plan, vectorised evaluation, and the reference evaluator.

The engine imports ``tree``, ``planning.thresholds``, ``evaluation``, ``catalogue`` and, for rescans
and verification, ``reference``; the client imports ``explain``.
"""
