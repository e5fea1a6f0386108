"""Workload W1 on a hand-written Flink job: python bench/peers/flink/run.py [--events N ...].

Fetches the Flink jars from the ``apache-flink-libraries`` source package (330 MB, once), compiles
``W1Job.java`` with plain ``javac`` and runs it in one JVM, without checkpoints and with one every
five seconds. The segments that need no clock must have the right number of members, up to the last
bit of a sum (Flink adds doubles in order: one member may differ).

Needs a JDK 17 or later (``java`` and ``javac`` on PATH).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from answer import recompute  # noqa: E402
from machine import note, say  # noqa: E402
from workload import make_input, options, segments  # noqa: E402

VERSION = "2.3.0"
BUILD = HERE / "build"
# Flink reaches into the JDK as its own launcher allows it to.
OPENS = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in ("java.lang", "java.util", "java.util.concurrent", "java.time", "java.net")
]


def jars() -> Path:
    """The folder of Flink's jars, fetched and unpacked once."""
    folder = BUILD / "lib"
    if not folder.exists():
        with tempfile.TemporaryDirectory() as aside:
            wanted = f"apache-flink-libraries=={VERSION}"
            fetch = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", aside]
            subprocess.run([sys.executable, "-m", "pip", *fetch, wanted], check=True)
            part = BUILD / "lib.part"
            part.mkdir(parents=True, exist_ok=True)
            (archive,) = Path(aside).glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                for member in tar:
                    if "/deps/lib/" in member.name and member.name.endswith(".jar"):
                        member.name = Path(member.name).name
                        tar.extract(member, part, filter="data")
        part.rename(folder)
    return folder


def main() -> None:
    """Build, run both arms, check, print one JSON line."""
    args = options(__doc__, events=1_000_000, profiles=100_000).parse_args()
    data = make_input(args.out, args, args.seed)
    path = f"{BUILD}:{jars()}/*"
    subprocess.run(["javac", "-cp", path, "-d", str(BUILD), str(HERE / "W1Job.java")], check=True)
    members = {name: len(ids) for name, ids in recompute(data.path).members().items()}
    timeless = [s.name for s in segments() if s.column[0] != "d"]
    speeds = {}
    for arm, every_ms in (("no_checkpoints", 0), ("checkpoints_5s", 5_000)):
        with tempfile.TemporaryDirectory() as aside:
            job = ["java", "-Xmx6g", *OPENS, "-cp", path, "W1Job", str(data.path)]
            done = subprocess.run(
                [*job, str(args.partitions), str(every_ms), aside],
                check=True,
                capture_output=True,
                text=True,
            )
        result = json.loads(done.stdout.splitlines()[-1])
        wrong = [n for n in timeless if abs(result["sizes"][n] - members[n]) > 1]
        if wrong or result["rows"] != args.events:
            raise SystemExit(f"{arm}: wrong answers in {wrong}, {result['rows']} rows")
        speeds[f"{arm}_per_s"] = round(args.events / result["seconds"])
        note(f"flink, {arm}: {speeds[f'{arm}_per_s']:,} events/s")
    say(
        "peer-flink",
        events=args.events,
        profiles=args.profiles,
        seed=args.seed,
        parallelism=args.partitions,
        flink=VERSION,
        **speeds,
    )


if __name__ == "__main__":
    main()
