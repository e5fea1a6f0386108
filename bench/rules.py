"""What do rules cost beyond W1's hundred thresholds? Five questions, one JSON line each, checked.

``--only a,b,…`` chooses; ``--small`` is a quick check of everything, whose figures say nothing.

a  an event with 10, 100, 1,000 segments                  (``rules_scale.py``)
b  20 CHAIN and join rules, events/s                      (``rules_sequence.py``)
c  100 calendar windows over midnight, longest pause      (``rules_calendar.py``)
d  back-fill of a new rule beside ingest                  (``rules_backfill.py``)
e  a rescan by the length of the history                  (``rules_history.py``)
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

QUESTIONS = {"a": "scale", "b": "sequence", "c": "calendar", "d": "backfill", "e": "history"}
# option -> (default, with --small)
SIZES = {
    "repeat": (3, 1),
    "sample": (200, 10),
    "scale-events": (1_000_000, 4_000),
    "scale-profiles": (100_000, 400),
    "sequence-events": (1_000_000, 2_000),
    "sequence-profiles": (100_000, 200),
    "sequence-sample": (2_000, 200),
    "calendar-profiles": (1_000_000, 2_000),
    "calendar-events": (2_000_000, 6_000),
    "backfill-events": (10_000_000, 40_000),
    "backfill-more": (4_000_000, 20_000),
    "backfill-profiles": (1_000_000, 2_000),
    "history-rows": (40_000, 2_000),
}


def parsed() -> argparse.Namespace:
    """The command line, with the sizes that it leaves open filled in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="a,b,c,d,e", help="questions to ask, such as a,c")
    parser.add_argument("--small", action="store_true", help="a check that ends in seconds")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--zipf", action="store_true", help="few profiles get most events")
    parser.add_argument("--partitions", type=int, default=2, help="of the store in b and d")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    for name, (size, _) in SIZES.items():
        parser.add_argument(f"--{name}", type=int, help=f"{size:,} unless told")
    args = parser.parse_args()
    for name, sizes in SIZES.items():
        field = name.replace("-", "_")
        if getattr(args, field) is None:
            setattr(args, field, sizes[args.small])
    args.only = args.only.split(",")
    if not set(args.only) <= set(QUESTIONS):
        parser.error(f"expected --only of {','.join(QUESTIONS)}, got {','.join(args.only)}")
    args.command = " ".join(["python bench/rules.py", *sys.argv[1:]])
    return args


def main() -> None:
    """Ask the chosen questions in turn."""
    args = parsed()
    for letter in args.only:
        importlib.import_module(f"rules_{QUESTIONS[letter]}").ask(args)


if __name__ == "__main__":
    main()
