"""Definitions written as YAML or JSON files, read into the structs of ``definitions``.

Theory: plain data first, then one strict conversion, so that a file and a program declare the same
things with the same errors. A repeated YAML key is an error: the usual loader would drop one of the
two without a word.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import msgspec
import yaml

from profile_actors.definitions import ROOMS, ComputedAttribute, Definition, Namespace
from profile_actors.errors import DefinitionError


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
        if suffix.lower() == ".json":
            data = msgspec.json.decode(text)
        elif suffix.lower() in (".yaml", ".yml"):
            data = yaml.load(text, Loader=_Loader)  # a SafeLoader
        else:
            raise DefinitionError(f"expected a .yaml, .yml or .json file, got {suffix!r}")
    except (yaml.YAMLError, msgspec.DecodeError) as error:
        raise DefinitionError(f"expected {suffix[1:].upper()} text, got: {error}") from None
    if data is None:
        return []
    if isinstance(data, list):
        return [_item(entry, Definition, f"$[{i}]") for i, entry in enumerate(data)]
    rooms = {room: kind for kind, (room, _) in ROOMS.items()}
    rooms["computed_attributes"] = ComputedAttribute
    if not isinstance(data, dict) or not set(data) <= set(rooms):
        got = sorted(map(str, set(data) - set(rooms))) if isinstance(data, dict) else data
        raise DefinitionError(
            f"expected a list of items or a mapping with some of {', '.join(rooms)}, got {got!r}"
        )
    return [item for room, body in data.items() for item in _room(body, rooms[room], f"$.{room}")]


def _room(body: Any, kind: type, path: str) -> list[Definition]:
    """All items under one key of a definitions file."""
    if body is None:
        return []
    if isinstance(body, list):
        return [_item(entry, kind, f"{path}[{i}]") for i, entry in enumerate(body)]
    if not isinstance(body, dict):
        raise DefinitionError(f"expected a list or a mapping, got {body!r} - at {path}")
    key = "code" if kind is Namespace else "name"
    items = []
    for name, fields in body.items():
        if not isinstance(fields, dict):
            raise DefinitionError(f"expected a mapping, got {fields!r} - at {path}.{name}")
        items.append(_item({key: name} | fields, kind, f"{path}.{name}"))
    return items


def _item(data: Any, kind: Any, path: str) -> Definition:
    try:
        item: Definition = msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        message, _, inside = str(error).partition(" - at `$")
        raise DefinitionError(f"{message} - at {path}{inside.rstrip('`')}") from None
    return item
