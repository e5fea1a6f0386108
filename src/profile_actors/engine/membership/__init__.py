"""From operators to memberships: levels, formulas over levels, timers, the rulebook.

The fold imports ``rulebook``, ``gauges``, ``level_formulas`` and ``timers``.
"""
