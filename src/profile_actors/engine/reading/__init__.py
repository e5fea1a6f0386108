"""Answers: profiles, pages of events, members, changes, previews, verification.

The partition imports ``reader``; everything here reads published state and writes nothing.
"""
