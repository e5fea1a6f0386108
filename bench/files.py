"""What does a file's form cost? W1 as CSV, CSV.zst, NDJSON and Parquet, side by side, checked.

``--door`` reads and judges the files in this process alone and states CPU time per event; otherwise
each form is ingested into a store of its own on real Ray, one after the other, round by round, and
its members and counts are compared with the CSV file's. Bars: Parquet >= 1.0 of CSV's events/s,
CSV.zst >= 0.8, NDJSON >= 0.35. ``cpu_ratio_to_csv`` is the same of the processor time of driver and
actors: what the elapsed time would say of a machine that does nothing else.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

import profile_actors as pf
from machine import family_cpu_s, note, say
from profile_actors.ingest.door import Door
from profile_actors.ingest.files.byte_sources import packed_with
from profile_actors.ingest.files.forms import read_blocks
from profile_actors.ingest.files.json_tables import JsonTables
from profile_actors.ingest.files.places import form_of
from workload import DATASET, make_input, options, save_definitions

BARS = {"parquet": 1.0, "csv.zst": 0.8, "ndjson": 0.35}


def written(path: Path) -> dict[str, Path]:
    """The CSV file in every form, made once."""
    forms = {"csv": path} | {end: path.with_suffix(f".{end}") for end in BARS}
    if all(file.exists() for file in forms.values()):
        return forms
    table = pyarrow.csv.read_csv(path)
    pyarrow.parquet.write_table(table, forms["parquet"], row_group_size=1 << 20)
    with pa.CompressedOutputStream(str(forms["csv.zst"]), "zstd") as out:
        out.write(path.read_bytes())
    with forms["ndjson"].open("wb") as out:
        for batch in table.to_batches(100_000):
            out.write(msgspec.json.Encoder().encode_lines(batch.to_pylist()))
    return forms


def through_the_door(file: Path, catalogue: Any) -> tuple[int, float]:
    """Accepted rows, and seconds of CPU."""
    config = pf.Config()
    door = Door(catalogue, DATASET, 7, config)
    began, rows = time.process_time(), 0
    blocks = read_blocks(
        file, form_of(file.name) or "", packed_with(file), config.ingest_block_bytes,
        JsonTables(catalogue, DATASET), file.stat().st_size,
    )  # fmt: skip
    for block in blocks:
        rows += door.prepare(block, block.first_row, time.time_ns() // 1_000_000).table.num_rows
    return rows, time.process_time() - began


def through_a_store(
    file: Path, folder: Path, declared: Path, partitions: int
) -> tuple[Any, float, float]:
    """What the store answers, seconds from the call to durable and folded, and those of CPU."""
    shutil.rmtree(folder, ignore_errors=True)
    with pf.start(folder, partitions=partitions, clock="event") as store:
        store.apply_file(declared)
        began, own = time.perf_counter(), family_cpu_s()
        report = store.ingest(DATASET, file)
        seconds, own = time.perf_counter() - began, family_cpu_s() - own
        names = store.definitions().segments
        counts = {name: store.members(name).count() for name in names}
    shutil.rmtree(folder, ignore_errors=True)
    return (report.accepted, report.rejected_count, counts), seconds, own


def main() -> None:
    """Rounds of all forms; one JSON line with the medians of their ratios to CSV."""
    parser = options(__doc__, events=1_000_000, profiles=100_000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--door", action="store_true", help="without Ray: CPU time of the driver")
    args = parser.parse_args()
    data = make_input(args.out, args, args.seed)
    forms = written(data.path)
    declared = save_definitions(args.out / "files-definitions.json")
    from profile_actors.definitions.catalogue_changes import extended
    from profile_actors.definitions.declared import Catalogue
    from profile_actors.ingest.definition_files import definitions_of

    catalogue = extended(Catalogue(), definitions_of(declared))
    rounds: list[dict[str, float]] = []
    cpu: list[dict[str, float]] = []
    base = args.out / "files-base"
    shutil.rmtree(base, ignore_errors=True)
    company = ExitStack()  # one Ray for all rounds: it is up as long as some store is
    if not args.door:
        company.enter_context(pf.start(base, partitions=1, clock="event"))
        company.callback(shutil.rmtree, base, ignore_errors=True)
    for number in range(args.repeat):
        took: dict[str, float] = {}
        own: dict[str, float] = {}
        answers: dict[str, Any] = {}
        for form, file in forms.items():
            if args.door:
                answers[form], took[form] = through_the_door(file, catalogue)
                own[form] = took[form]
            else:
                answers[form], took[form], own[form] = through_a_store(
                    file, args.out / "files-store", declared, args.partitions
                )
            note(f"  round {number + 1}, {form}: {took[form] / args.events * 1e9:,.0f} ns an event")
        if any(answer != answers["csv"] for answer in answers.values()):
            raise SystemExit(f"the forms differ: {json.dumps(answers)[:2000]}")
        rounds.append(took)
        cpu.append(own)
    company.close()
    say(
        "files",
        events=args.events,
        rounds=args.repeat,
        measured="CPU of the driver" if args.door else "elapsed, durable and folded",
        ns_per_event={
            form: round(statistics.median(one[form] for one in rounds) / args.events * 1e9)
            for form in forms
        },
        ratio_to_csv={
            form: round(statistics.median(one["csv"] / one[form] for one in rounds), 2)
            for form in BARS
        },
        cpu_ns_per_event={
            form: round(statistics.median(one[form] for one in cpu) / args.events * 1e9)
            for form in forms
        },
        cpu_ratio_to_csv={
            form: round(statistics.median(one["csv"] / one[form] for one in cpu), 2)
            for form in BARS
        },
        bars=BARS,
    )


if __name__ == "__main__":
    main()
