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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from functools import cache
from typing import Any, Final, Literal

import msgspec

from vedette.core.clock import DAY, MICROS, Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_all_new, sa
from vedette.core.errors import ConflictError, DataError, VedetteError

MAX_KEY: Final = 255
"""Longest key, in characters."""
LEASE_S: Final = 30.0
"""How long a request may go without reaching its next recovery point before another may take it over."""
KEEP: Final = 3 * DAY
"""How long an answer is kept, microseconds; senders retry for at most a day."""
SWEEP: Final = 1_000
"""Most rows that one `sweep` removes."""

OPEN: Final = "open"
"""What `look` says of a request that has begun and has no answer yet."""
_CHUNK: Final = 4_000
"""Keys in one `IN (...)`; SQLite takes 32,766 parameters."""

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
_FINISH: Final = (
    _keys.update()
    .where(_keys.c.tenant == sa.bindparam("t"), _keys.c.key == sa.bindparam("k"))
    .values(status=sa.bindparam("s"), body=sa.bindparam("b"), lease_until=0)
)


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
        with self._db.read() as connection:
            rows = {row.key: row for row in _rows(connection, requests)}
        for request in requests:
            check_key(request.key)
            row = rows.get(request.key)
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
        made = insert_all_new(connection, _keys, [fresh[key] for key in sorted(fresh)], "key")
        left = [request for request in requests if request.key not in made]
        held = {row.key: row for row in _rows(connection, left, lock=True)} if left else {}
        found: list[Claim | Answer | VedetteError] = []
        for request in requests:
            values = fresh[request.key]
            if request.key not in made:
                found.append(self._held(connection, request, held[request.key], values))
            else:
                found.append(Claim(request.tenant, request.key, values["resource"], "", 1, now, request.context))
        return found

    def _fresh(self, request: Request, resource: str, now: int) -> dict[str, Any]:
        check_key(request.key)
        return {
            "tenant": request.tenant,
            "key": request.key,
            "operation": request.operation,
            "fingerprint": self._fingerprint(request),
            "resource": resource,
            "point": "",
            "fence": 1,
            "lease_until": now + self._lease,
            "created": now,
            "expires": now + KEEP,
            "context": msgspec.json.encode(request.context),
            "status": None,
            "body": None,
        }

    def _held(
        self, connection: Connection, request: Request, row: sa.Row[Any], fresh: dict[str, Any]
    ) -> Claim | Answer | VedetteError:
        """What a request gets whose key is there already."""
        now = fresh["created"]
        if row.expires <= now and row.lease_until <= now:
            connection.execute(_keys.update().where(_keys.c.tenant == row.tenant, _keys.c.key == row.key).values(fresh))
            return Claim(row.tenant, row.key, fresh["resource"], "", 1, now, request.context)
        try:
            return self._answer(row, request) or self._take_over(connection, row, now)
        except VedetteError as error:
            return error

    def _told(self, row: sa.Row[Any], request: Request) -> Answer | VedetteError | None:
        try:
            return self._answer(row, request)
        except VedetteError as error:
            return error

    def hold(self, connection: Connection, claims: Sequence[Claim]) -> set[str]:
        """Keys of those claims that nobody took over, kept so until the transaction ends."""
        fences = {claim.key: claim.fence for claim in claims}
        rows = _rows(connection, claims, lock=True) if claims else []
        return {row.key for row in rows if row.status is None and row.fence == fences[row.key]}

    def finish_many(self, connection: Connection, answers: Sequence[tuple[Claim, Answer]]) -> None:
        """Stores answers of claims that `hold` gave in the same transaction."""
        if answers:
            rows = [
                {"t": claim.tenant, "k": claim.key, "s": answer.status, "b": answer.body} for claim, answer in answers
            ]
            connection.execute(_FINISH, rows)

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

    def release(self, *claims: Claim) -> None:
        """Lets the next retry take over at once, after a failure that may pass. A lost claim is left alone."""

        def work(connection: Connection) -> None:
            for claim in sorted(claims, key=lambda claim: claim.key):
                connection.execute(_keys.update().where(_mine(claim)).values(lease_until=0))

        self._db.together(work, synced=False)

    def forget(self, claim: Claim) -> None:
        """Gives the key back as if it had never been sent, for a request that was refused before it began."""
        with self._db.begin() as connection:
            connection.execute(_keys.delete().where(_mine(claim), _keys.c.point == ""))

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

        def work(connection: Connection) -> Answer:
            claim = self.claim(connection, request, resource)
            if isinstance(claim, Answer):
                return claim
            return self.finish(connection, claim, effect(connection, claim))

        return self._db.together(work)

    def _answer(self, row: sa.Row[Any], request: Request) -> Answer | None:
        """The stored answer; None when there is none yet."""
        if not hmac.compare_digest(row.fingerprint, self._fingerprint(request)):
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
            raise lease_lost()

    def _fingerprint(self, request: Request) -> bytes:
        body = msgspec.json.encode(request.parameters, order="deterministic")
        return hmac.digest(self._secret, request.operation.encode() + b"\0" + body, hashlib.sha256)


def _rows(connection: Connection, wanted: Sequence[Request | Claim], *, lock: bool = False) -> list[sa.Row[Any]]:
    """The rows of those keys, all of one tenant, in order of the keys."""
    keys = sorted({one.key for one in wanted})
    rows: list[sa.Row[Any]] = []
    for start in range(0, len(keys), _CHUNK):
        given = {"tenant": wanted[0].tenant, "keys": keys[start : start + _CHUNK]}
        rows += connection.execute(_by_keys(lock=lock, sqlite=connection.dialect.name == "sqlite"), given)
    return rows


@cache
def _by_keys(*, lock: bool, sqlite: bool) -> sa.Select[Any]:
    # Kept: building and hashing the statement costs more than running it for one key.
    among = (
        _keys.c.key.in_(sa.bindparam("keys", expanding=True))
        if sqlite
        else _keys.c.key == sa.any_(sa.bindparam("keys", type_=sa.ARRAY(sa.Text)))
    )
    query = sa.select(_keys).where(_keys.c.tenant == sa.bindparam("tenant"), among).order_by(_keys.c.key)
    return query.with_for_update() if lock else query


def lease_lost() -> ConflictError:
    """What an attempt is told that was taken over."""
    return ConflictError(
        "idempotency.lease_lost",
        "another attempt took this request over",
        hint="retry with the same key to read its answer",
    )


def _mine(claim: Claim) -> sa.ColumnElement[bool]:
    return (
        (_keys.c.tenant == claim.tenant)
        & (_keys.c.key == claim.key)
        & (_keys.c.fence == claim.fence)
        & _keys.c.status.is_(None)
    )


def check_key(key: str) -> None:
    """Refuses what is no idempotency key.

    Raises:
        DataError: `idempotency.key.invalid`.
    """
    if not (0 < len(key) <= MAX_KEY and key.isprintable()):
        raise DataError(
            "idempotency.key.invalid",
            f"an idempotency key has 1 to {MAX_KEY} printable characters",
            hint="a random UUID is a good key",
        )
