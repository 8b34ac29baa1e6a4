"""The ledger of jobs, in state.db: which there are, their parts, and what is done."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from vedette.core.clock import Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import NotFoundError
from vedette.judge.sigma.history import Engine
from vedette.sense.history import Span

_METADATA = sa.MetaData()
_JOB = sa.Table(
    "job",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("created_time", LONG, nullable=False),
    sa.Column("finished_time", LONG, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Index("job_created", "created_time"),
    sqlite_strict=True,
)
_PART = sa.Table(
    "job_part",
    _METADATA,
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("start", LONG, nullable=False),
    sa.Column("end", LONG, nullable=False),
    sa.Column("done", LONG, nullable=False),
    sa.Column("events", LONG, nullable=False),
    sa.Column("signals", LONG, nullable=False),
    sa.Column("fresh", LONG, nullable=False),
    sa.Column("contributions", LONG, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "jobs", create(_METADATA)),)

CORRELATIONS = ""
"""Source of the part that judges correlations."""


_TOLD = ("events", "signals", "fresh", "contributions")


class State(StrEnum):
    """Where a job is."""

    OPEN = "open"
    """Parts are left: somebody works on it, or it was stopped and can be resumed."""
    DONE = "done"


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What a job does."""

    tenant: str
    rules: tuple[str, ...]
    """Folders, archives and files, absolute."""
    only: str = ""
    digest: str
    """Of the rules' versions and stages: with others it is another job."""
    change: int = 0
    """Number of the last change to shipped rules that it counts with."""
    start: int
    """Event time, microseconds UTC."""
    end: int
    sources: tuple[str, ...]
    engine: Engine = Engine.MATCHER
    cause: str = ""
    """Schedule that asked for it, and what it knew; empty when a person did."""

    @property
    def span(self) -> Span:
        """What is asked for."""
        return Span(self.start, self.end)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of a job."""

    number: int
    source: str
    """`CORRELATIONS` for the last one of a rule set with correlations."""
    start: int
    end: int
    done: int = 0
    """When it was finished, microseconds UTC; 0 before."""
    events: int = 0
    """Events that a rule fired on."""
    signals: int = 0
    """Signals of events in the job's span."""
    fresh: int = 0
    """Of them those that no alert had counted when the part was done."""
    contributions: int = 0
    """What it brought to correlations."""

    @property
    def span(self) -> Span:
        """Event time it reads."""
        return Span(self.start, self.end)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job with its progress."""

    id: str
    spec: Spec
    created_time: int
    finished_time: int
    parts: int
    parts_done: int
    events: int
    signals: int
    fresh: int

    @property
    def state(self) -> State:
        """Where it is."""
        return State.DONE if self.finished_time else State.OPEN


class Ledger:
    """Jobs in a database.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: For the times it notes.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        database.migrate("jobs", MIGRATIONS)

    def open(self, job_id: str, spec: Spec, parts: Sequence[Part]) -> bool:
        """Adds a job and its parts; false when it is there, and then nothing changes."""
        now = self._clock.now()
        row = {"id": job_id, "tenant": spec.tenant, "created_time": now, "finished_time": 0}
        with self._database.begin() as connection:
            if not insert_new(connection, _JOB, **row, spec=msgspec.json.encode(spec).decode()):
                return False
            _add(connection, job_id, parts)
            return True

    def parts(self, job_id: str) -> list[Part]:
        """A job's parts, in order."""
        where = sa.select(_PART).where(_PART.c.job == job_id).order_by(_PART.c.number)
        with self._database.read() as connection:
            return [_part(row) for row in connection.execute(where).mappings()]

    def finish(self, job_id: str, part: Part) -> None:
        """Notes what became of a part; of one that is done already, nothing changes."""
        told = {name: getattr(part, name) for name in _TOLD} | {"done": self._clock.now()}
        here = (_PART.c.job == job_id) & (_PART.c.number == part.number) & (_PART.c.done == 0)
        with self._database.begin() as connection:
            connection.execute(_PART.update().where(here).values(**told))

    def close(self, job_id: str) -> None:
        """Notes that a job is done."""
        here = (_JOB.c.id == job_id) & (_JOB.c.finished_time == 0)
        with self._database.begin() as connection:
            connection.execute(_JOB.update().where(here).values(finished_time=self._clock.now()))

    def reopen(self, job_id: str, parts: Sequence[Part]) -> None:
        """Gives a job the parts anew, none of them done."""
        with self._database.begin() as connection:
            connection.execute(_PART.delete().where(_PART.c.job == job_id))
            _add(connection, job_id, parts)
            connection.execute(_JOB.update().where(_JOB.c.id == job_id).values(finished_time=0))

    def job(self, job_id: str) -> Job:
        """A job by its id, or by the start of it that no other has.

        Raises:
            NotFoundError: `jobs.id.unknown`, `jobs.id.ambiguous`.
        """
        with self._database.read() as connection:
            found = list(_jobs(connection, _JOB.c.id.startswith(job_id, autoescape=True)))
        if len(found) > 1:
            raise NotFoundError("jobs.id.ambiguous", f"several jobs begin with `{job_id[:64]}`")
        if not found or not job_id:
            raise NotFoundError("jobs.id.unknown", "no such job", at=job_id[:64], hint="see `vedette jobs list`")
        return found[0]

    def jobs(self, tenant: str, limit: int) -> list[Job]:
        """A tenant's jobs, newest first."""
        with self._database.read() as connection:
            return list(_jobs(connection, _JOB.c.tenant == tenant, limit))


def _add(connection: Connection, job_id: str, parts: Sequence[Part]) -> None:
    if parts:
        connection.execute(_PART.insert(), [{"job": job_id, **msgspec.structs.asdict(part)} for part in parts])


def _jobs(connection: Connection, where: sa.ColumnElement[bool], limit: int = 2) -> list[Job]:
    sums = [sa.func.coalesce(sa.func.sum(_PART.c[name]), 0).label(name) for name in ("events", "signals", "fresh")]
    done = sa.func.coalesce(sa.func.sum(sa.case((_PART.c.done > 0, 1), else_=0)), 0).label("parts_done")
    counted = sa.select(_JOB, sa.func.count(_PART.c.number).label("parts"), done, *sums)
    query = (
        counted.outerjoin_from(_JOB, _PART, _PART.c.job == _JOB.c.id)
        .where(where)
        .group_by(_JOB.c.id)
        .order_by(_JOB.c.created_time.desc(), _JOB.c.id)
        .limit(limit)
    )
    return [
        Job(
            id=row.id,
            spec=msgspec.json.decode(row.spec, type=Spec),
            created_time=row.created_time,
            finished_time=row.finished_time,
            parts=row.parts,
            parts_done=int(row.parts_done),
            events=int(row.events),
            signals=int(row.signals),
            fresh=int(row.fresh),
        )
        for row in connection.execute(query)
    ]


def _part(row: sa.RowMapping) -> Part:
    return Part(**{name: row[name] for name in Part.__struct_fields__})
