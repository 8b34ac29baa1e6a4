"""A region's process: does what is placed with it, once for each key, and says so. Keys in, answers out, a line each."""

import select
import sys
import time
from pathlib import Path

from vedette.core.clock import SystemClock
from vedette.core.db import open_database, sa
from vedette.core.errors import ConflictError, TransientError
from vedette.move.dedup import SqlDedup
from vedette.move.routing import Placements, Router

name, path, lease_s, regions = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
db, clock = open_database(path), SystemClock()
places, dedup = Placements(db, clock, Router(regions), lease_s=lease_s), SqlDedup(db, clock)
row, last = sa.text("insert into effect values (:key, :node)"), 0.0


def serve(key):
    try:
        placed = places.place(key)
        if placed.node != name:
            return "elsewhere"
        with db.begin() as connection:
            places.fence(connection, placed)
            if dedup.mark(connection, key):
                connection.execute(row, {"key": key, "node": name})
    except (TransientError, ConflictError):
        return "again"
    return "done"


print("ready", flush=True)
while True:
    if time.monotonic() - last > lease_s / 4:
        places.beat(name)
        last = time.monotonic()
    if select.select([sys.stdin], [], [], lease_s / 8)[0]:
        key = sys.stdin.readline().strip()
        if not key:
            break
        print(key, serve(key), flush=True)
