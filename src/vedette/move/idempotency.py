"""Idempotency keys: the first request of a key runs, every other one gets its answer, byte for byte.

A key belongs to one tenant. It is claimed by an insert that either wins or does not, so two requests can never both be
first. The claim holds a lease and a fencing token: when its holder dies, a retry takes over at the last recovery point
after the lease ends, and a holder that wakes up late finds that its token is old and is refused inside its own
transaction. The answer is stored in the transaction that makes the last effect.

Not stored: a request refused before it began, a conflict, a failure that may pass. Stored: every other answer, errors
included.

Source: Stripe's published behaviour and the IETF idempotency-key draft.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from typing import Any, Final

import msgspec

from vedette.core.clock import DAY, MICROS, Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DataError, VedetteError

MAX_KEY: Final = 255
"""Longest key, in characters."""
LEASE_S: Final = 30.0
"""How long a request may go without reaching its next recovery point before another may take it over."""
KEEP: Final = 3 * DAY
"""How long an answer is kept, microseconds; senders retry for at most a day."""
SWEEP: Final = 1_000
"""Most rows that one `sweep` removes."""

_METADATA = sa.MetaData()
_keys = sa.Table(
    "idempotency",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("point", sa.Text, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("lease_until", LONG, nullable=False),
    sa.Column("created", LONG, nullable=False),
    sa.Column("expires", LONG, nullable=False),
    sa.Column("context", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("body", sa.LargeBinary),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
sa.Index("idempotency_expires", _keys.c.expires)
sa.Index(
    "idempotency_open",
    _keys.c.operation,
    _keys.c.lease_until,
    sqlite_where=_keys.c.status.is_(None),
    postgresql_where=_keys.c.status.is_(None),
)
_MIGRATIONS = (Migration(1, "idempotency keys", create(_METADATA)),)


@dataclass(frozen=True, slots=True)
class Request:
    """What a key stands for."""

    tenant: str
    key: str
    operation: str
    """Method and path, such as `POST /v1/charges`."""
    parameters: Any
    """The decoded body. Compared by its canonical JSON, so white space and field order do not matter."""
    context: Mapping[str, Any] = attribute(default_factory=dict)
    """What the attempt knows besides, such as who asks. Not compared: every later attempt has that of the first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished request: what the client gets, now and at every retry."""

    status: int
    """HTTP status."""
    body: bytes
    """JSON, stored and sent as these very bytes."""
    replayed: bool = False
    """True when an earlier request made it."""

    def json(self) -> Any:
        """The decoded body."""
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry a request out, until someone holds a higher fence."""

    tenant: str
    key: str
    resource: str
    """Id of the thing the request makes; chosen by its first attempt, the same in every later one."""
    point: str
    """How far an earlier attempt came; empty when none did."""
    fence: int
    """1 for the first attempt; one more for every take-over."""
    created: int
    """When the first attempt began, microseconds UTC."""
    context: Mapping[str, Any] = attribute(default_factory=dict)
    """That of the first attempt."""


def to_answer(status: int, value: Any) -> Answer:
    """An answer with `value` as JSON."""
    return Answer(status, msgspec.json.encode(value))


def to_refusal(status: int, error: VedetteError) -> Answer:
    """An answer that stores a final error in the one JSON shape of errors."""
    return to_answer(status, {"error": error.to_dict()})


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
        self._db = db
        self._clock = clock
        self._secret = secret
        self._lease = round(lease_s * MICROS)
        db.migrate("idempotency", _MIGRATIONS)

    def stored(self, request: Request) -> Answer | None:
        """The answer of a finished request, without waiting for any writer; None: ask `claim`.

        Raises:
            DataError: As `claim`.
        """
        _check(request.key)
        at = (_keys.c.tenant == request.tenant) & (_keys.c.key == request.key) & _keys.c.status.is_not(None)
        with self._db.read() as connection:
            row = connection.execute(sa.select(_keys).where(at, _keys.c.expires > self._clock.now())).one_or_none()
        return self._answer(row, self._fingerprint(request)) if row is not None else None

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
        _check(request.key)
        now = self._clock.now()
        fingerprint = self._fingerprint(request)
        at = (_keys.c.tenant == request.tenant) & (_keys.c.key == request.key)
        connection.execute(_keys.delete().where(at, _keys.c.expires <= now, _keys.c.lease_until <= now))
        fresh = {
            "tenant": request.tenant,
            "key": request.key,
            "operation": request.operation,
            "fingerprint": fingerprint,
            "resource": resource,
            "point": "",
            "fence": 1,
            "lease_until": now + self._lease,
            "created": now,
            "expires": now + KEEP,
            "context": msgspec.json.encode(request.context),
        }
        if insert_new(connection, _keys, **fresh):
            return Claim(request.tenant, request.key, resource, "", 1, now, request.context)
        row = connection.execute(sa.select(_keys).where(at).with_for_update()).one()
        return self._answer(row, fingerprint) or self._take_over(connection, row, now)

    def advance(self, connection: Connection, claim: Claim, point: str) -> Claim:
        """Notes a recovery point and renews the lease, in the transaction that made the step's effect.

        Raises:
            ConflictError: `idempotency.lease_lost`: another attempt took over; this transaction must not commit.
        """
        self._update(connection, claim, point=point, lease_until=self._clock.now() + self._lease)
        return replace(claim, point=point)

    def finish(self, connection: Connection, claim: Claim, answer: Answer) -> Answer:
        """Stores the answer, in the transaction that made the last effect.

        Raises:
            ConflictError: `idempotency.lease_lost`.
        """
        self._update(connection, claim, status=answer.status, body=answer.body, lease_until=0)
        return answer

    def release(self, claim: Claim) -> None:
        """Lets the next retry take over at once, after a failure that may pass. A lost claim is left alone."""
        with self._db.begin() as connection:
            connection.execute(_keys.update().where(_mine(claim)).values(lease_until=0))

    def forget(self, claim: Claim) -> None:
        """Gives the key back as if it had never been sent, for a request that was refused before it began."""
        with self._db.begin() as connection:
            connection.execute(_keys.delete().where(_mine(claim), _keys.c.point == ""))

    def abandoned(self, connection: Connection, operation: str, limit: int) -> list[Claim]:
        """Takes over claims of an operation that passed a recovery point and whose holder fell silent."""
        now = self._clock.now()
        rows = connection.execute(
            sa.select(_keys)
            .where(_keys.c.operation == operation, _keys.c.status.is_(None), _keys.c.point != "")
            .where(_keys.c.lease_until <= now)
            .order_by(_keys.c.lease_until)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        return [self._take_over(connection, row, now) for row in rows]

    def sweep(self) -> int:
        """Forgets expired keys, at most `SWEEP`; answers how many."""
        now = self._clock.now()
        old = sa.select(_keys.c.tenant, _keys.c.key).where(_keys.c.expires <= now, _keys.c.lease_until <= now)
        with self._db.begin() as connection:
            rows = connection.execute(old.order_by(_keys.c.expires).limit(SWEEP)).all()
            for row in rows:
                connection.execute(_keys.delete().where(_keys.c.tenant == row.tenant, _keys.c.key == row.key))
        return len(rows)

    def once(self, request: Request, resource: str, effect: Callable[[Connection, Claim], Answer]) -> Answer:
        """For a request that is one transaction: claim, effect and answer commit together.

        Raises:
            DataError, ConflictError: As `claim`; what `effect` raises rolls everything back, so a retry is a first try.
        """
        answer = self.stored(request)
        if answer is not None:
            return answer
        with self._db.begin() as connection:
            claim = self.claim(connection, request, resource)
            if isinstance(claim, Answer):
                return claim
            return self.finish(connection, claim, effect(connection, claim))

    def _answer(self, row: sa.Row[Any], fingerprint: bytes) -> Answer | None:
        if not hmac.compare_digest(row.fingerprint, fingerprint):
            raise DataError(
                "idempotency.mismatch",
                "this idempotency key was used with another request",
                hint="send a new key for a new request",
            )
        return None if row.status is None else Answer(row.status, row.body, replayed=True)

    def _take_over(self, connection: Connection, row: sa.Row[Any], now: int) -> Claim:
        if row.lease_until > now:
            raise ConflictError(
                "idempotency.key_in_use",
                "the first request with this idempotency key has not finished",
                hint="retry with the same key in a moment",
            )
        claim = Claim(
            row.tenant, row.key, row.resource, row.point, row.fence + 1, row.created, msgspec.json.decode(row.context)
        )
        held = replace(claim, fence=row.fence)
        self._update(connection, held, fence=claim.fence, lease_until=now + self._lease)
        return claim

    def _update(self, connection: Connection, claim: Claim, **values: Any) -> None:
        if not connection.execute(_keys.update().where(_mine(claim)).values(values)).rowcount:
            raise ConflictError(
                "idempotency.lease_lost",
                "another attempt took this request over",
                hint="retry with the same key to read its answer",
            )

    def _fingerprint(self, request: Request) -> bytes:
        body = msgspec.json.encode(request.parameters, order="deterministic")
        return hmac.digest(self._secret, request.operation.encode() + b"\0" + body, hashlib.sha256)


def _mine(claim: Claim) -> sa.ColumnElement[bool]:
    return (
        (_keys.c.tenant == claim.tenant)
        & (_keys.c.key == claim.key)
        & (_keys.c.fence == claim.fence)
        & _keys.c.status.is_(None)
    )


def _check(key: str) -> None:
    if not (0 < len(key) <= MAX_KEY and key.isprintable()):
        raise DataError(
            "idempotency.key.invalid",
            f"an idempotency key has 1 to {MAX_KEY} printable characters",
            hint="a random UUID is a good key",
        )
