"""How a rule runs, in words: parts, costs, what it shares, what it can never be.

The client imports ``report.explain``.
"""
