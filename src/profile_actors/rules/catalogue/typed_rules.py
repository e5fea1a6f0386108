"""All rules of a catalogue, parsed and typed in the order in which they read each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache

from profile_actors.definitions.declared import Catalogue
from profile_actors.definitions.field_types import FieldType
from profile_actors.definitions.relationships import Join, joins_of
from profile_actors.definitions.schema_paths import tree_of
from profile_actors.errors import RuleError
from profile_actors.rules.catalogue.publication import texts_of, withheld
from profile_actors.rules.language.checker import check
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.types import Type, union_scope
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import WORDS, Key
from profile_actors.rules.tree.walks import references

# A catalogue's rules are parsed again with each of its versions, in every partition.
_parsed = lru_cache(maxsize=4096)(parse)


def check_all(catalogue: Catalogue, *, drafts: bool = False) -> dict[Key, Node]:
    """The typed trees of the published rules, ('computed' | 'segment', name) -> tree, each after
    those it reads; with ``drafts`` those too. Raises RuleError, naming the definition, and for a
    cycle all that are on it."""
    texts, hidden = texts_of(catalogue, drafts=drafts), withheld(catalogue)
    trees: dict[Key, Node] = {}
    for key, text in texts.items():
        with _naming(key):
            trees[key] = _parsed(text)
    types: dict[str, Type] = {name: None for kind, name in texts if kind == "computed"}
    segments = [name for kind, name in texts if kind == "segment"]
    typed: dict[Key, Node] = {}
    for key in _dependency_order(trees):
        scope = union_scope(
            catalogue.schemas.values(), types, segments, hidden, catalogue.relationships.values()
        )
        with _naming(key):
            typed[key] = check(trees[key], scope, key[0], texts[key])
        if key[0] == "computed":
            types[key[1]] = typed[key].type
    return typed


def entities_of(catalogue: Catalogue) -> dict[str, tuple[FieldType, Join]]:
    """What stands under the name of each relationship."""
    return {
        join.name: (tree_of(catalogue.schemas[join.target]), join) for join in joins_of(catalogue)
    }


@contextmanager
def _naming(key: Key) -> Iterator[None]:
    """A RuleError within says which definition is wrong."""
    try:
        yield
    except RuleError as error:
        # A rule that is only asked about has no name (see ``one_rule``).
        message = f"in {WORDS[key[0]]} {key[1]!r}: {error.message}" if key[1] else error.message
        raise RuleError(message, error.line, error.column) from None


def _dependency_order(trees: Mapping[Key, Node]) -> list[Key]:
    """All rules, each after those it reads. Raises RuleError naming a cycle."""
    reads = {key: [r for r in references(tree) if r in trees] for key, tree in trees.items()}
    done: dict[Key, None] = {}
    for start in trees:
        path: list[tuple[Key, int]] = [(start, 0)] if start not in done else []
        on_path = {start}
        while path:
            key, position = path.pop()
            if position == len(reads[key]):
                done[key] = None
                on_path.discard(key)
                continue
            path.append((key, position + 1))
            following = reads[key][position]
            if following in on_path:
                raise _cycle([key for key, _ in path], following)
            if following not in done:
                on_path.add(following)
                path.append((following, 0))
    return list(done)


def _cycle(path: list[Key], back_to: Key) -> RuleError:
    cycle = [*path[path.index(back_to) :], back_to]
    shown = " → ".join(f"{WORDS[kind]} {name!r}" for kind, name in cycle)
    return RuleError(f"expected rules that do not read themselves, got a cycle: {shown}")
