"""Definitions, rows, selectors, cursors and words of a command line that nobody wrote on purpose.

Nothing is raised but errors of ours, and nothing takes for ever. Files and rules have fuzzers of
their own (``tests/property``); verbs of a running store are in ``tests/cluster/test_cli.py``.
By hand: ``make fuzz FUZZ_SECONDS=600``, ``make fuzz SEED=n N=1``.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import yaml

from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import decode, encode, extended
from profile_actors.definitions.declared import (
    Catalogue,
    Definition,
    ProjectionConfiguration,
)
from profile_actors.driver.arguments import (
    check_page_cursor,
    check_stream,
    identity_pairs,
    instant_ms,
    text_name,
    whole_number,
)
from profile_actors.driver.iterators import _parse
from profile_actors.driver.keeping.attach import running
from profile_actors.driver.keeping.wanted_store import wanted_place
from profile_actors.engine.edges.projections import check_projections
from profile_actors.engine.reading.fields import fields_of, under
from profile_actors.ingest.definition_files import definitions_of
from profile_actors.ingest.rejects import quarantined
from profile_actors.rules.catalogue.change_check import check_change, find, removed
from profile_actors.storage.files.lock import holder_of
from tests.fuzz.hostile import TEXTS, campaign, mutated, text, value
from tests.fuzz.hostile_words import says, words_of
from tests.model.hub import BASE, HOUR, SEED, WHO, Hub
from tests.property.test_file_fuzz import ROWS, damaged
from tests.property.test_forms_of_files import WALL_MS, door

SHOP: dict[str, Any] = {
    "namespaces": {
        "CRMID": {"kind": "cross_device", "unique": True, "priority": 1},
        "Email": {"kind": "email", "normalize": ["trim", "lower"]},
        "SKU": {"kind": "non_people"},
    },
    "schemas": {
        "order": {
            "behavior": "event",
            "fields": {
                "value": {"type": "double", "minimum": 0, "maximum": 1e9},
                "sku": {"type": "string", "max_length": 9, "pattern": "^[a-z]*$", "enum": ["a"]},
                "items[].sku": "string", "m": "map<integer>", "when": "timestamp",
            },
        },
        "person": {"behavior": "record", "fields": {"a.b": "string", "tags": "string[]"}},
        "product": {"behavior": "lookup", "fields": {"price": "decimal(2)"}},
    },
    "datasets": [
        {"name": "orders", "schema": "order", "identities": {"who": "CRMID", "mail": "Email"},
         "primary": "who", "timestamp": "at", "timestamp_format": ["%Y-%m-%d"], "id": "_id",
         "event_type": "buy", "identity_map": "ids", "ignore": ["junk"]},
        {"name": "people", "schema": "person", "identities": {"who": "CRMID"}, "timestamp": "at",
         "timestamp_unit": "s", "mode": "replace"},
        {"name": "products", "schema": "product", "identities": {"sku": "SKU"}},
    ],
    "relationships": [{"schema": "order", "field": "sku", "target": "product", "name": "product"}],
    "merge_policies": [
        {"name": "crm", "attributes": "dataset_precedence", "order": ["people"], "default": True},
    ],
    "linking_rules": {"max_size": 10, "max_people": 5, "placeholders": ["unknown", "0*"]},
    "segments": {
        "big": {"rule": "xEvent.sum(value) > 500", "description": "d"},
        "dear": {"rule": "xEvent[product.price > 3].count() > 1", "merge_policy": "crm"},
        "both": {"rule": 'inSegment("big") and computed.spent > 1', "state": "draft"},
    },
    "computed_attributes": {"spent": {"rule": "xEvent.sum(value)"}},
    "destinations": {"window": {"labels": {"region": "us-west"}, "ttl_s": 3600}},
    "projections": [
        {"name": "page", "destination": "window", "selector": "a(b),tags", "segments": ["big"],
         "computed": "all"},
    ],
}  # fmt: skip


KNOWN: list[Definition] = []
"""What ``SHOP`` declares."""


def shop(folder: Path) -> Catalogue:
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(SHOP))
    KNOWN[:] = definitions_of(path)
    return applied(Catalogue(), KNOWN)


def applied(old: Catalogue, items: Iterable[Definition]) -> Catalogue:
    """What the coordinator does of ``apply``."""
    new = extended(old, items)
    if new is not old:
        check_change(old, new)
        check_projections(new)
        assert decode(encode(new)) == new
    return new


def test_definitions_of_files(tmp_path: Path) -> None:
    catalogue = shop(tmp_path)

    def case(chance: random.Random) -> None:
        wrong: Any = SHOP
        for _ in range(chance.choice((1, 1, 2, 4))):
            wrong = mutated(wrong, chance)
        path = tmp_path / f"d{chance.choice(('.yaml', '.json', '.yml', '.YAML', '.txt', ''))}"
        is_yaml = path.suffix in (".yaml", ".yml", ".YAML") or chance.random() < 0.1
        content = written(wrong, is_yaml)
        path.write_bytes(damaged(content, chance) if chance.random() < 0.5 else content)
        items = definitions_of(path)
        applied(chance.choice((Catalogue(), catalogue)), items)

    assert campaign(case, 40)


def written(document: Any, is_yaml: bool = False) -> bytes:
    """A document as the text of a file."""
    try:
        if is_yaml:
            text_of: str = yaml.safe_dump(document, allow_unicode=True)
        else:
            text_of = json.dumps(document, ensure_ascii=False)
    except RecursionError:
        text_of = "[" * 20_000
    except yaml.YAMLError:
        text_of = "a: \ud800"
    return text_of.encode("utf-8", "surrogatepass")


def test_definitions_of_programs(tmp_path: Path) -> None:
    catalogue = shop(tmp_path)

    def case(chance: random.Random) -> None:
        item = chance.choice(KNOWN)
        fields = msgspec.structs.asdict(item)
        for name in chance.sample(list(fields), chance.choice((1, 1, 2))):
            fields[name] = mutated(msgspec.to_builtins(fields[name]), chance, python=True)
        odd = chance.choice((type(item)(**fields), type(item)(**fields), value(chance, True)))
        if chance.random() < 0.2:
            find(catalogue, text(chance), chance.choice((None, text(chance), "segment")))
        if chance.random() < 0.2:
            removed(catalogue, item)
        applied(catalogue, [odd])

    assert campaign(case, 500)


def test_rows(tmp_path: Path) -> None:
    """Rows of every value Python has: each is accepted or rejected, and what is accepted can be
    stored, folded and read."""
    one = door()
    hub = Hub(1)
    sent = 0

    def case(chance: random.Random) -> None:
        nonlocal sent
        rows: Any = [dict(row) for row in chance.sample(ROWS, chance.choice((1, 3, 20)))]
        for _ in range(chance.choice((1, 1, 2, 5))):
            rows = mutated(rows, chance, python=True)
        if isinstance(rows, list):
            found = one.prepare(rows, 0, WALL_MS)
            rejected = [reject.row for reject in found.rejects]
            assert sorted([*found.table["@row"].to_pylist(), *rejected]) == list(range(len(rows)))
            msgspec.json.encode(quarantined("f", found.rejects))
        row = {"who": "p", "at": BASE + HOUR, "_id": "1", "kind": "buy", "place": "x", "n": 1}
        row |= {"x": 0.5}
        prepared = hub.doors["hits"].prepare([mutated(row, chance, True)], sent, BASE + 9 * HOUR)
        if not prepared.rejects:
            hub_takes(hub, prepared.table, sent)
            sent += 1

    assert campaign(case, 20)
    assert sent


def hub_takes(hub: Hub, table: Any, first: int) -> None:
    """One accepted row is in the log, and whoever has it is read."""
    from profile_actors.engine.log.sub_batch import SubBatch
    from profile_actors.ingest.identity_keys import key_of

    (reply,) = hub.partitions[0].commit(
        [SubBatch("hits", "f", first, first + 1, 1, None, table)], None
    )
    assert reply.status == "ok", reply
    key = key_of(WHO, table["@value"][0].as_py(), SEED)
    (profile,) = hub.partitions[0].profiles([key])
    msgspec.json.encode(profile)
    hub.partitions[0].events(key)


def test_selectors_and_cursors(tmp_path: Path) -> None:
    catalogue = shop(tmp_path)
    names = ["identities", "attributes", "a", "b", "tags", "segments", "big", "computed", "spent"]
    reader: Any = SimpleNamespace(partitions=[0, 1], restored="", read_all=lambda _: [(1, 0)] * 2)
    marks = [".", ".", ",", "(", ")", "[]", "*", "", " "]
    cursors = ["0.0-0.0", "17.3-9.0", "9223372036854775807.0-0.0", "1600000000000.17", "0.0-0.0@x"]
    doors: list[Callable[[Any], Any]] = [
        lambda odd: fields_of(odd, catalogue),
        lambda odd: fields_of([odd, odd], catalogue),
        lambda odd: under(fields_of(["segments"], catalogue), odd, catalogue),
        lambda odd: _parse(reader, odd),
        check_page_cursor,
        instant_ms,
        lambda odd: identity_pairs(odd),
        lambda odd: identity_pairs([odd]),
        lambda odd: identity_pairs([("CRMID", odd)]),
        lambda odd: check_stream(odd, 0),
        lambda odd: check_stream("p", odd),
        lambda odd: text_name(odd, "n", "x"),
        lambda odd: whole_number(odd, "n", "x", 0),
        lambda odd: check_projections(
            applied(catalogue, [msgspec.structs.replace(projection(), selector=odd)])
        ),
    ]

    def projection() -> Any:
        return next(one for one in KNOWN if isinstance(one, ProjectionConfiguration))

    def case(chance: random.Random) -> None:
        drawn = chance.randrange(4)
        if drawn == 0:
            odd: Any = value(chance, python=True)
        elif drawn == 1:
            odd = "".join(chance.choice(names + marks * 2) for _ in range(chance.randrange(12)))
        elif drawn == 2:
            odd = damaged(chance.choice(cursors).encode(), chance).decode("utf-8", "replace")
        else:
            odd = text(chance)
        chance.choice(doors)(odd)

    assert campaign(case, 800)


def test_files_beside_a_store_that_say_what_nobody_wrote(tmp_path: Path) -> None:
    """``attach.json`` and ``store.json`` may be anything: they are not believed."""
    whole = {
        "attach.json": {
            "store": "x", "address": "127.0.0.1:1", "token_file": "../../x", "host": "h",
            "boot": "b", "pid": os.getpid(), "start_ticks": 1, "since": 0, "is_keeper": True,
            "format": 1,
        },
        "store.json": {
            "partitions": 2, "clock": "event", "hash_seed": 1, "created": 0, "format": 1, "id": "",
        },
    }  # fmt: skip

    def case(chance: random.Random) -> None:
        for name, document in whole.items():
            content = written(mutated(document, chance))
            content = damaged(content, chance) if chance.random() < 0.3 else content
            (tmp_path / name).write_bytes(content)
        assert running(tmp_path) is None
        holder_of(tmp_path / "attach.json")
        wanted_place(tmp_path, value(chance, True), value(chance, True), Config())

    assert campaign(case, 100)


def test_words_of_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb, as far as it comes without a store."""
    place = tmp_path / "a" / "b" / "c"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    for name in ("x.csv", "d.yaml", "e.json"):
        (place / name).write_text(TEXTS[7])

    def case(chance: random.Random) -> None:
        words = words_of(chance, ("x.csv", "d.yaml", "e.json"))
        code, said, error = says(words)
        assert code in (0, 1, 2), (words, code, said, error)
        assert "Traceback" not in said + error, (words, error)

    assert campaign(case, 40)
