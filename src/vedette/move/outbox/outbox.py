"""Endpoints, and the deliveries that wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import msgspec

from vedette.core.clock import DAY, Clock, to_iso
from vedette.core.db import Connection, Database, execute, marked, sa
from vedette.core.errors import ConflictError, DefinitionError, NotFoundError
from vedette.core.ids import Ids
from vedette.move.outbox.tables import MIGRATIONS, SETTLED, DeliveryStatus, deliveries, endpoints
from vedette.move.webhooks import Scheme

KEEP_DELIVERED: Final = 30 * DAY
KEEP_DEAD: Final = 90 * DAY
"""How long deliveries are kept once they are settled, microseconds."""
SWEEP: Final = 1_000
_ENABLED: Final = f"select id, ordered from {endpoints.name} where tenant = ? and enabled = 1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a tenant wants its webhooks, and how it fares."""

    tenant: str
    id: str
    url: str
    scheme: Scheme
    ordered: bool
    """Events about one object arrive in their order; a later one waits for the earlier ones."""
    enabled: bool
    failures: int
    """Attempts in a row that failed."""
    paused_until: int
    """Nothing is sent before; microseconds UTC, 0: not paused."""
    last_success: int
    last_failure: int
    last_error: str
    """Status or code of the last failure, or why it was switched off."""
    waiting: int
    dead: int

    @property
    def health(self) -> str:
        """`ok`, `failing` (the last attempt failed), `paused` (many did), or `disabled`."""
        if not self.enabled:
            return "disabled"
        if self.failures == 0:
            return "ok"
        return "paused" if self.paused_until > self.last_failure else "failing"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint."""

    tenant: str
    event_id: str
    """The same at every attempt: receivers deduplicate by it."""
    endpoint_id: str
    url: str
    scheme: Scheme
    body: bytes
    status: DeliveryStatus
    attempts: int
    """Attempts begun."""
    next_at: int
    """When it is due, or when its lease ends; microseconds UTC."""
    fence: int
    subject: str
    """Id of the object that the event is about, where order is kept."""
    error: str
    """Code or status of the last failure."""
    created: int
    """When its effect was, microseconds UTC."""


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
        db.migrate("outbox", MIGRATIONS)

    def add_endpoint(self, tenant: str, url: str, *, scheme: Scheme = "standard", ordered: bool = False) -> str:
        """Registers where a tenant wants its webhooks; gives the endpoint's id. Only later events are sent to it.

        Args:
            tenant: Whose.
            url: `https://...`; what may be reached is decided when it is sent to.
            scheme: How deliveries are signed.
            ordered: Keep the order of events about one object. A failing delivery then holds up the later ones of its
                object, until it is delivered or dead.

        Raises:
            DefinitionError: `outbox.scheme.unknown`.
        """
        if scheme not in get_args(Scheme):
            raise DefinitionError("outbox.scheme.unknown", "the scheme is `standard` or `timestamped`")
        id_ = self._ids.new("we")
        row = {"tenant": tenant, "id": id_, "url": url, "scheme": scheme, "ordered": int(ordered), "enabled": 1}
        none = dict.fromkeys(("place", "failures", "paused_until", "last_success", "last_failure"), 0)
        with self._db.begin() as connection:
            connection.execute(endpoints.insert().values(**row, **none, last_error="", created=self._clock.now()))
        return id_

    def enable(self, tenant: str, endpoint_id: str, *, enabled: bool = True) -> None:
        """Switches an endpoint on or off, and forgets its failures. What died while it was off stays dead.

        Raises:
            NotFoundError: `outbox.endpoint.not_found`.
        """
        at = (endpoints.c.tenant == tenant) & (endpoints.c.id == endpoint_id)
        fresh = {"enabled": int(enabled), "failures": 0, "paused_until": 0, "last_error": ""}
        with self._db.begin() as connection:
            if not connection.execute(endpoints.update().where(at).values(fresh)).rowcount:
                raise NotFoundError("outbox.endpoint.not_found", "no such webhook endpoint", at=endpoint_id)

    def endpoints(self, tenant: str) -> list[Endpoint]:
        """A tenant's endpoints and their health, oldest first."""
        at = deliveries.c.tenant == tenant
        counted = sa.select(deliveries.c.endpoint_id, deliveries.c.status, sa.func.count())
        counted = counted.where(at, deliveries.c.status != DeliveryStatus.DELIVERED)
        query = endpoints.select().where(endpoints.c.tenant == tenant).order_by(endpoints.c.created, endpoints.c.id)
        with self._db.read() as connection:
            grouped = connection.execute(counted.group_by(deliveries.c.endpoint_id, deliveries.c.status))
            counts = {(id_, status): count for id_, status, count in grouped}
            rows = connection.execute(query).all()
        return [
            Endpoint(
                **{name: getattr(row, name) for name in Endpoint.__slots__ if name in endpoints.c} | _truths(row),
                waiting=counts.get((row.id, DeliveryStatus.WAITING), 0),
                dead=counts.get((row.id, DeliveryStatus.DEAD), 0),
            )
            for row in rows
        ]

    def endpoint(self, tenant: str, endpoint_id: str) -> Endpoint:
        """One endpoint.

        Raises:
            NotFoundError: `outbox.endpoint.not_found`.
        """
        for each in self.endpoints(tenant):
            if each.id == endpoint_id:
                return each
        raise NotFoundError("outbox.endpoint.not_found", "no such webhook endpoint", at=endpoint_id)

    def emit(self, connection: Connection, tenant: str, kind: str, data: Any) -> None:
        """Writes an event for every enabled endpoint, in the caller's transaction.

        Args:
            connection: The transaction of the effect.
            tenant: Whose effect.
            kind: Such as `charge.captured`.
            data: The thing as it is now, ready for JSON. Its `id`, or that of the charge in it, is the object whose
                order is kept where asked.
        """
        self.emit_many(connection, tenant, [(kind, data)])

    def emit_many(self, connection: Connection, tenant: str, told: Sequence[tuple[str, Any]]) -> None:
        """As `emit`, for several (kind, data) in order."""
        to = execute(connection, marked(connection, _ENABLED), (tenant,)).fetchall() if told else []
        now, rows = self._clock.now(), []
        places = {id_: _places(connection, tenant, id_, len(told)) for id_, ordered in to if ordered}
        for index, (kind, data) in enumerate(told if to else ()):
            id_ = self._ids.new("evt")
            body = msgspec.json.encode({"id": id_, "type": kind, "created": to_iso(now), "data": data})
            subject = _subject(data)
            shared = {
                "tenant": tenant,
                "event_id": id_,
                "body": body,
                "status": DeliveryStatus.WAITING.value,
                "attempts": 0,
                "next_at": now,
                "fence": 0,
                "created": now,
                "error": "",
                "subject": subject,
                "settled": 0,
            }
            rows += [{**shared, "endpoint_id": id_, "place": places.get(id_, 0) + index} for id_, _ in to]
        if rows:
            connection.execute(deliveries.insert(), rows)

    def deliveries(
        self, tenant: str, *, status: DeliveryStatus | None = None, limit: int | None = None
    ) -> list[Delivery]:
        """A tenant's deliveries, oldest first.

        Args:
            tenant: Whose.
            status: Only those.
            limit: At most so many.
        """
        query = joined().where(deliveries.c.tenant == tenant)
        if status is not None:
            query = query.where(deliveries.c.status == status.value)
        with self._db.read() as connection:
            rows = connection.execute(query.order_by(deliveries.c.created, deliveries.c.event_id).limit(limit))
            return [to_delivery(row) for row in rows]

    def about(self, tenant: str, subject: str) -> list[Delivery]:
        """What was told of one object, oldest first. Goes through the tenant's deliveries: for people who look."""
        query = joined().where(deliveries.c.tenant == tenant, deliveries.c.subject == subject)
        with self._db.read() as connection:
            rows = connection.execute(query.order_by(deliveries.c.created, deliveries.c.event_id)).all()
        return [to_delivery(row) for row in rows]

    def replay(self, tenant: str, event_id: str, endpoint_id: str) -> None:
        """Sends a dead delivery again by hand: the same event id and body, the schedule from its start.

        Raises:
            NotFoundError: `outbox.delivery.not_found`.
            ConflictError: `outbox.delivery.not_dead`; `outbox.endpoint.disabled`: enable it first.
        """
        at = (deliveries.c.tenant == tenant) & (deliveries.c.event_id == event_id)
        at &= deliveries.c.endpoint_id == endpoint_id
        with self._db.begin() as connection:
            row = connection.execute(joined().where(at).with_for_update(of=deliveries)).one_or_none()
            if row is None:
                raise NotFoundError("outbox.delivery.not_found", "no such delivery", at=event_id)
            if row.status != DeliveryStatus.DEAD:
                raise ConflictError("outbox.delivery.not_dead", f"this delivery is {row.status}", at=event_id)
            if not row.enabled:
                raise ConflictError("outbox.endpoint.disabled", "the endpoint is switched off", at=endpoint_id)
            # The fence stays: a dispatcher that still holds an old lease must not settle the new attempt.
            fresh = {"status": DeliveryStatus.WAITING.value, "attempts": 0, "next_at": self._clock.now(), "settled": 0}
            connection.execute(deliveries.update().where(at).values(fresh | {"fence": row.fence + 1}))

    def sweep(self) -> int:
        """Forgets deliveries that were settled long ago, a bounded number; answers how many."""
        now, key = self._clock.now(), (deliveries.c.tenant, deliveries.c.event_id, deliveries.c.endpoint_id)
        old = (deliveries.c.settled < now - KEEP_DEAD) | (
            (deliveries.c.settled < now - KEEP_DELIVERED) & (deliveries.c.status == DeliveryStatus.DELIVERED.value)
        )
        query = sa.select(*key).where(SETTLED, old).order_by(deliveries.c.settled).limit(SWEEP)
        with self._db.begin(synced=False) as connection:
            gone = [tuple(row) for row in connection.execute(query)]
            if gone:
                connection.execute(deliveries.delete().where(SETTLED, sa.tuple_(*key).in_(gone)))
        return len(gone)


def joined() -> sa.Select[Any]:
    """Deliveries with what is needed of their endpoint."""
    return sa.select(deliveries, endpoints.c.url, endpoints.c.scheme, endpoints.c.enabled).join(
        endpoints, (endpoints.c.tenant == deliveries.c.tenant) & (endpoints.c.id == deliveries.c.endpoint_id)
    )


def to_delivery(row: sa.Row[Any], **changed: Any) -> Delivery:
    """A row of `joined`."""
    values = {name: getattr(row, name) for name in Delivery.__slots__} | changed
    return Delivery(**{**values, "status": DeliveryStatus(values["status"])})


def _subject(data: Any) -> str:
    told = data if isinstance(data, dict) else {}
    held = told.get("charge")
    return str(told.get("id") or (held.get("id") if isinstance(held, dict) else "") or "")


def _truths(row: sa.Row[Any]) -> dict[str, bool]:
    return {"ordered": bool(row.ordered), "enabled": bool(row.enabled)}


def _places(connection: Connection, tenant: str, endpoint_id: str, count: int) -> int:
    """The first of `count` places in an endpoint's order. Locked until the commit: the order is that of the effects."""
    at = (endpoints.c.tenant == tenant) & (endpoints.c.id == endpoint_id)
    taken = endpoints.update().where(at).values(place=endpoints.c.place + count).returning(endpoints.c.place)
    return int(connection.execute(taken).scalar_one()) - count + 1
