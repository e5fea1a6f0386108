"""``make differential SEED=… N=…``: many random worlds, with progress, totals and failing seeds.

Each seed makes a world of each kind: rules of the first engine's incremental subset (narrow), of
the whole language (wide), over several events of a profile (history), with operands of any kind
(odd). A failing seed is run again by ``worlds.run(SEED, kind="wide")``; with --shrink, its smallest
form is printed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from types import FrameType

from tests.differential.harness import KINDS
from tests.differential.shrink import shrunk
from tests.differential.worlds import run

WORLD_S = 120
"""Of the processor's time, whatever else the machine does. A world takes a second or two; one that
takes this long hangs."""


class Hung(BaseException):
    """Not an Exception: the fold takes one as its own, and goes on without the part that raised."""


def _hung(signum: int, frame: FrameType | None) -> None:
    where = "" if frame is None else f" in {frame.f_code.co_qualname}"
    raise Hung(f"the world took longer than {WORLD_S} s{where}")


def main() -> int:
    """Run the worlds of N seeds from SEED; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="make differential", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=300, help="how many seeds")
    parser.add_argument("--only", choices=KINDS, help="one kind of world")
    parser.add_argument("--trace", action="store_true", help="the whole traceback of each failure")
    parser.add_argument("--shrink", action="store_true", help="print each failure's smallest form")
    given = parser.parse_args()
    signal.signal(signal.SIGPROF, _hung)
    kinds = (given.only,) if given.only else KINDS
    began = told = time.monotonic()
    checks, worlds, failures = 0, 0, []
    for seed in range(given.seed, given.seed + given.count):
        for kind in kinds:
            worlds += 1
            signal.setitimer(signal.ITIMER_PROF, WORLD_S)
            try:
                checks += run(seed, kind=kind)
            except (Exception, Hung) as error:
                words = traceback.format_exc() if given.trace else _short(error)
                failures.append(f"{kind} {seed}")
                print(f"FAILED {kind} world of seed {seed}: {words}", flush=True)
                if given.shrink:
                    signal.setitimer(signal.ITIMER_PROF, 0)
                    print(shrunk(seed, kind), flush=True)
        if time.monotonic() - told > 10:
            told = time.monotonic()
            print(f"seed {seed}: {worlds} worlds, {checks:,} checks, {len(failures)} failed",
                  flush=True)  # fmt: skip
    signal.setitimer(signal.ITIMER_PROF, 0)
    print(
        f"{worlds} worlds from seed {given.seed} in {time.monotonic() - began:.0f} s:"
        f" {checks:,} (rule, profile, instant) checks, {len(failures)} worlds failed"
    )
    if failures:
        print(f"failed: {', '.join(failures)}")
    return 1 if failures else 0


def _short(error: BaseException) -> str:
    """One line: what went wrong, and where in the harness or the engine."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {frame.filename}:{frame.lineno}: {str(error)[:1500]}"


if __name__ == "__main__":
    sys.exit(main())
