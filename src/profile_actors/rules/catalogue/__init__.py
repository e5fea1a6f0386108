"""All rules of a catalogue together: which are in force, typed in order, planned, changed.

The engine imports ``catalogue_plan.plan`` and ``typed_rules.check_all``.
"""
