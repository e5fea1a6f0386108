"""A sample of profiles, to tell whether a rule splits them: the reference evaluator over documents.

Theory: rules drawn blindly over several events are mostly never true. So a few profiles are drawn
from the world's own stream, and a rule is preferred that some of them satisfy and others do not,
at the end of the stream or a while later.
"""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from typing import Any

from profile_actors.rules.catalogue.typed_rules import check_all
from profile_actors.rules.language.checker import check
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.types import union_scope
from profile_actors.rules.reference.validity import value_at
from profile_actors.rules.tree.nodes import Node
from tests.differential.generate import BASE, DAY, PEOPLE, Rules
from tests.differential.shapes import GAPS, Shape, Stream

Document = dict[str, Any]


class Sample:
    """Six profiles of a shape. segments: name -> tree of those that rules may read."""

    def __init__(self, rng: random.Random, shape: Shape, computed: dict[str, str]) -> None:
        rng = random.Random(rng.random())
        catalogue = Rules({}, computed, shape.schemas, shape.datasets).catalogue(1)
        self.computed = {name: tree for (_, name), tree in check_all(catalogue).items()}
        self.segments: dict[str, Node] = {}
        self.shape = shape
        self.profiles: list[tuple[Document, list[Document]]] = []
        for _ in range(2):
            stream = Stream(rng, shape)
            rows = [
                (dataset, row)
                for dataset, count in (("hits", 12), ("calls", 5), ("taps", 9), ("crm", 6))
                for row in stream.rows(dataset, count, BASE - 3 * DAY, BASE + 3 * DAY)
            ]
            self.profiles += [self.profile(person, rows) for person in PEOPLE]
        self.now = max(event["timestamp"] for _, events in self.profiles for event in events)
        self.later = self.now + GAPS[shape.gaps[0]]

    def profile(self, person: str, rows: list[tuple[str, Document]]) -> tuple[Document, Any]:
        """(record, events) as documents, of one person's rows."""
        record: Document = {}
        events: list[Document] = []
        for dataset, row in rows:
            if row["who"] != person:
                continue
            if dataset == "crm":
                record = {name: row[name] for name in row if name not in ("who", "at")}
                self._timed(record, "since")
                continue
            event = {name: row[name] for name in row if name not in ("who", "at", "kind")}
            self._timed(event, "moment")
            events.append(event | {"timestamp": row["at"], "eventType": row.get("kind", "call")})
        return record, events

    def _timed(self, document: Document, role: str) -> None:
        *outer, name = self.shape[role].split(".")
        for part in outer:
            document = document.get(part, {})
        if name in document:
            text = document[name]
            is_date = self.shape.types[role] == "date"
            moment = datetime.fromisoformat(text)
            document[name] = date.fromisoformat(text) if is_date else moment.astimezone(UTC)

    def checked(self, text: str, segments: dict[str, str]) -> Node:
        """A segment's rule with its types. Raises RuleError."""
        types = {name: tree.type for name, tree in self.computed.items()}
        scope = union_scope(self.shape.schemas.values(), types, segments)
        return check(parse(text), scope, "segment", text)

    def is_split_by(self, tree: Node) -> bool:
        """Whether some profiles are in and others out, or some move."""
        found = set()
        for record, events in self.profiles:
            for now in (self.now, self.later):
                value = value_at(tree, record, events, now, self.computed, self.segments)
                found.add(bool(value))
                if len(found) == 2:
                    return True
        return False
