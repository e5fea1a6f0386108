"""From typed rules to a plan of what operators keep up to date; what is refused, and why.

The catalogue's plan and ``explain`` import ``catalogue_planner``, the engine ``thresholds``;
nothing here evaluates anything.
"""
