"""What an action gave back, by its key: a call that comes again is answered from here, without a second request.

A kill between the effect and this record leaves the call to come again: then the other side tells the repeat, each in
the way its signature declares.
"""

from __future__ import annotations

import msgspec

from vedette.act.actions import ActionCall, ActionResult, Perform
from vedette.core.clock import Clock
from vedette.core.db import LONG, Database, Migration, create, insert_new, sa

_METADATA = sa.MetaData()
_DONE = sa.Table(
    "action_done",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("result", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "once", create(_METADATA)),)


class Once:
    """Results of actions.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Times of results.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        database.migrate("once", MIGRATIONS)

    def guard(self, name: str, perform: Perform) -> Perform:
        """The action, answered from the record when its key is known."""

        def guarded(call: ActionCall) -> ActionResult:
            here = (_DONE.c.tenant == call.tenant) & (_DONE.c.key == call.key) & (_DONE.c.action == name)
            with self._database.read() as connection:
                held = connection.execute(sa.select(_DONE.c.result).where(here)).scalar()
            if held is not None:
                return msgspec.json.decode(held, type=ActionResult)
            result = perform(call)
            row = {"action": name, "result": msgspec.json.encode(result).decode(), "time": self._clock.now()}
            with self._database.begin() as connection:
                insert_new(connection, _DONE, tenant=call.tenant, key=call.key, **row)
            return result

        return guarded
