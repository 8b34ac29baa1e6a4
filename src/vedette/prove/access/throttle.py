"""Throttling of guesses: each failure makes the next attempt wait longer, for the person and for where it comes from.

An attempt is counted as failed before it is looked at, and taken back when it was right: of a hundred guesses sent at
the same moment only as many are looked at as would be one after the other. The counts are in the database, so that a
restart forgives nothing.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from vedette.core.clock import MICROS, Clock
from vedette.core.db import Connection, Database, insert_new, sa
from vedette.core.errors import TransientError
from vedette.prove.access.tables import throttles

FORGET_S = 86_400.0
"""Seconds without a failure after which a count starts again."""
MAX_ORIGINS = 10_000
"""Origins that are counted; beyond it the one that was quiet the longest is forgotten."""
NAMES = 1_024
"""Counters that all unknown names share, so that trying names fills no table."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How long to wait after so many failures in a row."""

    free: int
    """Failures that cost nothing; from then on the wait doubles, beginning with one second."""
    lock: int
    """Failures from which on the wait is the longest."""
    longest_s: float = 30 * 60.0

    def wait(self, failures: int) -> float:
        """Seconds to wait after that many failures."""
        if failures <= self.free:
            return 0.0
        return self.longest_s if failures >= self.lock else min(self.longest_s, 2.0 ** (failures - self.free - 1))


PERSON = Curve(free=3, lock=10)
"""PCI DSS 8.3.4: after ten attempts at most, half an hour at least."""
ORIGIN = Curve(free=20, lock=40)
"""Many people may come from one address."""

Counter = tuple[str, Curve]
"""What is counted, and how it waits."""


class Throttle:
    """Counts failures.

    Args:
        db: state.db, already migrated by `Access`.
        clock: Wall time.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def take(self, *counters: Counter) -> None:
        """Counts one attempt as failed, unless one of the counters has to wait.

        Raises:
            TransientError: `access.login.throttled` with the seconds to wait. The attempt is then not counted.
        """
        now = self._clock.now()
        with self._db.begin() as connection:
            # In order of their names, so that two attempts never wait for each other.
            rows = [self._lock(connection, counter, now) for counter in sorted(counters, key=lambda each: each[0])]
            until = max(until for _, _, until in rows)
            if until > now:
                wait = (until - now) / MICROS
                raise TransientError(
                    "access.login.throttled", "too many attempts", hint=f"wait {in_words(wait)}", retry_after=wait
                )
            for (subject, curve), failures, _ in rows:
                later = now + round(curve.wait(failures + 1) * MICROS)
                row = throttles.update().where(throttles.c.subject == subject)
                connection.execute(row.values(failures=failures + 1, last=now, until=later))

    def forgive(self, counter: Counter) -> None:
        """Forgets all failures."""
        with self._db.begin() as connection:
            connection.execute(throttles.delete().where(throttles.c.subject == counter[0]))

    def give_back(self, counter: Counter) -> None:
        """Takes back one attempt that was right; those before it stay."""
        row = throttles.update().where(throttles.c.subject == counter[0], throttles.c.failures > 0)
        with self._db.begin() as connection:
            connection.execute(row.values(failures=throttles.c.failures - 1, until=0))

    def sweep(self) -> int:
        """Deletes counts that no longer count; gives how many."""
        limit = self._clock.now() - round(FORGET_S * MICROS)
        with self._db.begin() as connection:
            return connection.execute(throttles.delete().where(throttles.c.last < limit)).rowcount

    def _lock(self, connection: Connection, counter: Counter, now: int) -> tuple[Counter, int, int]:
        """Failures so far, and until when to wait."""
        subject = counter[0]
        query = throttles.select().where(throttles.c.subject == subject).with_for_update()
        row = None
        # Where rows are locked one by one, another's right login may delete the row between the two statements.
        while row is None:
            if insert_new(connection, throttles, subject=subject, failures=0, last=now, until=0):
                _make_room(connection, subject)
                return counter, 0, 0
            row = connection.execute(query).one_or_none()
        if now - row.last > FORGET_S * MICROS:
            return counter, 0, 0
        return counter, row.failures, row.until


def person_counter(person_id: str) -> Counter:
    """Of a person's password. Never forgotten for want of room: there are as many as people."""
    return f"person:{person_id}", PERSON


def factor_counter(person_id: str) -> Counter:
    """Of a person's second factor."""
    return f"factor:{person_id}", PERSON


def name_counter(login: str) -> Counter:
    """Of a name that nobody has: it waits as a person's would."""
    place = int.from_bytes(hashlib.sha256(login.encode("utf-8", "replace")).digest()[:4], "big") % NAMES
    return f"name:{place}", PERSON


def origin_counter(origin: str) -> Counter:
    """Of an address; of IPv6 the /64, which one machine can use as it likes."""
    try:
        address = ipaddress.ip_address(origin)
    except ValueError:
        return f"origin:{hashlib.sha256(origin.encode('utf-8', 'replace')).hexdigest()[:16]}", ORIGIN
    if address.version == 6 and address.ipv4_mapped is None:  # noqa: PLR2004
        return f"origin:{ipaddress.ip_network((address, 64), strict=False)}", ORIGIN
    return f"origin:{getattr(address, 'ipv4_mapped', None) or address}", ORIGIN


def in_words(seconds: float) -> str:
    """`12 seconds`, `30 minutes`: rounded up."""
    whole = -int(-seconds // 1)
    amount, unit = (whole, "second") if whole < 90 else (-(-whole // 60), "minute")  # noqa: PLR2004
    return f"{amount} {unit}{'' if amount == 1 else 's'}"


def _make_room(connection: Connection, subject: str) -> None:
    if not subject.startswith("origin:"):
        return
    origins = throttles.c.subject.startswith("origin:")
    surplus = (connection.scalar(sa.select(sa.func.count()).select_from(throttles).where(origins)) or 0) - MAX_ORIGINS
    if surplus > 0:
        oldest = sa.select(throttles.c.subject).where(origins, throttles.c.subject != subject)
        oldest = oldest.order_by(throttles.c.last, throttles.c.subject).limit(surplus)
        gone: Sequence[str] = connection.scalars(oldest).all()
        connection.execute(throttles.delete().where(throttles.c.subject.in_(gone)))
