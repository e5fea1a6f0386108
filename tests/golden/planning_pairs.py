"""Pairs of rule and plan, one file per kind of rule: what the planner makes of a rule, to be read.

``python -m tests.golden.planning_pairs`` writes the plans anew; read the difference before it is
committed. A file: ``// `` lines say what it is about, then blocks of a line ``rule …`` and the plan
as ``explain`` shows it. ``catalogue`` is the shop that all of them are planned in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.rules.explain.report import explain
from profile_actors.rules.explain.wording import render

FOLDER = Path(__file__).parent / "planning"
EVENT: dict[str, Any] = {
    "sku": "string",
    "price": "double",
    "qty": "integer",
    "items[].sku": "string",
    "items[].qty": "integer",
}
PERSON: dict[str, Any] = {
    "city": "string",
    "tier": "string",
    "favourite": "string",
    "points": "integer",
    "joined": "timestamp",
    "tags": "string[]",
    "limits": "map<integer>",
}
OTHERS = (
    SegmentDefinition("buyers", 'xEvent[eventType = "buy"].count() > 0'),
    ComputedAttribute("spend", 'xEvent[eventType = "buy"].sum(price)'),
    ComputedAttribute("seen", "xEvent.sku.distinct()"),
    ComputedAttribute("counts", "xEvent.qty"),
)


@dataclass(frozen=True)
class Pair:
    """One rule, and its plan as the file has it ("" if it has none yet)."""

    file: str
    rule: str
    plan: str


def pairs() -> list[Pair]:
    """All pairs, in the order of the files."""
    found = []
    for path in sorted(FOLDER.glob("*.pql")):
        blocks = path.read_text(encoding="utf-8").split("\nrule ")[1:]
        for block in blocks:
            rule, _, plan = block.partition("\n")
            found.append(Pair(path.stem, rule, plan.strip("\n")))
    return found


def catalogue(*rules: str) -> Catalogue:
    """The shop, with these rules as segments r0, r1, …"""
    named = [SegmentDefinition(f"r{i}", rule) for i, rule in enumerate(rules)]
    segments = [item for item in OTHERS if isinstance(item, SegmentDefinition)]
    computed = [item for item in OTHERS if isinstance(item, ComputedAttribute)]
    return Catalogue(
        1,
        {"CRMID": Namespace("CRMID", "cross_device")},
        {"visit": Schema("visit", "event", EVENT), "person": Schema("person", "record", PERSON)},
        {
            "visits": Dataset(
                "visits", "visit", {"who": "CRMID"}, timestamp="at", id="_id",
                event_type_field="kind",
            ),
            "crm": Dataset("crm", "person", {"who": "CRMID"}, timestamp="at"),
        },
        {item.name: item for item in (*segments, *named)},
        {item.name: item for item in computed},
    )  # fmt: skip


def plan_text(rule: str) -> str:
    """The rule's plan as ``explain`` shows it, without the line that repeats the rule."""
    return render(explain(rule, catalogue())).partition("\n")[2]


def write() -> None:
    """Write every file's plans anew."""
    for path in sorted(FOLDER.glob("*.pql")):
        head = path.read_text(encoding="utf-8").partition("\nrule ")[0]
        mine = [pair for pair in pairs() if pair.file == path.stem]
        blocks = [f"rule {pair.rule}\n{plan_text(pair.rule)}\n" for pair in mine]
        path.write_text("\n".join([head, *blocks]), encoding="utf-8")


if __name__ == "__main__":
    write()
