"""What fuzzing found, by kind: each was a traceback of something else than an error of ours."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Catalogue, Schema, named
from profile_actors.driver.arguments import instant_ms
from profile_actors.driver.iterators import _parse
from profile_actors.driver.keeping.attach import running
from profile_actors.engine.identity.messages import decode_ops
from profile_actors.engine.log.entry import read_envelope
from profile_actors.engine.reading.fields import EVERYTHING, under
from profile_actors.errors import CallerError, CorruptLog, DefinitionError, SchemaError
from profile_actors.ingest.definition_files import parse_definitions
from profile_actors.ingest.rejects import Reject
from profile_actors.rules.catalogue.change_check import find
from profile_actors.storage.erasure.erasure_record import NAME, load_record
from profile_actors.storage.files.layout import PartitionLayout, StoreLayout
from profile_actors.storage.files.lock import DirectoryLock, holder_of
from profile_actors.storage.log_id import load_log_id
from profile_actors.storage.store_settings import load_settings_file
from tests.fuzz.hostile_words import says
from tests.property.test_forms_of_files import WALL_MS, door

DAMAGED = [
    b'{"id": "\xff", "store": "\xff", "clock": "\xff", "host": "\xff", "count": "\xff"}',
    b'{"x": ' + b"[" * 5_000,
    b"\0",
]
READER: Any = SimpleNamespace(partitions=[None], restored="")
NAMELESS: list[Any] = [{}, [], None, b"a", 1, object()]


def nested(depth: int = 3_000) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("content", DAMAGED)
def test_a_file_of_a_store_with_texts_of_no_utf_8_or_nested_without_end(
    tmp_path: Path, content: bytes
) -> None:
    layout = StoreLayout(tmp_path)
    layout.attach.write_bytes(content)
    layout.settings.write_bytes(content)
    assert running(tmp_path) is None
    assert load_settings_file(layout.settings) is None
    lock = DirectoryLock(layout.keeper, 0.1)
    layout.keeper.write_bytes(content)
    assert "process" in holder_of(layout.keeper)
    lock.release()
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(CorruptLog, match="erasures"):
        load_record(tmp_path)
    paths = PartitionLayout(tmp_path)
    paths.log_id.write_bytes(content)
    with pytest.raises(CorruptLog, match="log id"):
        load_log_id(paths)
    with pytest.raises(DefinitionError, match="expected JSON text"):
        parse_definitions(content.decode("latin-1")[:-1] + "[" * 5_000, ".json")
    with pytest.raises(DefinitionError):
        parse_definitions("a: " + "[" * 500, ".yaml")


@pytest.mark.parametrize("content", [b"\x91\xa1\xff", b"\x91" * 5_000, b"\xc1"])
def test_packed_bytes_with_texts_of_no_utf_8_or_nested_without_end(content: bytes) -> None:
    with pytest.raises(CorruptLog):
        decode_ops(content, "here")
    entry = b"PAE1" + len(content).to_bytes(4, "little") + content
    with pytest.raises(CorruptLog):
        read_envelope(memoryview(entry), "here")


def test_a_row_that_is_nested_without_end_is_rejected() -> None:
    deep = nested()
    rows: Any = [{"who": deep}, {"who": "a@x", "at": 1, "s": deep}, {"who": "a@x", "tags": deep}]
    found = door().prepare([*rows, deep], 0, WALL_MS)
    assert [reject.row for reject in found.rejects] == [0, 1, 2, 3]
    assert "nested too deeply" in found.rejects[0].reason + found.rejects[0].raw
    cells = door().prepare([{"who": "a@x", "ids": "[" * 5_000, "at": 1}], 0, WALL_MS)
    assert isinstance(cells.rejects[0], Reject)


def test_a_definition_that_is_nested_without_end_is_refused() -> None:
    for schema in (Schema(nested(), "event", {}), Schema("s", "event", nested())):
        with pytest.raises(DefinitionError):
            extended(Catalogue(), [schema])


@pytest.mark.parametrize("name", NAMELESS)
def test_what_is_no_name_names_nothing(name: Any) -> None:
    catalogue = Catalogue()
    assert named({"a": 1}, name) is None
    with pytest.raises(DefinitionError):
        find(catalogue, name)
    with pytest.raises(DefinitionError):
        find(catalogue, "a", name)
    if name is not None:
        with pytest.raises(DefinitionError):
            under(EVERYTHING, name, catalogue)


@pytest.mark.parametrize("cursor", [b"0.0", 1, [], {}, object()])
def test_what_is_no_cursor_is_refused(cursor: Any) -> None:
    with pytest.raises(CallerError, match="expected a cursor"):
        _parse(READER, cursor)


@pytest.mark.parametrize("when", ["--5", "-", "", "-" * 9 + "1", "9" * 400, "٣-", "²"])
def test_what_is_no_instant_is_refused(when: str) -> None:
    with pytest.raises(CallerError, match="expected an instant"):
        instant_ms(when)


@pytest.mark.parametrize("kind", ["decimal(²)", "decimal()", "decimal(-1)", "decimal(99999999999)"])
def test_what_is_no_number_of_digits_is_refused(kind: str) -> None:
    with pytest.raises(SchemaError):
        extended(Catalogue(), [Schema("s", "event", {"a": kind})])


def test_a_directory_whose_name_is_no_text_gets_its_disk_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, error = says(["disk-id", "d\udcff", "--json"])
    assert (code, error) == (0, "")
    assert set(json.loads(said)) == {"directory", "disk"}


def test_a_definition_with_a_text_of_no_utf_8_is_refused() -> None:
    text = 'namespaces: [{code: a, kind: "\\udcff"}]'
    with pytest.raises(DefinitionError, match="UTF-8 form"):
        parse_definitions(text, ".yaml")


def test_what_is_no_id_of_a_backup_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["restore", "x", "y", "--at", "\ud800"], ["restore", "\ud800", "y"]):
        code, said, error = says(words)
        assert (code, said) == (1, "")
        assert "Traceback" not in error
