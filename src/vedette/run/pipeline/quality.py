"""The stage that watches the quality of data: what each source does as a rule, and an alert for what is not so.

Profiles are rows of `index.db`, and move with the stage's place in one transaction. Signals go to the log before it: a
kill in between reads the batch again and gives the same signals with the same ids, which alerts count once. Silence is
told by the clock, when there is nothing left to read. A time in which the stage itself did not run is no silence of
anyone. A profile made again from the log is the same; silences that were told are told again with their old ids, never
with new ones.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vedette.core.clock import MICROS, Clock, to_iso
from vedette.core.event import Entity
from vedette.core.log import Log, Record
from vedette.core.projection import Projection
from vedette.core.signal import Level, Signal
from vedette.judge.depends import Depends
from vedette.judge.sigma.load import RuleSet
from vedette.sense.paths import Reader, compile_path
from vedette.sense.quality.profile import MAX_FIELDS, Arrival, Kind, Problem, Profile
from vedette.sense.sources import Source

NAME = "quality"
TOPIC = "event"
SIGNALS = "signal"
VERSION = 1
BATCH = 5_000
"""Records of the log taken in one transaction."""
AWAY = 600 * MICROS
"""A stage that had no turn for so long was not running."""
NAMED = 10
"""Most rules that a signal names."""
RULE = "quality."
"""Prefix of the ids of these alerts: `quality.silent`, `quality.skewed`, `quality.type`, `quality.dropped`."""

_LEVELS = {Kind.SILENT: Level.HIGH, Kind.SKEWED: Level.MEDIUM, Kind.TYPE: Level.MEDIUM, Kind.DROPPED: Level.HIGH}
_TITLES = {
    Kind.SILENT: "Nothing comes from {source}",
    Kind.SKEWED: "The clock of {source} is wrong",
    Kind.TYPE: "A field of {source} changed its type",
    Kind.DROPPED: "A field of {source} is gone",
}
_SCHEMA = """
create table if not exists quality_profile (
  tenant text not null, source text not null, body blob not null, problems blob not null,
  first integer not null, last integer not null, records integer not null, primary key (tenant, source)
) strict
"""


class _Envelope(msgspec.Struct):
    """An event whose data is decoded only when it is looked at."""

    tenant: str
    source: str
    event_time: int
    ingest_time: int
    data: msgspec.Raw = msgspec.Raw(b"{}")


class Arrivals(msgspec.Struct, frozen=True):
    """What came of a source. Ingest times, microseconds UTC."""

    first: int
    last: int
    records: int


_envelope = msgspec.json.Decoder(_Envelope).decode
_data = msgspec.json.Decoder(dict[str, Any]).decode
_profile = msgspec.json.Decoder(Profile).decode
_problems = msgspec.json.Decoder(tuple[Problem, ...]).decode
_encode = msgspec.json.Encoder().encode


class Quality:
    """Profiles of all sources. Reads from any thread; one process at a time should follow the log.

    Args:
        projection: The file.
        clock: Tells silence.
        sources: The known sources; others are not watched.
        rules: Whose fields are watched; and named in alerts, when they rest on what is wrong.
    """

    def __init__(
        self, projection: Projection, clock: Clock, sources: Mapping[str, Source], rules: RuleSet | None = None
    ) -> None:
        self._projection = projection
        self._clock = clock
        self._sources = sources
        self._depends = Depends(rules or RuleSet(()), sources)
        self._fields = {name: _watched(source, self._depends) for name, source in sources.items()}
        self._since = self._turn = clock.now()
        projection.prepare(NAME, VERSION, _SCHEMA)

    # Following the log

    def consume(self, log: Log, *, limit: int = BATCH) -> int:
        """Takes what is new in the log, or listens when nothing is; gives how many records that was."""
        if self._projection.ahead(NAME, log, TOPIC):
            self._projection.restart(NAME, VERSION, _SCHEMA)
        now = self._clock.now()
        if now - self._turn > AWAY:
            self._since = now
        self._turn = now

        def apply(connection: sqlite3.Connection, _shard: int, records: Sequence[Record]) -> None:
            self._apply(connection, log, records)

        taken = self._projection.follow(NAME, log, TOPIC, limit, apply)
        if not taken:
            self._listen(log, now)
        return taken

    def place(self, partition: int) -> int:
        """Offset of the next record to take from a partition of the log."""
        return self._projection.place(NAME, partition)

    def _apply(self, connection: sqlite3.Connection, log: Log, records: Sequence[Record]) -> None:
        arrived: dict[tuple[str, str], list[Arrival]] = {}
        for record in records:
            try:
                event = _envelope(record.value)
            except msgspec.MsgspecError:
                continue  # told and counted by the stage that stores events
            if event.source in self._sources:
                arrived.setdefault((event.tenant, event.source), []).append(
                    (event.ingest_time, event.event_time, event.data)
                )
        found: dict[str, list[Signal]] = {}
        for (tenant, source), arrivals in arrived.items():
            profile, fields = _load(connection, tenant, source), self._fields[source]
            profile.forget(fields)
            for problem in profile.take(arrivals, _data, fields):
                found.setdefault(tenant, []).append(self._signal(tenant, problem))
            _save(connection, tenant, profile)
        _tell(log, found)

    def _listen(self, log: Log, now: int) -> None:
        """Tells the sources that are quiet for too long."""
        found: dict[str, list[Signal]] = {}
        with self._projection.read() as connection:
            rows = connection.execute("select tenant, source, last from quality_profile").fetchall()
        for tenant, source, last in rows:
            stated = self._stated(source)
            if now - max(last, self._since) <= (stated or 0) or source not in self._sources:
                continue
            with self._projection.read() as connection:
                profile = _load(connection, tenant, source)
            problem = profile.quiet(now, since=self._since, stated=stated)
            if problem:
                found.setdefault(tenant, []).append(self._signal(tenant, problem))
                with self._projection.write() as connection:
                    if _load(connection, tenant, source).rhythm.last == profile.rhythm.last:
                        _save(connection, tenant, profile)
                        _tell(log, found)
                found.clear()

    def _stated(self, source: str) -> int:
        return self._sources[source].definition.quiet_s * MICROS if source in self._sources else 0

    # What is known

    def problems(self, tenant: str) -> list[Problem]:
        """What goes on being wrong, the newest first."""
        with self._projection.read() as connection:
            rows = connection.execute("select problems from quality_profile where tenant = ?", (tenant,)).fetchall()
        return sorted((one for (body,) in rows for one in _problems(body)), key=lambda one: (-one.told, one))

    def arrivals(self, tenant: str) -> dict[str, Arrivals]:
        """Source -> what came of it."""
        query = "select source, first, last, records from quality_profile where tenant = ?"
        with self._projection.read() as connection:
            rows = connection.execute(query, (tenant,)).fetchall()
        return {source: Arrivals(first, last, records) for source, first, last, records in rows}

    def degraded(self, tenant: str) -> dict[str, tuple[Problem, ...]]:
        """Rule id -> what is wrong with what it rests on."""
        found: dict[str, list[Problem]] = {}
        for problem in self.problems(tenant):
            for rule_id in self._depends.on(problem.source, problem.field):
                found.setdefault(rule_id, []).append(problem)
        return {rule_id: tuple(problems) for rule_id, problems in found.items()}

    def _signal(self, tenant: str, problem: Problem) -> Signal:
        rules = self._depends.on(problem.source, problem.field)
        parts = [tenant, problem.kind, problem.source, problem.field, problem.since]
        why: dict[str, Any] = {"found": problem.said, "since": to_iso(problem.since)}
        if problem.field:
            why["field"] = problem.field
        return Signal(
            id=hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32],
            tenant=tenant,
            rule_id=RULE + problem.kind,
            rule_version=str(VERSION),
            title=_TITLES[problem.kind].format(source=problem.source),
            level=_LEVELS[problem.kind],
            event_id=f"{problem.source}@{problem.since}",
            event_time=problem.told,
            source=problem.source,
            entities=(Entity("source", problem.source),),
            why={**why, "rules": len(rules), **({"degraded": list(rules[:NAMED])} if rules else {})},
        )


def _watched(source: Source, depends: Depends) -> dict[str, Reader]:
    """The fields of a source that something rests on: its own first, then those of most rules."""
    definition = source.definition
    own = (definition.id, *definition.time, *(path for paths in definition.entities.values() for path in paths))
    names = dict.fromkeys(name for name in (*own, *definition.promote, *depends.fields(source.name)) if name)
    return {name: compile_path(name) for name in list(names)[:MAX_FIELDS]}


def _load(connection: sqlite3.Connection, tenant: str, source: str) -> Profile:
    query = "select body from quality_profile where tenant = ? and source = ?"
    row = connection.execute(query, (tenant, source)).fetchone()
    return _profile(row[0]) if row else Profile(source)


def _save(connection: sqlite3.Connection, tenant: str, profile: Profile) -> None:
    problems = tuple(sorted(profile.problems.values()))
    rhythm = profile.rhythm
    row = (tenant, profile.source, _encode(profile), _encode(problems), rhythm.first, rhythm.last, profile.records)
    connection.execute("insert or replace into quality_profile values (?, ?, ?, ?, ?, ?, ?)", row)


def _tell(log: Log, found: Mapping[str, Sequence[Signal]]) -> None:
    for tenant, signals in found.items():
        log.append(SIGNALS, tenant, [_encode(signal) for signal in signals])
