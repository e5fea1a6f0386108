"""Keys, normalisation, primary identities and routing. The golden values are *format*."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Catalogue, Dataset, Namespace, Schema
from profile_actors.ingest.identity_keys import (
    BLANKS,
    BUCKET_SHIFT,
    BUCKETS,
    KeyMaker,
    identity_key,
    key_of,
    key_packer,
    keys_of,
    normalised,
)
from profile_actors.ingest.primary_identity import Chosen, Identities
from profile_actors.ingest.route import default_assignment, split

PLAIN = Namespace("CRMID", kind="cross_device")
LOWER = Namespace("Email", kind="email", normalize="lower")
DIGITS = Namespace("Phone", kind="phone", normalize="digits")
TRIM = Namespace("Loyalty", kind="partner", normalize="trim")
MAIL = Namespace("Mail", kind="email", normalize=("lower", "trim"))


def test_the_key_format_never_changes() -> None:
    """Stored data depends on these numbers: a red test here is a broken store."""
    assert key_of(PLAIN, "00004", 7) == (10231576791415293133, 17267881142079393219)
    seed = xxhash.xxh3_64_intdigest(b"CRMID", 7)
    digest = xxhash.xxh3_128_digest(b"00004", seed)
    assert key_of(PLAIN, "00004", 7) == (
        int.from_bytes(digest[:8], "big"),
        int.from_bytes(digest[8:], "big"),
    )
    assert key_of(PLAIN, "00004", 8) != key_of(PLAIN, "00004", 7)
    assert key_of(LOWER, "00004", 7) != key_of(PLAIN, "00004", 7)
    assert identity_key(PLAIN, "00004", 7, np.arange(BUCKETS))[0] == 10231576791415293133 >> 52


@pytest.mark.parametrize(
    ("namespace", "value", "expected"),
    [
        (PLAIN, "e\u0301A ", "\xe9A "),
        (LOWER, "E\u0301@X.org", "\xe9@x.org"),
        (DIGITS, "+1 (555) 010-9", "15550109"),
        (DIGITS, "none", ""),
        (TRIM, "\ufeff \u3000a B\n\x1f", "\ufeff \u3000a B"),
        (MAIL, "\t\xa0E\u0301@X.org ", "\xe9@x.org"),
        (Namespace("P", kind="phone", normalize=("digits", "trim")), " 55\t", "55"),
        (TRIM, " \t ", ""),
        (DIGITS, "١٢3", "3"),
    ],
)
def test_normalisation(namespace: Namespace, value: str, expected: str) -> None:
    assert normalised(namespace, value) == expected
    assert key_of(namespace, value, 1) == key_of(namespace, expected, 1)


blank_texts = st.text(max_size=4) | st.text(st.sampled_from(f"aB1{BLANKS}"), max_size=5)


def test_blanks_are_what_the_language_takes_for_blanks() -> None:
    assert sorted(BLANKS) == [char for char in map(chr, range(0x110000)) if char.isspace()]


@given(
    st.sampled_from((PLAIN, LOWER, DIGITS, TRIM, MAIL)),
    st.lists(st.lists(st.none() | blank_texts, max_size=9), max_size=5),
)
def test_columns_normalise_and_hash_like_single_values(
    namespace: Namespace, batches: list[list[str | None]]
) -> None:
    """Also while the maker changes between hashing rows and hashing distinct values."""
    maker = KeyMaker(namespace, 7)
    tail: list[list[str | None]] = [["x"] * 40, ["y", "z"]]
    for values in [*batches, *tail]:
        column = maker.normalise(pa.array(values, pa.string()))
        assert column.to_pylist() == [
            None if value is None else normalised(namespace, value) for value in values
        ]
        k0, k1 = maker.keys(column)
        assert k0.dtype == k1.dtype == np.uint64
        expected = [key_of(namespace, value or "", 7) for value in values]
        assert list(zip(k0.tolist(), k1.tolist(), strict=True)) == expected
        together = keys_of(namespace, [value or "" for value in values], 7)
        assert together.tolist() == [list(key) for key in expected]
        packed = key_packer(namespace, 7)
        assert b"".join(packed(value or "") for value in values) == together.tobytes()


def test_normalisation_is_idempotent_even_for_odd_letters() -> None:
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for first in range(0, len(codes), 64):  # each apart from its neighbours
        once = normalised(MAIL, "-".join(f"x{chr(code)}" for code in codes[first : first + 64]))
        assert normalised(MAIL, once) == once, hex(codes[first])


# ---- primary identities ------------------------------------------------------------------------

CATALOGUE = extended(
    Catalogue(),
    [
        Namespace("CRM", kind="cross_device", priority=1),
        Namespace("Mail", kind="email", priority=2),
        Namespace("TabA", kind="device"),
        Namespace("TabB", kind="device"),
        Schema("visit", behavior="event", fields={"n": "integer"}),
        Schema("person", behavior="record", fields={"n": "integer"}),
    ],
)
COLUMNS = {"a": "TabA", "m": "Mail", "c": "CRM", "b": "TabB"}


def chosen(
    rows: list[dict[str, Any]], seed: int = 7, **options: Any
) -> tuple[list[Any], dict[int, Any]]:
    schema = options.pop("schema", "visit")
    options.setdefault("identities", COLUMNS)
    dataset = Dataset("d", schema=schema, timestamp="t", **options)
    identities = Identities(CATALOGUE, dataset, seed, 10)
    names = [*options["identities"], *(["map"] if options.get("identity_map") else [])]
    columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in names}
    refused: dict[int, tuple[str, str]] = {}
    found: Chosen = identities.choose(columns, refused)
    pairs = list(zip(found.codes.to_pylist(), found.values.to_pylist(), strict=True))
    for row, (code, value) in enumerate(pairs):
        if row not in refused:
            key = (int(found.k0[row]), int(found.k1[row]))
            assert key == key_of(CATALOGUE.namespaces[code], value, seed)
    return pairs, refused


def test_events_choose_by_priority_then_key() -> None:
    pairs, refused = chosen(
        [{"a": "x", "m": "x", "c": "x"}, {"a": "x", "m": "y"}, {"a": "x"}, {"a": "1", "b": "2"}, {}]
    )
    assert pairs[:3] == [("CRM", "x"), ("Mail", "y"), ("TabA", "x")]
    keys = [key_of(CATALOGUE.namespaces[n], v, 7) for n, v in (("TabA", "1"), ("TabB", "2"))]
    assert pairs[3] == (("TabA", "1") if keys[0] < keys[1] else ("TabB", "2"))
    assert refused == {4: ("a", "expected an identity, got none")}


def test_records_choose_the_first_declared() -> None:
    pairs, _ = chosen([{"a": "x", "c": "y"}, {"c": "y", "m": "z"}], schema="person")
    assert pairs == [("TabA", "x"), ("Mail", "z")]


def test_a_declared_primary_comes_first_where_it_has_a_value() -> None:
    pairs, _ = chosen([{"b": "x", "c": "y"}, {"a": "x", "c": "y"}], primary="b")
    assert pairs == [("TabB", "x"), ("CRM", "y")]


map_items = st.lists(
    st.tuples(st.sampled_from(("CRM", "Mail", "TabA")), st.sampled_from("xyz"), st.booleans()),
    max_size=4,
)


@settings(max_examples=40)
@given(
    st.dictionaries(st.sampled_from("amcb"), st.sampled_from("xyz")),
    map_items,
    st.permutations("amcb"),
    st.sampled_from((None, *"amcb")),
)
def test_a_records_primary_is_the_declared_the_marked_or_the_first_whatever_the_keys(
    row: dict[str, str], items: list[tuple[str, str, bool]], order: list[str], primary: str | None
) -> None:
    """Keys depend on the store's seed: with another one the same row has the same primary."""
    listed: dict[str, list[dict[str, Any]]] = {}
    for code, value, is_marked in items:
        listed.setdefault(code, []).append({"id": value, "primary": is_marked})
    in_map = [(code, item) for code, found in listed.items() for item in found]
    ranked = [(COLUMNS[primary], row[primary])] if primary is not None and primary in row else []
    ranked += [(code, item["id"]) for code, item in in_map if item["primary"]]
    ranked += [(COLUMNS[name], row[name]) for name in order if name in row]
    ranked += [(code, item["id"]) for code, item in in_map]
    cells: dict[str, Any] = {**row, "map": json.dumps(listed)}
    for seed in range(4):
        pairs, refused = chosen(
            [cells],
            seed,
            schema="person",
            identities={name: COLUMNS[name] for name in order},
            identity_map="map",
            primary=primary,
        )
        assert bool(refused) == (not ranked)
        assert refused or pairs == ranked[:1]


@settings(max_examples=40)
@given(map_items, st.dictionaries(st.sampled_from("amcb"), st.sampled_from("xyz"), min_size=1))
def test_an_events_primary_is_the_smallest_whatever_a_map_marks(
    items: list[tuple[str, str, bool]], row: dict[str, str]
) -> None:
    """By namespace priority, then key: a login does not travel with the device that a web SDK
    marks."""
    listed: dict[str, list[dict[str, Any]]] = {}
    for code, value, is_marked in items:
        listed.setdefault(code, []).append({"id": value, "primary": is_marked})
    named = [(code, value) for code, value, _ in items]
    named += [(COLUMNS[name], value) for name, value in row.items()]

    def order(one: tuple[str, str]) -> tuple[float, tuple[int, int]]:
        namespace = CATALOGUE.namespaces[one[0]]
        rank = math.inf if namespace.priority is None else namespace.priority
        return rank, key_of(namespace, one[1], 7)

    pairs, _ = chosen([{**row, "map": json.dumps(listed)}], identity_map="map")
    assert pairs == [min(named, key=order)]


def test_an_events_declared_primary_comes_before_what_a_map_marks() -> None:
    marked = '{"CRM": [{"id": "c", "primary": true}]}'
    rows = [{"a": "x", "map": marked}, {"m": "y", "map": marked}]
    pairs, _ = chosen(rows, identity_map="map", primary="a")
    assert pairs == [("TabA", "x"), ("CRM", "c")]


def test_empty_and_long_identities_refuse_the_row() -> None:
    pairs, refused = chosen([{"c": ""}, {"c": "y" * 11}, {"c": "y" * 10}])
    assert refused.keys() == {0, 1}
    assert "got string '', which names nobody" in refused[0][1]
    assert refused[1] == (
        "c",
        "expected an identity of 1 to 10 characters in namespace 'CRM', got 11",
    )
    assert pairs[2] == ("CRM", "y" * 10)


def test_identity_maps() -> None:
    rows = [
        '{"Mail": [{"id": "m"}], "TabA": [{"id": "a", "primary": true}], "CRM": [{"id": "c"}]}',
        '{"Mail": [{"id": "m"}], "CRM": [{"id": "c", "primary": false}]}',
        "{}",
        None,
        '{"Nope": [{"id": "m"}]}',
        '{"Mail": [{"id": 3}]}',
        '{"Mail": [{"id": ""}]}',
        "[1]",
        "{",
    ]
    pairs, refused = chosen([{"map": row} for row in rows], identities={}, identity_map="map")
    assert pairs[:2] == [("CRM", "c"), ("CRM", "c")]  # an event's: the mark does not count
    assert refused.keys() == set(range(2, 9))
    assert refused[2] == ("map", "expected an identity, got none")
    assert "defined namespace" in refused[4][1]


# ---- routing -----------------------------------------------------------------------------------


@given(st.integers(1, 7), st.lists(st.integers(0, 2**64 - 1), max_size=60))
def test_split_gives_each_row_once_to_its_owner_in_order(partitions: int, keys: list[int]) -> None:
    assignment = default_assignment(partitions)
    words = pa.array(["x"] * len(keys)).dictionary_encode()
    table = pa.table(
        {
            "@k0": pa.array(keys, pa.uint64()),
            "n": pa.array(range(len(keys)), pa.int64()),
            "d": words,
        }
    )
    parts = split(table, assignment, partitions)
    assert len(parts) == partitions
    rows: list[int] = []
    for partition, part in enumerate(parts):
        assert part is None or part.num_rows
        if part is not None:
            assert part["n"].to_pylist() == sorted(part["n"].to_pylist())
            assert {assignment[k >> BUCKET_SHIFT] for k in part["@k0"].to_pylist()} == {partition}
            rows += part["n"].to_pylist()
    assert sorted(rows) == list(range(len(keys)))


def test_the_default_assignment_is_even_and_a_table_decides() -> None:
    counts = np.bincount(default_assignment(3))
    assert counts.sum() == BUCKETS
    assert counts.max() - counts.min() <= 1
    table = pa.table({"@k0": pa.array([0, 2**63], pa.uint64())})
    parts = split(table, np.full(BUCKETS, 1), 3)
    assert [None if part is None else part.num_rows for part in parts] == [None, 2, None]
