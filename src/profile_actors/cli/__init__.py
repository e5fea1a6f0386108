"""The door for shells: ``profile-actors VERB``.

Others import ``main`` and ``app``, nothing else.
"""

from __future__ import annotations

from profile_actors.cli.application import app, main
from profile_actors.cli.copy_verbs import edge
from profile_actors.cli.file_verbs import ingest
from profile_actors.cli.keeping_verbs import backup, stop
from profile_actors.cli.people_verbs import unlink
from profile_actors.cli.verbs import verify

__all__ = ["app", "backup", "edge", "ingest", "main", "stop", "unlink", "verify"]
