"""How much a run may touch: counted in the database before each action, so that parallel branches share one count.

A thing counts once in a run, however often its step is tried. Two bounds hold: the playbook's own for one run, and the
installation's for all runs of a tenant within an hour, against a playbook that is started two hundred times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vedette.core.clock import MICROS, Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import PermanentError

DEFAULT = 20
"""Most things of a kind that one run touches when its playbook says nothing."""
HOURLY = 200
"""Most things of a kind that all runs of a tenant touch within an hour."""
MOST = 10_000
"""Largest cap that a playbook may set."""

_METADATA = sa.MetaData()
_TOUCHED = sa.Table(
    "playbook_touched",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("thing", sa.Text, primary_key=True),
    sa.Column("time", LONG, nullable=False),
    sa.Index("playbook_touched_kind", "tenant", "kind", "time"),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "caps", create(_METADATA)),)

Touched = Mapping[str, Sequence[str]]
"""Kind -> things."""


def check_cap(touched: Touched, caps: Mapping[str, int]) -> None:
    """Looks at one call by itself.

    Raises:
        PermanentError: `playbook.cap.exceeded`.
    """
    for kind, things in touched.items():
        _check(kind, len(things), caps.get(kind, DEFAULT), "one run")


class Caps:
    """What runs have touched.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Times of touches.
        hourly: Most things of a kind within an hour, for each tenant.
    """

    def __init__(self, database: Database, clock: Clock, *, hourly: int = HOURLY) -> None:
        self._database = database
        self._clock = clock
        self._hourly = hourly
        database.migrate("caps", MIGRATIONS)

    def take(self, tenant: str, run_id: str, touched: Touched, caps: Mapping[str, int]) -> None:
        """Counts what an action is about to touch; nothing is counted when it is too much.

        Raises:
            PermanentError: `playbook.cap.exceeded`.
        """
        if not any(touched.values()):
            return
        now = self._clock.now()
        with self._database.begin() as connection:
            if connection.dialect.name == "postgresql":
                # Branches that count at the same time would each not see the other; SQLite has one writer anyway.
                connection.execute(sa.text("select pg_advisory_xact_lock(hashtext(:name))"), {"name": f"caps {tenant}"})
            for kind, things in touched.items():
                for thing in things:
                    row = {"tenant": tenant, "run_id": run_id, "kind": kind, "thing": thing}
                    insert_new(connection, _TOUCHED, **row, time=now)
                mine = (_TOUCHED.c.tenant == tenant) & (_TOUCHED.c.kind == kind)
                _check(kind, _count(connection, mine & (_TOUCHED.c.run_id == run_id)), caps.get(kind, DEFAULT), "a run")
                recent = mine & (_TOUCHED.c.time > now - 3_600 * MICROS)
                _check(kind, _count(connection, recent), max(self._hourly, caps.get(kind, 0)), "an hour")

    def begun(self, tenant: str, run_id: str, touched: Touched) -> bool:
        """Whether a run has counted all these already: an action that a kill interrupted, and not a new one."""
        held = self.radius(tenant, run_id)
        return any(touched.values()) and all(set(things) <= set(held.get(kind, ())) for kind, things in touched.items())

    def radius(self, tenant: str, run_id: str) -> dict[str, list[str]]:
        """Kind -> what a run has touched so far."""
        here = (_TOUCHED.c.tenant == tenant) & (_TOUCHED.c.run_id == run_id)
        query = sa.select(_TOUCHED.c.kind, _TOUCHED.c.thing).where(here).order_by(_TOUCHED.c.kind, _TOUCHED.c.thing)
        found: dict[str, list[str]] = {}
        with self._database.read() as connection:
            for kind, thing in connection.execute(query):
                found.setdefault(kind, []).append(thing)
        return found


def _count(connection: Connection, where: sa.ColumnElement[bool]) -> int:
    return connection.execute(sa.select(sa.func.count(sa.distinct(_TOUCHED.c.thing))).where(where)).scalar_one()


def _check(kind: str, count: int, cap: int, span: str) -> None:
    if count > cap:
        raise PermanentError(
            "playbook.cap.exceeded",
            f"{count} of `{kind}` in {span}, at most {cap} are allowed",
            hint=f"a playbook that means it says so: `caps: {{{kind}: {count}}}`",
        )
