"""The filter for effects that must happen exactly once: the mark commits with the effect, or neither does."""

from __future__ import annotations

from typing import Final

from vedette.core.clock import MICROS, Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.move.dedup.port import WINDOW_S, Effect, check

SWEEP: Final = 5_000

_METADATA = sa.MetaData()
_marks = sa.Table(
    "dedup_mark",
    _METADATA,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("marked", LONG, nullable=False, index=True),
    sqlite_strict=True,
)
_MIGRATIONS = (Migration(1, "marks of what was seen", create(_METADATA)),)


class SqlDedup:
    """Marks in the effect's own database, SQLite or PostgreSQL.

    Its size is the ids of one window, once `sweep` runs now and then.

    Args:
        db: The database of the effects; migrated here.
        clock: For the window.
        scope: Whose ids these are, such as a tenant and a sender: the same id of two senders is two events.
        window_s: How long an id is known.
    """

    def __init__(self, db: Database, clock: Clock, *, scope: str = "", window_s: float = WINDOW_S) -> None:
        self._db = db
        self._clock = clock
        self._scope = scope
        self._window = round(window_s * MICROS)
        db.migrate("dedup", _MIGRATIONS)

    def mark(self, connection: Connection, id_: str) -> bool:
        """Marks the id in the caller's transaction; false when it was marked before, within the window.

        A second transaction waits for the first to end. If that rolls back, so does its mark.

        Raises:
            DataError: `dedup.id.invalid`.
        """
        now = self._clock.now()
        if insert_new(connection, _marks, scope=self._scope, id=check(id_), marked=now):
            return True
        old = (_marks.c.scope == self._scope) & (_marks.c.id == id_) & (_marks.c.marked <= now - self._window)
        return bool(connection.execute(_marks.update().where(old).values(marked=now)).rowcount)

    def once(self, id_: str, effect: Effect) -> bool:
        """See `Dedup`. The effect gets the transaction of the mark; nothing else can make the two one step."""

        def work(connection: Connection) -> bool:
            fresh = self.mark(connection, id_)
            if fresh:
                effect(connection)
            return fresh

        return self._db.together(work)

    def admit(self, id_: str) -> bool:
        """See `Dedup`."""
        return self.once(id_, lambda _connection: None)

    def sweep(self) -> int:
        """Forgets marks whose window is over, a bounded number; answers how many."""
        old = _marks.c.marked <= self._clock.now() - self._window
        with self._db.begin(synced=False) as connection:
            found = sa.select(_marks.c.id).where(_marks.c.scope == self._scope, old).limit(SWEEP)
            ids = connection.execute(found.order_by(_marks.c.marked)).scalars().all()
            if ids:
                connection.execute(_marks.delete().where(_marks.c.scope == self._scope, _marks.c.id.in_(ids), old))
        return len(ids)
