"""Whose turn it is to execute the runs of a database: one process at a time, and another when that one is gone.

On SQLite the turn is a lock on a file beside the database: the kernel gives it back when its process dies, and nobody
takes it from a living one.

On PostgreSQL it is a lease, a row that its holder renews. Who holds it is a random number, new at every turn, and that
number is the fence: every connection that records for the holder carries it as a shared advisory lock, taken before the
row was looked at. A successor first gets the same lock alone, which it can only when not one of these connections is
left, and then writes its own number. So nothing is recorded for a holder once another one begins: not by a process that
was stopped and woke up, and not through a connection that it opens afterwards, which finds the other number. A holder
that is dead has no connections, and is followed at once; one that hangs is waited for until its lease is over, and its
connections are then ended by the server.
"""

from __future__ import annotations

import fcntl
import logging
import secrets
import threading
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol

import sqlalchemy as sa

from vedette.core.clock import SystemClock
from vedette.core.errors import ConflictError
from vedette.core.execute.runs import SCHEMA, open_engine

LEASE_S = 15.0
"""How long a holder that says nothing keeps its turn, if its connections live."""
RENEW_S = 3.0
FENCE_S = 5.0
"""How long a successor waits for the connections of the holder before, once they are to end."""

_LOG = logging.getLogger("vedette.execute")
_PAUSE_S = 0.05
_OPTIONS = {"connect_timeout": 5, "tcp_user_timeout": 5_000, "keepalives_idle": 5, "keepalives_interval": 2}
"""A server that does not answer is given up before the lease is over."""

_MAKE = f"""\
create table if not exists {SCHEMA}.vedette_turn (
  name text primary key, holder bigint not null, until timestamptz not null, ready boolean not null default false)"""
_FIRST = f"insert into {SCHEMA}.vedette_turn values (:name, :holder, '-infinity') on conflict do nothing"
_LOOK = f"select holder, until < clock_timestamp() as over from {SCHEMA}.vedette_turn where name = :name"
_TAKE = f"""\
update {SCHEMA}.vedette_turn set holder = :mine, until = clock_timestamp() + make_interval(secs => :lease)
where name = :name and holder = :old"""
_READY = f"update {SCHEMA}.vedette_turn set ready = true where name = :name and holder = :mine"
_LEAVE = f"update {SCHEMA}.vedette_turn set until = '-infinity' where name = :name and holder = :mine"
_END = """\
select pg_terminate_backend(pid) from pg_locks
where locktype = 'advisory' and objsubid = 1 and granted and pid <> pg_backend_pid()
  and database = (select oid from pg_database where datname = current_database())
  and classid::bigint = :high and objid::bigint = :low"""


WALKING: ContextVar[bool] = ContextVar("vedette_walking", default=False)
"""Whether this thread walks a run."""


class ClosedError(BaseException):
    """The turn is over. No `Exception`, so that nothing on the way up takes it for the run's own failure."""


def refuse() -> NoReturn:
    """Says that the turn is over: a walk unwinds, and the library's own threads go on until they are stopped.

    Raises:
        ClosedError: To a walk.
        ConflictError: `execute.turn.over`, to anyone else.
    """
    if WALKING.get():
        raise ClosedError
    raise ConflictError("execute.turn.over", "this process does not execute the runs any more")


class Turn(Protocol):
    """The right to execute the runs of a database."""

    shared: bool
    """Whether processes that stand by may be given it."""

    def take(self) -> bool:
        """Takes it if it is free; whether it is ours now."""

    def keep(self) -> bool:
        """Called again and again while it is ours; False once it is not."""

    def open(self) -> sa.Engine:
        """Connections that record for this turn, and no longer."""

    def prepare(self) -> None:
        """Says that the tables of runs are there."""

    def prepared(self) -> bool:
        """Whether the tables of runs are there."""

    def leave(self) -> None:
        """Gives it back."""


class FileTurn:
    """A lock on a file beside a SQLite database. It also keeps a second server out of the same home."""

    shared = False

    def __init__(self, target: Path) -> None:
        self._target = target
        self._lock: IO[str] | None = None

    def take(self) -> bool:
        """See `Turn`."""
        lock = Path(f"{self._target}.lock").open("a")  # noqa: SIM115 - held until the turn is given back
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True

    def keep(self) -> bool:
        """See `Turn`."""
        return True

    def open(self) -> sa.Engine:
        """See `Turn`."""
        return open_engine(self._target)

    def prepare(self) -> None:
        """See `Turn`."""

    def prepared(self) -> bool:
        """See `Turn`."""
        return self._target.is_file()

    def leave(self) -> None:
        """See `Turn`."""
        if self._lock:
            self._lock.close()
            self._lock = None


class LeaseTurn:
    """A lease in PostgreSQL with a number that fences its holder's connections.

    Args:
        url: The database.
        name: Of the turn; one at a time for each name.
    """

    shared = True

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._clock = SystemClock()
        self._engine = open_engine(url, pool=2, **_OPTIONS)
        self._held: sa.Connection | None = None
        """Says by its life that we live: the fence that a holder always has."""
        self._holder = 0
        self._renewed = 0.0
        self._made = False

    def take(self) -> bool:
        """See `Turn`; False, too, while the server cannot be reached."""
        if not self._made:
            self._make()
        try:
            return self._take()
        except sa.exc.DBAPIError as error:
            _LOG.warning("the turn to execute runs cannot be asked for: %s", type(error.orig).__name__)
            self._drop()
            return False

    def _make(self) -> None:
        with self._engine.begin() as connection:
            # IF NOT EXISTS alone fails when another process makes the same at the same time.
            connection.execute(sa.text("select pg_advisory_xact_lock(hashtext('vedette_turn'))"))
            connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
            connection.execute(sa.text(_MAKE))
            connection.execute(sa.text(_FIRST), {"name": self._name, "holder": _fresh()})
        self._made = True

    def _take(self) -> bool:
        began = self._clock.monotonic()
        connection = self._held or self._connect()
        self._held = connection
        old = connection.execute(sa.text(_LOOK), {"name": self._name}).one()
        if not _alone(connection, old.holder, over=old.over):
            return False
        mine = _fresh()
        connection.execute(sa.select(sa.func.pg_advisory_lock_shared(mine)))
        values = {"mine": mine, "old": old.holder, "name": self._name, "lease": LEASE_S}
        taken = connection.execute(sa.text(_TAKE), values).rowcount == 1
        connection.execute(sa.select(sa.func.pg_advisory_unlock(old.holder)))
        if not taken:
            self._drop()
            return False
        self._holder, self._renewed = mine, began
        return True

    def keep(self) -> bool:
        """See `Turn`. A server out of reach is waited for until the lease may be over."""
        began = self._clock.monotonic()
        if began < self._renewed + RENEW_S:
            return True
        try:
            self._held = self._held or self._fenced()
            values = {"mine": self._holder, "old": self._holder, "name": self._name, "lease": LEASE_S}
            if self._held.execute(sa.text(_TAKE), values).rowcount != 1:
                return False
        except ConflictError:
            return False
        except sa.exc.DBAPIError:
            self._drop()
            return began < self._renewed + LEASE_S - RENEW_S
        self._renewed = began
        return True

    def open(self) -> sa.Engine:
        """See `Turn`."""
        engine = open_engine(self._url, **_OPTIONS)
        holder, name = self._holder, self._name

        @sa.event.listens_for(engine, "connect")
        def fence(connection: Any, _record: Any) -> None:
            try:
                with connection.cursor() as cursor:
                    _carry(cursor, holder, name)
                connection.commit()
            except BaseException:
                connection.close()
                raise

        return engine

    def prepare(self) -> None:
        """See `Turn`."""
        with self._engine.begin() as connection:
            connection.execute(sa.text(_READY), {"name": self._name, "mine": self._holder})

    def prepared(self) -> bool:
        """See `Turn`."""
        with self._engine.connect() as connection:
            query = sa.text(f"select ready from {SCHEMA}.vedette_turn where name = :name")
            return bool(connection.execute(query, {"name": self._name}).scalar())

    def leave(self) -> None:
        """See `Turn`."""
        if self._held is not None:
            try:
                self._held.execute(sa.text(_LEAVE), {"name": self._name, "mine": self._holder})
            except sa.exc.DBAPIError:
                _LOG.warning("the turn to execute runs could not be given back; it ends by itself")
        self._drop()
        self._engine.dispose()

    def _connect(self) -> sa.Connection:
        return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def _fenced(self) -> sa.Connection:
        connection = self._connect()
        try:
            raw: Any = connection.connection.driver_connection
            with raw.cursor() as cursor:
                _carry(cursor, self._holder, self._name)
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        """Ends our connection, and with it the locks that it carries."""
        if self._held is not None:
            self._held.invalidate()
            self._held.close()
            self._held = None


def open_turn(target: Path | str, name: str) -> Turn:
    """The turn of a database."""
    if isinstance(target, str) and target.startswith("postgresql"):
        return LeaseTurn(target, name)
    return FileTurn(Path(target))


def _fresh() -> int:
    return secrets.randbits(62)


def _carry(cursor: Any, holder: int, name: str) -> None:
    """Lets a connection carry the holder's number; the lock first, so that no successor misses it."""
    cursor.execute("select pg_try_advisory_lock_shared(%s)", (holder,))
    carried = cursor.fetchone()[0]
    cursor.execute(f"select holder from {SCHEMA}.vedette_turn where name = %s", (name,))
    if not carried or cursor.fetchone()[0] != holder:
        refuse()


def _alone(connection: sa.Connection, holder: int, *, over: bool) -> bool:
    """Whether the holder has no connection left, and can get none until we unlock its number."""
    mine = sa.select(sa.func.pg_try_advisory_lock(holder))
    if connection.scalar(mine):
        return True
    if not over:
        return False
    connection.execute(sa.text(_END), {"high": holder >> 32, "low": holder & 0xFFFFFFFF})
    pause = threading.Event()
    for _ in range(int(FENCE_S / _PAUSE_S)):
        if connection.scalar(mine):
            return True
        pause.wait(_PAUSE_S)
    return False
