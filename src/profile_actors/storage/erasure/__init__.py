"""Room: files of which a person is taken out, and what is known of it meanwhile.

Begin with ``rewriting``.
"""
