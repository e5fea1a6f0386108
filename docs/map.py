"""Write the map of rooms into docs/ARCHITECTURE.md: python docs/map.py --write."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "profile_actors"
DOCUMENT = ROOT / "docs" / "ARCHITECTURE.md"
ROOMS_START, MODULES_START = (
    f"<!-- {what}: written by `make map` -->" for what in ("rooms", "modules")
)
END = "<!-- end -->"
# Reading order: each room uses only those before it.
ROOMS = (
    *("__init__", "errors", "config", "columnar", "definitions", "ingest", "rules"),
    *("engine", "storage", "actors", "driver", "client", "cli", "__main__"),
)
FOLDERS = (
    *("files", "streams", "typing", "tree", "semantics", "language", "json_form", "reference"),
    *("planning", "evaluation", "catalogue", "explain", "log", "identity", "merge", "operators"),
    *("membership", "fold", "refold", "reading", "trials", "partition"),
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


def rooms() -> list[str]:
    """One line for each room, and for each folder in it."""
    titles = {path.parent: _title(path) for path in PACKAGE.rglob("__init__.py")}
    out: list[str] = []
    shown: set[Path] = {PACKAGE}
    for path in _modules():
        room = path.parent
        for new in [r for r in (room.parent, room) if r in titles and r not in shown]:
            depth = len(new.relative_to(PACKAGE).parts) - 1
            out.append(f"{'  ' * depth}- `{new.relative_to(PACKAGE)}/`: {titles[new]}")
            shown.add(new)
        if room == PACKAGE:
            out.append(f"- `{path.name}`: {_title(path)}")
    return out


def modules() -> list[str]:
    """The modules of every room, one line each."""
    out: list[str] = []
    held: dict[Path, list[Path]] = {}
    for path in _modules():
        held.setdefault(path.parent, []).append(path)
    for room, paths in held.items():
        if room != PACKAGE:
            out += ["", f"### `{room.relative_to(PACKAGE)}/`", ""]
            out += [f"- `{path.relative_to(PACKAGE)}`: {_title(path)}" for path in paths]
    return out[1:]


def _modules() -> list[Path]:
    return sorted((p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py"), key=_order)


def with_map(text: str) -> str:
    """The document with what stands between its pairs of markers replaced by today's map."""
    for start, lines in ((ROOMS_START, rooms()), (MODULES_START, modules())):
        head, rest = text.split(start)
        _, tail = rest.split(END, 1)
        text = "\n".join([head + start, "", *lines, "", END + tail])
    return text


if __name__ == "__main__":
    before = DOCUMENT.read_text(encoding="utf-8")
    after = with_map(before)
    if "--write" in sys.argv:
        DOCUMENT.write_text(after, encoding="utf-8")
    elif before != after:
        sys.exit("docs/ARCHITECTURE.md: the map is out of step; run make map")
