"""Text to typed tree and back: lexer, parser, names, types, the canonical text.

Others import ``parser.parse``, ``checker.check``, ``types`` and ``unparse``.
"""
