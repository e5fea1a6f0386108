"""The process that a crash test kills: it appends, and compacts what it has, as fast as it can.

Arguments: directory, epoch. It writes ``<n>`` after each entry that is durable, and ``compacted``
after each log segment, unbuffered.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from profile_actors.storage.compaction.compacting import compact, due
from profile_actors.storage.scrub.mendable_log import MendableLog
from tests.unit.storage.compaction.test_compacting import CONFIG, entry


def main() -> None:
    log = MendableLog(Path(sys.argv[1]), CONFIG, epoch=int(sys.argv[2]))

    def work() -> None:
        while True:
            entries = due(log, log.head(), 1 << 20)
            if entries:
                compact(log, entries, CONFIG.log_map_bytes, lambda: True)
                os.write(1, b"compacted\n")

    threading.Thread(target=work, daemon=True).start()
    while True:
        position = log.head()
        log.append_at(position, (entry(position),), log.epoch)
        os.write(1, b"%d\n" % position)


if __name__ == "__main__":
    main()
