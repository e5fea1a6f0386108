"""What ``explain`` says of each part, in words, and its report as text for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

from profile_actors.rules.explain.costs import Cost, reads_clock, ways_of_filter
from profile_actors.rules.tree.nodes import Call, Each, Literal
from profile_actors.rules.tree.plan import Aggregate, EventFilter, Sequence

Report = dict[str, Any]


EVALUATED = "evaluated where a part changed"


WHEN_DUE = ", and when due"


PER_ELEMENT = "evaluated for each element"


def how_aggregate(aggregate: Aggregate) -> str:
    """What an aggregate's operator keeps."""
    words = {
        "count": "a count per profile",
        "sum": "an exact sum per profile",
        "min": "the least value per profile",
        "max": "the greatest value per profile",
        "distinct": "the distinct values per profile, each with its count",
    }[aggregate.function]
    if aggregate.filter.types == frozenset():
        return f"{words}; no event can match: always empty"
    window = aggregate.filter.window
    return f"{words}; events enter and leave by the clock (delay line)" if window else words


def how_kept(events: EventFilter) -> str:
    """Which of a profile's events are kept."""
    if events.types == frozenset():
        return "no event can match: always empty"
    words = "kept events of the profile, in columns"
    return f"{words}; they enter and leave by the clock" if events.window else words


def how_list(node: Each | Call) -> str | None:
    """What a function of lists or maps makes; None of any other function."""
    if isinstance(node, Call):
        return _OF_LISTS.get(node.function)
    if node.function == "filter":
        words = _ELEMENTS if ways_of_filter(node) is None else _JOINED
        return words + "; asked again when due" * reads_clock(node.body)
    if node.function in ("topn", "bottomn"):
        which = "highest" if node.function == "topn" else "lowest"
        if node.extra == (Literal(1, "integer"),):
            return f"the element of the {which} key"
        amount = node.extra[0].value if isinstance(node.extra[0], Literal) else "n"
        return f"the {amount} elements of the {which} keys, in that order"
    return _MADE[node.function]


def how_sequence(node: Sequence) -> str:
    """How a sequence is looked for."""
    return f"a search for {len(node.stages)} steps in order, over all touched profiles at once"


_ELEMENTS = "those elements that meet the condition"


_JOINED = "a join: for each element further out, those that go with it"


_OF_LISTS = {
    "count": "how many elements the list has",
    "sum": "the exact sum of the list",
    "min": "the least element of the list",
    "max": "the greatest element of the list",
    "head": "the first element of the list",
    "distinct": "each value of the list once",
    "keys": "the keys of the map",
    "values": "the values of the map",
    "get": "the map's value of a key",
}


_MADE = {
    "map": "one value per element",
    "groupby": "a map from each key to the list of its elements",
    "mapentries": "one entry per key",
}


def render(report: Report) -> str:
    """The report of ``explain`` as indented text for a terminal."""
    lines = [f"rule      {report['rule']}", f"runs      {_RUNS[report['runs']]}"]
    if report["reason"] is not None:
        lines[-1] += f"; {report['reason']}"
    lines.append(f"cost      {report['cost']}")
    if "rescanned_for" in report:
        lines.append(f"looks at  {report['rescanned_for']}")
    if report["timed"]:
        lines.append("clock     compared with now, so it can also change as time passes")
    if report["constant"] is not None:
        lines.append(f"constant  always {json.dumps(report['constant'])}")
    if report["defined_as"]:
        lines.append(f"rule of   {', '.join(report['defined_as'])}")
    if report["same_as"]:
        lines.append(f"same as   {', '.join(report['same_as'])}")
    return "\n".join([*lines, "plan", *_lines(report["plan"], "  ", count(1))])


def _lines(part: Report, pad: str, numbers: Iterator[int]) -> Iterator[str]:
    """A part and, below it, the parts that say more. Long texts name them by number."""
    shown = [_telling(child) for child in part.get("parts", [])]
    text, marks = _shortened(part["text"], [child["text"] for child in shown], numbers)
    yield f"{pad}{text}"
    bar = f"{pad}│ " if shown else f"{pad}  "
    yield f"{bar}· {part['how']}"
    if part["cost"] not in _SLIGHT:
        yield f"{bar}· costs {part['cost']}"
    for key, words in _DETAILS.items():
        for value in _values(part, key):
            yield f"{bar}· {words} {value}"
    for place, (child, mark) in enumerate(zip(shown, marks, strict=True), 1):
        inner = list(_lines(child, "", numbers))
        last = place == len(shown)
        yield f"{pad}{'└─' if last else '├─'} {mark and f'{mark} = '}{inner[0]}"
        yield from (f"{pad}{'  ' if last else '│ '} {line}" for line in inner[1:])


def _telling(part: Report) -> Report:
    """The part, or what is below it if all it says is that it is evaluated from that."""
    while (
        len(part.get("parts", [])) == 1
        and part["how"] in _PASSED_OVER
        and not any(key in part for key in _DETAILS)
    ):
        (part,) = part["parts"]
    return part


def _shortened(text: str, below: list[str], numbers: Iterator[int]) -> tuple[str, list[str]]:
    """A text that fits on a line, with numbers for what stands below it if need be, and the marks
    of these."""
    marks = [""] * len(below)
    if len(text) <= _SHOWN:
        return text, marks
    for place, part in enumerate(below):
        if len(part) > _SHORT and part in text:
            marks[place] = f"‹{next(numbers)}›"
            text = text.replace(part, marks[place])
    return _clipped(text), marks


def _values(part: Report, key: str) -> list[str]:
    """What to print of a detail, a line each: conditions one by one, cut short if they are long."""
    value = part.get(key, [])
    if not isinstance(value, list):
        return [_clipped(value)]
    if key in _CLAIMS:
        return [_clipped(claim) for claim in value]
    return [", ".join(value)] if value else []


def _clipped(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


_SHOWN = 96
"""Characters of a sub-expression on one line."""


_SHORT = 12
"""Characters of a part that are not worth a number."""


_SLIGHT = (Cost.CONSTANT.words, Cost.SCALAR.words, Cost.ELEMENT.words)


_PASSED_OVER = (EVALUATED, EVALUATED + WHEN_DUE, PER_ELEMENT, "how many elements the list has")


_RUNS = {
    "folded": "incrementally: every part is kept up to date with each event",
    "over kept events": (
        "incrementally, over kept events: evaluated again for those whom a kept event or the clock"
        " touches"
    ),
    "by rescan": (
        "by rescan: again over the person's whole history, for those whom new data or the clock"
        " touches"
    ),
}


_DETAILS = {
    "reason": "because of",
    "refused": "which is",
    "event_types": "events of type",
    "predicate": "events with",
    "value": "value",
    "window": "counted while",
    "columns": "of each:",
    "asked_before": "of each element:",
    "joined_by": "found by search:",
    "tried": "tried pair by pair:",
    "tried_when_due": "tried pair by pair, by the clock too:",
    "choices": "open choices:",
    "shared_with": "kept once, shared with",
    "also_in": "also in",
}


_CLAIMS = ("joined_by", "asked_before", "tried", "tried_when_due", "window")
