"""SIGKILL beside a compaction: every entry that was durable is there, in one form or the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from profile_actors.storage.files.manifest import GROUPED
from profile_actors.storage.scrub.mendable_log import MendableLog
from tests.memory import scratch
from tests.unit.storage.compaction.test_compacting import CONFIG, compacted, is_whole

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}
ROUNDS = 4


def test_a_process_that_is_killed_while_it_compacts_loses_nothing() -> None:
    with scratch() as directory:
        for number in range(ROUNDS):
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.compaction_child", directory, str(2 * number)],
                stdout=subprocess.PIPE, bufsize=0, cwd=ROOT, env=ENVIRONMENT,
            )  # fmt: skip
            assert child.stdout is not None
            durable, segments = -1, 0
            while segments < 2 or durable % 7 != number:  # so many that both are under way
                line = child.stdout.readline().decode()
                assert line, "it ended by itself"
                if line == "compacted\n":
                    segments += 1
                else:
                    durable = int(line)
            child.kill()
            said = child.communicate(timeout=120)[0].decode().split()
            assert child.returncode == -signal.SIGKILL
            durable = max([durable, *(int(one) for one in said if one.isdigit())])
            log = MendableLog(Path(directory), CONFIG, epoch=2 * number + 1)
            assert log.head() > durable
            assert is_whole(log, log.head())
            assert any(one.format == GROUPED for one in log.listed)
            assert len(list(log.directory.iterdir())) == len(log.listed) + 1
            log.close()
        log = MendableLog(Path(directory), CONFIG, epoch=99)
        compacted(log)
        assert is_whole(log, log.head())
        log.close()
