"""The table of idempotency keys: one claim and one answer for each."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Literal, Self

import msgspec

from vedette.core.clock import DAY, MICROS, Clock, SystemClock
from vedette.core.db import Connection, Database, open_database, sa
from vedette.core.errors import DataError, VedetteError
from vedette.move.idempotency import rows
from vedette.move.idempotency.nouns import Answer, Claim, Request, check_key, key_in_use, lease_lost
from vedette.move.idempotency.rows import KEYS, MIGRATIONS, Row

LEASE_S: Final = 30.0
"""How long a request may go without reaching its next recovery point before another may take it over."""
KEEP: Final = 3 * DAY
"""How long an answer is kept, microseconds; senders retry for at most a day."""
SWEEP: Final = 1_000
"""Most rows that one `sweep` removes."""

OPEN: Final = "open"
"""What `look` says of a request that has begun and has no answer yet."""


class Idempotency:
    """The table of keys.

    Args:
        db: Home of the table; migrated here. Claims and effects must share it.
        clock: For leases and expiry.
        secret: Keys the fingerprint of parameters, at least 16 bytes, so that a stolen table tells nothing about them.
        lease_s: Seconds until a silent holder may be replaced.
    """

    def __init__(self, db: Database, clock: Clock, secret: bytes, *, lease_s: float = LEASE_S) -> None:
        if len(secret) < 16:  # noqa: PLR2004
            raise DataError("idempotency.secret.short", "the fingerprint secret needs at least 16 bytes")
        self.db = db
        self._clock = clock
        self._secret = secret
        self._lease = round(lease_s * MICROS)
        db.migrate("idempotency", MIGRATIONS)

    @classmethod
    def open(cls, url: str, *, secret: bytes, lease_s: float = LEASE_S, pool: int = 8) -> Self:
        """A table of keys in a database of its own, or beside the tables of an application.

        Args:
            url: `sqlite:///path/to/file` or `postgresql://...`.
            secret: As for the class.
            lease_s: As for the class.
            pool: Connections to keep open.
        """
        schema = None if url.startswith("postgresql") else ""
        db = open_database(url.removeprefix("sqlite:///"), schema=schema, pool=pool)
        return cls(db, SystemClock(), secret, lease_s=lease_s)

    def stored(self, request: Request) -> Answer | None:
        """The answer of a finished request, without waiting for any writer; None: ask `claim`.

        Raises:
            DataError: As `claim`.
        """
        (found,) = self.look([request])
        if isinstance(found, VedetteError):
            raise found
        return found if isinstance(found, Answer) else None

    def look(self, requests: Sequence[Request]) -> list[Answer | VedetteError | Literal["open"] | None]:
        """Of each request of one tenant: its answer, `OPEN` while its claim has none, None when it is new.

        `idempotency.mismatch` stands in the place of a request that it refuses.
        """
        found: list[Answer | VedetteError | Literal["open"] | None] = []
        now = self._clock.now()
        with self.db.glance() as connection:
            there = rows.among(connection, requests)
        for request in requests:
            check_key(request.key)
            row = there.get(request.key)
            if row is None or (row.expires <= now and row.lease_until <= now):
                found.append(None)
            else:
                found.append(self._told(row, request) or OPEN)
        return found

    def claim(self, connection: Connection, request: Request, resource: str) -> Claim | Answer:
        """Takes the key, takes it over, or gives the stored answer.

        Args:
            connection: An open transaction; the claim is real once it commits.
            request: What the caller asks for.
            resource: Id for the thing to make; kept if this is the first attempt.

        Raises:
            DataError: `idempotency.key.invalid`, `idempotency.mismatch` (same key, other parameters: HTTP 422).
            ConflictError: `idempotency.key_in_use` (HTTP 409): the first request has not finished.
        """
        (found,) = self.claim_many(connection, [request], [resource])
        if isinstance(found, VedetteError):
            raise found
        return found

    def claim_many(
        self, connection: Connection, requests: Sequence[Request], resources: Sequence[str]
    ) -> list[Claim | Answer | VedetteError]:
        """As `claim` for requests of one tenant with different keys; what one is refused with stands in its place."""
        now = self._clock.now()
        fresh = {
            request.key: self._fresh(request, resource, now)
            for request, resource in zip(requests, resources, strict=True)
        }
        # In order of the keys: two batches that share some would else wait for each other in a circle.
        made = rows.insert_new(connection, [fresh[key] for key in sorted(fresh)])
        left = [request for request in requests if request.key not in made]
        held = rows.among(connection, left, lock=True) if left else {}
        found: list[Claim | Answer | VedetteError] = []
        for request in requests:
            mine = fresh[request.key]
            if request.key not in made:
                found.append(self._held(connection, request, held[request.key], mine))
            else:
                found.append(Claim(request.tenant, request.key, mine.resource, "", 1, now, request.context))
        return found

    def _fresh(self, request: Request, resource: str, now: int) -> Row:
        check_key(request.key)
        return Row(
            tenant=request.tenant,
            key=request.key,
            operation=request.operation,
            fingerprint=self._fingerprint(request),
            resource=resource,
            point="",
            fence=1,
            lease_until=now + self._lease,
            created=now,
            expires=now + KEEP,
            context=msgspec.json.encode(request.context),
        )

    def _held(self, connection: Connection, request: Request, row: Row, fresh: Row) -> Claim | Answer | VedetteError:
        """What a request gets whose key is there already."""
        now = fresh.created
        if row.expires <= now and row.lease_until <= now:
            # One fence more: whoever held it before must not write as if it were his.
            renewed = fresh._replace(fence=row.fence + 1)
            rows.renew(connection, renewed)
            return replace(renewed.claim(), context=request.context)
        try:
            return self._answer(row, request) or self._take_over(connection, row, now)
        except VedetteError as error:
            return error

    def _told(self, row: Row, request: Request) -> Answer | VedetteError | None:
        try:
            return self._answer(row, request)
        except VedetteError as error:
            return error

    def hold(self, connection: Connection, claims: Sequence[Claim]) -> set[str]:
        """Keys of those claims that nobody took over, kept so until the transaction ends."""
        fences = {claim.key: claim.fence for claim in claims}
        held = rows.among(connection, claims, lock=True) if claims else {}
        return {key for key, row in held.items() if row.status is None and row.fence == fences[key]}

    def finish_many(self, connection: Connection, answers: Sequence[tuple[Claim, Answer]]) -> None:
        """Stores answers of claims that `hold` gave in the same transaction."""
        if answers:
            rows.finish_many(connection, answers)

    def advance(self, connection: Connection, claim: Claim, point: str) -> Claim:
        """Notes a recovery point and renews the lease, in the transaction that made the step's effect.

        Raises:
            ConflictError: `idempotency.lease_lost`: another attempt took over; this transaction must not commit.
        """
        if not rows.change(connection, claim, {"point": point, "lease_until": self._clock.now() + self._lease}):
            raise lease_lost()
        return replace(claim, point=point)

    def finish(self, connection: Connection, claim: Claim, answer: Answer) -> Answer:
        """Stores the answer, in the transaction that made the last effect.

        Raises:
            ConflictError: `idempotency.lease_lost`.
        """
        if not rows.finish(connection, claim, answer):
            raise lease_lost()
        return answer

    def release(self, *claims: Claim) -> None:
        """Lets the next retry take over at once, after a failure that may pass. A lost claim is left alone."""

        def work(connection: Connection) -> None:
            for claim in sorted(claims, key=lambda claim: claim.key):
                rows.change(connection, claim, {"lease_until": 0})

        self.db.together(work, synced=False)

    def forget(self, claim: Claim) -> None:
        """Gives the key back as if it had never been sent, for a request that was refused before it began."""
        with self.db.begin() as connection:
            connection.execute(KEYS.delete().where(_mine(claim), KEYS.c.point == ""))

    def sweep(self) -> int:
        """Forgets expired keys, at most `SWEEP`; answers how many."""
        now = self._clock.now()
        old = sa.select(KEYS.c.tenant, KEYS.c.key).where(KEYS.c.expires <= now, KEYS.c.lease_until <= now)
        with self.db.begin() as connection:
            found = connection.execute(old.order_by(KEYS.c.expires).limit(SWEEP)).all()
            for row in found:
                connection.execute(KEYS.delete().where(KEYS.c.tenant == row.tenant, KEYS.c.key == row.key))
        return len(found)

    def once(self, request: Request, resource: str, effect: Callable[[Connection, Claim], Answer]) -> Answer:
        """For a request that is one transaction: claim, effect and answer commit together.

        Raises:
            DataError, ConflictError: As `claim`; what `effect` raises rolls everything back, so a retry is a first try.
        """
        if self.db.is_sqlite:
            # A reader never waits there, a writer does. On PostgreSQL the insert tells at once.
            answer = self.stored(request)
            if answer is not None:
                return answer

        def work(connection: Connection) -> Answer:
            claim = self.claim(connection, request, resource)
            if isinstance(claim, Answer):
                return claim
            return self.finish(connection, claim, effect(connection, claim))

        return self.db.together(work)

    def _answer(self, row: Row, request: Request) -> Answer | None:
        """The stored answer; None when there is none yet."""
        if not hmac.compare_digest(row.fingerprint, self._fingerprint(request)):
            raise DataError(
                "idempotency.mismatch",
                "this idempotency key was used with another request",
                hint="send a new key for a new request",
            )
        return row.answer()

    def _take_over(self, connection: Connection, row: Row, now: int) -> Claim:
        if row.lease_until > now:
            raise key_in_use()
        claim = row.claim()
        taken = {"fence": claim.fence + 1, "lease_until": now + self._lease}
        if not rows.change(connection, claim, taken):
            raise lease_lost()
        return replace(claim, fence=claim.fence + 1)

    def _fingerprint(self, request: Request) -> bytes:
        raw = request.parameters
        body = raw if isinstance(raw, bytes) else msgspec.json.encode(raw, order="deterministic")
        return hmac.digest(self._secret, request.operation.encode() + b"\0" + body, hashlib.sha256)


def _mine(claim: Claim) -> sa.ColumnElement[bool]:
    return (
        (KEYS.c.tenant == claim.tenant)
        & (KEYS.c.key == claim.key)
        & (KEYS.c.fence == claim.fence)
        & KEYS.c.status.is_(None)
    )
