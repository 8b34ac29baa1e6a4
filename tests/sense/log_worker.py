"""Copies numbered batches into the store under a mark, as a consumer of the log does, until it is killed or done."""

from __future__ import annotations

import sys
from pathlib import Path

from vedette.core.event import Event
from vedette.sense.sources import load_sources
from vedette.sense.store import Store
from vedette.sense.tables import Mark

BATCHES, SIZE, TIME = 40, 25, 1_700_000_000_000_000


def batch(number: int) -> list[Event]:
    """Events with equal ids in all batches of equal parity, so only the mark tells replays apart from repeats."""
    return [
        Event(
            id=f"{number}-{n}",
            tenant="acme",
            source="product",
            event_time=TIME + number,
            ingest_time=TIME,
            data={"n": n},
        )
        for n in range(SIZE)
    ]


if __name__ == "__main__":
    store = Store(Path(sys.argv[1]))
    source = load_sources()["product"]
    print("ready", flush=True)
    for number in range(BATCHES):
        store.append(source, batch(number), mark=Mark("store/event/0", (number + 1) * SIZE))
    print("done", flush=True)
