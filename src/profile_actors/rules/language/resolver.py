"""Parse tree to rule tree: which variable, field or level each name means (RULES §1, scopes).

Theory: a bare name is a variable in scope, innermost first, else a field of the current element.
Filters and the per-element functions without a lambda open one level for ``^``; lambdas,
quantifiers, select and let only bind a variable. Levels are counted while walking, so that what
reaches the profile becomes ``Root()`` and equal expressions become equal nodes.

Rules for editors: every walk goes through ``_Resolver.node``, which bounds the depth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lark import Token, Tree

from profile_actors.rules.language import call_resolver
from profile_actors.rules.language.bound_names import (
    Around,
    bindable,
    offset,
    parameters,
    pieces,
    whole_number,
)
from profile_actors.rules.language.functions import MAX_COUNT, MAX_DEPTH, MAX_ITEMS
from profile_actors.rules.semantics.calendar import UNIT_SHIFTS, unit_of
from profile_actors.rules.semantics.values import INT64_MAX
from profile_actors.rules.tree.faults import Fault
from profile_actors.rules.tree.nodes import (
    Calendar,
    Call,
    Chain,
    Computed,
    Each,
    Element,
    Events,
    Field,
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


def resolve(tree: Tree[Any]) -> Node:
    """The rule tree of a whole parse tree. Raises Fault."""
    return _Resolver().start(tree)


def _name(tree: Tree[Any]) -> str:
    return str(tree.children[0])


def _is_quoted(tree: Tree[Any]) -> bool:
    token = tree.children[0]
    return isinstance(token, Token) and token.type == "QUOTED"


class _Resolver:
    """One walk over one parse tree."""

    def __init__(self) -> None:
        self.depth = 0

    def start(self, tree: Tree[Any]) -> Node:
        if tree.data == "start":
            return self.node(tree.children[0], Around())
        names = parameters(tree.children[0])
        if len(names) != 1:
            raise Fault("a rule's own lambda has one parameter: (P) => …", offset(tree))
        return self.node(tree.children[1], Around().bind(names[0], Root(at=offset(tree))))

    def node(self, tree: Tree[Any], around: Around) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Fault(
                f"expected at most {MAX_DEPTH} levels of nesting; group a long chain of operators"
                " with parentheses, or split the rule with let or computed attributes",
                offset(tree),
            )
        build: Callable[[Tree[Any], Around], Node] = getattr(self, f"_{tree.data}")
        made = build(tree, around)
        self.depth -= 1
        return made

    # Boolean operators, comparison, arithmetic.

    def _flat(self, tree: Tree[Any], around: Around, function: str) -> Node:
        # The grammar's chains lean left; they are unrolled without recursion.
        parts: list[Tree[Any]] = []
        pending = [tree]
        while pending:
            part = pending.pop()
            if part.data == tree.data:
                pending.extend(reversed(part.children))
            else:
                parts.append(part)
        args = tuple(self.node(part, around) for part in parts)
        return Call(function, args, at=offset(tree))

    def _disjunction(self, tree: Tree[Any], around: Around) -> Node:
        return self._flat(tree, around, "or")

    def _conjunction(self, tree: Tree[Any], around: Around) -> Node:
        return self._flat(tree, around, "and")

    def _negation(self, tree: Tree[Any], around: Around) -> Node:
        return Call("not", (self.node(tree.children[0], around),), at=offset(tree))

    def _negative(self, tree: Tree[Any], around: Around) -> Node:
        return Call("neg", (self.node(tree.children[1], around),), at=offset(tree))

    def _binary(self, tree: Tree[Any], around: Around) -> Node:
        left, operator, right = tree.children
        function = str(operator).lower()
        made = Call(function, (self.node(left, around), self.node(right, around)), at=offset(tree))
        return made

    def _contained(self, tree: Tree[Any], around: Around) -> Node:
        left, right = tree.children
        return Call("in", (self.node(left, around), self.node(right, around)), at=offset(tree))

    # Time.

    def _occurs(self, tree: Tree[Any], around: Around) -> Node:
        subject, moment = tree.children
        return self.moment(moment, self.node(subject, around), around, offset(tree))

    def moment(self, tree: Tree[Any], subject: Node, around: Around, at: int) -> Occurs:
        """The right side of ``occurs``, or what stands in WHEN(…)."""
        children = pieces(tree)
        match tree.data:
            case "distance":
                comparison, amount, unit, *rest = children
                is_before = isinstance(rest[0], Token) and self._before(rest[0])
                return Occurs(
                    subject,
                    "distance",
                    self.node(rest[-1], around),
                    comparison=str(comparison),
                    amount=whole_number(amount, INT64_MAX),
                    unit=unit_of(unit) or "",
                    direction="before" if is_before else "after",
                    at=at,
                )
            case "relative":
                form = "before" if self._before(children[0]) else "after"
                return Occurs(subject, form, self.node(children[1], around), at=at)
            case "between":
                time, until = (self.node(child, around) for child in children)
                return Occurs(subject, "between", time, until, at=at)
        return Occurs(subject, "on", self.node(children[0], around), at=at)

    @staticmethod
    def _before(token: Token) -> bool:
        return token.type == "BEFORE"

    def _calendar(self, tree: Tree[Any], around: Around) -> Node:
        del around
        word, unit = pieces(tree)
        shift = UNIT_SHIFTS[str(word).lower()]
        return Calendar(unit_of(unit) or "", shift, at=offset(tree))

    # Bindings.

    def _let(self, tree: Tree[Any], around: Around) -> Node:
        name_tree, _, value, body = tree.children
        name = bindable(_name(name_tree), offset(name_tree))
        inner = around.bind(name, Variable(name))
        return Let(name, self.node(value, around), self.node(body, inner), at=offset(tree))

    def ranges(self, trees: list[Tree[Any]], around: Around) -> tuple[tuple[Range, ...], Around]:
        made: list[Range] = []
        for tree in trees:
            # Evaluation nests one loop per range, so each counts as a level for what follows.
            self.depth += 1
            name_tree, source, condition = tree.children
            name = bindable(_name(name_tree), offset(name_tree))
            from_node = self.node(source, around)
            around = around.bind(name, Variable(name))
            where = None if condition is None else self.node(condition, around)
            made.append(Range(name, from_node, where, at=offset(tree)))
        self.depth -= len(trees)
        return tuple(made), around

    def _quantifier(self, tree: Tree[Any], around: Around) -> Node:
        word, *trees = tree.children
        ranges, _ = self.ranges(trees, around)
        return Quantified(str(word).lower(), ranges, at=offset(tree))

    def _select(self, tree: Tree[Any], around: Around) -> Node:
        ranges, _ = self.ranges(tree.children, around)
        return Quantified(
            "select", ranges, Variable(ranges[0].name, at=offset(tree)), at=offset(tree)
        )

    def _aggregate_over(self, tree: Tree[Any], around: Around) -> Node:
        word, result, range_tree = tree.children
        ranges, inner = self.ranges([range_tree], around)
        return Quantified(str(word).lower(), ranges, self.node(result, inner), at=offset(tree))

    # Paths.

    def _bare(self, tree: Tree[Any], around: Around) -> Node:
        name = _name(tree.children[0])
        bound = around.names.get(name)
        if bound is not None:
            return replace(bound, at=offset(tree))
        base: Node = Element(0) if around.levels else Root()
        return Field(replace(base, at=offset(tree)), name, at=offset(tree))

    def _member(self, tree: Tree[Any], around: Around) -> Node:
        base_tree, name_tree = tree.children
        name = _name(name_tree)
        base = self.node(base_tree, around)
        if base_tree.data == "bare" and isinstance(base, Field) and isinstance(base.base, Variable):
            base = base.base  # a step's name in WHEN, whose field is asked for, is its event
        if base == Root() and name == "xEvent" and not _is_quoted(name_tree):
            return Events(at=offset(tree))
        if base == Field(Root(), "computed"):
            return Computed(name, at=offset(tree))
        return Field(base, name, at=offset(tree))

    def _outer(self, tree: Tree[Any], around: Around) -> Node:
        up = len(str(tree.children[0]))
        if up > around.levels:
            raise Fault(
                f"`{'^' * min(up, 20)}` climbs above the profile; {around.levels} level(s) are"
                " open",
                offset(tree),
            )
        return Root(at=offset(tree)) if up == around.levels else Element(up, at=offset(tree))

    def _events(self, tree: Tree[Any], around: Around) -> Node:
        return Events(at=offset(tree))

    def _profile(self, tree: Tree[Any], around: Around) -> Node:
        return Root(at=offset(tree))

    # Literals.

    def _string(self, tree: Tree[Any], around: Around) -> Node:
        return Literal(str(tree.children[0]), "string", at=offset(tree))

    def _integer(self, tree: Tree[Any], around: Around) -> Node:
        return Literal(whole_number(pieces(tree)[0], INT64_MAX), "integer", at=offset(tree))

    def _double(self, tree: Tree[Any], around: Around) -> Node:
        value = float(str(tree.children[0]))
        if value == float("inf"):
            raise Fault("expected a number that a double can hold", offset(tree))
        return Literal(value, "double", at=offset(tree))

    def _boolean(self, tree: Tree[Any], around: Around) -> Node:
        return Literal(str(tree.children[0]).lower() == "true", "boolean", at=offset(tree))

    def _day_word(self, tree: Tree[Any], around: Around) -> Node:
        return Now(str(tree.children[0]).lower(), at=offset(tree))

    def _array(self, tree: Tree[Any], around: Around) -> Node:
        children = [child for child in tree.children if child is not None]
        if len(children) > MAX_ITEMS:
            raise Fault(
                f"expected at most {MAX_ITEMS} items in a list, got {len(children)}", offset(tree)
            )
        return Items(tuple(self.node(child, around) for child in children), at=offset(tree))

    # Functions.

    def _function(self, tree: Tree[Any], around: Around) -> Node:
        return call_resolver.function(tree, around, self.node)

    def _filter(self, tree: Tree[Any], around: Around) -> Node:
        return call_resolver.filtered(tree, around, self.node)

    def _method(self, tree: Tree[Any], around: Around) -> Node:
        return call_resolver.method(tree, around, self.node)

    # Sequences.

    def _chain(self, tree: Tree[Any], around: Around) -> Node:
        source_tree, order, *step_trees = tree.children
        source = self.node(source_tree, around)
        inner = source
        while isinstance(inner, Each) and inner.function == "filter":
            inner = inner.source
        if not isinstance(inner, Events):
            raise Fault("expected xEvent or a filter of it as CHAIN's first argument", source.at)
        if _name(order) != "timestamp":
            raise Fault("expected `timestamp` as CHAIN's second argument", offset(order))
        steps: list[Step] = []
        within = around.deeper()
        for step in step_trees:
            self.depth += 1  # evaluation nests one search per step
            name_tree, what, when, count = pieces(step)
            name = bindable(_name(name_tree), offset(name_tree))
            if any(name == other.name for other in steps):
                raise Fault(f"expected a new name for this step, got {name!r} again", offset(step))
            steps.append(self.step(name, what, when, count, within, steps))
            within = within.bind(name, Variable(name))
        self.depth -= len(steps)
        return Chain(source, tuple(steps), at=offset(tree))

    def step(
        self,
        name: str,
        what: Tree[Any],
        when: Tree[Any] | None,
        count: Token | None,
        around: Around,
        earlier: list[Step],
    ) -> Step:
        condition = self.node(what, around)
        moment = None
        if when is not None:
            timed = around
            for step in earlier:
                timed = timed.bind(step.name, Field(Variable(step.name), "timestamp"))
            subject = Field(Element(0), "timestamp", at=offset(when))
            moment = self.moment(when, subject, timed, offset(when))
        n = 1 if count is None else whole_number(count, MAX_COUNT, 1)
        return Step(name, condition, moment, n, at=offset(what))
