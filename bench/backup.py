"""What of the speed of ingest is left beside a backup? W1's events, in one run with and without.

A store that has the first half of the events takes the second half: once alone, once while it is
backed up, the first backup of a place (which copies everything), then again and again. ``ratio`` is
the speed beside over the speed alone, of ``--pairs`` pairs in turn the median; each side's stores
begin from a copy of the same directory. Checked: the last backup is whole, and what is restored
from it, when the file is loaded again, has as many events as the original. Bar: ratio >= 0.9.
"""

from __future__ import annotations

import shutil
import statistics
import threading
import time
from pathlib import Path

import profile_actors as pf
from machine import note, say
from profile_actors.driver.shipping.places_of_backups import verified
from workload import DATASET, make_input, options, save_definitions


def beside(store: pf.Store, place: Path, is_done: threading.Event, made: list[pf.Backup]) -> None:
    """Backups one after the other while rows come in, and a last one of all of them."""
    while not is_done.is_set():
        made.append(store.backup(place))
    made.append(store.backup(place))


def second_half(
    folder: Path, base: Path, data: Path, place: Path | None
) -> tuple[float, list[pf.Backup]]:
    """Seconds to take the second half, and the backups that were made meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    made: list[pf.Backup] = []
    is_done = threading.Event()
    with pf.start(folder) as store:
        backups = threading.Thread(target=beside, args=(store, place, is_done, made))
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
            backups.start()
        began = time.perf_counter()
        store.ingest(DATASET, data)
        seconds = time.perf_counter() - began
        is_done.set()
        if place is not None:
            backups.join()
    return seconds, made


def halves(data: Path) -> tuple[Path, Path]:
    """The file as two, each with the line of names."""
    names, *lines = data.read_text().splitlines(keepends=True)
    parts = []
    for number, part in enumerate((lines[: len(lines) // 2], lines[len(lines) // 2 :])):
        parts.append(data.with_name(f"backup-half-{number}.csv"))
        parts[-1].write_text(names + "".join(part))
    return parts[0], parts[1]


def main() -> None:
    """One JSON line."""
    parser = options(__doc__, events=1_000_000, profiles=100_000)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    first, second = halves(make_input(args.out, args, args.seed).path)
    base, folder, place = (args.out / f"backup-{name}" for name in ("base", "store", "place"))
    shutil.rmtree(base, ignore_errors=True)
    with pf.start(base, partitions=args.partitions, clock="event") as store:
        store.apply_file(save_definitions(args.out / "backup-definitions.json"))
        store.ingest(DATASET, first)
    ratios: list[float] = []
    made: list[pf.Backup] = []
    for _ in range(args.pairs):
        alone, _ = second_half(folder, base, second, None)
        with_it, made = second_half(folder, base, second, place)
        ratios.append(alone / with_it)
        note(f"  alone {alone:.2f} s, beside {len(made)} backups {with_it:.2f} s")
    if any(verified(place).values()):
        raise SystemExit("expected whole backups")
    with pf.start(folder) as store:
        events = store.status().events
    restored = args.out / "backup-restored"
    shutil.rmtree(restored, ignore_errors=True)
    began = time.perf_counter()
    pf.restore(place, restored)
    seconds = time.perf_counter() - began
    with pf.start(restored) as store:
        again = store.ingest(DATASET, second)
        if (store.status().events, again.accepted) != (events, 0):
            raise SystemExit(f"expected {events} events and none new, got {store.status().events}")
    say(
        "backup", ratio=round(statistics.median(ratios), 3), ratios=[round(r, 3) for r in ratios],
        backups=len(made), first_new_bytes=made[0].new_bytes, last_new_bytes=made[-1].new_bytes,
        bytes=made[-1].bytes, restore_s=round(seconds, 2), bars={"ratio": 0.9},
    )  # fmt: skip
    for path in (base, folder, place, restored):
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
