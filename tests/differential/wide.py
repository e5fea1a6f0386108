"""Rules from the whole language for the differential harness, beside the incremental subset.

Theory: a subclass of ``RuleMaker`` that draws every construct of RULES §1 to §5, typed by hand so
that nearly every text passes the checker. Worlds of the narrow generator keep their seeds: what is
drawn here is drawn only in wide worlds.
"""

from __future__ import annotations

import random
from typing import Any

from tests.differential.generate import KINDS, PLACES, TIERS, RuleMaker, Rules

SKUS = ("a", "b", "c")
SPANS = ("6 hours", "1 day", "36 hours", "2 days", "1 week", "1 month", "1 quarter", "90 minutes")
PERIODS = ("day", "week", "month", "quarter", "year", "hour", "decade")


class WideMaker(RuleMaker):
    """Random rules from the whole language."""

    def span(self) -> str:
        """An amount of time."""
        return self.rng.choice(SPANS)

    def time(self) -> str:
        """A TIME that moves with now, or does not."""
        rng = self.rng
        return rng.choice((
            "now", "now", "today", "yesterday", "tomorrow", self.date(), "$1.born",
            f"{rng.choice(('this', 'last', 'next'))} {rng.choice(PERIODS)}",
        ))  # fmt: skip

    def moment(self) -> str:
        """Any right side of occurs."""
        rng = self.rng
        direction = rng.choice(("before", "before", "after", "from"))
        amount, unit = self.span().split()
        return rng.choice((
            f"{self.comparison()} {self.span()} {direction} {self.time()}",
            f"{self.comparison()} {self.span()} before now",
            f"= {rng.choice((0, 1, 2))} {rng.choice(PERIODS)}s {direction} now",
            f"{rng.choice(('before', 'after', 'on'))} {self.time()}",
            f"between {self.time()} and {self.time()}",
            f"on {rng.choice(('this', 'last', 'next'))} {rng.choice(PERIODS)}",
            f"!= {amount} {unit} before now",
        ))  # fmt: skip

    def window(self) -> str:
        if self.rng.random() < 0.5:
            return super().window()
        return f"timestamp occurs {self.moment()}"

    def predicate(self, depth: int = 2) -> str:
        rng = self.rng
        if rng.random() < 0.7:
            return super().predicate(depth)
        return rng.choice((
            f'items[sku = "{rng.choice(SKUS)}"]',
            f"items[qty {self.comparison()} 2 and ^.n = 1]",
            "items[qty = ^^.score or sku = ^.place]",
            f"items.qty.sum() {self.comparison()} 3",
            f'items.sku.includes("{rng.choice(SKUS)}")',
            f'exists I from items where I.sku = "{rng.choice(SKUS)}" and I.qty > 1',
            "forall I from items where I.qty >= 2",
            f'marks.intersects(["{rng.choice(SKUS)}", "z"])',
            f"m.k {self.comparison()} 1",
            'm.get("j").isNull()',
            'm.keys().includes("k")',
            'place.regexGroup("^([rRo])(.*)", 2) = "ome"',
            'place.matches("^[rR]o")',
            f'place.equals("ROME", {rng.choice(("true", "false"))})',
            "place.doesNotContain(\"o\")",
            f"n {rng.choice(('in', 'notIn'))} [0, 1, {rng.choice((2, 3))}]",
            f'if(n.isNull(), place = "oslo", n {self.comparison()} 1)',
            "n = ^.score",
            f"let t = (n + 1) in t {self.comparison()} 2 and t != 3",
        ))  # fmt: skip

    def grouped(self) -> str:
        """Numbers by way of maps, picks and lists."""
        rng, events = self.rng, self.events()
        key = rng.choice(("place", "n", "eventType", "timestamp.getDayOfMonth()"))
        return rng.choice((
            f"{events}.groupBy({key}).map((K, G) => mapEntry(K, G.count())).values().max()",
            f"{events}.groupBy({key}).keys().count()",
            f"{events}.groupBy(E => E.place).map((K, G) => mapEntry(K, G.sum(n)))"
            f'.get("{rng.choice(PLACES)}")',
            f"{events}.groupBy(place).values().map(G => G.average(x)).min()",
            f"{events}.topN({rng.choice(('x', 'n', 'timestamp', 'place'))}, 2).sum(n)",
            f"{events}.bottomN(E => E.x, {rng.choice((1, 3))}).n.sum()",
            f"{events}.head().n",
            f"{events}.topN(timestamp, 1).head().x",
            f"{events}.items.qty.sum()",
            f"{events}.items[sku = \"a\"].count()",
            f"{events}.items.sku.distinct().count()",
            f"{events}.map(items.count()).max()",
            f"{events}.m.k.sum()",
            f"(select V from xEvent where V.{self.window()}).n.sum()",
            f'(select V from xEvent where V.n = 1 or V.eventType = "{rng.choice(KINDS)}")'
            ".place.distinct().count()",
            f"({rng.choice(('sum', 'count', 'average', 'min', 'max'))} V.n over V from"
            f" {events} where V.{self.window()})",
            f"(let S = ({events}) in S.sum(n) + S.count())",
            "labels.count()",
            "labels.distinct().count()",
            "limits.a",
            'limits.get("b")',
            "limits.values().sum()",
        ))  # fmt: skip

    def number(self) -> str:
        return self.grouped() if self.rng.random() < 0.35 else super().number()

    def chain(self) -> str:
        """A sequence."""
        rng = self.rng
        names = ["A", "B", "C"][: rng.choice((1, 2, 2, 3))]
        steps = []
        for place, name in enumerate(names):
            what = self.predicate(1)
            if place and rng.random() < 0.4:
                earlier = rng.choice(names[:place])
                what = rng.choice((f"n = {earlier}.n", f"place = {earlier}.place and {what}",
                                   f"x > {earlier}.x"))  # fmt: skip
            when = ""
            if place and rng.random() < 0.5:
                word = rng.choice(("<=", "<", ">", ">=", "<="))
                when = f" WHEN({word} {self.span()} after {rng.choice(names[:place])})"
            elif rng.random() < 0.5:
                when = f" WHEN({self.moment()})"
            count = f" COUNT({rng.choice((1, 2, 3))})" if rng.random() < 0.4 else ""
            steps.append(f"{name}: WHAT({what}){when}{count}")
        source = rng.choice(("xEvent", "xEvent", self.events()))
        return f"{rng.choice(('', '', 'not '))}CHAIN({source}, timestamp, [{', '.join(steps)}])"

    def beyond(self) -> str:
        rng = self.rng
        span = self.span()
        return rng.choice((
            super().beyond(),
            self.chain(),
            self.chain(),
            f"exists E from xEvent where E.{self.window()}, I from E.items where I.qty"
            f" {self.comparison()} 2",
            "exists E from xEvent where E.n = 1, F from xEvent where F.place = E.place and"
            f" F.timestamp occurs {rng.choice(('<=', '<', '>', '>='))} {span} after E.timestamp",
            f"forall E from xEvent where E.{self.window()} or E.n = 1, I from E.items where"
            f' I.qty {self.comparison()} 2 or I.sku = "{rng.choice(SKUS)}"',
            f"{self.grouped()} {self.comparison()} {rng.choice((0, 1, 2, 3))}",
            f"{self.grouped()}.isNull()",
            f"let S = ({self.events()}) in S.count() > 1 and"
            f" S.max(timestamp) occurs {self.moment()}",
            f"let d = ({self.events()}.max(timestamp)) in d occurs {self.moment()}",
            f"{self.events()}.max(timestamp) occurs {self.moment()}",
            f"{self.events()}.min(timestamp) occurs {self.moment()}",
            f"{self.events()}.head().timestamp occurs {self.moment()}",
            f"{self.events()}.topN(x, 2).map(place).includes(\"{rng.choice(PLACES)}\")",
            f"{self.events()}.map(E => E.place).intersects([\"rome\", tier])",
            f'labels.includes("{rng.choice(SKUS)}")',
            'labels.subsetOf(["a", "b"])',
            '["a"].supersetOf(labels)',
            'labels.intersection(["b", "a"]).head() = "a"',
            f'"{rng.choice(SKUS)}" in labels',
            f"limits.a {self.comparison()} 2",
            'limits.keys().includes("a")',
            f"born occurs {self.moment()}",
            f"born.getMonth() {self.comparison()} currentMonth()",
            "born.getDayOfMonth() = currentDayOfMonth()",
            f"xEvent[timestamp.getMonth() = currentMonth()].count() {self.comparison()} 2",
            f'xEvent[place = ^.tier or n = ^.score].count() {self.comparison()} 1',
            f"xEvent[timestamp occurs {self.comparison()} {span} before now].count() = 1",
            f"exists V from (select W from xEvent where W.{self.window()}) where V.n = 1",
            f"xEvent.max(timestamp) occurs >= {span} before now or"
            f" xEvent[{self.predicate(1)}].count() = 0",
        ))  # fmt: skip

    def value(self) -> str:
        """A computed attribute of any type."""
        rng = self.rng
        return rng.choice((
            self.number(),
            f"{self.events()}.topN(timestamp, 2).place",
            f"{self.events()}.groupBy(place).map((K, G) => mapEntry(K, G.count()))",
            f"{self.events()}.groupBy(n).map((K, G) => mapEntry(K, G.max(timestamp)))",
            f"{self.events()}.map(n)",
            f"{self.events()}.items.sku.distinct()",
            f"{self.events()}.head().place",
            f"{self.events()}.max(place)",
            f"if({self.condition([], 0)}, {self.events()}.count(), score)",
            f'if(tier = "{rng.choice(TIERS)}", "x", tier)',
            "labels",
            "limits",
            "tier",
            "born",
            f"{self.events()}.min(timestamp)",
            f"{self.events()}.average(n) - {self.events()}.average(x)",
            f"{self.events()}.sum(x) / {self.events()}.count()",
            f"{self.events()}.sum(cost.net)",
            f"{self.events()}.max(cost.net)",
            self.condition([], 1),
        ))  # fmt: skip

    def rules(self, count: int) -> Rules:
        """``count`` segments, and computed attributes that some of them read."""
        rng = self.rng
        computed = {f"c{i}": self.number() for i in range(count // 2)}
        computed["last"] = f"{self.events()}.max(timestamp)"
        computed["v"] = self.value()
        computed["w"] = self.value()
        if "c0" in computed and rng.random() < 0.5:
            computed["total"] = f"computed.c0 + {rng.choice((1, 0.5))}"
        segments: dict[str, str] = {}
        for i in range(count):
            known = list(segments)
            pick = rng.random()
            if known and pick < 0.15:
                other, word = rng.choice(known), rng.choice(("and", "or"))
                flip = rng.choice(("", "not "))
                rule = f'{flip}inSegment("{other}") {word} ({self.condition(known)})'
            elif pick < 0.25:
                rule = f"computed.last occurs {self.moment()}"
            elif pick < 0.35 and "total" in computed:
                rule = f"computed.total {self.comparison()} 2"
            elif pick < 0.42 and "c0" in computed:
                rule = f"xEvent[n = ^.computed.c0].count() {self.comparison()} 1"
            else:
                rule = self.condition(known)
            segments[f"s{i}"] = rule
        return Rules(segments, computed)


def widened(rng: random.Random, dataset: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with lists and maps added (items, marks, m to events; labels, limits to records)."""
    for row in rows:
        if dataset in ("crm", "web"):
            if rng.random() < 0.5:
                row["labels"] = rng.choices(SKUS, k=rng.randint(0, 3))
            if rng.random() < 0.5:
                row["limits"] = {key: rng.choice((1, 2, 3)) for key in rng.sample("ab", 1)}
            continue
        if rng.random() < 0.6:
            row["items"] = [
                {"sku": rng.choice(SKUS), "qty": rng.choice((None, 1, 2, 3))}
                for _ in range(rng.randint(0, 3))
            ]
        if rng.random() < 0.3:
            row["marks"] = rng.choices(SKUS, k=rng.randint(0, 2))
        if rng.random() < 0.4:
            row["m"] = {key: rng.choice((0.5, 1.0, 2.5)) for key in rng.sample("kj", 1)}
    return rows
