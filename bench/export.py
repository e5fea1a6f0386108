"""How fast do profiles become a file, and in how much memory? ``store.export``, checked.

W1's events make the profiles; then 8 columns of all of them are exported as Parquet (NDJSON and CSV
too with ``--all``). The Parquet file is read again: each profile is there once. ``peak_mb`` is what
this process and the actors have of their own above what they had before. Bars: Parquet >= 100,000
profiles/s, 1 M members within 300 MB.
"""

from __future__ import annotations

import shutil
import time

import pyarrow.compute as pc
import pyarrow.parquet as pq

import profile_actors as pf
from machine import PeakMemory, family_cpu_s, note, say
from workload import DATASET, make_input, options, save_definitions

FIELDS = 8


def main() -> None:
    """Ingest once, export ``--repeat`` times; one JSON line per form."""
    parser = options(__doc__, events=1_000_000, profiles=1_000_000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="NDJSON and CSV too")
    args = parser.parse_args()
    data = make_input(args.out, args, args.seed)
    folder = args.out / "export-store"
    shutil.rmtree(folder, ignore_errors=True)
    with pf.start(folder, partitions=args.partitions, clock="event") as store:
        store.apply_file(save_definitions(args.out / "export-definitions.json"))
        store.ingest(DATASET, data.path)
        profiles = store.status().profiles
        computed = sorted(store.definitions().computed)[: FIELDS - 3]
        fields = ["identities", *(f"computed.{name}" for name in computed)]
        for form in ("parquet", "ndjson", "csv") if args.all else ("parquet",):
            best = 0.0
            for _ in range(args.repeat):
                target = args.out / f"export.{form}"
                with PeakMemory() as before:
                    time.sleep(0.5)
                own = family_cpu_s()
                with PeakMemory() as memory:
                    report = store.export(None, target, fields)
                own = family_cpu_s() - own
                peak = memory.peak_private - before.peak_private
                best = max(best, report.rows / report.seconds)
                note(f"  {form}: {report.rows / report.seconds:,.0f} profiles/s")
            if report.rows != profiles:
                raise SystemExit(f"expected {profiles} rows, got {report.rows}")
            if form == "parquet":
                ids = pq.read_table(target, columns=["id"])["id"]
                if pc.count_distinct(ids).as_py() != profiles:
                    raise SystemExit("expected each profile once")
            say(
                "export", form=form, profiles=profiles, columns=len(report.columns),
                profiles_per_s=round(best),
                cpu_us_per_profile=round(own / report.rows * 1e6, 2), peak_mb=peak >> 20,
                bytes=report.bytes,
                bars={"profiles_per_s": 100_000, "peak_mb": 300},
            )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
