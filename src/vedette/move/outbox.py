"""Webhooks out: written with the effect they tell of, delivered at least once, with the same id every time.

`Outbox.emit` writes one delivery for each of the tenant's endpoints in the caller's transaction: no effect without its
webhook, no webhook without its effect. A `Dispatcher` leases deliveries that are due, sends them signed, and notes what
came back if its fencing token is still the newest. Any number of dispatchers may run.

Delivery statuses: `waiting`, then `delivered`, or `dead` once the schedule is used up or the endpoint is gone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec

from vedette.core.clock import MICROS, Clock, to_iso
from vedette.core.db import LONG, Connection, Database, Migration, create, sa
from vedette.core.egress import Egress
from vedette.core.errors import NotFoundError, VedetteError
from vedette.core.ids import Ids
from vedette.move.webhooks import HEADER, sign

SCHEDULE_S: Final = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds to wait before each attempt; after the last one a delivery is dead. Standard Webhooks' schedule."""
JITTER: Final = 0.2
"""A wait is stretched by up to this share, so that endpoints that failed together do not return together."""
LEASE_S: Final = 60.0
"""How long a dispatcher may hold a delivery; longer than `TIMEOUT_S`."""
TIMEOUT_S: Final = 20.0
MAX_REPLY: Final = 64 * 1024
"""Bytes of an answer that are read; only its status matters."""
MAX_ERROR: Final = 200
"""Characters kept of what went wrong."""

_METADATA = sa.MetaData()
_endpoints = sa.Table(
    "webhook_endpoint",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("enabled", sa.Integer, nullable=False),
    sa.Column("created", LONG, nullable=False),
    sqlite_strict=True,
)
_deliveries = sa.Table(
    "webhook_delivery",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("endpoint_id", sa.Text, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", LONG, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("created", LONG, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sqlite_strict=True,
)
# A literal, not a bound value: a partial index serves only a query that repeats its condition word for word.
_WAITING: Final = _deliveries.c.status == sa.literal_column("'waiting'")
sa.Index("webhook_delivery_due", _deliveries.c.next_at, sqlite_where=_WAITING, postgresql_where=_WAITING)
_MIGRATIONS = (Migration(1, "webhook endpoints and deliveries", create(_METADATA)),)


class DeliveryStatus(StrEnum):
    """Where a delivery is."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Post:
    """One HTTP POST for `Send` to make."""

    url: str
    headers: Mapping[str, str]
    content: bytes
    timeout: float
    """Seconds for the whole exchange."""


class Response(Protocol):
    """What came back; only the status matters. `core.egress.Response` is one."""

    @property
    def status(self) -> int:
        """HTTP status."""


Send = Callable[[Post], Response]
"""Makes a request without following redirects; raises a `VedetteError` when there is no answer. See `through`."""


def through(egress: Egress) -> Send:
    """A `Send` over the one way out: addresses checked, no redirects, capped in time and size."""

    def send(post: Post) -> Response:
        return egress.request(
            "POST", post.url, headers=post.headers, content=post.content, timeout=post.timeout, max_bytes=MAX_REPLY
        )

    return send


SecretsOf = Callable[[str, str], Sequence[bytes]]
"""Signing secrets of (tenant, endpoint id), newest first. They are never in the database."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint."""

    tenant: str
    event_id: str
    """The same at every attempt: receivers deduplicate by it."""
    endpoint_id: str
    url: str
    body: bytes
    status: DeliveryStatus
    attempts: int
    """Attempts begun."""
    next_at: int
    """When it is due, or when its lease ends; microseconds UTC."""
    fence: int
    error: str
    """Code or status of the last failure."""


class Outbox:
    """Endpoints, and the deliveries waiting for them.

    Args:
        db: The database of the effects; migrated here.
        clock: For times.
        ids: For event and endpoint ids.
    """

    def __init__(self, db: Database, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        db.migrate("outbox", _MIGRATIONS)

    def add_endpoint(self, tenant: str, url: str) -> str:
        """Registers where a tenant wants its webhooks; gives the endpoint's id. Only later events are sent to it."""
        id_ = self._ids.new("we")
        with self._db.begin() as connection:
            connection.execute(
                _endpoints.insert().values(tenant=tenant, id=id_, url=url, enabled=1, created=self._clock.now())
            )
        return id_

    def enable(self, tenant: str, endpoint_id: str, *, enabled: bool = True) -> None:
        """Switches an endpoint on or off. What died while it was off stays dead.

        Raises:
            NotFoundError: `outbox.endpoint.not_found`.
        """
        at = (_endpoints.c.tenant == tenant) & (_endpoints.c.id == endpoint_id)
        with self._db.begin() as connection:
            if not connection.execute(_endpoints.update().where(at).values(enabled=int(enabled))).rowcount:
                raise NotFoundError("outbox.endpoint.not_found", "no such webhook endpoint", at=endpoint_id)

    def emit(self, connection: Connection, tenant: str, kind: str, data: Any) -> None:
        """Writes an event for every enabled endpoint, in the caller's transaction.

        Args:
            connection: The transaction of the effect.
            tenant: Whose effect.
            kind: Such as `charge.captured`.
            data: The thing as it is now, ready for JSON.
        """
        self.emit_many(connection, tenant, [(kind, data)])

    def emit_many(self, connection: Connection, tenant: str, told: Sequence[tuple[str, Any]]) -> None:
        """As `emit`, for several (kind, data) in order."""
        at = (_endpoints.c.tenant == tenant) & (_endpoints.c.enabled == 1)
        endpoints = connection.execute(sa.select(_endpoints.c.id).where(at)).scalars().all()
        now = self._clock.now()
        rows = []
        for kind, data in told if endpoints else ():
            id_ = self._ids.new("evt")
            body = msgspec.json.encode({"id": id_, "type": kind, "created": to_iso(now), "data": data})
            shared = {
                "tenant": tenant,
                "event_id": id_,
                "body": body,
                "status": DeliveryStatus.WAITING.value,
                "attempts": 0,
                "next_at": now + SCHEDULE_S[0] * MICROS,
                "fence": 0,
                "created": now,
                "error": "",
            }
            rows += [{**shared, "endpoint_id": endpoint} for endpoint in endpoints]
        if rows:
            connection.execute(_deliveries.insert(), rows)

    def deliveries(self, tenant: str) -> list[Delivery]:
        """Every delivery of a tenant, oldest first."""
        query = _joined().where(_deliveries.c.tenant == tenant).order_by(_deliveries.c.created, _deliveries.c.event_id)
        with self._db.read() as connection:
            return [_delivery(row) for row in connection.execute(query)]


class Dispatcher:
    """Sends what is due.

    Args:
        db: The outbox's database.
        clock: For schedules and signatures.
        send: Makes the request; in production `through(egress)`.
        secrets_of: Where signing secrets come from.
        rng: For jitter.
        step: Told the name of each step as it is reached; tests stop a process there.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        *,
        send: Send,
        secrets_of: SecretsOf,
        rng: random.Random,
        step: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._send = send
        self._secrets_of = secrets_of
        self._rng = rng
        self._step = step
        db.migrate("outbox", _MIGRATIONS)

    def run_once(self, limit: int = 100) -> int:
        """Sends what is due now, at most `limit`; answers how many attempts it made."""
        made = 0
        for delivery in self.lease(limit):
            self._step("dispatch.leased")
            if self._clock.now() > delivery.next_at - TIMEOUT_S * MICROS:
                # Slow endpoints before it used its lease up: sending now could cross with another dispatcher.
                self._give_back(delivery)
                continue
            outcome = self._attempt(delivery)
            made += 1
            self._step("dispatch.sent")
            self.settle(delivery, outcome)
            self._step("dispatch.settled")
        return made

    def lease(self, limit: int) -> list[Delivery]:
        """Takes due deliveries for `LEASE_S` seconds each; nobody else sends them meanwhile."""
        now = self._clock.now()
        due = (
            _joined()
            .where(_WAITING, _deliveries.c.next_at <= now)
            .order_by(_deliveries.c.next_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=_deliveries)
        )
        with self._db.begin() as connection:
            rows = connection.execute(due).all()
            lease = now + round(LEASE_S * MICROS)
            held = []
            for row in rows:
                if not row.enabled:
                    _note(connection, _delivery(row), status=DeliveryStatus.DEAD, error="endpoint_disabled")
                    continue
                attempt = {"attempts": row.attempts + 1, "fence": row.fence + 1, "next_at": lease}
                _note(connection, _delivery(row), **attempt)
                held.append(_delivery(row, **attempt))
        return held

    def settle(self, delivery: Delivery, outcome: int | str) -> bool:
        """Notes how an attempt ended; false when the lease had run out and someone else holds the delivery.

        Args:
            delivery: As leased.
            outcome: HTTP status, or the code of the error when there was no answer.
        """
        with self._db.begin() as connection:
            if isinstance(outcome, int) and HTTPStatus(200) <= outcome < HTTPStatus(300):
                return _note(connection, delivery, status=DeliveryStatus.DELIVERED, error="")
            error = str(outcome)[:MAX_ERROR]
            if outcome == HTTPStatus.GONE:
                at = (_endpoints.c.tenant == delivery.tenant) & (_endpoints.c.id == delivery.endpoint_id)
                connection.execute(_endpoints.update().where(at).values(enabled=0))
                return _note(connection, delivery, status=DeliveryStatus.DEAD, error=error)
            if delivery.attempts >= len(SCHEDULE_S):
                return _note(connection, delivery, status=DeliveryStatus.DEAD, error=error)
            wait = SCHEDULE_S[delivery.attempts] * (1 + JITTER * self._rng.random())
            return _note(connection, delivery, next_at=self._clock.now() + round(wait * MICROS), error=error)

    def _give_back(self, delivery: Delivery) -> None:
        with self._db.begin() as connection:
            _note(connection, delivery, attempts=delivery.attempts - 1, next_at=self._clock.now())

    def _attempt(self, delivery: Delivery) -> int | str:
        try:
            secrets = self._secrets_of(delivery.tenant, delivery.endpoint_id)
            headers = {
                "content-type": "application/json",
                "webhook-id": delivery.event_id,
                HEADER: sign(secrets, delivery.body, self._clock.now() // MICROS),
            }
            return self._send(Post(delivery.url, headers, delivery.body, TIMEOUT_S)).status
        except VedetteError as error:
            return error.code


def _joined() -> sa.Select[Any]:
    return sa.select(_deliveries, _endpoints.c.url, _endpoints.c.enabled).join(
        _endpoints,
        (_endpoints.c.tenant == _deliveries.c.tenant) & (_endpoints.c.id == _deliveries.c.endpoint_id),
    )


def _delivery(row: sa.Row[Any], **changed: Any) -> Delivery:
    values = {name: getattr(row, name) for name in Delivery.__slots__} | changed
    return Delivery(**{**values, "status": DeliveryStatus(values["status"])})


def _note(connection: Connection, delivery: Delivery, **values: Any) -> bool:
    """Writes if nobody took a newer lease since."""
    at = (
        (_deliveries.c.tenant == delivery.tenant)
        & (_deliveries.c.event_id == delivery.event_id)
        & (_deliveries.c.endpoint_id == delivery.endpoint_id)
        & (_deliveries.c.fence == delivery.fence)
        & (_deliveries.c.status == DeliveryStatus.WAITING)
    )
    return bool(connection.execute(_deliveries.update().where(at).values(values)).rowcount)
