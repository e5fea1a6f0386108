"""Operands in odd places for the differential harness: literals, nulls, lists of other rules.

Theory: the other makers write what a person would: a field on the left, a constant on the right.
Here every operand is of any kind: a literal, a list literal with fields and nulls in it, a list
or value of another rule, a fold, a field of the profile that most profiles lack. What such a rule
means does not depend on that; how it runs does. ``tests/enumeration`` goes through all of them one
by one; here they stand among other rules, in worlds with late rows, reopenings, other rules.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.differential.generate import Rules
from tests.differential.wide import WideMaker

READ = {
    "odd_texts": "xEvent.place.distinct()",
    "odd_wholes": "xEvent.n",
    "odd_labels": "labels",
    "odd_clock": "if(score > 1, now, born)",
}
"""Attributes that rules read: lists, and a time that is now for some."""
Operand = Callable[[bool], str]


class OddMaker(WideMaker):
    """Random rules whose operands are of any kind. inside: the rule stands in a condition on an
    event, whose fields are bare names."""

    def text(self, inside: bool) -> str:
        """A string, or null."""
        own = "place" if inside else "xEvent.head().place"
        return self.rng.choice((
            '"rome"', '""', own, own, "$1.tier", "xEvent.max(place)", f"[{own}].head()",
            f'if($1.score > 1, $1.tier, {own})', f'{own}.regexGroup("(r)(.*)", 2)',
        ))  # fmt: skip

    def whole(self, inside: bool) -> str:
        """An integer, or null."""
        own = "n" if inside else "xEvent.max(n)"
        return self.rng.choice((
            "1", "0", own, own, "$1.score", "$1.limits.a", "xEvent.count()", f"[{own}].head()",
            f"[{own}, 1].max()", "$1.labels.count()", f"if({own} > 0, 1, 2)",
        ))  # fmt: skip

    def texts(self, inside: bool) -> str:
        """A list of strings."""
        own = "marks" if inside else "xEvent.place"
        one, kept = self.text(inside), self.rng.choice(("odd_texts", "odd_labels"))
        return self.rng.choice((
            f"[{one}]", f"[{one}, {self.text(inside)}]", '["rome", "oslo"]', "$1.labels", own,
            "xEvent.place.distinct()", f"$1.computed.{kept}",
            "xEvent.topN(n, 2).place",
        ))  # fmt: skip

    def wholes(self, inside: bool) -> str:
        """A list of integers."""
        own = "items.qty" if inside else "xEvent.items.qty"
        one = self.whole(inside)
        return self.rng.choice((
            f"[{one}]", f"[{one}, {self.whole(inside)}]", "[0, 1]", own, "xEvent.n",
            "$1.limits.values()", "$1.computed.odd_wholes", "xEvent[n > 0].map(E => E.n + 1)",
        ))  # fmt: skip

    def moment_of(self, inside: bool) -> str:
        """A timestamp, or null; often one that moves with the clock."""
        own = "timestamp" if inside else "xEvent.max(timestamp)"
        return self.rng.choice((
            "now", "today", "tomorrow", own, "$1.born", f"if($1.score > 1, now, {own})",
            f"if($1.tier = \"gold\", today, {own})", f"[{own}, now].min()", "$1.computed.odd_clock",
            "[today, $1.born].head()",
        ))  # fmt: skip

    def moments(self, inside: bool) -> str:
        """A list of timestamps."""
        one = self.moment_of(inside)
        return self.rng.choice((
            f"[{one}]", f"[{one}, {self.moment_of(inside)}]", "xEvent.timestamp", "[now, today]",
            "xEvent.map(E => if(E.n > 0, now, E.timestamp))",
        ))  # fmt: skip

    def operands(self) -> tuple[Operand, Operand]:
        """What makes an operand of a type, and a list of it."""
        return self.rng.choice((
            (self.text, self.texts),
            (self.text, self.texts),
            (self.whole, self.wholes),
            (self.whole, self.wholes),
            (self.moment_of, self.moments),
        ))  # fmt: skip

    def claim(self, inside: bool) -> str:
        """A condition over such operands."""
        rng = self.rng
        one, many = self.operands()
        x, xs = one(inside), many(inside)
        return rng.choice((
            f"{x} {rng.choice(('in', 'notIn'))} {xs}",
            f"{x} {rng.choice(('in', 'notIn'))} {xs}",
            f"{xs}.includes({x})",
            f"{xs}.{rng.choice(('intersects', 'subsetOf', 'supersetOf'))}({many(inside)})",
            f"{xs} {rng.choice(('=', '!='))} {many(inside)}",
            f"{rng.choice(('isNull', 'isNotNull'))}({rng.choice((x, xs))})",
            f"{x} {rng.choice(('=', '!='))} {one(inside)}",
            f"not ({xs})",
            xs,
            f"{xs}.head() = {x}",
            f"{xs}.distinct().count() > 1",
            f"exists I from {xs} where I = {x}",
            f"forall I from {xs} where I != {x}",
            f"(let q = ({x}) in q notIn [q, {x}] or q in {xs})",
            f"if({xs}, {x}, {one(inside)}) = {x}",
        ))  # fmt: skip

    def predicate(self, depth: int = 2) -> str:
        if self.rng.random() < 0.4:
            return f"({self.claim(True)})"
        return super().predicate(depth)

    def condition(self, segments: list[str], depth: int = 1) -> str:
        if self.rng.random() < 0.4:
            return self.claim(False)
        return super().condition(segments, depth)

    def value(self) -> str:
        rng = self.rng
        one, many = self.operands()
        return rng.choice((
            super().value(),
            f"{many(False)}.intersection({many(False)})",
            f"if({self.claim(False)}, {many(False)}, {many(False)})",
            f"{many(False)}.distinct()",
            f"[{one(False)}, {one(False)}]",
            one(False),
            self.claim(False),
            f"xEvent.map({self.claim(True)})",
            f"xEvent.sum(if({self.claim(True)}, 1, n))",
            f"xEvent.groupBy({one(True)}).map((K, G) => mapEntry(K, G.count()))",
        ))  # fmt: skip

    def rules(self, count: int) -> Rules:
        """As of a wide world, and the attributes that operands read."""
        made = super().rules(count)
        return Rules(made.segments, {**READ, **made.computed})
