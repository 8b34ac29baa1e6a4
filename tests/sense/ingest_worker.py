"""Ingests files in a process of its own, so that a test can kill it."""

from __future__ import annotations

import sys
from pathlib import Path

from vedette.core.clock import SystemClock
from vedette.sense import ingest
from vedette.sense.quarantine import Quarantine
from vedette.sense.sources import load_sources
from vedette.sense.store import Store

if __name__ == "__main__":
    home, batch, *files = sys.argv[1:]
    ingest.BATCH_RECORDS = int(batch)
    sources = load_sources()
    work = ingest.Ingest(Store(Path(home)), Quarantine(Path(home)), sources, tenant="acme", clock=SystemClock())
    print("ready", flush=True)
    work.run([Path(file) for file in files], source=sources["cloudtrail"])
    print("done", flush=True)
