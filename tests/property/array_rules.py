"""Random rules over arrays: joins, sequences, lists and maps of a profile's events."""

from __future__ import annotations

import random

NUMBERS = ("n", "amount")
VALUES = ("campaignID", "eventType", "n", "amount", "at", "timestamp")
COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
TYPES = ('"view"', '"explore"', '"purchase"')
SPANS = ("0 minutes", "10 minutes", "30 minutes", "1 hour", "1 day", "1 week", "1 month")


class ArrayRules:
    """Rule texts over the schemas of ``test_arrays_equal_reference``, most of them well typed.

    Events are named E1, E2, …; names: those that are bound where an expression stands.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.made = 0

    def pick(self, *options: str) -> str:
        """One of the options."""
        return self.rng.choice(options)

    def name(self) -> str:
        """A name for an event that nothing else has."""
        self.made += 1
        return f"E{self.made}"

    def rule(self) -> str:
        """A whole rule: a condition, or a value of any type."""
        kind = self.rng.random()
        if kind < 0.25:
            return self.chain()
        if kind < 0.65:
            return self.claim(2, ())
        if kind < 0.75:
            return f"{self.number(2, ())} {self.pick(*COMPARISONS)} {self.rng.randint(0, 3)}"
        return self.value()

    # -- conditions --------------------------------------------------------------------------

    def condition(self, depth: int, names: tuple[str, ...]) -> str:
        """A condition on the event that was named last, and those before."""
        atoms = [self.atom(depth, names) for _ in range(self.rng.choice([1, 1, 2, 3]))]
        text = self.pick(" and ", " and ", " or ").join(atoms)
        return f"not ({text})" if self.rng.random() < 0.1 else text

    def atom(self, depth: int, names: tuple[str, ...]) -> str:
        """One comparison, or a claim about other events."""
        mine = names[-1]
        kind = self.rng.random()
        if kind < 0.25:
            return self.pick(
                f"{mine}.eventType = {self.pick(*TYPES)}",
                f"{mine}.n {self.pick(*COMPARISONS)} {self.rng.randint(-1, 3)}",
                f'{mine}.campaignID in ["a", "b"]',
                f"{mine}.ok",
                f"isNull({mine}.{self.pick(*VALUES[:-1])})",
                f"{mine}.n > $1.score",
                f"{mine}.campaignID = $1.city",
                f"{self.pick('1', '$1.score')} {self.pick('in', 'notIn')} [{mine}.n]",
                f"{mine}.n {self.pick('in', 'notIn')} [$1.score]",
                f"{self.pick('$1.city', 'isNull($1.city) or $1.city')} notIn [{mine}.campaignID]",
            )
        if kind < 0.45:
            return self.moment(mine, names)
        if kind < 0.75 and len(names) > 1:
            other = self.pick(*names[:-1])
            field = self.pick(*VALUES)
            return self.pick(
                f"{mine}.{field} = {other}.{field}",
                f"{mine}.{field} {self.pick(*COMPARISONS)} {other}.{field}",
                f"{mine}.n = {other}.n + 1",
                f"{mine}.n {self.pick('in', 'notIn')} [{other}.n, $1.score]",
                f"{mine}.n notIn [{other}.n]",
                f"{mine}.campaignID = {other}.campaignID",
            )
        if depth > 0 and kind > 0.8:
            return f"({self.claim(depth - 1, names)})"
        return f"{mine}.amount {self.pick(*COMPARISONS)} {self.pick('0.2', '1', '2.5')}"

    def moment(self, mine: str, names: tuple[str, ...]) -> str:
        """When the event was, against the clock or another event."""
        subject = f"{mine}.{self.pick('timestamp', 'timestamp', 'timestamp', 'at')}"
        time = "now"
        if len(names) > 1 and self.rng.random() < 0.6:
            time = f"{self.pick(*names[:-1])}.timestamp"
        return self.pick(
            f"{subject} occurs {self.pick('<', '<=', '>', '>=')} {self.pick(*SPANS)}"
            f" {self.pick('before', 'after')} {time}",
            f"{subject} occurs <= {self.pick(*SPANS)} {'before' if time == 'now' else 'after'}"
            f" {time}",
            f"{subject} occurs {self.pick('=', '!=')} 1 {self.pick('hour', 'day')} before {time}",
            f"{subject} occurs {self.pick('before', 'after', 'on')} {self.pick('today', time)}",
            f"{subject} {self.pick('<', '<=', '=', '>')} {time}",
        )

    def claim(self, depth: int, names: tuple[str, ...]) -> str:
        """A boolean over lists of events."""
        name = self.name()
        source = self.events(depth, names)
        condition = self.condition(depth, (*names, name))
        kind = self.rng.random()
        if kind < 0.5:
            return f"exists {name} from {source} where {condition}"
        if kind < 0.65:
            return f"forall {name} from {source} where {condition}"
        if kind < 0.8:
            second = self.name()
            more = self.condition(0, (*names, name, second))
            return (
                f"{self.pick('exists', 'forall')} {name} from {source} where {condition},"
                f" {second} from {self.events(0, (*names, name))} where {more}"
            )
        number = self.number(depth, names)
        return f"{number} {self.pick(*COMPARISONS)} {self.rng.randint(0, 2)}"

    # -- lists and values --------------------------------------------------------------------

    def events(self, depth: int, names: tuple[str, ...]) -> str:
        """A list of events."""
        kind = self.rng.random()
        if depth <= 0 or kind < 0.3:
            return "xEvent"
        if kind < 0.8:
            name = self.name()
            found = f"{name} => {self.condition(depth - 1, (*names, name))}"
            return f"{self.events(depth - 1, names)}.filter({found})"
        best = self.pick("topN", "bottomN")
        return f"{self.events(depth - 1, names)}.{best}({self.pick(*VALUES)}, {self.pick(*'123')})"

    def number(self, depth: int, names: tuple[str, ...]) -> str:
        """A number of a list of events."""
        source = self.events(depth, names)
        field = self.pick(*NUMBERS)
        return self.pick(
            f"{source}.count()",
            f"{source}.{self.pick('sum', 'min', 'max', 'average')}({field})",
            f"{source}.{self.pick(*VALUES)}.distinct().count()",
            f"{source}.{field}.distinct().{self.pick('sum', 'max')}()",
            f"{source}.head().{field}",
            f"{source}.groupBy({self.pick(*VALUES)}).keys().count()",
            f"{source}.groupBy(campaignID).map((K, G) => mapEntry(K, G.sum({field})))"
            f"{self.pick('.values().max()', '.get($1.city)')}",
        )

    def value(self) -> str:
        """A list, a map, or a single value."""
        source = self.events(2, ())
        field = self.pick(*VALUES)
        name = self.name()
        inner = self.number(1, (name,))
        return self.pick(
            f"{source}.campaignID",
            f"{source}.{field}.distinct().count()",
            f"{source}.{self.pick('min', 'max')}({self.pick('campaignID', 'eventType')})",
            f"{source}.head().{self.pick('campaignID', 'ok', 'n')}",
            f"{source}.map({name} => {inner})",
            f"{source}.groupBy({self.pick('campaignID', 'eventType', 'ok', 'n')})"
            f".map((K, G) => mapEntry(K, G.{self.pick('count()', 'sum(n)', 'campaignID')}))",
            f"{source}.groupBy(eventType).map((K, G) => mapEntry(K, G.topN({field}, 1).n))",
            f"{source}.campaignID.intersection({self.events(1, ())}.campaignID)",
            f"$1.city {self.pick('in', 'notIn')} {source}.campaignID",
            f"let S = ({source}) in S.count() > 1 or S.head().n = 1",
        )

    def chain(self) -> str:
        """A sequence of one to four steps."""
        steps: list[str] = []
        names: list[str] = []
        for name in "ABCD"[: self.rng.choice([1, 2, 2, 3, 4])]:
            text = f"{name}: WHAT({self.step(names)})"
            if self.rng.random() < 0.5:
                ahead, time = ("after", self.pick(*names)) if names else ("before", "now")
                if self.rng.random() < 0.2:
                    ahead, time = "before", "now"
                compared = self.pick("<=", "<=", "<", ">", ">=")
                text += f" WHEN({compared} {self.pick(*SPANS)} {ahead} {time})"
            if self.rng.random() < 0.3:
                text += f" COUNT({self.rng.choice([1, 2, 2, 3])})"
            steps.append(text)
            names.append(name)
        source = self.pick("xEvent", "xEvent", "xEvent[amount > 0]", "xEvent[n > ^.score]")
        found = f"CHAIN({source}, timestamp, [{', '.join(steps)}])"
        return f"not {found}" if self.rng.random() < 0.15 else found

    def step(self, names: list[str]) -> str:
        """What an event of a step is, by bare names, and those of earlier steps."""
        atoms = [
            self.pick(
                f"eventType = {self.pick(*TYPES)}",
                f"n {self.pick(*COMPARISONS)} {self.rng.randint(0, 2)}",
                "ok",
                "true",
                "campaignID = $1.city",
            )
        ]
        if names and self.rng.random() < 0.6:
            field = self.pick(*VALUES[:-1])
            operator = self.pick("=", "=", *COMPARISONS)
            atoms.append(f"{field} {operator} {self.pick(*names)}.{field}")
        return self.pick(" and ", " and ", " or ").join(atoms)
