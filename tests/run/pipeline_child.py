"""A separate process that runs files or pushes through the pipeline and kills itself at a named step.

Usage: pipeline_child.py HOME STEP NTH FILE...

STEP is one of `STEPS`, NTH the time it is reached at which the process dies (0: never). A step is the moment just before
or just after something becomes durable. With PLANT set in the environment a known mistake is built in.
"""

import os
import signal
import sys
from pathlib import Path

from vedette.act.alerts import Alerts
from vedette.core.clock import SystemClock
from vedette.core.content import shipped
from vedette.core.log import SqliteLog
from vedette.core.projection import Projection
from vedette.core.settings import load_settings
from vedette.prove.evidence.collect import Collector
from vedette.prove.evidence.store import Evidence
from vedette.run.files import Files
from vedette.run.pipeline import intake as intake_module
from vedette.run.pipeline.detection import load_detection
from vedette.run.pipeline.intake import Intake
from vedette.run.platform import Platform
from vedette.sense.quarantine import Quarantine
from vedette.sense.sightings import Sightings
from vedette.sense.tables import Table

STEPS = (
    "quarantine.before",
    "quarantine.after",
    "intake.append.before",
    "intake.append.after",
    "intake.cursor.after",
    "store.commit.before",
    "store.commit.after",
    "store.place.after",
    "signal.append.before",
    "signal.append.after",
    "detect.place.after",
    "alerts.before_commit",
    "alerts.after",
    "evidence.before_commit",
    "evidence.after",
    "checkpoint.after",
    "index.before_commit",
    "index.after",
)


BATCH = 90
"""Records that detection takes at once."""


class Killer:
    """Counts how often a step is reached and kills this process, for real, at the wanted time."""

    def __init__(self, step: str, nth: int) -> None:
        self.step, self.left = step, nth

    def reached(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def around(owner, name, killer, before="", after=""):
    """Marks the moments before and after a method; a name may depend on the call."""
    original = getattr(owner, name)

    def wrapped(self, *args, **kwargs):
        killer.reached(before(self, *args) if callable(before) else before)
        result = original(self, *args, **kwargs)
        killer.reached(after(self, *args) if callable(after) else after)
        return result

    setattr(owner, name, wrapped)


def probe(killer):
    """Puts the probes in. Names of steps follow what is appended, stored or committed."""

    def on_append(when):
        names = {"event": f"intake.append.{when}", "signal": f"signal.append.{when}"}
        return lambda _log, topic, *_rest: names.get(topic, "")

    def on_table(when):
        return lambda table, *_rest: "" if table.folder.name == "quarantine" else f"store.commit.{when}"

    around(Quarantine, "append", killer, "quarantine.before", "quarantine.after")
    around(SqliteLog, "append", killer, on_append("before"), on_append("after"))
    around(Intake, "_move", killer, "", "intake.cursor.after")
    around(Table, "append", killer, on_table("before"), on_table("after"))
    around(SqliteLog, "commit", killer, "", lambda _log, group, *_rest: f"{group}.place.after")
    around(Alerts, "_apply", killer, "", "alerts.before_commit")
    around(Alerts, "consume", killer, "", "alerts.after")
    around(Sightings, "_apply", killer, "", "index.before_commit")
    around(Sightings, "consume", killer, "", "index.after")
    around(Evidence, "checkpoint", killer, "", "checkpoint.after")
    around(Collector, "_partition", killer, "", "evidence.after")
    moved = sys.modules["vedette.prove.evidence.collect"]
    original = moved._move_cursor

    def move(connection, *place):
        original(connection, *place)
        killer.reached("evidence.before_commit")

    moved._move_cursor = move


def plant(mistake):
    """Builds in a known mistake: the test has to notice."""
    if mistake == "cursor_first":
        append = Intake.append

        def cursor_first(self, source, events):
            stream, last = intake_module.place_of(events[-1])
            part = self._log.partition_of("event", self._key)
            self._move(stream, last + 1, self._log.end("event", part))
            return append(self, source, events)

        Intake.append = cursor_first
    elif mistake == "no_resume":
        Intake._resume = lambda _self, _stream: 0
    elif mistake == "no_mark":
        Table.holds = lambda _self, _mark: False
        sys.modules["vedette.run.pipeline.storing"]._after = lambda _store, _name, events, _mark: events
        sys.modules["vedette.sense.store"]._fresh = lambda _table, events: list(events)
    elif mistake == "place_first":
        stream = sys.modules["vedette.run.pipeline.detecting"]._Stream
        whole = stream._partition

        def place_first(self, name, topic, read, part):
            records = self._log.read(topic, part, self._log.committed("detect", topic, part), BATCH)
            if records:
                self._log.commit("detect", topic, part, records[-1].offset + 1)
                back = self._log.committed
                # The rest of the turn sees the place as it was; only what is durable has moved too early.
                self._log.committed = lambda *_place: records[0].offset
                try:
                    return whole(self, name, topic, read, part)
                finally:
                    self._log.committed = back
            return 0

        stream._partition = place_first
    elif mistake == "index_place_first":

        def take(self, component, shard, records, apply):
            with self.write() as connection:
                connection.execute(
                    "insert or replace into place values (?, ?, ?)", (component, shard, records[-1].offset + 1)
                )
            with self.write() as connection:
                apply(connection, shard, records)
            return len(records)

        Projection._take = take


def main(home, step, nth, *paths):
    # Small batches, so that every step is reached several times.
    for name, size in (("run.pipeline.storing", 150), ("run.pipeline.detecting", BATCH), ("act.alerts", 25)):
        sys.modules[f"vedette.{name}"].BATCH = size
    sys.modules["vedette.sense.ingest"].BATCH_RECORDS = 120
    Alerts.consume.__kwdefaults__["limit"] = 25
    Sightings.consume.__kwdefaults__["limit"] = 110
    plant(os.environ.get("PLANT", ""))
    probe(Killer(step, int(nth)))
    settings = load_settings(None, {"VEDETTE_HOME": home})
    detection = load_detection([shipped("rules/sigma")], cache=Path(home).parent / "cache")
    platform = Platform(settings, clock=SystemClock(), detection=detection)
    files = Files(platform, settings.tenant, [Path(path) for path in paths])
    files.look()
    files.settle()
    platform.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
