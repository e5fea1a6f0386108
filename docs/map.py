"""Write the map of rooms into docs/ARCHITECTURE.md: python docs/map.py --write."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "profile_actors"
DOCUMENT = ROOT / "docs" / "ARCHITECTURE.md"
START, END = "<!-- map: written by `make map` -->", "<!-- end of map -->"
# Reading order: each room uses only those before it.
ROOMS = (
    *("__init__", "errors", "config", "columnar", "definitions", "ingest", "rules"),
    *("engine", "storage", "actors", "driver", "client", "cli", "__main__"),
)
FOLDERS = (
    *("files", "typing", "tree", "semantics", "language", "json_form", "reference"),
    *("evaluation", "planning", "catalogue", "explain", "log", "identity", "merge", "operators"),
    *("membership", "fold", "refold", "reading", "partition"),
)


def _title(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "?"
    return docstring.partition("\n\n")[0].replace("\n", " ")


def _order(path: Path) -> tuple[int, int, str]:
    """A room stands in reading order, its folders too, what lies beside folders last."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    room = ROOMS.index(parts[0]) if parts[0] in ROOMS else len(ROOMS)
    folder = FOLDERS.index(parts[1]) if len(parts) > 1 and parts[1] in FOLDERS else len(FOLDERS)
    return room, folder, str(path)


def lines() -> list[str]:
    """The rooms, one line each; then every room's modules, each with its docstring's title."""
    rooms = {path.parent: _title(path) for path in PACKAGE.rglob("__init__.py")}
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    modules.sort(key=_order)
    out, inside = [], []
    shown: set[Path] = {PACKAGE}
    for path in modules:
        room = path.parent
        above = [r for r in (room.parent, room) if r in rooms and r not in shown]
        for new in above:
            depth = len(new.relative_to(PACKAGE).parts) - 1
            out.append(f"{'  ' * depth}- `{new.relative_to(PACKAGE)}/`: {rooms[new]}")
            shown.add(new)
        if room == PACKAGE:
            out.append(f"- `{path.name}`: {_title(path)}")
    for room in [r for r in shown if r != PACKAGE]:
        held = [path for path in modules if path.parent == room]
        if held:
            first = modules.index(held[0])
            inside.append((first, room, held))
    for _, room, held in sorted(inside):
        out += ["", f"### `{room.relative_to(PACKAGE)}/`", ""]
        out += [f"- `{path.relative_to(PACKAGE)}`: {_title(path)}" for path in held]
    return out


def with_map(text: str) -> str:
    """The document with what stands between its two markers replaced by today's map."""
    head, rest = text.split(START)
    _, tail = rest.split(END)
    return "\n".join([head + START, "", *lines(), "", END + tail])


if __name__ == "__main__":
    before = DOCUMENT.read_text(encoding="utf-8")
    after = with_map(before)
    if "--write" in sys.argv:
        DOCUMENT.write_text(after, encoding="utf-8")
    elif before != after:
        sys.exit("docs/ARCHITECTURE.md: the map is out of step; run make map")
