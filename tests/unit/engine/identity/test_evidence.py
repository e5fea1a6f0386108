"""What rows say of who belongs together equals what the definition takes from them."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from profile_actors.definitions.declared import Catalogue, Dataset, Namespace, Schema
from profile_actors.engine.identity.directory import Directory
from profile_actors.engine.identity.evidence import evidence_of, priority_of
from profile_actors.engine.identity.linking import Member, Row, newest_evidence
from profile_actors.engine.identity.messages import LINK, Named
from profile_actors.engine.log.entry import Block
from profile_actors.ingest.further_identities import named_lists
from profile_actors.ingest.identity_keys import key_of

SEED = 7
SPACES = (
    Namespace("CRMID", "cross_device", True, 1),
    Namespace("Email", "email", False, 2),
    Namespace("Phone", "phone", False, 2),
    Namespace("ECID", "cookie"),
    Namespace("SKU", "non_people", priority=1),
)
CATALOGUE = Catalogue(
    1,
    {space.code: space for space in SPACES},
    {"web": Schema("web", "event", {}), "product": Schema("product", "lookup", {})},
    {name: Dataset(name, name) for name in ("web", "product")},
)


def named(code: str, value: str) -> Named:
    return Named(*key_of(CATALOGUE.namespaces[code], value, SEED), code, value)


class Rows:
    """Rows of one entry, and the directory of their partition."""

    def __init__(self) -> None:
        self.directory = Directory(1000)

    def block(
        self, rows: list[tuple[int, list[Named]]], dataset: str = "web", keyed: bool = True
    ) -> Block:
        """rows: (time, identities), the primary one first."""
        first = [ones[0] for _, ones in rows]
        idents, _ = self.directory.admit(
            np.array([one.k0 for one in first], np.uint64),
            np.array([one.k1 for one in first], np.uint64),
            pa.array([one.namespace for one in first]).dictionary_encode(),
            pa.array([one.value for one in first]),
        )
        others = named_lists(
            [[(o.namespace, o.value, o.k0, o.k1) for o in ones[1:]] for _, ones in rows]
        )
        if others is None:
            table = pa.table({"x": pa.nulls(len(rows))})
        elif keyed:
            table = pa.table({"@others": others})
        else:
            plain = pa.list_(pa.struct([("namespace", pa.string()), ("value", pa.string())]))
            pairs = [
                [{"namespace": o["namespace"], "value": o["value"]} for o in row or ()] or None
                for row in others.to_pylist()
            ]
            table = pa.table({"@others": pa.array(pairs, plain)})
        times = np.array([time for time, _ in rows], np.int64)
        return Block(dataset, table, idents.astype(np.int64), np.arange(len(rows)), times)


def told(blocks: list[Block], rows: Rows) -> dict[tuple[Named, Named], int]:
    ops = evidence_of(blocks, rows.directory, CATALOGUE, SEED)
    found = {(op.one, op.other): op.version for op in ops if op.one and op.other}
    assert all(op.kind == LINK for op in ops)
    assert len(found) == len(ops), "a pair is told once"
    return found


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_the_definition_takes_from_the_rows(seed: int) -> None:
    chance = random.Random(seed)
    pool = [named(space.code, f"v{i}") for space in SPACES for i in range(3)]
    rows = Rows()
    blocks, facts = [], []
    for _ in range(chance.randint(1, 3)):
        some = [
            (chance.randrange(5), chance.sample(pool, chance.choice((1, 1, 2, 3, 4))))
            for _ in range(chance.randint(1, 20))
        ]
        blocks.append(rows.block(some, keyed=chance.random() < 0.7))
        facts += [
            Row(time, tuple(
                Member(priority_of(CATALOGUE, o.namespace), o.k0 << 64 | o.k1, o.namespace)
                for o in ones if o.namespace != "SKU"
            ))
            for time, ones in some if any(o.namespace != "SKU" for o in ones)
        ]  # fmt: skip
    by_key = {(one.k0 << 64 | one.k1): one for one in pool}
    wanted = {
        (by_key[one.key], by_key[other.key]): time
        for (one, other), time in newest_evidence(facts)[0].items()
    }
    assert told(blocks, rows) == wanted


def test_things_and_rows_of_one_identity_say_nothing() -> None:
    rows = Rows()
    ann, tea = named("CRMID", "ann"), named("SKU", "tea")
    blocks = [rows.block([(1, [ann]), (2, [ann, tea])]), rows.block([(3, [ann])])]
    blocks.append(rows.block([(4, [ann, named("ECID", "e")])], "product"))
    assert told(blocks, rows) == {}
    assert told([], rows) == {}
