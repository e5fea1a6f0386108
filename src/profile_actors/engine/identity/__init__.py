"""Identities: what they are, and the dense numbers a partition gives them.

Others import ``identity.Identity`` and ``directory.Directory``.
"""
