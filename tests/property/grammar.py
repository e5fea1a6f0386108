"""Random rule texts from the whole grammar: every construct, odd names, any white space."""

from __future__ import annotations

import random

PLAIN = ("a", "n", "place", "timestamp", "eventType", "sum", "count", "on", "this", "last", "date")
ODD = ("`order-id`", "`in`", "`today`", "`xEvent`", "`2x`", "`True`", "`ü b`", "ünder", "before")
BOUND = ("V", "E", "a", "sum", "`my var`", "n", "this")
TEXTS = (
    '""',
    '"a"',
    '"%es_"',
    r'"\"q\" \\ \n\t\u0041"',
    r'"\ud83d\ude00"',
    r'"\u0000\u001f"',
    '"ü"',
)
NUMBERS = ("0", "12", "3.5", "0.0", "9223372036854775807", "0.000000001", "123456789012345680000.0")
UNITS = ("millisecond", "SECONDS", "minute", "hours", "days", "week", "months", "quarter", "years")
LONG = ("decades", "centuries", "century", "millennia")
TESTS = ("startsWith", "DOESNOTENDWITH", "contains", "doesNotContain", "equals", "notEqualTo")


class Grammar:
    """Rule texts that parse. names: variables in scope; levels: elements that ``^`` can climb."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def rule(self) -> str:
        """One whole rule, three to five levels deep."""
        body = self.value(self.rng.randint(2, 5), 0, ())
        return f"(P) => {body}" if self.rng.random() < 0.1 else body

    def pick(self, *options: str) -> str:
        """One of the options."""
        return self.rng.choice(options)

    def field(self) -> str:
        """A field's name."""
        return self.rng.choice(PLAIN if self.rng.random() < 0.8 else ODD)

    def leaf(self, levels: int, names: tuple[str, ...]) -> str:
        """Something without sub-expressions."""
        options = [
            *(self.field(), self.field(), f"$1.{self.field()}", "xEvent", "$1.xEvent", "$1"),
            *(self.rng.choice(TEXTS), self.rng.choice(NUMBERS), self.pick("true", "FALSE")),
            *("date(2020, 2, 29)", "date(1, 1, 1, 0, 0, 59)", "now", "Today", "yesterday"),
            *("computed.total", "$1.computed.`a b`", 'inSegment("s \\" 1")', "currentYear()"),
            *("[]", '["a", "b"]', "[1, 2]", "[1.0, true]"),
        ]
        options += names * 2
        if levels:
            carets = "^" * self.rng.randint(1, levels)
            options += [carets, f"{carets}.{self.field()}", f"{carets}.computed.x"]
        return self.rng.choice(options)

    def postfix(self, depth: int, levels: int, names: tuple[str, ...]) -> str:
        """What may stand before a dot."""
        if depth <= 0:
            return self.leaf(levels, names)
        rng, less = self.rng, depth - 1
        source = self.postfix(less, levels, names)
        inner = self.value(less, levels + 1, names)
        options = [
            lambda: self.leaf(levels, names),
            lambda: f"({self.value(less, levels, names)})",
            lambda: f"{source}.{self.field()}",
            lambda: f"{source}[{inner}]",
            lambda: f"{source}.{self.each()}({self.body(less, levels, names)})",
            lambda: f"{source}.{self.pick('topN', 'BOTTOMN')}({self.body(less, levels, names)}, 3)",
            lambda: (
                f"{source}.map((K, `g g`) => mapEntry(K, "
                f"{self.value(less, levels, (*names, 'K', '`g g`'))}))"
            ),
            lambda: f"{source}.{self.pick('distinct', 'head', 'keys', 'values', 'count', 'sum')}()",
            lambda: f"{source}.{self.pick('isNull', 'getYear', 'getDayOfMonth', 'max')}()",
            lambda: (
                f"{source}.{self.pick('get', 'intersects', 'subsetOf', 'includes')}"
                f"({self.value(less, levels, names)})"
            ),
            lambda: f"{source}.{rng.choice(TESTS)}({self.value(less, levels, names)}, false)",
            lambda: f'{source}.regexGroup("(a+)b", 1)',
            lambda: f"if({self.value(less, levels, names)}, {self.leaf(levels, names)}, {source})",
            lambda: f"[{self.value(less, levels, names)}, {self.leaf(levels, names)}]",
            lambda: f"isNotNull({self.value(less, levels, names)})",
            lambda: self.chain(less, levels, names),
        ]
        return rng.choice(options)()

    def each(self) -> str:
        """A function of an expression per element."""
        return self.pick("filter", "map", "groupBy", "sum", "AVERAGE", "min", "max")

    def body(self, depth: int, levels: int, names: tuple[str, ...]) -> str:
        """A function's expression: a lambda, or a bare one a level deeper."""
        if self.rng.random() < 0.5:
            return self.value(depth, levels + 1, names)
        name = self.rng.choice(BOUND)
        head = name if self.rng.random() < 0.5 else f"({name})"
        return f"{head} => {self.value(depth, levels, (*names, name))}"

    def value(self, depth: int, levels: int, names: tuple[str, ...]) -> str:
        """Any expression."""
        if depth <= 0:
            return self.leaf(levels, names)
        rng, less = self.rng, depth - 1

        def part() -> str:
            return self.postfix(less, levels, names)

        def tight() -> str:
            return rng.choice((part(), f"({self.value(less, levels, names)})", f"-{part()}"))

        pick = rng.random()
        if pick < 0.35:
            return self.postfix(depth, levels, names)
        if pick < 0.45:
            return f"{tight()} {self.pick('+', '-', '*', '/', '%')} {tight()}"
        if pick < 0.6:
            operator = self.pick("=", "!=", "<", ">=", "in", "NOTIN", "like")
            return f"{tight()} /* c */ {operator} {tight()}"
        if pick < 0.72:
            return f"{part()} OCCURS {self.moment(less, levels, names)}"
        if pick < 0.85:
            word = self.pick("and", "OR")
            left = self.pick("", "not ", "!") + tight()
            middle = self.pick("", "not ") + tight()
            return f"{left} {word} {middle} {word} {self.open(less, levels, names)}"
        return self.open(less, levels, names)

    def open(self, depth: int, levels: int, names: tuple[str, ...]) -> str:
        """What reaches as far right as it can."""
        rng = self.rng
        pick, name = rng.random(), rng.choice(BOUND)
        source = self.postfix(depth, levels, names)
        inner = (*names, name)
        where = ""
        if rng.random() < 0.8:
            where = f"{self.pick(' where ', ' : ')}{self.value(depth, levels, inner)}"
        if pick < 0.2:
            value = self.value(depth, levels, names)
            return f"let {name} = ({value}) in {self.value(depth, levels, inner)}"
        if pick < 0.4:
            return f"select {name} from {source}{where}"
        if pick < 0.55:
            word = self.pick("sum", "count", "Average", "min", "max")
            result = self.pick(f"{name}.p", f"{name}.p[true].q", "$1.xEvent.n", f"{name}.x.count()")
            return f"{word} {result} over {name} from {source}{where}"
        more = ""
        if rng.random() < 0.5:
            more = f", I from {name}.items where {self.value(depth, levels, (*inner, 'I'))}"
            if rng.random() < 0.5:
                more += ", J from I.parts"
        return f"{self.pick('exists', 'FORALL')} {name} from {source}{where}{more}"

    def moment(
        self, depth: int, levels: int, names: tuple[str, ...], steps: tuple[str, ...] = ()
    ) -> str:
        """The right side of ``occurs``."""

        def time() -> str:
            calendar = f"{self.pick('this', 'LAST', 'next')} {self.rng.choice((*UNITS, *LONG))}"
            step = self.rng.choice(steps) if steps else "now"
            stepped = (step, f"{step}.timestamp", f"{step}.at.x", f"{step}.getYear()")
            return self.pick(
                calendar,
                *("today", "date(2020, 1, 1)", "now"),
                *(stepped if steps else ()),
                f"({self.value(depth, levels, names)})",
                f"$1.{self.field()}",
            )

        comparison = self.pick("<", "<=", ">", ">=", "=", "!=")
        amount, unit = self.rng.choice((0, 1, 2, 90)), self.rng.choice((*UNITS, *LONG))
        return self.pick(
            f"{comparison} {amount} {unit} {self.pick('before', 'AFTER', 'from')} {time()}",
            f"{self.pick('before', 'after', 'on')} {time()}",
            f"on {time()}",
            f"between {time()} and {time()}",
        )

    def chain(self, depth: int, levels: int, names: tuple[str, ...]) -> str:
        """A sequence of one to three steps."""
        steps: list[str] = []
        bound: list[str] = []
        for name in ("A", "`B b`", "C")[: self.rng.randint(1, 3)]:
            what = self.value(depth, levels + 1, (*names, *bound))
            when = ""
            if self.rng.random() < 0.6:
                # Steps' names are times within WHEN: values there use only what is not a step.
                when = f" WHEN({self.moment(depth - 1, levels + 1, names, tuple(bound))})"
            count = self.pick("", "", f" COUNT({self.rng.randint(1, 3)})")
            steps.append(f"{name}: WHAT({what}){when}{count}")
            bound.append(name)
        source = self.pick("xEvent", "$1.xEvent", "xEvent[n = 1]", "xEvent[true].filter(X => X.a)")
        return f"CHAIN({source}, timestamp, [{', '.join(steps)}])"
