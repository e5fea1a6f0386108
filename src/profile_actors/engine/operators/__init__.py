"""What is kept of events per profile: sums, extremes, and the lines that let them go.

Membership compiles plans into these; nothing here knows a rule's name or a segment.
"""
