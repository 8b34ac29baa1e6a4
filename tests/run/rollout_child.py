"""A separate process over shipped rules that kills itself at a named step.

Usage: rollout_child.py HOME STEP NTH

The first run fills the log and ships, each later one ships once more before it begins. It runs the detecting stages to
the end of the log, ships between batches, and writes all signals to HOME/signals.ndjson.
"""

import os
import signal
import sys
from pathlib import Path

import msgspec

from vedette.core.clock import DAY, MICROS, SystemClock, to_iso
from vedette.core.db import open_database
from vedette.core.log import SqliteLog
from vedette.judge.shipments import Document, Shipments, Shipped
from vedette.judge.sigma.card import Cards
from vedette.run.metrics import Meters
from vedette.run.pipeline import detecting as module
from vedette.run.pipeline import rollout as rollout_module
from vedette.run.pipeline.rollout import Rollout
from vedette.run.pipeline.stream import advance
from vedette.sense.sources import load_sources

NAME = "6b2f4d8e-3c5e-4f7a-9b0c-1d2e3f4a5b6c"
START = 20_500 * DAY


def document(number):
    text = (
        f"title: Version {number}\nid: {NAME}\nlogsource: {{product: okta, service: okta}}\n"
        "detection: {failed: {outcome.result: FAILURE}, condition: failed}\n"
    )
    return Document(ids=(NAME,), title="Failed", files=(Shipped("r.yml", text.encode()),))


def fill(log):
    source = load_sources()["identity"]
    for number in range(120):
        data = {
            "uuid": f"u{number}",
            "published": to_iso(START + number * MICROS),
            "actor": {"alternateId": "a"},
            "outcome": {"result": "FAILURE"},
        }
        event = source.to_event(data, tenant="default", stream="s", offset=number, ingest_time=START + DAY)
        log.append("event", "default", [msgspec.json.encode(event)])


class Killer:
    def __init__(self, step, nth):
        self.step, self.left = step, nth

    def reached(self, step):
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def around(owner, name, killer, step):
    original = getattr(owner, name)

    def wrapped(self, *args, **kwargs):
        killer.reached(f"{step}.before")
        result = original(self, *args, **kwargs)
        killer.reached(f"{step}.after")
        return result

    setattr(owner, name, wrapped)


def run(home, log, shipments, killer):
    module.BATCH, rollout_module.LOOK_S = 30, 0.0
    around(SqliteLog, "append", killer, "signal")
    around(SqliteLog, "commit", killer, "place")
    around(Shipments, "apply", killer, "applied")
    sources = load_sources()
    rollout = Rollout(None, shipments, SystemClock(), sources, Cards())
    if os.environ.get("PLANT") == "newest_at_start":
        Rollout.applied = Rollout.next
    stages = module.detecting(log, rollout, Meters(), shipments._database)
    number = shipments.newest()
    while sum(advance(log, stages, Meters()).values()):
        number += 1
        if number < 4:
            shipments.ship(document(number), percent=100, operator="per_1")
    signals = log.read("signal", 0, 0, 10_000)
    (home / "signals.ndjson").write_bytes(b"\n".join(one.value for one in signals))


def main(home, step, nth):
    home = Path(home)
    home.mkdir(exist_ok=True)
    state = open_database(home / "state.db")
    shipments = Shipments(state, SystemClock())
    with SqliteLog(home / "log", SystemClock()) as log:
        shipments.ship(document(100 * (1 + shipments.newest())), percent=100, operator="per_1")
        if not log.end("event", 0):
            fill(log)
        run(home, log, shipments, Killer(step, int(nth)))
    state.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
