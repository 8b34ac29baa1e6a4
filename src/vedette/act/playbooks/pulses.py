"""Until when each run must be heard from again: what no run outlives in silence.

Before each thing that takes time, a run writes what it is about to do and when that is over at the latest. One that
is not heard of by then is overdue: its process died and nobody resumed it, or a step hangs. It is told, not guessed.
"""

from __future__ import annotations

import msgspec

from vedette.core.clock import MICROS, Clock
from vedette.core.db import LONG, Database, Migration, create, insert_new, sa

GRACE_S = 60.0
"""How long after its moment a run counts as overdue: a restart and a busy machine are no alarm."""
MAX_LIST = 1_000

_METADATA = sa.MetaData()
_PULSE = sa.Table(
    "playbook_pulse",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("due", LONG, nullable=False),
    sa.Index("playbook_pulse_due", "due"),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "pulses", create(_METADATA)),)


class Overdue(msgspec.Struct, frozen=True):
    """A run that was not heard of in time."""

    tenant: str
    run_id: str
    branch: str
    """Empty: the run itself."""
    step: str
    """What it was about to do."""
    due: int
    """When it was to be heard of, microseconds UTC."""


class Pulses:
    """When each unfinished run is to be heard of.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Says what time it is.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        database.migrate("pulses", MIGRATIONS)

    def beat(self, tenant: str, run_id: str, branch: str, step: str, within_s: float) -> None:
        """A run is about to do something that takes at most so long."""
        row = {"step": step, "due": self._clock.now() + round(within_s * MICROS)}
        here = (_PULSE.c.tenant == tenant) & (_PULSE.c.run_id == run_id) & (_PULSE.c.branch == branch)
        with self._database.begin() as connection:
            if not connection.execute(_PULSE.update().where(here).values(**row)).rowcount:
                insert_new(connection, _PULSE, tenant=tenant, run_id=run_id, branch=branch, **row)

    def end(self, tenant: str, run_id: str, branch: str = "") -> None:
        """Nothing more is expected: of a branch, or of a run with all its branches."""
        here = (_PULSE.c.tenant == tenant) & (_PULSE.c.run_id == run_id)
        if branch:
            here &= _PULSE.c.branch == branch
        with self._database.begin() as connection:
            connection.execute(_PULSE.delete().where(here))

    def at(self, tenant: str, run_id: str) -> set[str]:
        """What a run and its branches are about to do, or do just now: names of steps."""
        here = (_PULSE.c.tenant == tenant) & (_PULSE.c.run_id == run_id)
        with self._database.read() as connection:
            return set(connection.execute(sa.select(_PULSE.c.step).where(here)).scalars())

    def overdue(self, *, tenant: str = "", grace_s: float = GRACE_S) -> list[Overdue]:
        """Those not heard of in time, the longest first; of every tenant when none is named."""
        query = _PULSE.select().where(_PULSE.c.due < self._clock.now() - round(grace_s * MICROS))
        if tenant:
            query = query.where(_PULSE.c.tenant == tenant)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_PULSE.c.due).limit(MAX_LIST))
            return [Overdue(row.tenant, row.run_id, row.branch, row.step, row.due) for row in rows]
