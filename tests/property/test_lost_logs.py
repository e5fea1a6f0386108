"""Whatever is deleted, swapped or put back old in a store: it opens whole, or it says LostLog.

The catalogue and the logs are opened as the coordinator and the partitions do, on real LMDB; each
log holds entries that say whose they are, so that a log in another's place would show.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.config import Config
from profile_actors.errors import Halt, LostLog
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.log_ages import check_ages
from profile_actors.storage.store_settings import StoreSettings
from tests.memory import scratch

CONFIG = Config(log_segment_bytes=1 << 15, log_map_bytes=1 << 20)
PARTITIONS = 2
ENTRIES = 8


class Crash(Exception):
    """The process ends here."""


class Store:
    """A store's catalogue and logs, opened as its actors open them."""

    def __init__(self, data: Path, name: str, point: str = "") -> None:
        """point: where the opening crashes."""
        self.data, self.point = data, point
        self.logs: list[LmdbLog] = []
        self.catalogue = CatalogueStore(data, lock_wait_s=0.0)
        try:
            if self.catalogue.settings() is None:
                new = StoreSettings(
                    partitions=PARTITIONS, clock="event", hash_seed=1, created=1, id=name
                )
                self.catalogue.set_settings(new)
            self.catalogue.identify(f"{name}-marked")
            self.ages = check_ages(self.catalogue, StoreLayout(data), CONFIG.log_map_bytes)
            self.crash("healed")
            for index in range(PARTITIONS):
                self.open_log(index, f"{name}-{index}")
        except BaseException:
            self.close(tells=False)
            raise

    def open_log(self, index: int, promised: str) -> None:
        claim = self.catalogue.claim(index, promised)
        self.crash(f"claimed.{index}")
        directory = StoreLayout(self.data).partition(index).directory
        epoch = self.catalogue.next_epoch(str(index))
        log = LmdbLog(
            directory, CONFIG, epoch=epoch, claim=claim, lock_wait_s=0.0,
            crash_point=lambda point: self.crash(f"{point}.{index}"),
        )  # fmt: skip
        self.logs.append(log)
        self.crash(f"begun.{index}")
        self.tell(index, log, 1_800_000_000_000)
        self.crash(f"told.{index}")
        (directory / "feed").mkdir(exist_ok=True)

    def tell(self, index: int, log: LmdbLog, now: int = 1_800_000_000_001) -> None:
        head = log.head()
        self.catalogue.tell(index, log.id, head, now, str(self.data), log.epoch)
        log.told(head)

    def crash(self, point: str) -> None:
        if point == self.point:
            raise Crash(point)

    def write(self, name: str, entries: int = ENTRIES) -> None:
        self.catalogue.put(self.catalogue.newest_version() + 1, b"definitions")
        for index, log in enumerate(self.logs):
            for position in range(log.head(), log.head() + entries):
                log.append_at(position, [f"{name}-{index}-{position} ".encode() * 600], log.epoch)

    def contents(self) -> list[list[str]]:
        out = []
        for log in self.logs:
            assert list(log.verify()) == []
            found = []
            for position in range(log.head()):
                with log.view(position) as view:
                    found.append(bytes(view).split(b" ")[0].decode())
            out.append(found)
        return out

    def close(self, tells: bool = True) -> None:
        for index, log in enumerate(self.logs):
            if tells:
                self.tell(index, log)
            log.close()
        self.catalogue.close()


def wanted(name: str, entries: int) -> list[list[str]]:
    return [[f"{name}-{index}-{p}" for p in range(entries)] for index in range(PARTITIONS)]


def made(data: Path, name: str) -> None:
    """A store that was opened twice, and a copy ``<data>-old`` of how it was between."""
    store = Store(data, name)
    store.write(name)
    store.close()
    shutil.copytree(data, data.with_name(f"{data.name}-old"))
    store = Store(data, name)
    store.write(name)
    assert store.contents() == wanted(name, 2 * ENTRIES)
    store.close()


@pytest.fixture(scope="module")
def originals() -> Iterator[Path]:
    with scratch() as directory:
        for name in ("mine", "other"):
            made(Path(directory) / name, name)
        yield Path(directory)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with scratch() as directory:
        yield Path(directory)


def pieces(data: Path) -> list[str]:
    """What may be lost of a store: not locks, which hold nothing, nor what is derived."""
    found = sorted(str(path.relative_to(data)) for path in data.rglob("*"))
    return [piece for piece in found if not piece.endswith(("lock", "lock.mdb", "feed"))]


def outcome(data: Path, entries: int = 2 * ENTRIES) -> str:
    """'lost' or 'whole'; fails if the store opens with other entries, or begins anything."""
    before = {str(p.relative_to(data)) for p in data.rglob("data.mdb")}
    try:
        store = Store(data, "again")
    except Halt:
        after = {str(p.relative_to(data)) for p in data.rglob("data.mdb")}
        assert after == before, f"refused, but made {after - before}"
        return "lost"
    assert store.contents() == wanted("mine", entries)
    store.close()
    return "whole"


def removed(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replaced(target: Path, source: Path) -> None:
    removed(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copy(source, target)


@pytest.fixture
def mine(originals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals / "mine", tmp_path / "mine"))


def test_whatever_single_piece_is_missing(originals: Path, tmp_path: Path) -> None:
    """Derived from nothing: every directory and file, one at a time."""
    for number, piece in enumerate(pieces(originals / "mine")):
        data = Path(shutil.copytree(originals / "mine", tmp_path / str(number)))
        removed(data / piece)
        assert outcome(data) == ("whole" if piece == "store.json" else "lost"), piece
        shutil.rmtree(data)


def test_the_error_says_which_log_and_where_it_was_last_seen(mine: Path) -> None:
    shutil.rmtree(mine / "partitions" / "0")
    with pytest.raises(LostLog) as raised:
        Store(mine, "again")
    text = str(raised.value)
    assert "log mine-0 of partition 0 of store mine" in text
    assert f"last seen with {2 * ENTRIES} entries at 2027-01-15 08:00:00 UTC in " in text
    assert "got no directory" in text
    assert not (mine / "partitions" / "0").exists()


def test_what_was_put_back_is_there_again(mine: Path) -> None:
    for piece in ("partitions/1", "partitions/0/log/manifest.json", "catalogue"):
        (mine / piece).rename(mine / "aside")
        assert outcome(mine) == "lost"
        (mine / "aside").rename(mine / piece)
        assert outcome(mine) == "whole"


def test_logs_that_change_places_are_noticed(mine: Path) -> None:
    zero, one = mine / "partitions" / "0", mine / "partitions" / "1"
    segments = sorted(path.relative_to(zero) for path in zero.glob("log/segment-*"))
    assert len(segments) > 3
    for piece in (Path(), Path("log"), Path("log.json"), *segments):
        for first, second in ((zero / piece, mine / "aside"), (one / piece, zero / piece)):
            first.rename(second)
        (mine / "aside").rename(one / piece)
        assert outcome(mine) == "lost", piece
        (zero / piece).rename(mine / "aside")
        (one / piece).rename(zero / piece)
        (mine / "aside").rename(one / piece)
    assert outcome(mine) == "whole"


SOURCES = ("nothing", "other", "mine-old", "other-old", "partition")
PIECES = (
    *("catalogue", "partitions", "store.json", "partitions/0", "partitions/0/log"),
    *("partitions/0/log.json", "partitions/0/log/manifest.json", "partitions/1"),
    *("newest segment", "first segment"),
)


def damaged(draw_piece: str, source: str, data: Path, originals: Path) -> None:
    """Delete a piece, or put something else of its kind into its place."""
    segments = sorted((data / "partitions" / "0" / "log").glob("segment-*"))
    if draw_piece.endswith("segment"):
        if not segments:
            return
        target = segments[-1 if draw_piece.startswith("newest") else 0]
    else:
        target = data / draw_piece
    if source == "nothing":
        removed(target)
    elif source == "partition":
        if str(target.relative_to(data)).startswith("partitions/0"):
            twin = Path(str(target).replace("partitions/0", "partitions/1"))
            replaced(target, twin)
    else:
        replaced(target, originals / source / target.relative_to(data))


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(SOURCES)), max_size=3))
@settings(max_examples=40)
def test_a_store_is_whole_or_says_that_it_is_not(
    originals: Path, damages: list[tuple[str, str]]
) -> None:
    with scratch() as directory:
        data = Path(shutil.copytree(originals / "mine", Path(directory) / "mine"))
        for piece, source in damages:
            damaged(piece, source, data, originals)
        both = {str(p.relative_to(data)) for p in data.rglob("*") if p.name == "data.mdb"}
        if not both and not (data / "store.json").exists():
            return  # nothing is left that could be missed
        try:
            store = Store(data, "again")
        except Halt:
            return
        found = store.contents()
        store.close()
        # As it was, as it was in the older copy (if all of it came from there), or another store
        # as a whole: never a part, never a mixture, never fewer entries than were told.
        assert found in [
            wanted("mine", 2 * ENTRIES), wanted("mine", ENTRIES),
            wanted("other", 2 * ENTRIES), wanted("other", ENTRIES),
        ]  # fmt: skip
        if found == wanted("mine", ENTRIES):
            assert ("catalogue", "mine-old") in damages
        elif ("catalogue", "mine-old") in damages and found == wanted("mine", 2 * ENTRIES):
            assert store.ages.newer == [0, 1]


def crash_points() -> list[tuple[str, ...]]:
    steps = ("claimed", "log.named", "begun", "told")
    points = [f"{step}.{index}" for index in range(PARTITIONS) for step in steps]
    return [*((point,) for point in points), *itertools.combinations(points, 2)]


@pytest.mark.parametrize("points", crash_points(), ids="+".join)
def test_a_crash_while_logs_begin_neither_locks_out_nor_begins_twice(
    points: tuple[str, ...], tmp_path: Path
) -> None:
    for point in points:
        with pytest.raises(Crash):
            Store(tmp_path / "s", "mine", point)
    store = Store(tmp_path / "s", "mine")
    store.write("mine")
    assert store.contents() == wanted("mine", ENTRIES)
    store.close()
    shutil.rmtree(tmp_path / "s" / "partitions" / "1")
    with pytest.raises(LostLog):
        Store(tmp_path / "s", "mine")


def unmarked(originals: Path, data: Path) -> Path:
    """A store as it was before stores and logs had ids."""
    store = CatalogueStore(data, lock_wait_s=0.0)
    store.set_settings(StoreSettings(partitions=PARTITIONS, clock="event", hash_seed=1, created=1))
    store.put(1, b"definitions")
    for index in range(PARTITIONS):
        directory = StoreLayout(data).partition(index).directory
        log = LmdbLog(directory, CONFIG, epoch=store.next_epoch(str(index)), lock_wait_s=0.0)
        for position in range(2 * ENTRIES):
            log.append_at(position, [f"mine-{index}-{position} ".encode() * 600], log.epoch)
        log.close()
    store.close()
    return data


def test_an_older_store_is_accepted_once_and_marked(originals: Path, tmp_path: Path) -> None:
    data = unmarked(originals, tmp_path / "s")
    assert outcome(data) == "whole"
    assert (data / "partitions" / "1" / "log.json").is_file()
    shutil.rmtree(data / "partitions" / "1")
    assert outcome(data) == "lost"


@pytest.mark.parametrize("missing", ["partitions", "partitions/1", "partitions/1/log"])
def test_an_older_store_that_has_lost_a_log_already_is_refused(
    originals: Path, tmp_path: Path, missing: str
) -> None:
    data = unmarked(originals, tmp_path / "s")
    shutil.rmtree(data / missing)
    assert outcome(data) == "lost"
    assert outcome(data) == "lost"


@pytest.mark.parametrize("point", ["claimed.0", "log.named.0", "begun.0", "log.named.1"])
def test_a_crash_while_an_older_store_is_marked(
    originals: Path, tmp_path: Path, point: str
) -> None:
    data = unmarked(originals, tmp_path / "s")
    with pytest.raises(Crash):
        Store(data, "again", point)
    assert outcome(data) == "whole"
    shutil.rmtree(data / "partitions" / "0")
    assert outcome(data) == "lost"


def test_entries_that_were_told_of_are_missed(mine: Path, originals: Path) -> None:
    for index in range(PARTITIONS):
        old = originals / "mine-old" / "partitions" / str(index)
        replaced(mine / "partitions" / str(index), old)
    with pytest.raises(LostLog, match=f"got one with {ENTRIES} entries"):
        Store(mine, "again")


MOMENTS = ("closed", "opened", "told", "crashed", "again")


def history(data: Path) -> dict[str, tuple[int, int]]:
    """A store's copies at MOMENTS, as ``<data>-<moment>``: how many entries each of its logs had
    then, and of how many the catalogue had been told."""
    lengths: dict[str, tuple[int, int]] = {}

    def copy(moment: str, store: Store, told: int) -> None:
        lengths[moment] = (store.logs[0].head(), told)
        shutil.copytree(data, data.with_name(f"{data.name}-{moment}"))

    store = Store(data, "mine")
    store.write("mine")
    store.close()
    copy("closed", store, ENTRIES)
    store = Store(data, "mine")
    copy("opened", store, ENTRIES)
    store.write("mine", 3)
    for index, log in enumerate(store.logs):
        store.tell(index, log)
    store.write("mine", 1)  # notes in each log that the catalogue was told
    copy("told", store, ENTRIES + 3)
    store.write("mine", 2)
    copy("crashed", store, ENTRIES + 3)
    store.close(tells=False)
    store = Store(data, "mine")
    store.write("mine", 2)
    store.close()
    copy("again", store, ENTRIES + 8)
    return lengths


@pytest.fixture(scope="module")
def moments() -> Iterator[tuple[Path, dict[str, tuple[int, int]]]]:
    with scratch() as directory:
        data = Path(directory) / "mine"
        yield data, history(data)


@pytest.mark.parametrize("catalogue", MOMENTS)
def test_any_mixture_of_moments_is_refused_or_noted_or_no_loss(
    moments: tuple[Path, dict[str, tuple[int, int]]], catalogue: str, tmp_path: Path
) -> None:
    origin, lengths = moments
    for number, (zero, one) in enumerate(itertools.product(MOMENTS, repeat=2)):
        case = (catalogue, zero, one)
        data = tmp_path / str(number)
        shutil.copytree(origin.with_name(f"mine-{catalogue}"), data)
        for index, moment in enumerate((zero, one)):
            piece = f"partitions/{index}"
            replaced(data / piece, origin.with_name(f"mine-{moment}") / piece)
        newest = max(case, key=MOMENTS.index)
        # A log says more than this catalogue knows once it is opened, or notes a word, after it.
        says_more = [
            MOMENTS.index(m) > MOMENTS.index(catalogue)
            and (catalogue, m) not in {("told", "crashed")}
            for m in (zero, one)
        ]
        must_open = len(set(case)) == 1 or (zero == one == newest and all(says_more))
        try:
            store = Store(data, "again")
        except Halt:
            assert not must_open, case
            continue
        found = store.contents()
        assert found == [
            log[: lengths[m][0]] for log, m in zip(wanted("mine", 99), (zero, one), strict=True)
        ], case
        lacks = any(len(log) < lengths[newest][1] for log in found)
        assert not lacks or store.ages.newer == [0, 1], case
        assert bool(store.ages.newer) == any(says_more), case
        store.close()
        again = Store(data, "again")  # once healed, it is whole
        assert again.ages.newer == again.ages.accepted == []
        again.close()
        shutil.rmtree(data)


def test_which_mixtures_open(
    moments: tuple[Path, dict[str, tuple[int, int]]], tmp_path: Path
) -> None:
    """A part of a backup beside newer logs is refused; the catalogue alone from one is healed."""
    origin, _ = moments

    def mixed(name: str, *replacing: str) -> Path:
        data = tmp_path / name
        shutil.copytree(origin.with_name("mine-again"), data)
        for piece in replacing:
            replaced(data / piece, origin.with_name("mine-closed") / piece)
        return data

    for piece in ("partitions/0", "partitions/1"):
        data = mixed(f"part-{piece[-1]}", "catalogue", piece)
        with pytest.raises(LostLog, match=f"the log of partition {piece[-1]} as they were"):
            Store(data, "again")
        with pytest.raises(LostLog, match="put the newest ones back"):
            Store(data, "again")
        # Whoever knows that there is no newer one says so.
        shutil.rmtree(data / piece / "feed")
        store = Store(data, "again")
        assert store.ages.accepted == [int(piece[-1])]
        store.close()
    data = mixed("none", "catalogue")
    shutil.rmtree(data / "partitions" / "0")
    with pytest.raises(LostLog, match="as they were together"):  # not taken for the newest there is
        Store(data, "again")
    for point in ("healed", "claimed.0", "begun.0", "told.0", "begun.1"):
        data = mixed(point, "catalogue")
        with pytest.raises(Crash):
            Store(data, "again", point)
        Store(data, "again").close()
    store = Store(mixed("catalogue", "catalogue"), "again")
    assert store.ages.newer == [0, 1]
    store.close()


def test_a_copy_from_before_the_last_opening_is_missed_though_it_is_as_long(
    moments: tuple[Path, dict[str, tuple[int, int]]], tmp_path: Path
) -> None:
    """Nothing was told since the opening, but what was written since is gone."""
    origin, _ = moments
    data = Path(shutil.copytree(origin.with_name("mine-opened"), tmp_path / "s"))
    replaced(data / "partitions/0", origin.with_name("mine-closed") / "partitions/0")
    with pytest.raises(LostLog, match=r"before its last opening \(epoch 1, told of 2\)"):
        Store(data, "again")
