"""Placeholders at the door: passed over like null, counted with the value, no row lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    Dataset,
    Definition,
    LinkingRules,
    Namespace,
    Schema,
)
from profile_actors.definitions.placeholders import PLACEHOLDERS, is_placeholder, listed
from profile_actors.driver.files.file_load import FileLoad
from profile_actors.driver.receipts import RowCounts
from profile_actors.driver.streams.submissions import Submission, Submissions
from profile_actors.ingest.door import Door, Prepared
from profile_actors.ingest.placeholder_columns import (
    MOST_TOLD,
    PassedOver,
    PlaceholderTest,
    added,
)
from tests.unit.driver.files.test_file_load import World

NOW = 1_700_000_000_000
WITHIN = Config()
SPACES = (
    Namespace("CRMID", "cross_device", priority=1),
    Namespace("Email", "cross_device", priority=2, normalize="lower"),
    Namespace("SKU", "non_people"),
)


def dataset(name: str, behavior: Any, **mapping: Any) -> tuple[Definition, Definition]:
    schema = Schema(f"s-{name}", behavior, {"n": "integer"})
    time: Any = {"timestamp": "at"} if behavior == "event" else {}
    return schema, Dataset(name, schema.name, **time, **mapping)


CATALOGUE = extended(Catalogue(), [
    *SPACES,
    *dataset("one", "event", identities={"crm": "CRMID"}),
    *dataset("two", "event", identities={"crm": "CRMID", "mail": "Email"}),
    *dataset("map", "record", identity_map="ids"),
    *dataset("shelf", "lookup", identities={"sku": "SKU", "mail": "Email"}),
    *dataset("sold", "event", identities={"sku": "SKU", "mail": "Email"}),
])  # fmt: skip
RULED = extended(CATALOGUE, [LinkingRules(placeholders=("Guest ", "@shop.test"))])


def prepared(name: str, rows: list[dict[str, Any]], catalogue: Catalogue = CATALOGUE) -> Prepared:
    timed = catalogue.datasets[name].timestamp is not None
    rows = [{"at": NOW, **row} if timed else row for row in rows]
    return Door(catalogue, name, 0, WITHIN).prepare(rows, 100, NOW)


def primaries(found: Prepared) -> list[tuple[str, str]]:
    table = found.table
    return list(zip(table["@namespace"].to_pylist(), table["@value"].to_pylist(), strict=True))


def test_one_beside_another_identity_is_passed_over_and_counted() -> None:
    rows: list[dict[str, Any]] = [
        {"crm": "NULL", "mail": "a@x"},
        {"crm": "7", "mail": "0000"},
        {"crm": "7", "mail": ""},
        {"crm": "null", "mail": "Test@Test.com"},
        {"crm": "null", "mail": None},
        {"crm": "8", "mail": "b@x"},
        {},
    ]
    found = prepared("two", rows)
    assert primaries(found) == [("Email", "a@x"), ("CRMID", "7"), ("CRMID", "7"), ("CRMID", "8")]
    others = found.table["@others"].to_pylist()
    assert others[:3] == [None, None, None]
    assert [one["value"] for one in others[3]] == ["b@x"]
    assert found.placeholders.counts() == {
        "null": 2, "": 1, "0000": 1, "NULL": 1, "test@test.com": 1
    }  # fmt: skip
    assert [(r.row, r.path) for r in found.rejects] == [(103, "crm"), (104, "crm"), (106, "crm")]
    first, second, third = (reject.reason for reject in found.rejects)
    assert first == second
    assert "got string 'null', which names nobody" in first
    assert third == "expected an identity, got none"


def test_an_identity_map_passes_over_its_own() -> None:
    ids = {"CRMID": [{"id": "0"}, {"id": "5"}], "Email": [{"id": "N/A"}]}
    nobody = {"Email": [{"id": "none"}]}
    things = {"SKU": [{"id": "0"}]}
    found = prepared("map", [{"ids": ids}, {"ids": nobody}, {"ids": things}])
    assert primaries(found) == [("CRMID", "5"), ("SKU", "0")]
    assert "@others" not in found.table.column_names
    assert found.placeholders.counts() == {"0": 1, "n/a": 1, "none": 1}
    ((row, reason),) = [(r.row, r.reason) for r in found.rejects]
    assert (row, "got string 'none', which names nobody" in reason) == (101, True)


def test_a_row_of_the_only_identity_is_not_lost_until_somebody_says_what_names_nobody() -> None:
    """Ids from 0 are usual, and link nobody."""
    rows = [{"crm": "0"}, {"crm": "test"}, {"crm": "guest"}]
    found = prepared("one", rows)
    assert [value for _, value in primaries(found)] == ["0", "test", "guest"]
    assert found.placeholders.counts() == {}
    found = prepared("one", rows, RULED)
    assert [value for _, value in primaries(found)] == ["0", "test"]
    assert found.placeholders.counts() == {"guest": 1}
    assert [reject.row for reject in found.rejects] == [102]


def test_things_are_what_they_are_called() -> None:
    """Identities of namespaces of no people, and rows of lookup datasets."""
    rows = [{"sku": "0", "mail": "null"}]
    found = prepared("shelf", rows)
    assert (primaries(found), found.placeholders.counts()) == ([("SKU", "0")], {})
    found = prepared("sold", rows)
    assert (primaries(found), found.placeholders.counts()) == ([("SKU", "0")], {"null": 1})


def test_no_list_is_no_question() -> None:
    none = extended(CATALOGUE, [LinkingRules(placeholders=())])
    found = prepared("two", [{"crm": "0", "mail": "null"}, {"crm": ""}], none)
    assert primaries(found) == [("CRMID", "0")]
    assert "1 to 1024 characters" in found.rejects[0].reason


texts = st.one_of(
    st.sampled_from(PLACEHOLDERS),
    st.text(st.sampled_from("0 .:_-\t\v\x1c\x85\u2003"), max_size=5),
    st.builds(
        lambda head, entry, tail: head + entry.upper() + tail,
        st.sampled_from(["", " ", "a", "a@b", "\x1f"]),
        st.sampled_from([*PLACEHOLDERS, "@d7.org", "é", "ß", "İ"]),
        st.sampled_from(["", "\t", "x", "\u3000", "\x00", " @example.org"]),
    ),
    st.text(max_size=4),
)


@given(
    st.lists(st.none() | texts, max_size=12),
    st.booleans(),
    st.one_of(
        st.just(PLACEHOLDERS),
        st.just(tuple(f"@d{n}.org" for n in range(12))),
        st.lists(texts.filter(lambda t: t.strip() != "@"), max_size=4).map(tuple),
    ),
)
def test_a_column_is_asked_as_its_texts_are(
    values: list[str | None], is_plain: bool, placeholders: tuple[str, ...]
) -> None:
    if is_plain:
        values = [text if text is None or text.isascii() else "ann" for text in values]
    known = listed(placeholders)
    column = pa.array([None, *values], pa.string())[1:]
    wanted = [n for n, t in enumerate(values) if t is not None and is_placeholder(t, known)]
    assert PlaceholderTest(placeholders).rows_of(column).tolist() == wanted


def test_receipts_count_a_bounded_number_of_them() -> None:
    values = [f"{n}@example.org" for n in range(150)] + ["null"] * 3
    passed = PassedOver(pa.array(range(153)).to_numpy(), pa.array(values))
    counts = passed.counts()
    assert len(counts) == MOST_TOLD + 1
    assert next(iter(counts)) == "null"
    assert (counts["null"], counts["…"], sum(counts.values())) == (3, 51, 153)
    twice = added([counts, {}, counts])
    assert (len(twice), sum(twice.values()), twice["null"]) == (MOST_TOLD + 1, 306, 6)
    assert passed.counts(150, 152) == {"null": 2}


@pytest.fixture
def world(tmp_path: Path) -> Any:
    opened = World(tmp_path / "store")
    opened.coordinator.apply(
        [*SPACES, *dataset("two", "event", identities={"crm": "CRMID", "mail": "Email"})]
    )
    opened.link.catalogue = opened.coordinator.catalogue()
    for index in range(2):
        opened.link.deliver(index)
    yield opened
    opened.close()


def test_receipts_and_reports_say_it(world: World, tmp_path: Path) -> None:
    """A submission's, a file's, and each one's of several that travelled together."""
    rows = [{"crm": "1", "mail": "null", "at": NOW}, {"crm": "2", "mail": "0", "at": NOW}]
    receipt = world.sender.submit("two", rows, later=False).result()
    assert (receipt.accepted, receipt.placeholders) == (2, {"0": 1, "null": 1})
    path = tmp_path / "f.csv"
    path.write_text(f"crm,mail,at\n3,NONE,{NOW}\n4,d@x,{NOW}\nnull,nil,{NOW}\n")
    report = FileLoad(world.link, world.sender, "two", path, None, True).run(lambda *_: None)
    assert (report.accepted, report.rejected_count) == (2, 1)
    assert report.placeholders == {"nil": 1, "none": 1, "null": 1}
    assert report.plus(report).placeholders == {"nil": 2, "none": 2, "null": 2}
    counts = RowCounts()
    batch = [Submission("two", rows[:1], 0), Submission("two", [rows[0], *rows], 0)]
    all_rows = [row for one in batch for row in one.rows]
    pending = world.sender.submit("two", all_rows, later=False, by_row=counts)
    together = Submissions(world.sender, world.link.config, "wall", "here")
    first, second = together._parts(batch, pending.whole(), counts)
    assert (first.placeholders, second.placeholders) == ({"null": 1}, {"null": 2, "0": 1})
