"""Rules over several events of a profile, for the differential harness's history worlds.

Theory: templates over a drawn shape (``shapes``): sequences, joins of event filters, first and last
events, extremes of text, groups with counts and sums, distinct values, conditions on events that
read the profile, and computed attributes that are lists and maps. A rule is kept if it splits a
sample of profiles into members and others, since one that is always true or never can hide a
defect for ever.
"""

from __future__ import annotations

import random

from profile_actors.errors import RuleError
from tests.differential.generate import Rules
from tests.differential.sample import Sample
from tests.differential.shapes import KINDS, Shape

TRIES = 5
"""Candidates for one rule, of which the first that splits the sample is taken; then any."""


class HistoryMaker:
    """Random rules whose answers need more than one event at a time."""

    def __init__(self, rng: random.Random, shape: Shape) -> None:
        self.rng = rng
        self.shape = shape
        self.computed: dict[str, str] = {}
        self.kinds = KINDS if rng.random() < 0.7 else (*KINDS, "call")
        self.refused: list[tuple[str, str]] = []

    # -- pieces ------------------------------------------------------------------------------------

    def gap(self) -> str:
        """A distance of this world."""
        return self.rng.choice(self.shape.gaps)

    def comparison(self) -> str:
        return self.rng.choice(("=", "!=", "<", "<=", ">", ">=", ">=", ">"))

    def kind(self, of: str = "") -> str:
        """A condition on the event's type; of: ``"E."`` for a variable E."""
        rng = self.rng
        pair = " ".join(f'"{k}",' for k in rng.sample(self.kinds, 2)).rstrip(",")
        one = f'{of}eventType = "{rng.choice(self.kinds)}"'
        return rng.choice((one, one, one, f"{of}eventType in [{pair}]"))

    def predicate(self, of: str = "") -> str:
        """A condition on one event, free of now and of other events."""
        rng, s = self.rng, self.shape
        if rng.random() < 0.12:
            word = rng.choice(("and", "or"))
            return f"({self.predicate(of)} {word} {self.predicate(of)})"
        return rng.choice((
            self.kind(of), self.kind(of), self.kind(of), self.kind(of),
            f"{of}{s['key']} = {s.literal(rng, 'key')}",
            f"{of}{s['key']} in [{s.literal(rng, 'key')}, {s.literal(rng, 'key')}]",
            f"{of}{s['number']} {self.comparison()} {rng.choice((0, 1, 2))}",
            f"{of}{s['amount']} {self.comparison()} {rng.choice(('0.2', '1', '0.3'))}",
            f"{of}{s['word']} = {s.literal(rng, 'word')}",
            f'not ({of}{s["word"]}.startsWith("r", false))',
            f"{of}{s['flag']} = true",
            f"isNotNull({of}{s['key']})",
            f"{of}{s['number']}.isNull()",
            f"{of}{s['moment']} {rng.choice(('<=', '>'))} {of}timestamp",
        ))  # fmt: skip

    def window(self, of: str = "") -> str:
        """A condition on the event's time that moves with now."""
        gap = self.gap()
        return f"{of}timestamp " + self.rng.choice((
            f"occurs <= {gap} before now", f"occurs <= {gap} before now",
            f"occurs {self.rng.choice(('<', '>', '>='))} {gap} before now",
            "occurs today", "occurs yesterday", "occurs before today",
            f"occurs <= {gap} before today", "occurs on this week", "occurs = 1 day before now",
            "occurs on this month",
        ))  # fmt: skip

    def condition(self, of: str = "") -> str:
        """Which events: by type, by their fields, by the clock."""
        pick = self.rng.random()
        if pick < 0.35:
            return self.kind(of)
        if pick < 0.55:
            return self.predicate(of)
        if pick < 0.7:
            return self.window(of)
        if pick < 0.9:
            return f"{self.predicate(of)} and {self.window(of)}"
        return f"{self.kind(of)} and {self.predicate(of)}"

    def events(self) -> str:
        """xEvent, filtered somehow."""
        return "xEvent" if self.rng.random() < 0.12 else f"xEvent[{self.condition()}]"

    def near(self, later: str, earlier: str) -> str:
        """How far two events are apart. later, earlier: ``"E."`` and the like."""
        rng, gap = self.rng, self.gap()
        until = f"{earlier}{self.shape['moment']}"
        return rng.choice((
            f"{later}timestamp occurs <= {gap} after {earlier}timestamp",
            f"{later}timestamp occurs <= {gap} after {earlier}timestamp",
            f"{later}timestamp occurs {rng.choice(('<', '>', '>='))} {gap} after"
            f" {earlier}timestamp",
            f"{later}timestamp occurs <= {gap} before {earlier}timestamp",
            f"{later}timestamp occurs after {earlier}timestamp",
            f"{later}timestamp {rng.choice(('>', '>=', '<', '='))} {earlier}timestamp",
            f"{later}timestamp occurs between {earlier}timestamp and {until}",
            f"{later}timestamp occurs on {earlier}timestamp",
        ))  # fmt: skip

    def match(self, one: str, other: str) -> str:
        """What two events share."""
        rng, s = self.rng, self.shape
        key = f"{one}{s['key']} = {other}{s['key']}"
        return rng.choice((
            key, key, key, key,
            f"{other}{s['other']} = {one}{s['other']}",
            f"{key} and {one}{s['word']} = {other}{s['word']}",
            f"{one}{s['number']} {rng.choice(('=', '>', '<='))} {other}{s['number']}",
            f"{one}_id = {other}_id",
            f"{key} and {one}_id != {other}_id",
        ))  # fmt: skip

    # -- rules over several events ---------------------------------------------------------------

    def joined(self, inner: str, outer: str) -> str:
        """A condition on an inner event, given an outer one, and perhaps now."""
        rng = self.rng
        parts = [self.kind(inner)] if rng.random() < 0.8 else []
        parts += [self.match(inner, outer)] if rng.random() < 0.85 else []
        parts += [self.near(inner, outer)] if rng.random() < 0.75 or not parts else []
        parts += [self.predicate(inner)] if rng.random() < 0.15 else []
        parts += [self.window(inner)] if rng.random() < 0.15 else []
        rng.shuffle(parts)
        return " and ".join(parts)

    def join(self) -> str:
        """Two or three event filters, joined by fields and time."""
        rng, s = self.rng, self.shape
        a, ab = self.condition("A."), self.joined("B.", "A.")
        bare = self.joined("", "^.")
        least, flip = rng.choice((1, 1, 2, 2, 3)), rng.choice(("", "", "not "))
        return rng.choice((
            f"exists A from xEvent where {a} and exists B from xEvent where {ab}",
            f"exists A from xEvent where {a} and not (exists B from xEvent where {ab})",
            f"exists A from xEvent where {a}, B from xEvent where {ab}",
            f"forall A from xEvent[{self.condition()}] where exists B from xEvent where {ab}",
            f"forall A from xEvent where {self.condition('A.')}, B from xEvent where"
            f" {rng.choice(('', 'not '))}({ab})",
            f"(select A from xEvent where {a} and exists B from xEvent where {ab})"
            f".{s['key']}.distinct().count() >= {least}",
            f"(select A from xEvent where {a} and {flip}(exists B from xEvent where {ab}))"
            f".count() {self.comparison()} {least}",
            f"(select A from xEvent where {a} and exists B from xEvent where {ab})"
            f".{s['number']}.sum() >= {least}",
            f"(count A.{s['key']} over A from xEvent where {a} and exists B from xEvent where"
            f" {ab}) >= {least}",
            f"xEvent[{self.condition()} and xEvent[{bare}].count() >= {least}].count() >= 1",
            f"xEvent[{self.condition()} and xEvent[{bare}]].count() {self.comparison()} {least}",
            f"xEvent[{s['number']} >= xEvent[{bare}].{rng.choice(('count', 'distinct().count'))}()]"
            f".count() {self.comparison()} {least}",
            f"exists A from xEvent where {self.kind('A.')} and exists B from xEvent where {ab} and"
            f" exists C from xEvent where {self.match('C.', 'A.')} and {self.near('C.', 'B.')}",
            f"exists A from {self.events()}, B from {self.events()} where {self.match('B.', 'A.')}"
            f" and {self.near('B.', 'A.')}",
        ))  # fmt: skip

    def step(self, names: list[str], place: int) -> str:
        """One step of a CHAIN; names: all steps'."""
        rng, s = self.rng, self.shape
        earlier = names[:place]
        what = self.kind() if rng.random() < 0.7 else self.predicate()
        if earlier and rng.random() < 0.7:
            one = rng.choice(earlier)
            what += " and " + rng.choice((
                f"{s['key']} = {one}.{s['key']}", f"{s['key']} = {one}.{s['key']}",
                f"{s['key']} = {one}.{s['key']}", f"{s['key']} != {one}.{s['key']}",
                f"{s['word']} != {one}.{s['word']}", f"{s['number']} > {one}.{s['number']}",
                f"{s['amount']} >= {one}.{s['amount']}",
                f"timestamp occurs >= {self.gap()} after {one}.timestamp",
            ))  # fmt: skip
        if rng.random() < 0.08:
            what += f" and {s['key']} = ^.{s['home']}"
        when = ""
        pick = rng.random()
        if earlier and pick < 0.6:
            word = rng.choice(("<=", "<=", "<", ">", ">="))
            when = f" WHEN({word} {self.gap()} after {rng.choice(earlier)})"
        elif pick < 0.75:
            when = f" WHEN({self.window().removeprefix('timestamp occurs ')})"
        count = f" COUNT({rng.choice((1, 2, 2, 3))})" if rng.random() < 0.3 else ""
        return f"{names[place]}: WHAT({what}){when}{count}"

    def chain(self) -> str:
        """A sequence of one to three steps."""
        rng = self.rng
        names = ["A", "B", "C"][: rng.choice((1, 2, 2, 2, 3, 3))]
        steps = ", ".join(self.step(names, place) for place in range(len(names)))
        source = "xEvent" if rng.random() < 0.75 else self.events()
        return f"{rng.choice(('', '', '', 'not '))}CHAIN({source}, timestamp, [{steps}])"

    def picked(self) -> str:
        """A boolean over first, last, highest and lowest events, and over extremes of text."""
        rng, s, events = self.rng, self.shape, self.events()
        by = rng.choice(("timestamp", "timestamp", s["number"], s["amount"], s["word"]))
        some = f"{events}.{rng.choice(('topN', 'bottomN'))}({by}, {rng.choice((1, 2, 3))})"
        one = rng.choice((f"{events}.head()", f"{some}.head()", f"{some}.head()"))
        extreme = f"{events}.{rng.choice(('max', 'min'))}({s['word']})"
        return rng.choice((
            f"{one}.{s['word']} = {s.literal(rng, 'word')}",
            f"{one}.{s['key']} = {s.literal(rng, 'key')}",
            f"{one}.{s['key']} = {s['home']}",
            f"{one}.eventType {rng.choice(('=', '!='))} \"{rng.choice(self.kinds)}\"",
            f"{one}.timestamp occurs {rng.choice(('<=', '>', '>='))} {self.gap()} before now",
            f"{one}.{s['moment']} occurs {rng.choice(('before now', 'today', 'after now'))}",
            f"{one}.{s['number']} {self.comparison()} {rng.choice((1, 2))}",
            f"{one}.{s['number']}.isNull()",
            f"{some}.sum({s['number']}) {self.comparison()} {rng.choice((2, 3, 4))}",
            f"{some}.{s['amount']}.sum() > 1",
            f"{some}.{s['word']}.includes({s.literal(rng, 'word')})",
            f"{some}.map({s['key']}).distinct().count() {self.comparison()} {rng.choice((1, 2))}",
            f"{some}[{self.predicate()}].count() >= 1",
            f"{extreme} = {s.literal(rng, 'word')}",
            f"{extreme} {rng.choice(('<', '>=', '='))} {s['tier']}",
            f"{extreme} < {self.events()}.max({s['word']})",
            f"{events}.max({s['amount']}) > {self.events()}.min({s['amount']})",
        ))  # fmt: skip

    def groups(self) -> str:
        """A map of numbers by key."""
        rng, s = self.rng, self.shape
        key = rng.choice((s["key"], s["word"], "eventType", s["other"], s["number"], s["flag"],
                          "timestamp.getDayOfMonth()"))  # fmt: skip
        if key in s.doubles:
            key = s["word"]  # a double is no key
        value = rng.choice((
            "G.count()", "G.count()", f"G.sum({s['number']})", f"G.sum({s['amount']})",
            f"G.max({s['number']})", f"G.average({s['amount']})", f"G[{self.kind()}].count()",
            f"G.{s['other']}.distinct().count()",
        ))  # fmt: skip
        return f"{self.events()}.groupBy({key}).map((K, G) => mapEntry(K, {value}))"

    def grouped(self) -> str:
        """A boolean over groups of events."""
        rng, s = self.rng, self.shape
        groups, events, least = self.groups(), self.events(), rng.choice((1, 2, 2, 3))
        word, of = s.literal(rng, "word"), s["word"]
        return rng.choice((
            f"{groups}.values().max() {self.comparison()} {least}",
            f"{groups}.values().sum() {self.comparison()} {least + 1}",
            f"{groups}.values().min() >= {least}",
            f"{groups}.keys().count() {self.comparison()} {least}",
            f"{groups}.values().includes({least})",
            f"{events}.groupBy({of}).keys().includes({word})",
            f"{events}.groupBy({of}).get({word}).count() {self.comparison()} {least}",
            f"{events}.groupBy({of}).map((K, G) => mapEntry(K, G.count())).get({word}) >= {least}",
            f"{events}.groupBy(eventType).map((K, G) => mapEntry(K, G.sum({s['amount']})))"
            f'.get("{rng.choice(self.kinds)}") > 0.3',
            f"{events}.groupBy(eventType).map((K, G) => mapEntry(K, G.max(timestamp)))"
            f'.get("{rng.choice(self.kinds)}") occurs'
            f" {rng.choice(('<=', '>'))} {self.gap()} before now",
            f"{events}.groupBy({of}).values().map(G => G.count()).max() >= {least}",
            f"{events}.groupBy(E => E.{s['other']}).values().map(G => G.sum({s['number']})).max()"
            f" > {least}",
        ))  # fmt: skip

    def distinct(self) -> str:
        """A boolean over distinct values."""
        rng, s = self.rng, self.shape
        role = rng.choice(("key", "word", "number"))
        values, one = f"{self.events()}.{s[role]}.distinct()", s.literal(rng, role)
        return rng.choice((
            f"{values}.count() {self.comparison()} {rng.choice((1, 2))}",
            f"{values}.includes({one})",
            f"{values}.head() = {one}",
            f"{values}.intersects([{one}, {s.literal(rng, role)}])",
            f"{values}.subsetOf([{one}, {s.literal(rng, role)}])",
            f"{values}.max() = {one}",
            f"{self.events()}.{s['number']}.distinct().sum() {self.comparison()} 3",
            f"{self.events()}.{s['amount']}.distinct().sum() > 0.5",
            f"{values} = {self.events()}.{s[role]}.distinct()",
            f"{self.events()}.{s['word']}.intersects({s['labels']})",
            f"{s.literal(rng, role)} in {self.events()}.{s[role]}",
        ))  # fmt: skip

    def against_profile(self) -> str:
        """Conditions on events that read the profile, or what is computed of it."""
        rng, s = self.rng, self.shape
        read = [
            f"{s['key']} = ^.{s['home']}",
            f"{s['key']} = $1.{s['home']}",
            f"{s['number']} {self.comparison()} ^.{s['limit']}",
            f"{s['word']} = ^.{s['tier']}",
            f"^.{s['labels']}.includes({s['word']})",
            f"timestamp occurs <= {self.gap()} after ^.{s['since']}",
            f"timestamp occurs after $1.{s['since']}",
            f"{s['number']} = ^.{s['limits']}.a",
            f"{s['number']} >= ^.computed.amount",
            "timestamp = ^.computed.last",
            f"timestamp occurs <= {self.gap()} before ^.computed.last",
        ]  # fmt: skip
        some = f"xEvent[{rng.choice(read)} and {self.condition()}]"
        return rng.choice((
            f"{some}.count() {self.comparison()} {rng.choice((1, 1, 2))}",
            f"{some}",
            f"{some}.sum({s['amount']}) > 0.5",
            f"exists E from xEvent where E.{s['word']} = {s['tier']} and {self.condition('E.')}",
            f"forall E from {self.events()} where E.{s['number']} >= {s['limit']}",
            f"{some}.max(timestamp) occurs <= {self.gap()} before now",
        ))  # fmt: skip

    def bound(self) -> str:
        """let, and quantifiers over filters and lists."""
        rng, s, events = self.rng, self.shape, self.events()
        return rng.choice((
            f"let S = ({events}) in S.count() > 1 and S.max(timestamp) occurs <= {self.gap()}"
            " before now",
            f"let m = ({events}.max({s['number']})) in xEvent[{s['number']} = m].count() >= 2",
            f"let t = ({events}.max(timestamp)) in xEvent[timestamp occurs <= {self.gap()} before"
            f" t].count() {self.comparison()} 2",
            f"let k = ({events}.topN(timestamp, 1).head().{s['key']}) in"
            f" xEvent[{s['key']} = k].count() >= 2",
            f"let S = ({events}) in exists E from S where exists F from S where"
            f" {self.match('F.', 'E.')} and F.timestamp > E.timestamp",
            f"forall E from xEvent where {self.predicate('E.')} or {self.window('E.')}",
            f"not (forall E from {events} where {self.condition('E.')})",
            f'exists E from {events}, I from E.items where I.sku = "a" and I.qty'
            f" {self.comparison()} 2",
            f"exists K from {events}.{s['key']}.distinct() where xEvent[{s['key']} = K]"
            f".count() {self.comparison()} {rng.choice((1, 2, 2))}",
            f"exists L from {s['labels']} where xEvent[{s['word']} = L].count() >= 1",
        ))  # fmt: skip

    def from_computed(self) -> str:
        """A rule that reads lists and maps computed of the events."""
        rng, s, c = self.rng, self.shape, self.computed
        kind, word, least = rng.choice(self.kinds), s.literal(rng, "word"), rng.choice((1, 2, 2, 3))
        options = [f"computed.amount {self.comparison()} {least}"]
        if "counts" in c:
            options += [
                f'computed.counts.get("{kind}") > {least}',
                f'computed.counts.get("{kind}") {self.comparison()} {least}',
                f"computed.counts.{kind} >= {least}",
                f'computed.counts.keys().includes("{kind}")',
                f"computed.counts.values().sum() {self.comparison()} {least + 1}",
                f"computed.counts.values().max() = {least}",
                f'xEvent[{s["number"]} = ^.computed.counts.get("{kind}")].count() >= 1',
            ]  # fmt: skip
        if "lasts" in c:
            options += [
                f"computed.lasts.get({word}) occurs {rng.choice(('<=', '>'))} {self.gap()}"
                " before now",
                f"computed.lasts.values().max() occurs >= {self.gap()} before now",
                f"xEvent[timestamp = ^.computed.lasts.get({word})].count() >= 1",
            ]
        if "words" in c:
            options += [
                f"computed.words.includes({word})",
                f"computed.words.count() {self.comparison()} {least}",
                f"computed.words.intersects({s['labels']})",
                f"computed.words.head() = {s['tier']}",
                f"xEvent[^.computed.words.includes({s['word']})].count() >= {least}",
            ]
        return rng.choice(options)

    def rule(self, segments: list[str], depth: int = 1) -> str:
        """A segment's rule."""
        rng = self.rng
        if depth and rng.random() < 0.22:
            left, right = self.rule(segments, depth - 1), self.rule(segments, depth - 1)
            return f"({left}) {rng.choice(('and', 'or'))} ({right})"
        if depth and rng.random() < 0.08:
            return f"not ({self.rule(segments, depth - 1)})"
        if segments and rng.random() < 0.08:
            other = rng.choice(("", "not ")) + f'inSegment("{rng.choice(segments)}")'
            return f"{other} {rng.choice(('and', 'or'))} ({self.rule(segments, 0)})"
        kinds = (self.chain, self.join, self.picked, self.grouped, self.distinct,
                 self.against_profile, self.bound, self.from_computed, self.plain)  # fmt: skip
        return rng.choices(kinds, (10, 8, 3, 3, 2, 3, 2, 3, 1))[0]()

    def plain(self) -> str:
        """What was incremental before: beside the others, over the same events."""
        return self.rng.choice((
            f"{self.events()}.count() {self.comparison()} {self.rng.choice((1, 2))}",
            f"{self.events()}.sum({self.shape['amount']}) > 0.5",
            f"{self.events()}.max(timestamp) occurs >= {self.gap()} before now",
        ))  # fmt: skip

    def attributes(self) -> dict[str, str]:
        """Computed attributes: those that rules read, and some of any type."""
        rng, s = self.rng, self.shape
        some = f"{self.events()}.topN(timestamp, 2)"
        optional = {
            "counts": f"{self.events()}.groupBy(eventType).map((K, G) => mapEntry(K, G.count()))",
            "lasts": f"{self.events()}.groupBy({s['word']})"
            ".map((K, G) => mapEntry(K, G.max(timestamp)))",
            "words": f"{self.events()}.{s['word']}.distinct()",
            "groups": self.groups(),
            "recent": f"{some}.{s['key']}",
            "newest": f"{some}.head().{s['word']}",
            "lowest": f"{self.events()}.min({s['word']})",
            "whole": f"{self.events()}.{s['number']}.distinct().sum()",
            "found": self.join(),
            "pairs": f"(select A from xEvent where {self.kind('A.')} and exists B from xEvent where"
            f" {self.joined('B.', 'A.')}).{s['key']}",
        }
        weights = {"counts": 0.7, "lasts": 0.4, "words": 0.5}
        out = {
            "amount": f"{self.events()}.{rng.choice(('count()', 'max(' + s['number'] + ')'))}",
            "last": f"{self.events()}.max(timestamp)",
        }
        return out | {n: t for n, t in optional.items() if rng.random() < weights.get(n, 0.25)}

    def rules(self, count: int) -> Rules:
        """``count`` segments, most of which split a sample, and computed attributes."""
        self.computed = self.attributes()
        sample = Sample(self.rng, self.shape, self.computed)
        segments: dict[str, str] = {}
        for i in range(count):
            for last in (*[False] * TRIES, True):
                text = self.rule(list(segments))
                try:
                    tree = sample.checked(text, segments)
                except RuleError as error:
                    self.refused.append((text, str(error)))
                    continue
                if last or sample.is_split_by(tree):
                    segments[f"s{i}"] = text
                    sample.segments[f"s{i}"] = tree
                    break
        return Rules(segments, self.computed, self.shape.schemas, self.shape.datasets)
