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
    *("__init__", "errors", "config", "definitions", "ingest", "rules"),
    *("engine", "storage", "actors", "client", "cli", "__main__"),
)


def lines() -> list[str]:
    """One line per module in reading order: its path and its docstring's first line."""

    def order(path: Path) -> tuple[int, bool, str]:
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        room = ROOMS.index(parts[0]) if parts[0] in ROOMS else len(ROOMS)
        return room, parts[-1] != "__init__", str(path)

    out = []
    for path in sorted(PACKAGE.rglob("*.py"), key=order):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "?"
        out.append(f"- `{path.relative_to(PACKAGE)}`: {docstring.splitlines()[0]}")
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
