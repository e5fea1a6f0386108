"""Write workload W1's input as CSV: python bench/gen_w1.py OUT EVENTS PROFILES [--zipf] [--seed N].

Columns ``_id, user_id, timestamp, eventType, price, url``; four event types at 70/15/10/5 %; about
30 days in time order; uniform users, or ``--zipf``. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

TYPES = ("page.view", "cart.add", "email.open", "purchase")
START_MS = 1_760_000_000_000
SPAN_MS = 30 * 86_400_000
HEADER = "_id,user_id,timestamp,eventType,price,url\n"


def write(out: Path, events: int, profiles: int, *, zipf: bool = False, seed: int = 7) -> None:
    """Write ``events`` rows about ``profiles`` users; 1.5 us and 80 bytes a row."""
    rng = np.random.default_rng(seed)
    user = rng.zipf(1.3, events) * 7919 % profiles if zipf else rng.integers(0, profiles, events)
    kind = rng.choice(4, events, p=[0.70, 0.15, 0.10, 0.05])
    price = np.round(rng.gamma(2, 30, events), 2)
    step_ms = max(1, 2 * SPAN_MS // events)
    when = START_MS + np.cumsum(rng.integers(0, step_ms, events))
    with out.open("w") as file:
        file.write(HEADER)
        for start in range(0, events, 100_000):
            cut = slice(start, start + 100_000)
            columns = (user[cut].tolist(), when[cut].tolist(), kind[cut].tolist())
            file.writelines(
                f"ev-{i},u{u:08d},{t},{TYPES[k]},{p},https://shop.example/p/{u % 5000}\n"
                for i, (u, t, k, p) in enumerate(
                    zip(*columns, price[cut].tolist(), strict=True), start
                )
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("events", type=int)
    parser.add_argument("profiles", type=int)
    parser.add_argument("--zipf", action="store_true", help="few profiles get most events")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    write(args.out, args.events, args.profiles, zipf=args.zipf, seed=args.seed)
