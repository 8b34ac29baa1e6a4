"""Schedules: rules over each interval of event time once it is over, and again when events of it come late.

What was covered is kept with the number of events that each source held then. So three questions have exact answers:
which intervals are due, which were missed while nobody ran, and which hold more events than were judged. The number is
taken before the interval is judged: an event that arrives in between is judged now or found to be late, never neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from vedette.core.clock import Clock
from vedette.core.db import LONG, Database, Migration, create, sa
from vedette.core.errors import DefinitionError, NotFoundError
from vedette.judge.sigma.history import Engine
from vedette.run.jobs.ledger import Job, Spec
from vedette.run.jobs.running import Jobs
from vedette.run.pipeline.rollout import Edition
from vedette.run.rules.history import reach
from vedette.sense.history import Span, counts
from vedette.sense.store import Store

MAX_JOB = 24
"""Most intervals that one job covers."""
MAX_INTERVALS = 100_000
"""Most intervals of a schedule that are looked at."""

_METADATA = sa.MetaData()
_SCHEDULE = sa.Table(
    "schedule",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)
_COVERED = sa.Table(
    "schedule_covered",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("start", LONG, primary_key=True),
    sa.Column("held", sa.Text, nullable=False),
    sa.Column("job", sa.Text, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "schedules", create(_METADATA)),)

Held = Mapping[str, int]
"""Source -> events of an interval."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Rules, and how often they look at what has been stored."""

    tenant: str
    name: str
    rules: tuple[str, ...]
    only: str = ""
    every: int
    """Width of an interval, microseconds; intervals begin at its multiples."""
    lateness: int
    """For how long after its end an interval is looked at again, microseconds."""
    since: int
    """Event time from which on no interval may be missing, microseconds UTC."""
    engine: Engine = Engine.MATCHER


class Cause(StrEnum):
    """Why an interval is to be judged."""

    DUE = "due"
    """It has just ended."""
    MISSED = "missed"
    """It ended before the last one that was covered, or more than an interval ago."""
    LATE = "late"
    """It was covered, and holds more events now."""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """An interval to judge."""

    start: int
    end: int
    cause: Cause
    events: int
    """Events it holds now; of a late one, those that came since."""

    @property
    def span(self) -> Span:
        """The interval."""
        return Span(self.start, self.end)


class Schedules:
    """Schedules of one installation.

    Args:
        database: state.db, or its PostgreSQL schema.
        store: The event store.
        clock: Says which intervals are over.
    """

    def __init__(self, database: Database, store: Store, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        database.migrate("schedules", MIGRATIONS)

    def put(self, schedule: Schedule) -> None:
        """Adds a schedule, or replaces the one of its name; what was covered stays covered if the width is the same.

        Raises:
            DefinitionError: `jobs.schedule.invalid`.
        """
        if schedule.every <= 0 or schedule.lateness < 0 or not schedule.name.isidentifier():
            raise DefinitionError(
                "jobs.schedule.invalid", "a schedule has a plain name, a width above 0 and a lateness of 0 or more"
            )
        here = (_SCHEDULE.c.tenant == schedule.tenant) & (_SCHEDULE.c.name == schedule.name)
        with self._database.begin() as connection:
            body = connection.execute(sa.select(_SCHEDULE.c.body).where(here)).scalar()
            if body and _read(body).every != schedule.every:
                connection.execute(_COVERED.delete().where(_mine(schedule)))
            connection.execute(_SCHEDULE.delete().where(here))
            told = msgspec.json.encode(schedule).decode()
            connection.execute(_SCHEDULE.insert().values(tenant=schedule.tenant, name=schedule.name, body=told))

    def drop(self, tenant: str, name: str) -> None:
        """Forgets a schedule and what it covered.

        Raises:
            NotFoundError: `jobs.schedule.unknown`.
        """
        schedule = self.get(tenant, name)
        with self._database.begin() as connection:
            connection.execute(_COVERED.delete().where(_mine(schedule)))
            here = (_SCHEDULE.c.tenant == tenant) & (_SCHEDULE.c.name == name)
            connection.execute(_SCHEDULE.delete().where(here))

    def get(self, tenant: str, name: str) -> Schedule:
        """A schedule by its name.

        Raises:
            NotFoundError: `jobs.schedule.unknown`.
        """
        found = next((one for one in self.all(tenant) if one.name == name), None)
        if found is None:
            raise NotFoundError("jobs.schedule.unknown", "no such schedule", at=name[:64])
        return found

    def all(self, tenant: str) -> list[Schedule]:
        """A tenant's schedules, by name."""
        with self._database.read() as connection:
            query = sa.select(_SCHEDULE.c.body).where(_SCHEDULE.c.tenant == tenant).order_by(_SCHEDULE.c.name)
            return [_read(body) for body in connection.execute(query).scalars()]

    def gaps(self, schedule: Schedule, sources: Sequence[str], *, ahead: int = 0, deep: bool = False) -> list[Gap]:
        """The intervals to judge now, in order.

        Args:
            schedule: Whose.
            sources: Those that its rules read.
            ahead: An interval is over only so long after its end: correlations that wait need what follows it.
            deep: Look for late events in all intervals, not only in those still inside the lateness.
        """
        every, now = schedule.every, self._clock.now() - ahead
        first, last = schedule.since // every, now // every
        first = max(first, last - MAX_INTERVALS)
        covered = self._covered(schedule)
        horizon = first * every if deep else max(first * every, (now - schedule.lateness) // every * every)
        missing = [number * every for number in range(first, last) if number * every not in covered]
        oldest = min([horizon, *missing])
        held = self._held(schedule, sources, Span(oldest, last * every))
        found = []
        for start in range(oldest, last * every, every):
            here = held.get(start, {})
            before = covered.get(start)
            if before is None:
                cause = Cause.DUE if start + every > now - every else Cause.MISSED
                found.append(Gap(start=start, end=start + every, cause=cause, events=sum(here.values())))
            elif start >= horizon and (more := _more(before, here)):
                found.append(Gap(start=start, end=start + every, cause=Cause.LATE, events=more))
        return found

    def run(self, schedule: Schedule, jobs: Jobs) -> list[tuple[Job, list[Gap]]]:
        """Judges every gap of a schedule, oldest first; gives the jobs with what each covered.

        Killed at any moment, the next run goes on: a job that was begun is the same job, and an interval counts as
        covered only when its job is done. Intervals in a row are one job.
        """
        whole = Span(schedule.since, self._clock.now())
        base, edition = jobs.spec(
            schedule.rules, whole, tenant=schedule.tenant, only=schedule.only, engine=schedule.engine
        )
        gaps = self.gaps(schedule, base.sources, ahead=reach(*edition.sets).ahead)
        held = self._held(schedule, base.sources, Span(gaps[0].start, gaps[-1].end)) if gaps else {}
        done = []
        for some in _together(gaps):
            spec = _spec(base, schedule, some, held, edition)
            job, _ = jobs.run(spec, edition)
            self._cover(schedule, some, held, job.id)
            done.append((job, some))
        return done

    def _held(self, schedule: Schedule, sources: Sequence[str], span: Span) -> dict[int, dict[str, int]]:
        """Start of an interval -> events of each source."""
        found: dict[int, dict[str, int]] = {}
        for source in sources:
            for start, number in counts(self._store, schedule.tenant, source, span, schedule.every).items():
                found.setdefault(start, {})[source] = number
        return found

    def _covered(self, schedule: Schedule) -> dict[int, Held]:
        with self._database.read() as connection:
            query = sa.select(_COVERED.c.start, _COVERED.c.held).where(_mine(schedule))
            return {row.start: msgspec.json.decode(row.held) for row in connection.execute(query)}

    def _cover(self, schedule: Schedule, gaps: Sequence[Gap], held: Mapping[int, Held], job_id: str) -> None:
        key = {"tenant": schedule.tenant, "name": schedule.name, "job": job_id}
        starts = [gap.start for gap in gaps]
        with self._database.begin() as connection:
            connection.execute(_COVERED.delete().where(_mine(schedule) & _COVERED.c.start.in_(starts)))
            rows = [{**key, "start": start, "held": _told(held.get(start, {}))} for start in starts]
            connection.execute(_COVERED.insert(), rows)


def _spec(base: Spec, schedule: Schedule, gaps: Sequence[Gap], held: Mapping[int, Held], edition: Edition) -> Spec:
    """The job over some intervals in a row: the same one until an interval holds another number of events."""
    start, end = gaps[0].start, gaps[-1].end
    if any(gap.cause is Cause.LATE for gap in gaps):
        # A late event can change windows that end in intervals already covered.
        far = reach(*edition.sets)
        start, end = start - far.ahead, end + far.back
    known = [schedule.name, *(_told(held.get(gap.start, {})) for gap in gaps)]
    return msgspec.structs.replace(base, start=start, end=end, cause=" ".join(known))


def _together(gaps: Sequence[Gap]) -> list[list[Gap]]:
    """Gaps that follow each other, at most `MAX_JOB` of them at a time."""
    found: list[list[Gap]] = []
    for gap in gaps:
        if found and found[-1][-1].end == gap.start and len(found[-1]) < MAX_JOB:
            found[-1].append(gap)
        else:
            found.append([gap])
    return found


def _more(before: Held, now: Held) -> int:
    """How many events came since; events that are kept no more are no reason to judge anew."""
    return sum(max(0, number - before.get(source, 0)) for source, number in now.items())


def _mine(schedule: Schedule) -> sa.ColumnElement[bool]:
    return (_COVERED.c.tenant == schedule.tenant) & (_COVERED.c.name == schedule.name)


def _told(held: Held) -> str:
    return msgspec.json.encode(held, order="sorted").decode()


def _read(body: str) -> Schedule:
    return msgspec.json.decode(body, type=Schedule)
