"""The rule language: text, typed tree, plan, vectorised evaluation, and the reference evaluator."""
