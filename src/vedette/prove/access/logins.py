"""Logging in: a name, a password, and what may go wrong with them, which is told to nobody."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vedette.core.clock import MICROS, Clock
from vedette.core.db import Connection, Database, insert_new, sa
from vedette.core.errors import ConflictError, DataError, DeniedError, TransientError
from vedette.prove.access.passwords import EARLIER, Passwords, check_password
from vedette.prove.access.people import find_person
from vedette.prove.access.sessions import Live, Opened, Sessions
from vedette.prove.access.tables import end_sessions, passwords, people
from vedette.prove.access.throttle import Counter, Throttle, name_counter, origin_counter, person_counter
from vedette.prove.audit import NOBODY, Audit, Outcome
from vedette.prove.secrets import Secret

ONE_TIME_S = 24 * 3_600.0
"""Seconds for which a one-time password may be used."""
MAX_NAME = 64
"""Characters of a login name."""


@dataclass(frozen=True, slots=True)
class IssuedPassword:
    """A one-time password, which is shown this once and kept as a hash only."""

    person: str
    login: str
    """What to type as name."""
    password: Secret
    expires: int
    """From then on it is refused, microseconds UTC."""


@dataclass(frozen=True, slots=True)
class LoginState:
    """What may be known of how a person logs in."""

    login: str
    """Name to log in with; empty: cannot log in yet."""
    one_time: bool = False
    """A one-time password was issued and not yet replaced by the person's own."""


class Logins:
    """Names and passwords of all people. Part of `Access`, as `access.logins`.

    Args:
        db: state.db, already migrated by `Access`.
        clock: Wall time.
        audit: Where logins, refusals and changes are recorded.
        sessions: What a login opens.
        throttle: Bounds guesses.
        keeper: Hashes and compares.
    """

    def __init__(
        self, db: Database, clock: Clock, audit: Audit, *, sessions: Sessions, throttle: Throttle, keeper: Passwords
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._sessions = sessions
        self._throttle = throttle
        self._keeper = keeper

    def issue(self, tenant: str, person_id: str, *, by: str) -> IssuedPassword:
        """Makes a one-time password. It lets its person in once, to set one of their own; all their sessions end.

        The second factor stays as it is: who issues passwords cannot become a person who has one.

        Args:
            tenant: Whose person.
            person_id: For whom.
            by: Who asks. Nobody does for themselves: who knows the password changes it, who does not asks somebody.

        Raises:
            NotFoundError: `access.person.unknown`.
            DeniedError: `access.password.self`, `access.person.invalid` for a disabled person.
        """
        if by == person_id:
            raise DeniedError("access.password.self", "nobody resets their own password", hint="change it instead")
        password, now = self._keeper.one_time(), self._clock.now()
        expires = now + round(ONE_TIME_S * MICROS)
        values = {"hash": self._keeper.hash(password.reveal()), "expires": expires, "used": None, "changed": now}
        with self._db.begin() as connection:
            person = find_person(connection, tenant, person_id)
            if person.disabled:
                raise DeniedError("access.person.invalid", "this person is disabled")
            login = _store(connection, person_id, person.name, values)
            end_sessions(connection, person_id, now)
        self._throttle.forgive(person_counter(person_id))
        self._audit.record(tenant, "passwords.issue", actor=by, target=person_id)
        return IssuedPassword(person_id, login, password, expires)

    def log_in(self, name: str, password: str, *, origin: str = "") -> Opened:
        """Opens a session for who knows the password. The same answer, as late, for every reason to refuse.

        Args:
            name: Login name.
            password: As typed.
            origin: Address of the client.

        Raises:
            DeniedError: `access.login.refused`.
            TransientError: `access.login.throttled` with the seconds to wait, `access.login.busy`.
        """
        login = normal_name(name)
        row = self._by_login(login)
        mine, theirs = person_counter(row.person) if row else name_counter(login), origin_counter(origin)
        self._count(row, mine, theirs, origin=origin)
        fits = self._keeper.fits(row.hash if row else None, password)
        opened = self._enter(row, password, origin) if row is not None and fits else None
        if opened is None:
            raise self._refused(row, origin)
        self._throttle.forgive(mine)
        self._throttle.give_back(theirs)
        return opened

    def check(self, live: Live, password: str, *, origin: str = "") -> None:
        """Returns when this is the password of the session's person, who has to show it again.

        Raises:
            DeniedError: `access.login.refused`.
            TransientError: `access.login.throttled`, `access.login.busy`.
        """
        row = self._by_person(live.person.id)
        mine = person_counter(live.person.id)
        self._count(row, mine, origin=origin)
        if not self._keeper.fits(row.hash if row else None, password):
            raise self._refused(row, origin)
        self._throttle.forgive(mine)

    def change(self, live: Live, current: str, wanted: str, *, origin: str = "") -> Opened:
        """Sets the person's own password. Every session of theirs ends; the one returned goes on.

        Args:
            live: The person's session. One that came with a one-time password needs no other proof.
            current: The password until now; not looked at after a one-time password.
            wanted: The new one.
            origin: Address of the client.

        Raises:
            DeniedError: `access.login.refused`.
            DataError: `access.password.weak`, `access.password.earlier`.
            TransientError: `access.login.throttled`, `access.login.busy`.
        """
        if not live.must_change:
            self.check(live, current, origin=origin)
        person, row = live.person, self._by_person(live.person.id)
        if row is None:
            raise DeniedError("access.login.refused", "this person has no password")
        check_password(wanted, row.login, *person.name.split())
        earlier = [row.hash, *filter(None, row.earlier.split("\n"))][:EARLIER]
        if any(self._keeper.fits(each, wanted) for each in earlier):
            hint = f"not one of the last {EARLIER}"
            raise DataError("access.password.earlier", "this password was used before", hint=hint)
        now, kept = self._clock.now(), self._keeper.hash(wanted)
        same = passwords.update().where(passwords.c.person == person.id, passwords.c.hash == row.hash)
        values = {"hash": kept, "earlier": "\n".join(earlier), "expires": None, "used": None, "changed": now}
        with self._db.begin() as connection:
            if not connection.execute(same.values(**values)).rowcount:
                raise ConflictError("access.password.changed", "the password was changed meanwhile")
            opened = self._sessions.replace(connection, live.session, origin=origin)
        self._audit.record(person.tenant, "passwords.change", actor=person.id, target=person.id, origin=origin)
        return opened

    def states(self, tenant: str) -> Mapping[str, LoginState]:
        """Person id -> how they log in; who cannot yet is not in it."""
        query = sa.select(passwords.c.person, passwords.c.login, passwords.c.expires).join(
            people, people.c.id == passwords.c.person
        )
        with self._db.read() as connection:
            rows = connection.execute(query.where(people.c.tenant == tenant)).all()
        return {row.person: LoginState(row.login, row.expires is not None) for row in rows}

    def nobody(self) -> bool:
        """Whether no enabled person can log in yet."""
        query = sa.select(passwords.c.person).join(people, people.c.id == passwords.c.person)
        with self._db.read() as connection:
            return connection.execute(query.where(people.c.disabled.is_(None)).limit(1)).first() is None

    def _enter(self, row: Any, password: str, origin: str) -> Opened | None:
        """Uses the password and opens the session, in one transaction; None when it may not be used any more."""
        now = self._clock.now()
        kept = self._keeper.hash(password) if row.expires is None and self._keeper.ages(row.hash) else row.hash
        same = passwords.update().where(passwords.c.person == row.person, passwords.c.hash == row.hash)
        usable = sa.or_(passwords.c.expires.is_(None), sa.and_(passwords.c.expires > now, passwords.c.used.is_(None)))
        used = now if row.expires is not None else None
        with self._db.begin() as connection:
            if (
                row.disabled is not None
                or not connection.execute(same.where(usable).values(used=used, hash=kept)).rowcount
            ):
                return None
            opened = self._sessions.begin(connection, row.tenant, row.person, origin=origin)
        self._sessions.told(opened)
        return opened

    def _count(self, row: Any | None, *counters: Counter, origin: str) -> None:
        try:
            self._throttle.take(*counters)
        except TransientError as error:
            self._record(row, Outcome.DENIED, error.code, origin)
            raise

    def _refused(self, row: Any | None, origin: str) -> DeniedError:
        self._record(row, Outcome.DENIED, "access.login.refused", origin)
        return DeniedError("access.login.refused", "name or password is not right")

    def _record(self, row: Any | None, outcome: Outcome, code: str, origin: str) -> None:
        # Never the name that was typed: people type their password there.
        tenant, target = (row.tenant, row.person) if row else ("system", "")
        self._audit.record(
            tenant, "sessions.open", actor=NOBODY, target=target, outcome=outcome, code=code, origin=origin
        )

    def _by_login(self, login: str) -> Any | None:
        return self._find(passwords.c.login == login)

    def _by_person(self, person_id: str) -> Any | None:
        return self._find(passwords.c.person == person_id)

    def _find(self, where: Any) -> Any | None:
        query = sa.select(passwords, people.c.tenant, people.c.disabled).join(people, people.c.id == passwords.c.person)
        with self._db.read() as connection:
            return connection.execute(query.where(where)).one_or_none()


def normal_name(name: str) -> str:
    """A login name as it is compared."""
    return unicodedata.normalize("NFKC", name[: 4 * MAX_NAME]).strip().casefold()[:MAX_NAME]


def _store(connection: Connection, person_id: str, name: str, values: Mapping[str, Any]) -> str:
    """Keeps a password; gives the login name, the one held already or the first free one after the person's name."""
    held = connection.scalar(sa.select(passwords.c.login).where(passwords.c.person == person_id))
    if held is not None:
        connection.execute(passwords.update().where(passwords.c.person == person_id).values(**values))
        return str(held)
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = ".".join(re.findall(r"[a-z0-9]+", plain))[: MAX_NAME - 8] or "person"
    taken = set(
        connection.scalars(sa.select(passwords.c.login).where(passwords.c.login.startswith(base, autoescape=True)))
    )
    free = next(each for each in (base, *(f"{base}{n}" for n in range(2, len(taken) + 3))) if each not in taken)
    if not insert_new(connection, passwords, person=person_id, login=free, earlier="", **values):
        raise ConflictError("access.login.taken", "another login was made at the same moment", hint="try again")
    return free
