"""A process that takes events through a filter until it is killed or done; each effect is a line or a row."""

import itertools
import os
import random
import sys
from pathlib import Path

from vedette.core.clock import SystemClock
from vedette.core.db import open_database, sa
from vedette.core.redis import Redis
from vedette.move.dedup import RedisDedup, SqlDedup, Window

kind, place, effects, count, seed = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
clock = SystemClock()
file = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
row = sa.text("insert into effect (id) values (:id)")

if kind == "sql":
    dedup = SqlDedup(open_database(Path(place)), clock)
elif kind == "redis":
    dedup = RedisDedup(Redis(place, timeout_s=240), lease_s=0.2)
else:
    dedup = Window(clock, journal=Path(place))


def effect(id_):
    if kind == "sql":
        return lambda connection: connection.execute(row, {"id": id_})
    return lambda _none: os.write(file, id_.encode() + b"\n")


print("ready", flush=True)
rng = random.Random(seed)
ids = [f"evt_{n}" for n in range(count)] * 2
rng.shuffle(ids)
for id_ in itertools.islice(itertools.cycle(ids), 4 * count):
    while True:
        try:
            dedup.once(id_, effect(id_))
            break
        except Exception as error:
            if getattr(error, "code", "") != "dedup.id.in_flight":
                raise
print("done", flush=True)
