"""Sessions: a person who has logged in, for as long as they go on working and half a day at most."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from vedette.core.clock import MICROS, Clock
from vedette.core.db import Connection, Database, sa
from vedette.core.errors import DeniedError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.access.people import Person, find_person
from vedette.prove.access.tables import end_sessions, factors, passwords, sessions
from vedette.prove.audit import Audit
from vedette.prove.secrets import Secret

IDLE_S = 30 * 60.0
"""Seconds without a request after which a session has ended."""
ABSOLUTE_S = 12 * 3_600.0
"""Seconds after which it has ended however busy it is."""
FRESH_S = 10 * 60.0
"""Seconds for which a proof of the second factor lets a person decide what needs one."""
TOUCH_S = 30.0
"""A session's last use is written at most this often: a write at each request costs a sync."""
MAX_SESSIONS = 20
"""Sessions of one person; the next one ends the oldest."""
KEPT_S = 30 * 86_400.0
"""Seconds for which an ended session is still listed."""

MAX_ORIGIN = 64
"""Characters of a client's address that are kept."""

_SECRET = re.compile(r"[0-9A-Za-z_-]{43}")


@dataclass(frozen=True, slots=True)
class Session:
    """What may be known of a session: everything but its secret. Times are microseconds UTC."""

    id: str
    tenant: str
    person: str
    """Id of the person."""
    origin: str
    """Address that it was opened from."""
    created: int
    seen: int
    """Last use, to about `TOUCH_S`."""
    expires: int
    """From then on it is refused, however busy it is."""
    proven: int | None = None
    """When the second factor was last shown in it."""
    ended: int | None = None
    """When it was logged out, replaced or revoked."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A new session with its secret, which goes into the cookie and nowhere else."""

    session: Session
    secret: Secret


class Step(StrEnum):
    """What a login still needs."""

    NONE = ""
    FACTOR = "factor"
    """A code of the authenticator, or a recovery code."""
    PASSWORD = "password"  # noqa: S105 - the name of a step
    """A password of the person's own, instead of the one-time password."""


@dataclass(frozen=True, slots=True)
class Live:
    """A session that holds now, with the person as they are now."""

    session: Session
    person: Person
    must_change: bool
    """The person came with a one-time password and may only set a new one."""
    has_factor: bool
    """The person has an authenticator, so a session without a proof of it may only show one."""
    fresh: bool
    """The second factor was shown within `FRESH_S`."""

    @property
    def step(self) -> Step:
        """What is left to do before the person may work: first the proof, so that nobody without it sets a password."""
        if self.has_factor and self.session.proven is None:
            return Step.FACTOR
        return Step.PASSWORD if self.must_change else Step.NONE

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to do before the person may work."""
        return self.step is Step.NONE


class Sessions:
    """The sessions of all people. Part of `Access`, as `access.sessions`.

    Nothing is cached: an ended session, a disabled person and a changed role hold at the next request everywhere.

    Args:
        db: state.db, already migrated by `Access`.
        clock: Wall time.
        ids: Makes their ids, which are no secrets.
        audit: Where logins and ends are recorded.
        random_text: Gives 256 random bits in 43 characters.
    """

    def __init__(self, db: Database, clock: Clock, ids: Ids, audit: Audit, random_text: Callable[[], str]) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._random_text = random_text

    def open(self, tenant: str, person_id: str, *, origin: str = "", proven: bool = False) -> Opened:
        """Opens a session for a person who has just proven who they are. Proving it is the caller's matter.

        Args:
            tenant: Whose person.
            person_id: Who.
            origin: Address of the client, for the list of sessions and the record.
            proven: The second factor was shown too.

        Raises:
            NotFoundError: `access.person.unknown`.
            DeniedError: `access.person.invalid` for a disabled person.
        """
        with self._db.begin() as connection:
            opened = self.begin(connection, tenant, person_id, origin=origin, proven=proven)
        self.told(opened)
        return opened

    def begin(
        self, connection: Connection, tenant: str, person_id: str, *, origin: str, proven: bool = False
    ) -> Opened:
        """As `open`, in a transaction of the caller, who afterwards calls `told`."""
        now = self._clock.now()
        if find_person(connection, tenant, person_id).disabled:
            raise DeniedError("access.person.invalid", "no such person")
        self._make_room(connection, person_id, now)
        session = Session(
            id=self._ids.new("ses"),
            tenant=tenant,
            person=person_id,
            origin=origin[:MAX_ORIGIN],
            created=now,
            seen=now,
            expires=now + round(ABSOLUTE_S * MICROS),
            proven=now if proven else None,
        )
        return self._store(connection, session)

    def told(self, opened: Opened) -> None:
        """Records that a session was opened."""
        session = opened.session
        self._audit.record(
            session.tenant, "sessions.open", actor=session.person, target=session.id, origin=session.origin
        )

    def find(self, secret: str, *, touch: bool = True) -> Live | None:
        """The session of this secret, None for one that is unknown, idle for too long, expired or ended.

        Args:
            secret: From the cookie.
            touch: Counts as use. False for what a page asks by itself, which keeps no session alive.
        """
        if not _SECRET.fullmatch(secret):
            return None
        now = self._clock.now()
        with self._db.read() as connection:
            live = self._read(connection, secret, now)
        if live and touch and now - live.session.seen >= TOUCH_S * MICROS:
            with self._db.begin() as connection:
                connection.execute(sessions.update().where(sessions.c.id == live.session.id).values(seen=now))
        return live

    def renew(self, session_id: str, *, proven: bool = False, origin: str = "") -> Opened:
        """Replaces a session's secret, as whenever it comes to reach further; the old one ends at once.

        The new session keeps the time at which the first one was opened and will have expired.

        Raises:
            DeniedError: `access.session.invalid` for one that is unknown or has ended.
        """
        now = self._clock.now()
        with self._db.begin() as connection:
            row = connection.execute(sessions.select().where(sessions.c.id == session_id)).one_or_none()
            alive = sessions.update().where(sessions.c.id == session_id, sessions.c.ended.is_(None))
            if row is None or not connection.execute(alive.values(ended=now)).rowcount:
                raise DeniedError("access.session.invalid", "this session has ended", hint="log in again")
            held = _to_session(row)
            opened = self._follow(connection, replace(held, proven=now) if proven else held, origin)
        self._renewed(opened, session_id)
        return opened

    def replace(self, connection: Connection, session: Session, *, origin: str = "") -> Opened:
        """Ends every session of a person and goes on in a new one, in a transaction of the caller."""
        end_sessions(connection, session.person, self._clock.now())
        return self._follow(connection, session, origin)

    def end(self, tenant: str, person_id: str, session_id: str, *, by: str) -> None:
        """Ends a session for good. Again changes nothing.

        Raises:
            NotFoundError: `access.session.unknown`, also for another person's session.
        """
        mine = (sessions.c.tenant == tenant, sessions.c.person == person_id, sessions.c.id == session_id)
        with self._db.begin() as connection:
            if connection.scalar(sa.select(sessions.c.id).where(*mine)) is None:
                raise NotFoundError("access.session.unknown", "no session of that id", hint="list the sessions")
            alive = sessions.update().where(*mine, sessions.c.ended.is_(None))
            first = connection.execute(alive.values(ended=self._clock.now())).rowcount
        if first:
            self._audit.record(tenant, "sessions.end", actor=by, target=session_id, detail={"person": person_id})

    def list(self, tenant: str, person_id: str) -> list[Session]:
        """The sessions of a person that hold now, newest first."""
        now = self._clock.now()
        query = sessions.select().where(sessions.c.tenant == tenant, sessions.c.person == person_id, *_holds(now))
        with self._db.read() as connection:
            rows = connection.execute(query.order_by(sessions.c.created.desc(), sessions.c.id.desc()))
            return [_to_session(row) for row in rows]

    def sweep(self) -> int:
        """Deletes sessions that ended or expired more than `KEPT_S` ago; gives how many."""
        limit = self._clock.now() - round(KEPT_S * MICROS)
        with self._db.begin() as connection:
            return connection.execute(sessions.delete().where(sessions.c.expires < limit)).rowcount

    def _follow(self, connection: Connection, session: Session, origin: str) -> Opened:
        """Opens the session that takes the place of another one and expires as it would have."""
        new = replace(
            session, id=self._ids.new("ses"), origin=origin[:MAX_ORIGIN] or session.origin, seen=self._clock.now()
        )
        return self._store(connection, new)

    def _renewed(self, opened: Opened, before: str) -> None:
        session = opened.session
        self._audit.record(
            session.tenant, "sessions.renew", actor=session.person, target=session.id, detail={"replaces": before}
        )

    def _store(self, connection: Connection, session: Session) -> Opened:
        secret = self._random_text()
        connection.execute(
            sessions.insert().values(
                id=session.id,
                hash=_digest(secret),
                tenant=session.tenant,
                person=session.person,
                origin=session.origin,
                created=session.created,
                seen=session.seen,
                expires=session.expires,
                proven=session.proven,
            )
        )
        return Opened(session, Secret(secret))

    def _make_room(self, connection: Connection, person_id: str, now: int) -> None:
        held = sa.select(sessions.c.id).where(sessions.c.person == person_id, *_holds(now))
        held = held.order_by(sessions.c.created.desc(), sessions.c.id.desc())
        old = connection.scalars(held.offset(MAX_SESSIONS - 1)).all()
        if old:
            connection.execute(sessions.update().where(sessions.c.id.in_(old)).values(ended=now))

    def _read(self, connection: Connection, secret: str, now: int) -> Live | None:
        query = sessions.select().where(sessions.c.hash == _digest(secret), *_holds(now))
        row = connection.execute(query).one_or_none()
        if row is None:
            return None
        session = _to_session(row)
        person = find_person(connection, session.tenant, session.person)
        if person.disabled:
            return None
        one_time = sa.select(passwords.c.expires).where(passwords.c.person == person.id)
        confirmed = sa.select(factors.c.confirmed).where(factors.c.person == person.id)
        return Live(
            session,
            person,
            must_change=connection.scalar(one_time) is not None,
            has_factor=connection.scalar(confirmed) is not None,
            fresh=session.proven is not None and now - session.proven < FRESH_S * MICROS,
        )


def csrf_token(secret: str) -> str:
    """The token that a session's forms carry: follows from the session's secret, and tells nothing about it."""
    return hmac.digest(secret.encode(), b"vedette csrf", "sha256").hex()


def _holds(now: int) -> tuple[Any, ...]:
    return (sessions.c.ended.is_(None), sessions.c.expires > now, sessions.c.seen > now - round(IDLE_S * MICROS))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _to_session(row: Any) -> Session:
    return Session(
        row.id, row.tenant, row.person, row.origin, row.created, row.seen, row.expires, row.proven, row.ended
    )
