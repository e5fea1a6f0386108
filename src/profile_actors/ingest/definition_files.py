"""Definitions written as YAML or JSON files, read into the structs of ``definitions``.

Theory: plain data first, then one strict conversion, so that a file and a program declare the same
things with the same errors. A repeated YAML key is an error: the usual loader would drop one of the
two without a word. What YAML makes of a plain word (``NO`` is false, ``2020-01-01`` a date) is
looked for only once something is wrong: the text is read again as nodes with their lines, and the
error names the field, what stands there, and the quotes that mend it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import msgspec
import yaml

from profile_actors.definitions.declared import (
    ROOMS,
    ComputedAttribute,
    Definition,
    LinkingRules,
    Namespace,
)
from profile_actors.errors import UNDECODED, DefinitionError


def definitions_of(path: str | Path) -> list[Definition]:
    """What a YAML or JSON file declares. Raises DefinitionError."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"expected a file of definitions, got {error} - at {file}") from None
    try:
        return list(parse_definitions(text, file.suffix))
    except DefinitionError as error:
        raise DefinitionError(f"{error} - in {file}") from None


FilePath = tuple[Any, ...]
"""Keys and places from the top of a file down."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """YAML as plain data: a repeated key is an error instead of a silent loss."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise DefinitionError(
                    f"expected each key once, got {key.value!r} again - at line"
                    f" {key.start_mark.line + 1}"
                )
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def parse_definitions(text: str, name: str) -> list[Definition]:
    """Definitions of a file: a mapping by kind (lists, or name to body), or a list of tagged items.

    name: the file's, or just '.yaml', '.yml' or '.json'. Raises DefinitionError naming the path
    inside the file.
    """
    suffix = PurePath(name).suffix or name
    try:
        return _parsed(text, suffix)
    except _Misfit as misfit:
        raise DefinitionError(_explained(misfit, text)) from None


def _parsed(text: str, suffix: str) -> list[Definition]:
    try:
        if suffix.lower() == ".json":
            data = msgspec.json.decode(text)
        elif suffix.lower() in (".yaml", ".yml"):
            data = yaml.load(text, Loader=_Loader)  # a SafeLoader
        else:
            raise DefinitionError(f"expected a .yaml, .yml or .json file, got {suffix!r}")
    except (yaml.YAMLError, *UNDECODED) as error:
        raise DefinitionError(
            f"expected {suffix[1:].upper()} text, got: {error}{_unquoted_rule(error, text)}"
        ) from None
    if data is None:
        return []
    if isinstance(data, list):
        return [_item(entry, Definition, (i,)) for i, entry in enumerate(data)]
    rooms = {room: kind for kind, (room, _) in ROOMS.items()}
    rooms["computed_attributes"] = ComputedAttribute
    if not isinstance(data, dict) or not set(data) <= set(rooms):
        got = sorted(map(str, set(data) - set(rooms))) if isinstance(data, dict) else data
        raise DefinitionError(
            f"expected a list of items or a mapping with some of {', '.join(rooms)}, got {got!r}"
        )
    return [item for room, body in data.items() for item in _room(body, rooms[room], room)]


def _room(body: Any, kind: type, room: str) -> list[Definition]:
    """All items under one key of a definitions file."""
    if body is None:
        return []
    if isinstance(body, list):
        return [_item(entry, kind, (room, i)) for i, entry in enumerate(body)]
    if not isinstance(body, dict):
        raise DefinitionError(f"expected a list or a mapping, got {body!r} - at $.{room}")
    if kind is LinkingRules:  # a store has one, which needs no name
        return [_item(body, kind, (room,))]
    key = "code" if kind is Namespace else "name"
    items = []
    for name, fields in body.items():
        if not isinstance(name, str):
            kept = "null" if name is None else type(name).__name__
            raise _Misfit(f"Expected `str`, got `{kept}` - at `key` in `$`", (room,))
        if not isinstance(fields, dict):
            raise DefinitionError(f"expected a mapping, got {fields!r} - at $.{room}.{name}")
        items.append(_item({key: name} | fields, kind, (room, name)))
    return items


def _item(data: Any, kind: Any, path: FilePath) -> Definition:
    try:
        item: Definition = msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise _Misfit(str(error), path) from None
    except UnicodeEncodeError as error:
        where = ".".join(map(str, ("$", *path)))
        raise DefinitionError(
            f"expected texts that have a UTF-8 form, got {error.object!r} - at {where}"
        ) from None
    return item


class _Misfit(Exception):
    """A definition does not fit its struct. path: of the definition in the file."""

    def __init__(self, message: str, path: FilePath) -> None:
        super().__init__(message, path)
        self.message, _, inside = message.partition(" - at `")
        # Of a key: "- at `key` in `$.fields`".
        self.is_key = inside.startswith("key` in `")
        inside = inside.removeprefix("key` in `").removeprefix("$").rstrip("`")
        steps = (name or (ANY if place == "..." else int(place)) for name, place in _STEP(inside))
        self.path = (*path, *steps)


ANY = "[...]"
"""A key that an error's path leaves out."""


_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]").findall


_GOT = re.compile("got `(\\w+)`")


_TAGS = {"object": "map", "array": "seq", "datetime": "timestamp", "date": "timestamp"}


def _explained(misfit: _Misfit, text: str) -> str:
    """The message with the whole path, the line, and how to write a text that YAML took for
    something else."""
    got = _GOT.search(misfit.message)
    kind = got[1] if got else ""
    node, path = _wrong_node(text, misfit.path, _TAGS.get(kind, kind), misfit.is_key)
    where = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    message = f"{misfit.message} - at {where}"
    if node is None:
        return message
    message += f" (line {node.start_mark.line + 1})"
    if "str" not in misfit.message.partition("got")[0]:
        return message
    if path[-1:] == ("rule",):
        return f"{message}; {_QUOTE_RULE}"
    if isinstance(node, yaml.ScalarNode) and kind in ("bool", "date", "datetime", "int", "null"):
        message += f"; YAML reads {node.value} as {_READS[kind]}: quote it, '{node.value}'"
    return message


_READS = {
    "bool": "true or false",
    "date": "a date",
    "datetime": "an instant",
    "int": "a number",
    "null": "nothing",
}


_QUOTE_RULE = "a rule is a text: write it in single quotes, rule: '…', or below rule: |"


def _wrong_node(
    text: str, path: FilePath, tag: str, is_key: bool
) -> tuple[yaml.Node | None, FilePath]:
    """The node at path that has the tag (its own key, if is_key), and the path without gaps."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)  # JSON is YAML, too
    except yaml.YAMLError:
        return None, path
    tag = f"tag:yaml.org,2002:{tag}"
    reached = list(_reached(root, path))
    for node, found in reached:
        keys = node.value if is_key and isinstance(node, yaml.MappingNode) else ()
        for key, _ in keys:
            if key.tag == tag:
                return key, (*found, key.value)
        if not is_key and node.tag == tag:
            return node, found
    return reached[0] if len(reached) == 1 else (None, path)


def _reached(
    node: yaml.Node, path: FilePath, trail: FilePath = ()
) -> Iterator[tuple[yaml.Node, FilePath]]:
    """Every node that the path may mean: ANY stands for each key of a mapping."""
    if not path:
        yield node, trail
        return
    step, rest = path[0], path[1:]
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        yield from _reached(node.value[step], rest, (*trail, step))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if step in (ANY, key.value):
                yield from _reached(value, rest, (*trail, key.value))


def _unquoted_rule(error: Exception, text: str) -> str:
    """What to say where a rule without quotes broke the YAML around it."""
    mark = getattr(error, "problem_mark", None)
    lines = text.splitlines()
    if mark is None or mark.line >= len(lines):
        return ""
    plain = re.search(r"\brule:\s*[^\s'|>]", lines[mark.line][: mark.column + 1])
    return f"\n{_QUOTE_RULE}" if plain else ""
