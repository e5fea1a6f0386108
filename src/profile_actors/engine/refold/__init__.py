"""The one repair tool: a part of the state made afresh from the rows of the log.

Definitions, verification, previews and rescans import it; it folds with ``fold``, never beside it.
"""
