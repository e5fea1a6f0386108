"""What a process imports that attaches to a store, and does not start one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ATTACHED = {
    *("config", "definitions", "errors", "driver", "client", "cli", "ingest", "public_names"),
    *("columnar.hash_table", "columnar.runs", "columnar.time_units", "columnar.vectors"),
    *("rules.catalogue", "rules.semantics", "rules.tree"),
    *("engine.identity", "engine.log", "engine.merge", "engine.reading", "engine.shipping"),
    *("actors.actor_status", "actors.calls", "actors.consumers", "actors.edges", "actors.hooks"),
    *(
        "actors.mail",
        "actors.read_line",
        "actors.replicas",
        "actors.shell",
        "actors.wall_clock",
        "actors.wire",
    ),
    *("storage.files", "storage.replicas", "storage.store_settings"),
}
"""The rooms that an attached process may load: forms on the wire, fields, types, errors, the door
for rows, and where files are."""

MOST_MODULES = 160
"""There were 153 when this was written, and 431 before what only a starter needs was told apart."""

LOADED = """
import json, sys
from profile_actors import cli
import profile_actors.client
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    """The modules of a process that is about to attach, by whatever verb."""
    words = [sys.executable, "-c", LOADED]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def rooms_of(modules: list[str]) -> set[str]:
    """``engine.log`` for profile_actors.engine.log.entry; but ``ingest`` where all of it may be."""
    inside = [name.split(".")[1:3] for name in modules if name.startswith("profile_actors.")]
    whole = {first for first, *_ in inside if first in ATTACHED}
    return {one[0] if one[0] in whole else ".".join(one) for one in inside}


def test_who_attaches_loads_the_rooms_of_a_client(loaded: list[str]) -> None:
    parents = {name.partition(".")[0] for name in ATTACHED}
    assert rooms_of(loaded) - ATTACHED - parents == set()
    assert len([name for name in loaded if name.startswith("profile_actors")]) <= MOST_MODULES


def test_who_attaches_loads_neither_parser_nor_parquet(loaded: list[str]) -> None:
    assert {"lark", "pydantic", "pandas", "pyarrow.parquet"} & set(loaded) == set()


def test_what_an_attached_process_was_told_to_do_without_is_there_for_a_starter() -> None:
    """The list above would also hold of a package that lacks those rooms."""
    code = "import profile_actors.driver.starting.starting" + LOADED
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True
    )
    found = rooms_of(json.loads(done.stdout))
    assert {"engine.fold", "engine.partition", "rules.planning", "actors.coordinator"} <= found
