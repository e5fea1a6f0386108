"""What do processes cost that start, attach to, and stop a store, and one that nobody uses?

Each is a process of its own, as users run it: ``start`` (cold), ``pf.connect``, the verb
``profile``, ``--help``, ``eval``, ``stop``. ``s`` is wall time from the call to the exit, the least
of ``--repeat``; ``cpu_s`` the processor time of the process (of ``start`` and ``stop``: of all of
the store's), which other programs change less, by half on cores that they share with it:
``import_ray`` beside them says by how much, 0.7 s on an idle machine. What is over its bar by both
is in ``missed``.

``connect`` is the call alone; importing Ray and the project comes before it, and is in ``profile``.
``bare``       a Ray with as many empty actors, started the same way: Ray's own share of ``start_``.
``idle_pct``   % of a core over ``--seconds``: coordinator, partitions, and Ray's head; ``of`` each;
``ours_pct``   of it: Python's threads of ours, with what the actors' main threads take beyond those
               of the bare actors (Ray wakes these a hundred times a second).
"""

from __future__ import annotations

import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latency import purchase
from machine import note, say
from workload import DATASET, NAMESPACE, options, save_definitions

ROWS = 4
USER = "u1"
BARS = {
    "start": 8.0, "stop": 3.0, "profile": 2.0, "connect": 1.0, "help": 0.7, "eval": 0.7,
    "idle_pct": 5.0, "ours_pct": 0.2,
}  # fmt: skip
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")

FILL = f"""
import sys, json
import profile_actors as pf
with pf.connect(sys.argv[1]) as store:
    store.apply_file(sys.argv[2])
    assert store.submit("{DATASET}", json.loads(sys.argv[3])).accepted == {ROWS}
"""

CONNECT = """
import sys, time, json
from profile_actors import connect
began, own = time.perf_counter(), time.process_time()
with connect(sys.argv[1]) as store:
    took = [time.perf_counter() - began, time.process_time() - own]
    print(json.dumps([*took, store.status().events]))
"""

# As the store's runtime starts it, with actors that do nothing, of its actors' concurrency group.
BARE = """
import os, sys, time, json
import ray
from profile_actors.driver.keeping.head import lean_start
@ray.remote(num_cpus=0, concurrency_groups={"read": 16})
class BareActor:
    def hello(self): return 1
    @ray.method(concurrency_group="read")
    def read(self): return 1
os.environ["RAY_worker_niceness"] = "0"
with lean_start():
    ray.init(address="local", num_cpus=max(2, os.cpu_count()), include_dashboard=False,
             object_store_memory=int(sys.argv[2]) << 20, log_to_driver=False, logging_level="ERROR")
actors = [BareActor.remote() for _ in range(int(sys.argv[1]))]
assert ray.get([one.hello.remote() for one in actors]) == [1] * len(actors)
print("ready", flush=True)
sys.stdin.readline()
ray.shutdown()
"""


@contextmanager
def own_ray() -> Iterator[dict[str, str]]:
    """An environment whose Ray has a folder of its own; by that folder its processes are found."""
    folder = tempfile.mkdtemp(prefix="pp", dir="/tmp")
    # As installed, bytecode is there: with the last one set each process would compile all anew.
    unset = (
        "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH",
        "PYTHONDONTWRITEBYTECODE",
    )  # fmt: skip
    known = {name: value for name, value in os.environ.items() if name not in unset}
    source = str(Path(__file__).resolve().parents[1] / "src")
    compileall.compile_dir(source, quiet=2)
    yield known | {"RAY_TMPDIR": folder, "PYTHONPATH": source, "RAY_USAGE_STATS_ENABLED": "0"}
    end = time.monotonic() + 10
    while (left := processes(folder)) and time.monotonic() < end:
        time.sleep(0.1)
    if left:
        raise SystemExit(f"expected nothing left running, got {left}")
    shutil.rmtree(folder, ignore_errors=True)


def processes(folder: str) -> dict[int, str]:
    """pid -> command line of the processes whose Ray has this folder."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
            if words and b"RAY_TMPDIR=" + folder.encode() in (place / "environ").read_bytes():
                found[int(place.name)] = words.replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
    return found


def cpu_s(pids: dict[int, str]) -> float:
    """Processor time of living processes so far, with that of children that they waited for."""
    total = 0.0
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += sum(map(int, words[11:15])) * _TICK_S
    return total


def run(words: list[str], env: dict[str, str]) -> tuple[str, dict[str, float]]:
    """What a process prints; its seconds, by the wall and of processor time."""
    began = time.perf_counter()
    process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"expected success of {words}, got code {process.returncode}: {out}")
    seconds = time.perf_counter() - began
    return out, {"s": seconds, "cpu_s": usage.ru_utime + usage.ru_stime}


def least(found: list[dict[str, float]]) -> dict[str, float]:
    """The least of each measure."""
    return {name: round(min(one[name] for one in found), 3) for name in found[0]}


def verb(*words: object) -> list[str]:
    """A call of the command line."""
    return [sys.executable, "-m", "profile_actors", *map(str, words)]


def threads(folder: str) -> dict[tuple[str, bool], float]:
    """(process, whether Python's) -> seconds on a processor so far, of a store's and its Ray's.

    A thread is Python's if it kept the name of the process that began it; Ray names its own.
    """
    found: dict[tuple[str, bool], float] = {}
    for pid, words in processes(folder).items():
        name = words.split()[0].rsplit("/", 1)[-1]
        name = "keeper" if "--foreground" in words else name
        for task in Path(f"/proc/{pid}/task").glob("[0-9]*"):
            try:
                comm = (task / "comm").read_text()
                spent = int((task / "schedstat").read_text().split()[0]) * 1e-9
            except OSError:
                continue
            is_main = int(task.name) == pid
            is_ours = comm.startswith("ray::") and not is_main
            is_ours |= name == "keeper" and comm.startswith("python")
            key = f"{name} main" if is_main and name.startswith("ray::") else name
            found[key, is_ours] = found.get((key, is_ours), 0.0) + spent
    return found


def idle(folder: str, seconds: float) -> dict[tuple[str, bool], float]:
    """% of a core by (process, whether Python's thread) over so many seconds."""
    before, began = threads(folder), time.perf_counter()
    time.sleep(seconds)
    after, took = threads(folder), time.perf_counter() - began
    return {key: 100 * (spent - before.get(key, 0.0)) / took for key, spent in after.items()}


def bare(actors: int, object_store_mb: int, seconds: float) -> tuple[dict[str, float], float]:
    """An empty Ray's start, and % of a core that the main thread of an empty actor takes."""
    with own_ray() as env:
        began = time.perf_counter()
        words = [sys.executable, "-c", BARE, str(actors), str(object_store_mb)]
        with subprocess.Popen(
            words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise SystemExit("expected an empty Ray")
            took = time.perf_counter() - began
            cpu = cpu_s(processes(env["RAY_TMPDIR"]))
            time.sleep(3)  # what a start still does afterwards
            spent = idle(env["RAY_TMPDIR"], seconds)
            process.communicate("end\n")
    main = sum(pct for (name, _), pct in spent.items() if name == "ray::BareActor main")
    return {"s": round(took, 3), "cpu_s": round(cpu, 3)}, main / actors


def attached(place: Path, env: dict[str, str], repeat: int) -> dict[str, dict[str, float]]:
    """The verb ``profile`` and ``pf.connect``, answers checked."""
    found: dict[str, list[dict[str, float]]] = {"profile": [], "connect": []}
    for _ in range(repeat):
        out, spent = run(verb("profile", NAMESPACE, USER, "--data", place, "--json"), env)
        told = json.loads(out)
        if told["computed"]["c_3"] != ROWS or "g_3" not in told["segments"]:
            raise SystemExit(f"expected {ROWS} purchases and g_3, got {told}")
        found["profile"].append(spent)
        out, _ = run([sys.executable, "-c", CONNECT, str(place)], env)
        wall, own, events = json.loads(out)
        if events != ROWS:
            raise SystemExit(f"expected {ROWS} events, got {events}")
        found["connect"].append({"s": wall, "cpu_s": own})
    return {name: least(every) for name, every in found.items()}


def without_a_store(env: dict[str, str], repeat: int) -> dict[str, dict[str, float]]:
    """``--help`` and ``eval``, answers checked; and what importing Ray takes."""
    found: dict[str, list[dict[str, float]]] = {"help": [], "eval": [], "import_ray": []}
    for _ in range(repeat):
        found["import_ray"].append(run([sys.executable, "-c", "import ray"], env)[1])
        out, spent = run(verb("--help"), env)
        if "profile-actors" not in out and "start" not in out:
            raise SystemExit(f"expected the verbs, got {out[:200]}")
        found["help"].append(spent)
        out, spent = run(verb("eval", "xEvent.count() = 0", "--json"), env)
        if json.loads(out)["value"] is not True:
            raise SystemExit(f"expected true, got {out}")
        found["eval"].append(spent)
    return {name: least(every) for name, every in found.items()}


def stopped(place: Path, env: dict[str, str]) -> dict[str, float]:
    """``stop`` of an idle store; the processor time is that of the store's processes."""
    folder = env["RAY_TMPDIR"]
    names = dict(processes(folder))
    before = cpu_s(names)
    began = time.perf_counter()
    last = before
    with subprocess.Popen(verb("stop", place), env=env, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            last = max(last, cpu_s(names))
            time.sleep(0.02)
        took = time.perf_counter() - began
        if process.returncode != 0:
            raise SystemExit(f"expected a store that stops, got code {process.returncode}")
    return {"s": round(took, 3), "cpu_s": round(last - before, 3)}


def main() -> None:
    """One JSON line; what is over its bar by the wall and by the processor is in ``missed``."""
    parser = options(__doc__, events=ROWS, profiles=1)
    parser.add_argument("--repeat", type=int, default=5, help="calls of each short process")
    parser.add_argument("--seconds", type=float, default=20.0, help="of an idle store")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    place, declared = args.out / "processes-store", args.out / "processes-definitions.json"
    shutil.rmtree(place, ignore_errors=True)
    save_definitions(declared)
    from profile_actors import Config

    empty, bare_main = bare(args.partitions + 1, Config().object_store_mb, args.seconds)
    note(f"  a Ray with empty actors: {empty}")
    with own_ray() as env:
        folder = env["RAY_TMPDIR"]
        _, spent = run(verb("start", place, "--partitions", args.partitions), env)
        found = {"start": {"s": round(spent["s"], 3), "cpu_s": 0.0}}
        found["start"]["cpu_s"] = round(spent["cpu_s"] + cpu_s(processes(folder)), 3)
        note(f"  start: {found['start']}")
        try:
            rows = [purchase(USER, number, 1_000_000 + number) for number in range(ROWS)]
            run([sys.executable, "-c", FILL, str(place), str(declared), json.dumps(rows)], env)
            found |= attached(place, env, args.repeat) | without_a_store(env, args.repeat)
            time.sleep(3)
            resting = idle(folder, args.seconds)
        finally:
            found["stop"] = stopped(place, env)
    shutil.rmtree(place, ignore_errors=True)
    report(args, load, empty, bare_main, found, resting)


def report(
    args: Any,
    load: float,
    empty: dict[str, float],
    bare_main: float,
    found: dict[str, dict[str, float]],
    resting: dict[tuple[str, bool], float],
) -> None:
    """Print the line."""
    of: dict[str, float] = {}
    for (name, _), pct in resting.items():
        short = name.removeprefix("ray::").removesuffix(" main")
        of[short] = of.get(short, 0.0) + pct
    mains = sum(pct for (name, _), pct in resting.items() if name.endswith(" main"))
    beyond = max(0.0, mains - bare_main * (args.partitions + 1))
    threads_pct = sum(pct for (_, is_ours), pct in resting.items() if is_ours)
    shares = {"idle_pct": sum(of.values()), "ours_pct": threads_pct}
    missed = [name for name, one in found.items() if min(one.values()) > BARS.get(name, 1e9)]
    missed += [name for name, pct in shares.items() if pct > BARS[name]]
    say(
        "processes", partitions=args.partitions, load=round(load, 1),
        seconds=args.seconds, **found, bare=empty,
        start_beyond_bare_cpu_s=round(found["start"]["cpu_s"] - empty["cpu_s"], 3),
        **{name: round(pct, 3) for name, pct in shares.items()},
        of={name: round(pct, 3) for name, pct in sorted(of.items())},
        main_threads_pct=round(mains, 3),
        bare_main_threads_pct=round(bare_main * (args.partitions + 1), 3),
        beyond_pct=round(beyond, 3), bars=BARS, missed=missed,
    )  # fmt: skip


if __name__ == "__main__":
    main()
