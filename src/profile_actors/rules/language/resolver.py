"""Parse tree to rule tree: which variable, field or level each name means (RULES §1, scopes).

Theory: a bare name is a variable in scope, innermost first, else a field of the current element.
Filters and the per-element functions without a lambda open one level for ``^``; lambdas,
quantifiers, select and let only bind a variable. Levels are counted while walking, so that what
reaches the profile becomes ``Root()`` and equal expressions become equal nodes.

Rules for editors: every walk goes through ``_Resolver.node``, which bounds the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lark import Token, Tree

from profile_actors.errors import RuleError
from profile_actors.rules.language.functions import (
    EACH,
    FUNCTIONS,
    MAX_COUNT,
    MAX_DEPTH,
    MAX_ITEMS,
    METHODS,
    spelling,
)
from profile_actors.rules.language.lexer import RESERVED
from profile_actors.rules.semantics import string_tests
from profile_actors.rules.semantics.calendar import from_civil, unit_of
from profile_actors.rules.tree.faults import Fault, nearest
from profile_actors.rules.tree.nodes import (
    Calendar,
    Call,
    Chain,
    Computed,
    Each,
    Element,
    Events,
    Field,
    InSegment,
    Items,
    Let,
    Literal,
    Node,
    Now,
    Occurs,
    Quantified,
    Range,
    Root,
    Step,
    Variable,
)

_INT64 = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Scope:
    """levels: elements between here and the profile. names: variable -> what it stands for."""

    levels: int = 0
    names: Mapping[str, Node] = field(default_factory=dict)

    def bind(self, name: str, node: Node) -> _Scope:
        return replace(self, names={**self.names, name: node})

    def deeper(self) -> _Scope:
        return replace(self, levels=self.levels + 1)


def resolve(tree: Tree[Any]) -> Node:
    """The rule tree of a whole parse tree. Raises Fault."""
    return _Resolver().start(tree)


def _at(tree: Tree[Any]) -> int:
    return int(getattr(tree.meta, "start_pos", 0))


def _parts(tree: Tree[Any]) -> list[Any]:
    return list(tree.children)


def _name(tree: Tree[Any]) -> str:
    return str(tree.children[0])


def _is_quoted(tree: Tree[Any]) -> bool:
    token = tree.children[0]
    return isinstance(token, Token) and token.type == "QUOTED"


def _whole(token: Token, most: int, least: int = 0) -> int:
    # Digits are counted first: converting a very long number is quadratic, or refused.
    digits = str(token).lstrip("0") or "0"
    if len(digits) > 19 or not least <= int(digits) <= most:
        raise Fault(
            f"expected a whole number from {least} to {most}, got {str(token)[:40]}",
            int(token.start_pos or 0),
        )
    return int(digits)


class _Resolver:
    """One walk over one parse tree."""

    def __init__(self) -> None:
        self.depth = 0

    def start(self, tree: Tree[Any]) -> Node:
        if tree.data == "start":
            return self.node(tree.children[0], _Scope())
        names = self.parameters(tree.children[0])
        if len(names) != 1:
            raise Fault("a rule's own lambda has one parameter: (P) => …", _at(tree))
        return self.node(tree.children[1], _Scope().bind(names[0], Root(at=_at(tree))))

    def node(self, tree: Tree[Any], scope: _Scope) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Fault(
                f"expected at most {MAX_DEPTH} levels of nesting; group a long chain of operators"
                " with parentheses, or split the rule with let or computed attributes",
                _at(tree),
            )
        build: Callable[[Tree[Any], _Scope], Node] = getattr(self, f"_{tree.data}")
        made = build(tree, scope)
        self.depth -= 1
        return made

    # Boolean operators, comparison, arithmetic.

    def _flat(self, tree: Tree[Any], scope: _Scope, function: str) -> Node:
        # The grammar's chains lean left; they are unrolled without recursion.
        parts: list[Tree[Any]] = []
        pending = [tree]
        while pending:
            part = pending.pop()
            if part.data == tree.data:
                pending.extend(reversed(part.children))
            else:
                parts.append(part)
        args = tuple(self.node(part, scope) for part in parts)
        return Call(function, args, at=_at(tree))

    def _disjunction(self, tree: Tree[Any], scope: _Scope) -> Node:
        return self._flat(tree, scope, "or")

    def _conjunction(self, tree: Tree[Any], scope: _Scope) -> Node:
        return self._flat(tree, scope, "and")

    def _negation(self, tree: Tree[Any], scope: _Scope) -> Node:
        return Call("not", (self.node(tree.children[0], scope),), at=_at(tree))

    def _negative(self, tree: Tree[Any], scope: _Scope) -> Node:
        return Call("neg", (self.node(tree.children[1], scope),), at=_at(tree))

    def _binary(self, tree: Tree[Any], scope: _Scope) -> Node:
        left, operator, right = tree.children
        function = str(operator).lower()
        made = Call(function, (self.node(left, scope), self.node(right, scope)), at=_at(tree))
        return made

    def _contained(self, tree: Tree[Any], scope: _Scope) -> Node:
        left, right = tree.children
        return Call("in", (self.node(left, scope), self.node(right, scope)), at=_at(tree))

    # Time.

    def _occurs(self, tree: Tree[Any], scope: _Scope) -> Node:
        subject, moment = tree.children
        return self.moment(moment, self.node(subject, scope), scope, _at(tree))

    def moment(self, tree: Tree[Any], subject: Node, scope: _Scope, at: int) -> Occurs:
        """The right side of ``occurs``, or what stands in WHEN(…)."""
        children = _parts(tree)
        match tree.data:
            case "distance":
                comparison, amount, unit, *rest = children
                is_before = isinstance(rest[0], Token) and self._before(rest[0])
                return Occurs(
                    subject,
                    "distance",
                    self.node(rest[-1], scope),
                    comparison=str(comparison),
                    amount=_whole(amount, _INT64),
                    unit=unit_of(unit) or "",
                    direction="before" if is_before else "after",
                    at=at,
                )
            case "relative":
                form = "before" if self._before(children[0]) else "after"
                return Occurs(subject, form, self.node(children[1], scope), at=at)
            case "between":
                time, until = (self.node(child, scope) for child in children)
                return Occurs(subject, "between", time, until, at=at)
        return Occurs(subject, "on", self.node(children[0], scope), at=at)

    @staticmethod
    def _before(token: Token) -> bool:
        return token.type == "BEFORE"

    def _calendar(self, tree: Tree[Any], scope: _Scope) -> Node:
        del scope
        word, unit = _parts(tree)
        shift = {"this": 0, "last": -1, "next": 1}[str(word).lower()]
        return Calendar(unit_of(unit) or "", shift, at=_at(tree))

    # Bindings.

    def bound(self, token: str, at: int) -> str:
        """A name that may be bound."""
        if token.lower() in RESERVED or token == "xEvent":
            raise Fault(f"expected a name to bind, got the reserved word `{token}`", at)
        return token

    def parameters(self, tree: Tree[Any]) -> tuple[str, ...]:
        names = []
        for token in _parts(tree):
            names.append(self.bound(str(token), int(token.start_pos or 0)))
        if len(set(names)) < len(names):
            raise Fault("expected two different names in (K, G) =>", _at(tree))
        return tuple(names)

    def _let(self, tree: Tree[Any], scope: _Scope) -> Node:
        name_tree, _, value, body = tree.children
        name = self.bound(_name(name_tree), _at(name_tree))
        inner = scope.bind(name, Variable(name))
        return Let(name, self.node(value, scope), self.node(body, inner), at=_at(tree))

    def ranges(self, trees: list[Tree[Any]], scope: _Scope) -> tuple[tuple[Range, ...], _Scope]:
        made: list[Range] = []
        for tree in trees:
            # Evaluation nests one loop per range, so each counts as a level for what follows.
            self.depth += 1
            name_tree, source, condition = tree.children
            name = self.bound(_name(name_tree), _at(name_tree))
            from_node = self.node(source, scope)
            scope = scope.bind(name, Variable(name))
            where = None if condition is None else self.node(condition, scope)
            made.append(Range(name, from_node, where, at=_at(tree)))
        self.depth -= len(trees)
        return tuple(made), scope

    def _quantifier(self, tree: Tree[Any], scope: _Scope) -> Node:
        word, *trees = tree.children
        ranges, _ = self.ranges(trees, scope)
        return Quantified(str(word).lower(), ranges, at=_at(tree))

    def _select(self, tree: Tree[Any], scope: _Scope) -> Node:
        ranges, _ = self.ranges(tree.children, scope)
        return Quantified("select", ranges, Variable(ranges[0].name, at=_at(tree)), at=_at(tree))

    def _aggregate_over(self, tree: Tree[Any], scope: _Scope) -> Node:
        word, result, range_tree = tree.children
        ranges, inner = self.ranges([range_tree], scope)
        return Quantified(str(word).lower(), ranges, self.node(result, inner), at=_at(tree))

    # Paths.

    def _bare(self, tree: Tree[Any], scope: _Scope) -> Node:
        name = _name(tree.children[0])
        bound = scope.names.get(name)
        if bound is not None:
            return replace(bound, at=_at(tree))
        base: Node = Element(0) if scope.levels else Root()
        return Field(replace(base, at=_at(tree)), name, at=_at(tree))

    def _member(self, tree: Tree[Any], scope: _Scope) -> Node:
        base_tree, name_tree = tree.children
        name = _name(name_tree)
        base = self.node(base_tree, scope)
        if base_tree.data == "bare" and isinstance(base, Field) and isinstance(base.base, Variable):
            base = base.base  # a step's name in WHEN, whose field is asked for, is its event
        if base == Root() and name == "xEvent" and not _is_quoted(name_tree):
            return Events(at=_at(tree))
        if base == Field(Root(), "computed"):
            return Computed(name, at=_at(tree))
        return Field(base, name, at=_at(tree))

    def _outer(self, tree: Tree[Any], scope: _Scope) -> Node:
        up = len(str(tree.children[0]))
        if up > scope.levels:
            raise Fault(
                f"`{'^' * min(up, 20)}` climbs above the profile; {scope.levels} level(s) are open",
                _at(tree),
            )
        return Root(at=_at(tree)) if up == scope.levels else Element(up, at=_at(tree))

    def _events(self, tree: Tree[Any], scope: _Scope) -> Node:
        return Events(at=_at(tree))

    def _profile(self, tree: Tree[Any], scope: _Scope) -> Node:
        return Root(at=_at(tree))

    # Literals.

    def _string(self, tree: Tree[Any], scope: _Scope) -> Node:
        return Literal(str(tree.children[0]), "string", at=_at(tree))

    def _integer(self, tree: Tree[Any], scope: _Scope) -> Node:
        return Literal(_whole(_parts(tree)[0], _INT64), "integer", at=_at(tree))

    def _double(self, tree: Tree[Any], scope: _Scope) -> Node:
        value = float(str(tree.children[0]))
        if value == float("inf"):
            raise Fault("expected a number that a double can hold", _at(tree))
        return Literal(value, "double", at=_at(tree))

    def _boolean(self, tree: Tree[Any], scope: _Scope) -> Node:
        return Literal(str(tree.children[0]).lower() == "true", "boolean", at=_at(tree))

    def _day_word(self, tree: Tree[Any], scope: _Scope) -> Node:
        return Now(str(tree.children[0]).lower(), at=_at(tree))

    def _array(self, tree: Tree[Any], scope: _Scope) -> Node:
        children = [child for child in tree.children if child is not None]
        if len(children) > MAX_ITEMS:
            raise Fault(
                f"expected at most {MAX_ITEMS} items in a list, got {len(children)}", _at(tree)
            )
        return Items(tuple(self.node(child, scope) for child in children), at=_at(tree))

    # Functions.

    @staticmethod
    def arity(name: str, count: int, bounds: tuple[int, int], at: int) -> None:
        least, most = bounds
        if not least <= count <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise Fault(f"expected {wanted} argument(s) for {spelling(name)}, got {count}", at)

    def _function(self, tree: Tree[Any], scope: _Scope) -> Node:
        token, arguments = tree.children
        name, at = str(token).lower(), _at(tree)
        args = [] if arguments is None else arguments.children
        if name not in FUNCTIONS:
            if name == "mapentry":
                raise Fault("mapEntry stands only as m.map((K, G) => mapEntry(K, …))", at)
            if name in METHODS or name in EACH:
                raise Fault(f"{spelling(name)} is called on a value: x.{spelling(name)}(…)", at)
            known = [spelling(other) for other in (*FUNCTIONS, *METHODS, *EACH, "CHAIN")]
            raise Fault(f"unknown function {str(token)[:60]!r}{nearest(str(token), known)}", at)
        self.arity(name, len(args), FUNCTIONS[name], at)
        made = tuple(self.argument(arg, scope, name) for arg in args)
        if name == "date":
            return self.date(made, at)
        if name == "insegment":
            if not isinstance(made[0], Literal) or made[0].kind != "string":
                raise Fault('expected a segment\'s name as text: inSegment("name")', made[0].at)
            return InSegment(str(made[0].value), at=at)
        return Call(name, made, at=at)

    def argument(self, tree: Tree[Any], scope: _Scope, function: str) -> Node:
        if tree.data == "lambda":
            raise Fault(f"{spelling(function)} takes no lambda", _at(tree))
        return self.node(tree, scope)

    @staticmethod
    def date(args: tuple[Node, ...], at: int) -> Node:
        numbers = [arg.value for arg in args if isinstance(arg, Literal) and arg.kind == "integer"]
        if len(numbers) != len(args) or len(args) not in (3, 6):
            raise Fault("expected date(year, month, day) or date(y, m, d, h, m, s) in digits", at)
        value = from_civil(*(int(number) for number in numbers))
        if value is None:
            raise Fault("expected a day and time that exist, in the years 1 to 9999", at)
        return Literal(value, "date" if len(args) == 3 else "timestamp", at=at)

    def _filter(self, tree: Tree[Any], scope: _Scope) -> Node:
        source, condition = tree.children
        made = self.node(source, scope)
        return Each("filter", made, self.node(condition, scope.deeper()), at=_at(tree))

    def _method(self, tree: Tree[Any], scope: _Scope) -> Node:
        receiver, token, arguments = _parts(tree)
        name, at = str(token).lower(), int(token.start_pos or 0)
        args: list[Tree[Any]] = [] if arguments is None else arguments.children
        if name in EACH:
            self.arity(name, len(args), EACH[name], at)
            if args:
                return self.each(name, self.node(receiver, scope), args, scope, _at(tree))
        elif name in METHODS:
            self.arity(name, len(args), METHODS[name], at)
        else:
            known = [spelling(other) for other in (*METHODS, *EACH)]
            raise Fault(f"unknown function {str(token)[:60]!r}{nearest(str(token), known)}", at)
        made = [self.node(receiver, scope), *(self.argument(arg, scope, name) for arg in args)]
        if name in ("matches", "regexgroup"):
            self.pattern(name, made)
        return Call(name, tuple(made), at=_at(tree))

    @staticmethod
    def pattern(name: str, args: list[Node]) -> None:
        """Regular expressions are checked when the rule is defined, hence literal."""
        pattern = args[1]
        if not isinstance(pattern, Literal) or pattern.kind != "string":
            raise Fault(f"expected a text literal as the pattern of {spelling(name)}", pattern.at)
        try:
            string_tests.compile_regex(str(pattern.value))
        except RuleError as error:
            raise Fault(error.message, pattern.at) from None
        if name == "regexgroup" and not (
            isinstance(args[2], Literal) and args[2].kind == "integer"
        ):
            raise Fault("expected a whole number as the group of regexGroup", args[2].at)

    def each(self, name: str, source: Node, args: list[Tree[Any]], scope: _Scope, at: int) -> Node:
        first, rest = args[0], args[1:]
        extra = tuple(self.argument(arg, scope, name) for arg in rest)
        if first.data != "lambda":
            return Each(name, source, self.node(first, scope.deeper()), (), extra, at=at)
        names = self.parameters(first.children[0])
        inner = scope
        for parameter in names:
            inner = inner.bind(parameter, Variable(parameter))
        body = first.children[1]
        if len(names) == 1:
            return Each(name, source, self.node(body, inner), names, extra, at=at)
        entry = body.children if body.data == "function" else ()
        if name != "map" or not entry or str(entry[0]).lower() != "mapentry":
            raise Fault("two parameters stand only in m.map((K, G) => mapEntry(K, …))", _at(first))
        parts = [] if entry[1] is None else entry[1].children
        self.arity("mapentry", len(parts), (2, 2), _at(body))
        key, value = (self.argument(part, inner, "mapentry") for part in parts)
        return Each("mapentries", source, key, names, (value,), at=at)

    # Sequences.

    def _chain(self, tree: Tree[Any], scope: _Scope) -> Node:
        source_tree, order, *step_trees = tree.children
        source = self.node(source_tree, scope)
        inner = source
        while isinstance(inner, Each) and inner.function == "filter":
            inner = inner.source
        if not isinstance(inner, Events):
            raise Fault("expected xEvent or a filter of it as CHAIN's first argument", source.at)
        if _name(order) != "timestamp":
            raise Fault("expected `timestamp` as CHAIN's second argument", _at(order))
        steps: list[Step] = []
        within = scope.deeper()
        for step in step_trees:
            self.depth += 1  # evaluation nests one search per step
            name_tree, what, when, count = _parts(step)
            name = self.bound(_name(name_tree), _at(name_tree))
            if any(name == other.name for other in steps):
                raise Fault(f"expected a new name for this step, got {name!r} again", _at(step))
            steps.append(self.step(name, what, when, count, within, steps))
            within = within.bind(name, Variable(name))
        self.depth -= len(steps)
        return Chain(source, tuple(steps), at=_at(tree))

    def step(
        self,
        name: str,
        what: Tree[Any],
        when: Tree[Any] | None,
        count: Token | None,
        scope: _Scope,
        earlier: list[Step],
    ) -> Step:
        condition = self.node(what, scope)
        moment = None
        if when is not None:
            timed = scope
            for step in earlier:
                timed = timed.bind(step.name, Field(Variable(step.name), "timestamp"))
            subject = Field(Element(0), "timestamp", at=_at(when))
            moment = self.moment(when, subject, timed, _at(when))
        n = 1 if count is None else _whole(count, MAX_COUNT, 1)
        return Step(name, condition, moment, n, at=_at(what))
