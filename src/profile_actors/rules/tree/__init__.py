"""What a rule is made of, and pure walks over it: nodes, plan nodes, kinds, what reads the clock.

Every room of the rules may import it; it evaluates nothing.
"""
