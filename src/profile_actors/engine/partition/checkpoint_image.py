"""Checkpoints: the whole state as named arrays and one meta struct, and back.

Theory: a checkpoint names the plan it was folded under; one of another plan (after an upgrade of
the planner) is not used, and the log is replayed instead. What had failed is part of it, and stays
failed until the definitions change or another version of the program opens the store. Large locator
runs are files of their own, and only named here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np

from profile_actors.columnar.instant_columns import Instants, restore_tables, table_savings
from profile_actors.columnar.state_columns import Saving
from profile_actors.columnar.vectors import Array
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.fold.state import Counters, State, empty_state
from profile_actors.engine.fold.touches import SHIFT
from profile_actors.engine.identity.books import Untold
from profile_actors.engine.identity.mailbox import NO_POST, Post
from profile_actors.engine.log.connections import Connections, is_anonymous
from profile_actors.engine.log.entry import BatchNote
from profile_actors.engine.log.ports import Checkpoints
from profile_actors.engine.log.repairs import Rejects
from profile_actors.engine.log.row_locator import Run
from profile_actors.engine.membership.gauges import Ladder
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.membership.rulebook_builder import compile_plan
from profile_actors.engine.membership.stored_values import decode_values, encode_values
from profile_actors.engine.operators.delay_lines import DelayLine
from profile_actors.engine.operators.event_streams import Stream
from profile_actors.engine.operators.extremes import Extreme
from profile_actors.engine.operators.long_sums import LongSum
from profile_actors.errors import CorruptLog, ProfileActorsError
from profile_actors.ingest.offsets import OffsetSet, unpacked
from profile_actors.rules.catalogue.catalogue_plan import plan
from profile_actors.rules.tree.plan import Aggregate, EventFilter

PROGRAM = version("profile-actors")


class Meta(msgspec.Struct, array_like=True):
    """What a checkpoint says besides its arrays. runs: names of sealed runs, '' for inline ones;
    those of events first, then those of records, then those of lookup entities. fed: one past the
    newest block of the feed. rejects: producer -> (open, taken, fence), offsets packed. broken:
    parts that have failed, as (kind, number in the plan or path, why); pending: rules without an
    answer, as (kind, name, why). connections: the newest wall time, and when each was heard. homes:
    ``Homes.to_plain``."""

    now: int
    layouts_at: int
    catalogue: Catalogue
    plan: str
    cursors: dict[str, int]
    receipts: dict[str, list[tuple[int, BatchNote]]]
    counters: tuple[int, ...]
    namespaces: list[str]
    runs: list[str]
    event_runs: int
    fed: int = 0
    rejects: dict[str, tuple[bytes, bytes, int]] = {}
    broken: list[tuple[str, int | str, str]] = []
    pending: list[tuple[str, str, str]] = []
    connections: tuple[int, dict[str, int]] | None = None
    record_runs: int | None = None
    homes: list[Any] | None = None


_META = msgspec.msgpack.Decoder(Meta)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint's state, and where the feed ended when it was taken: one past its newest
    block."""

    state: State
    fed: int


def load(
    checkpoints: Checkpoints, config: Config, head: int, post: Post = NO_POST
) -> Loaded | None:
    """The state of the newest usable checkpoint, None when there is none. head: the log's.

    Raises CorruptLog for a checkpoint of entries that the log no longer has.
    """
    found = checkpoints.load()
    if found is None:
        return None
    position, encoded, arrays = found
    if position > head:
        raise CorruptLog(
            f"expected a log of at least {position} entries, which a checkpoint covers, got {head}:"
            " the log has lost its newest entries; restore it from a replica or backup (to go on"
            " without them, delete the partition's checkpoints/ and feed/)"
        )
    meta = _META.decode(encoded)
    state = empty_state(config, post)
    state.catalogue = meta.catalogue
    if meta.catalogue.version:
        state.book = compile_plan(plan(meta.catalogue), meta.catalogue, config.max_profiles)
    try:
        _degrade(state.book, meta)
    except LookupError:  # of another plan
        return None
    if plan_name(state) != meta.plan or not _has_types(state, arrays):
        return None
    if any(f"named/{i}/k0" not in arrays for i in range(len(state.book.namers))):
        return None
    if not _has_lanes(state, arrays) or not _has_entities(meta):
        return None
    try:
        runs = [
            checkpoints.load_run(name)
            if name
            else {part: arrays[f"locator/{i}/{part}"] for part in ("keys", "position", "row")}
            for i, name in enumerate(meta.runs)
        ]
    except (ProfileActorsError, OSError):
        return None
    state.now, state.position, state.layouts_at = meta.now, position, meta.layouts_at
    state.cursors, state.receipts = meta.cursors, meta.receipts
    state.rejects = {
        producer: Rejects(OffsetSet(unpacked(waiting)), OffsetSet(unpacked(taken)), fence)
        for producer, (waiting, taken, fence) in meta.rejects.items()
    }
    # One from before has heard nobody: as if at the beginning, like entries from before.
    wall, heard = meta.connections or (0, dict.fromkeys(filter(is_anonymous, meta.cursors), 0))
    state.connections = Connections(wall, heard)
    state.counters = Counters(*meta.counters)
    loaded = [
        Run(run["keys"], run["position"], run["row"], name)
        for run, name in zip(runs, meta.runs, strict=True)
    ]
    last = None if meta.record_runs is None else meta.event_runs + meta.record_runs
    state.locator.restore(tuple(loaded[: meta.event_runs]))
    state.record_locator.restore(tuple(loaded[meta.event_runs : last]))
    state.entities.locator.restore(() if last is None else tuple(loaded[last:]))
    state.sealed = frozenset(meta.runs)
    _restore(state, arrays, meta.namespaces)
    state.known = state.directory.count
    if meta.homes is not None:
        state.homes.restore(meta.homes)
    elif state.homes.owner_of is not None:  # from before links were told of
        state.homes.untold = Untold(0, position)
    return Loaded(state, meta.fed)


def plan_name(state: State) -> str:
    """What the state is a fold under: a checkpoint of another name is not used."""
    import xxhash

    # What a level means follows from a ladder's breaks, and they from how rules are compiled.
    book = state.book
    breaks = [(g.layout.segments, getattr(g, "points", None)) for g in book.gauges]
    name = xxhash.xxh3_128_hexdigest(repr((book.plan, breaks)).encode("utf-8", "surrogatepass"))
    # What failed may be sound in another version, which therefore replays the log.
    return f"{name} degraded in {PROGRAM}" if book.pending else name


def broken_parts(book: Rulebook) -> list[tuple[str, int | str, str]]:
    """What has failed, as it can be written: aggregates and histories by their number in the
    plan."""
    aggregates = {aggregate: number for number, aggregate in enumerate(book.plan.aggregates)}
    histories = {history.filter: number for number, history in enumerate(book.plan.histories)}
    out: list[tuple[str, int | str, str]] = []
    for part, why in book.broken.items():
        if isinstance(part, Aggregate):
            out.append(("aggregate", aggregates[part], why))
        elif isinstance(part, EventFilter):
            out.append(("history", histories[part], why))
        else:
            out.append(("attribute", part, why))
    return out


def _degrade(book: Rulebook, meta: Meta) -> None:
    """Have failed what had failed at the checkpoint. Raises LookupError if the plan lacks it."""
    for kind, place, why in meta.broken:
        if kind == "aggregate":
            book.degrade(book.plan.aggregates[int(place)], why)
        elif kind == "history":
            book.degrade(book.plan.histories[int(place)].filter, why)
        else:
            book.degrade(book.attributes[str(place)].leaf.key, why)
    book.pending = {(kind, name): why for kind, name, why in meta.pending}


def _has_lanes(state: State, arrays: dict[str, Array]) -> bool:
    """Whether sums of long decimals have all their lanes: once they had those of any sum."""
    return all(
        f"stream/{i}/{j}/lane{lane}" in arrays
        for i, stream in enumerate(state.book.streams)
        for j, op in enumerate(stream.operators)
        if isinstance(op, LongSum)
        for lane in range(len(op.lanes))
    )


def _has_entities(meta: Meta) -> bool:
    """Whether rows of lookup datasets, if there may be any, are apart from records: once they were
    profiles' records. A checkpoint from then is not used, and the log is replayed, once."""
    behaviors = (schema.behavior for schema in meta.catalogue.schemas.values())
    return meta.record_runs is not None or "lookup" not in behaviors


def _has_types(state: State, arrays: dict[str, Array]) -> bool:
    """Whether the values of rescans are of the types they had.

    Checkpoints used to hold decimals as texts. One in which a text may have been a decimal is not
    used, and the log is replayed, once.
    """
    return all(
        f"rescan/{i}/typed" in arrays
        or (rule.rule.tree.type is not None and rule.rule.tree.type.kind == "string")
        or not any(map(_has_text, _untyped_values(i, arrays).values()))
        for i, rule in enumerate(state.book.rescans)
    )


def _untyped_values(index: int, arrays: dict[str, Array]) -> dict[int, Any]:
    return dict(msgspec.msgpack.decode(arrays[f"rescan/{index}/values"].tobytes()))


def _has_text(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_text(part) for pair in value.items() for part in pair)
    return isinstance(value, str) or (isinstance(value, list) and any(map(_has_text, value)))


def savings(state: State) -> Iterator[tuple[str, Saving]]:
    """Every part of the state, by the prefix of its arrays' names."""
    book, profiles = state.book, state.directory.slots
    yield "directory/", state.directory.saving()
    yield "records/", state.live_rows.saving(profiles)
    yield "entities/", state.entities.saving()
    for i, namers in enumerate(book.namers.values()):
        yield f"named/{i}/", namers.saving()
    yield "listing/", state.listing.saving(state.directory.count)
    yield "", Saving.of({"modified": state.modified, "touched": state.touches.column}, profiles)
    for i, stream in enumerate(book.streams):
        for j, op in enumerate(stream.operators):
            yield f"stream/{i}/{j}/", op.saving(profiles)
        yield f"stream/{i}/enter/", Saving((), stream.enter.later())
        yield f"stream/{i}/leave/", Saving((), stream.leave.later())
    for i, history in enumerate(book.histories.values()):
        yield f"history/{i}/", history.saving(profiles)
    # After the rows that name them by code: a back-fill beside this may be giving new ones.
    yield "texts/", Saving((), book.texts.later())
    for path, attribute in book.attributes.items():
        yield f"attribute/{path}/", attribute.saving(profiles)
    for i, gauge in enumerate(book.gauges):
        yield "gauge/", Saving.of({str(i): gauge.level}, profiles)
        if isinstance(gauge, Ladder) and gauge.timer is not None:
            yield f"gauge_timer/{i}/", gauge.timer.saving(profiles)
    yield from table_savings(instants_of(book), profiles)
    for i, frozen in enumerate(book.frozen.values()):
        yield f"frozen/{i}/", Saving.of({"inside": frozen.inside}, profiles)
    for i, tree in enumerate(book.trees):
        if tree.timer is not None:
            yield f"timer/{i}/", tree.timer.saving(profiles)
    for i, rule in enumerate(book.rescans):
        yield f"rescan/{i}/", rule.timer.saving(profiles)
        yield f"rescan/{i}/", Saving((), partial(_typed, dict(rule.values)))


def _typed(values: dict[int, Any]) -> dict[str, Array]:
    return {"typed": np.frombuffer(encode_values(values), np.uint8)}


def instants_of(book: Rulebook) -> dict[str, Instants]:
    """All columns of instants, by the name that a checkpoint has for each."""
    frozen = {f"frozen/{i}/qualified": one.qualified for i, one in enumerate(book.frozen.values())}
    return {**{f"qualified/{name}": column for name, column in book.qualified.items()}, **frozen}


def _restore(state: State, arrays: dict[str, Array], namespaces: list[str]) -> None:
    book = state.book

    def under(prefix: str) -> dict[str, Array]:
        return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}

    state.directory.restore(under("directory/"), namespaces)
    if "entities/k0" in arrays:
        state.entities.restore(under("entities/"))
    for i, namers in enumerate(book.namers.values()):
        namers.restore(under(f"named/{i}/"))
    state.listing.restore(under("listing/"))
    profiles = state.directory.slots
    state.modified[:profiles] = arrays["modified"]
    if "records/size" in arrays:
        state.live_rows.restore(under("records/"))
    # One from before there were touches: as if everybody had been touched at its end.
    touched = arrays.get("touched", (state.position << SHIFT) + 1)
    state.touches.column[:profiles] = touched
    state.touches.begin(state.position, profiles)
    for i, stream in enumerate(book.streams):
        for j, op in enumerate(stream.operators):
            op.restore(under(f"stream/{i}/{j}/"))
        _restore_line(stream.enter, _told_apart(stream, under(f"stream/{i}/enter/")))
        _restore_line(stream.leave, _told_apart(stream, under(f"stream/{i}/leave/")))
    book.texts.restore(under("texts/"))
    for i, history in enumerate(book.histories.values()):
        history.restore(under(f"history/{i}/"))
    for path, attribute in book.attributes.items():
        attribute.restore(under(f"attribute/{path}/"))
    for i, gauge in enumerate(book.gauges):
        gauge.level[:profiles] = arrays[f"gauge/{i}"]
        if isinstance(gauge, Ladder) and gauge.timer is not None:
            gauge.timer.due[:profiles] = arrays[f"gauge_timer/{i}/due_of"]
            _restore_line(gauge.timer.line, under(f"gauge_timer/{i}/line/"))
    restore_tables(instants_of(book), arrays, profiles)
    for i, frozen in enumerate(book.frozen.values()):
        frozen.inside[:profiles] = arrays[f"frozen/{i}/inside"]
    for i, tree in enumerate(book.trees):
        if tree.timer is not None:
            tree.timer.due[:profiles] = arrays[f"timer/{i}/due_of"]
            _restore_line(tree.timer.line, under(f"timer/{i}/line/"))
    for i, rule in enumerate(book.rescans):
        rule.timer.due[:profiles] = arrays[f"rescan/{i}/due_of"]
        _restore_line(rule.timer.line, under(f"rescan/{i}/line/"))
        if f"rescan/{i}/typed" in arrays:
            rule.values = decode_values(arrays[f"rescan/{i}/typed"].tobytes())
        else:
            rule.values = _untyped_values(i, arrays)
        rule.is_new = False


def _told_apart(stream: Stream, arrays: dict[str, Array]) -> dict[str, Array]:
    """A line's arrays; made before extremes told their greatest number from none, they do so now,
    in the way in which they read then."""
    for op in stream.operators:
        if op.presence is not None:
            none = op.none if isinstance(op, Extreme) else 0
            arrays.setdefault(f"column/{op.presence}", arrays[f"column/{op.name}"] != none)
    return arrays


def _restore_line(line: DelayLine, arrays: dict[str, Array]) -> None:
    columns = {name: arrays[f"column/{name}"] for name in line.names}
    line.push(arrays["due"], arrays["slot"], columns)
