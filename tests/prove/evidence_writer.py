"""A real process that appends to the log and to the tree until it is killed; says on stdout what it was told is kept."""

from __future__ import annotations

import sys
from pathlib import Path

from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.log import SqliteLog
from vedette.prove.evidence import Collector, Entry, Evidence, FileAnchor
from vedette.prove.keys import KeyRing


def main(home: Path, run: int) -> None:
    clock = SystemClock()
    log = SqliteLog(home / "log", clock)
    signer = KeyRing(home / "keys", "evidence", "vedette.local/evidence").signer()
    evidence = Evidence(open_database(home / "state.db"), signer, FileAnchor(home / "anchor"), clock)
    collector = Collector(evidence, log, clock, topics=["decision"], settled=0)
    for turn in range(100_000):
        name = f"{run}.{turn}"
        log.append("decision", "k", [f'{{"tenant":"t","n":"{name}.{i}"}}'.encode() for i in range(7)])
        sys.stdout.write(f"log {name}\n")
        sys.stdout.flush()
        collector.collect(5)
        evidence.append([Entry(f"snapshot/{name}", "t", "snapshot", clock.now(), name.encode())])
        sys.stdout.write(f"tree {name}\n")
        sys.stdout.flush()
        if turn % 3 == 0:
            evidence.checkpoint()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
