"""Sends what is due: leases with fencing tokens, a few connections for each endpoint, a schedule, dead letters."""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, Protocol

from vedette.core.clock import MICROS, Clock
from vedette.core.db import Connection, Database, sa
from vedette.core.egress import Egress
from vedette.core.errors import VedetteError
from vedette.move.outbox.outbox import Delivery, joined, to_delivery
from vedette.move.outbox.tables import MIGRATIONS, WAITING, DeliveryStatus, deliveries, endpoints
from vedette.move.webhooks import sign_each

SCHEDULE_S: Final = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds to wait before each attempt; after the last one a delivery is dead. Standard Webhooks' schedule."""
JITTER: Final = 0.2
"""A wait is stretched by up to this share, so that endpoints that failed together do not return together."""
LEASE_S: Final = 60.0
"""How long a dispatcher may hold a delivery; longer than `TIMEOUT_S`."""
TIMEOUT_S: Final = 20.0
MAX_REPLY: Final = 64 * 1024
"""Bytes of an answer that are read; only its status and `Retry-After` matter."""
MAX_ERROR: Final = 200
"""Characters kept of what went wrong."""
MAX_RETRY_AFTER_S: Final = 86_400
MAX_DIGITS: Final = 9
BATCH: Final = 256
"""Most deliveries in one lease."""
PER_ENDPOINT: Final = 64
"""Most deliveries of one endpoint that a dispatcher holds, so that a slow one leaves room for others."""
CONNECTIONS: Final = 4
"""Requests to one endpoint at a time."""
PATIENCE_S: Final = 1.0
"""How long a turn waits for slow endpoints before it leaves them to the next turn."""
PAUSE_AFTER: Final = 5
"""Failures in a row after which an endpoint is left alone for a while."""
PAUSE_S, MAX_PAUSE_S = 10, 600
"""First pause, doubled with each further failure, and the longest."""
_SLOW_DOWN: Final = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_Key = tuple[str, str]
_DELIVERED: Final = {"status": DeliveryStatus.DELIVERED.value, "error": ""}


@dataclass(frozen=True, slots=True)
class Post:
    """One HTTP POST for `Send` to make."""

    url: str
    headers: Mapping[str, str]
    content: bytes
    timeout: float
    """Seconds for the whole exchange."""


class Response(Protocol):
    """What came back. `core.egress.Response` is one."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case."""


Send = Callable[[Post], Response]
"""Makes a request without following redirects; raises a `VedetteError` when there is no answer. See `through`."""
SecretsOf = Callable[[str, str], Sequence[str]]
"""Signing secrets of (tenant, endpoint id), newest first. They are never in the database."""


def through(egress: Egress) -> Send:
    """A `Send` over the one way out: addresses checked, no redirects, capped in time and size.

    Connections are kept for the next delivery to the same endpoint. Its address is checked each time all the same.
    """

    def send(post: Post) -> Response:
        return egress.request(
            "POST",
            post.url,
            headers=post.headers,
            content=post.content,
            timeout=post.timeout,
            max_bytes=MAX_REPLY,
            keep=True,
        )

    return send


class Outcome(NamedTuple):
    """How an attempt ended."""

    result: int | str
    """HTTP status, or the code of the error when there was no answer."""
    retry_after: float = 0.0
    """Seconds the endpoint asked to be left alone; 0: it did not."""

    @property
    def delivered(self) -> bool:
        """True for the statuses 200 to 299."""
        return isinstance(self.result, int) and HTTPStatus(200) <= self.result < HTTPStatus(300)


class Dispatcher:
    """Sends what is due.

    Args:
        db: The outbox's database.
        clock: For schedules and signatures.
        send: Makes the request; in production `through(egress)`.
        secrets_of: Where signing secrets come from.
        rng: For jitter.
        threads: Requests at a time. 0: one after the other, in the caller's thread.
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
        threads: int = 0,
        step: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._send = send
        self._secrets_of = secrets_of
        self._rng = rng
        self._step = step
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="webhooks") if threads else None
        self._lines: defaultdict[_Key, deque[Delivery]] = defaultdict(deque)
        self._running: Counter[_Key] = Counter()
        self._lock = threading.Lock()
        self._done: SimpleQueue[tuple[Delivery, Outcome | None]] = SimpleQueue()
        self._held = 0
        db.migrate("outbox", MIGRATIONS)

    def close(self) -> None:
        """Ends the requests in hand and notes how they ended; what was not begun is given back."""
        if self._pool is not None:
            with self._lock:
                waiting = [each for line in self._lines.values() for each in line]
                self._lines.clear()
            self._pool.shutdown()
            self._held -= len(waiting)
            for delivery in waiting:
                self._give_back(delivery)
            self._collect(self._held)

    def run_once(self, limit: int = 10_000) -> int:
        """Sends what is due now, at most `limit`; answers how many attempts it began.

        With threads it returns after about `PATIENCE_S`: what slow endpoints still hold is noted by a later turn.
        """
        return self._turn(limit) if self._pool is not None else self._one_by_one(limit)

    def lease(self, limit: int, *, held: Mapping[_Key, int] | None = None) -> list[Delivery]:
        """Takes due deliveries for `LEASE_S` seconds each; nobody else sends them meanwhile.

        Args:
            limit: At most so many.
            held: (tenant, endpoint) -> how many of its deliveries the caller holds already; of `PER_ENDPOINT`.
        """
        counts = Counter(held or {})
        now = self._clock.now()
        busy = [key for key, count in counts.items() if count >= PER_ENDPOINT]
        query = _due(now, limit, busy)
        # Not synced: a power cut that takes the lease back lets the delivery be sent again, under the same id.
        with self._db.begin(synced=False) as connection:
            taken: list[Delivery] = []
            for row in connection.execute(query).all():
                if not row.enabled:
                    ended = {"status": DeliveryStatus.DEAD.value, "error": "endpoint_disabled", "settled": now}
                    _note(connection, to_delivery(row), **ended)
                elif counts[row.tenant, row.endpoint_id] < PER_ENDPOINT:
                    counts[row.tenant, row.endpoint_id] += 1
                    changed = {"attempts": row.attempts + 1, "fence": row.fence + 1}
                    taken.append(to_delivery(row, **changed, next_at=now + round(LEASE_S * MICROS)))
            if taken:
                connection.execute(_LEASED, [_bound(each) | {"was": each.fence - 1} for each in taken])
        return taken

    def settle(self, delivery: Delivery, outcome: int | str | Outcome) -> bool:
        """Notes how an attempt ended; false when the lease had run out and someone else holds the delivery.

        Args:
            delivery: As leased.
            outcome: HTTP status, or the code of the error when there was no answer.
        """
        ended = outcome if isinstance(outcome, Outcome) else Outcome(outcome)
        with self._db.begin() as connection:
            noted = _note(connection, delivery, **self._after(delivery, ended))
            if noted:
                self._note_health(connection, [(delivery, ended)])
            return noted

    # Turns

    def _one_by_one(self, limit: int) -> int:
        made, late = 0, False
        while made < limit and not late and (leased := self.lease(min(limit - made, BATCH))):
            for delivery in leased:
                self._step("dispatch.leased")
                outcome = self._attempt(delivery)
                if outcome is None:
                    self._give_back(delivery)
                    late = True
                    continue
                made += 1
                self._step("dispatch.sent")
                self.settle(delivery, outcome)
                self._step("dispatch.settled")
        return made

    def _turn(self, limit: int) -> int:
        made, more = 0, True
        until = self._clock.monotonic() + PATIENCE_S
        while True:
            self._collect(0)
            if more and made < limit:
                leased = self.lease(min(limit - made, BATCH), held=self._counts())
                self._begin(leased)
                made += len(leased)
                more = bool(leased)
            over = self._clock.monotonic() >= until
            if over or (not self._held and (not more or made >= limit)):
                break
            if self._held:
                self._collect(min(self._held, BATCH // 2) if more else self._held, until)
                more = made < limit
        self._collect(0)
        return made

    def _counts(self) -> dict[_Key, int]:
        with self._lock:
            lines = {key: len(line) for key, line in self._lines.items()}
            return {key: lines.get(key, 0) + self._running[key] for key in {*lines, *self._running}}

    def _begin(self, leased: Iterable[Delivery]) -> None:
        """Gives deliveries to their endpoints' lines, and each line its connections."""
        for delivery in leased:
            key = (delivery.tenant, delivery.endpoint_id)
            self._held += 1
            with self._lock:
                self._lines[key].append(delivery)
                fresh = self._running[key] < CONNECTIONS
                self._running[key] += fresh
            if fresh and self._pool is not None:
                self._pool.submit(self._serve, key)

    def _serve(self, key: _Key) -> None:
        """Sends an endpoint's deliveries one after the other until its line is empty."""
        try:
            while (delivery := self._next(key)) is not None:
                # What nobody foresaw is a failure like another: the schedule goes on, and the error leaves the thread.
                outcome: Outcome | None = Outcome("outbox.internal")
                try:
                    outcome = self._attempt(delivery)
                finally:
                    self._done.put((delivery, outcome))
        finally:
            with self._lock:
                self._running[key] -= 1
                if not self._running[key]:
                    del self._running[key]

    def _next(self, key: _Key) -> Delivery | None:
        with self._lock:
            line = self._lines.get(key)
            if line:
                return line.popleft()
            self._lines.pop(key, None)
            return None

    def _collect(self, count: int, until: float | None = None) -> None:
        """Settles what has ended: all there is, after a wait for `count` of them until a moment, if there is one."""
        ended: list[tuple[Delivery, Outcome | None]] = []
        try:
            while len(ended) < self._held:
                if len(ended) >= count:
                    ended.append(self._done.get_nowait())
                else:
                    left = None if until is None else max(until - self._clock.monotonic(), 0.0)
                    ended.append(self._done.get(timeout=left))
        except Empty:
            pass
        if ended:
            self._held -= len(ended)
            self._settle_all(ended)

    def _settle_all(self, ended: Sequence[tuple[Delivery, Outcome | None]]) -> None:
        known = [(delivery, outcome) for delivery, outcome in ended if outcome is not None]
        good = [delivery for delivery, outcome in known if outcome.delivered]
        now = self._clock.now()
        # Not synced: what a power cut takes back is sent once more, under the same id.
        with self._db.begin(synced=False) as connection:
            if good:
                connection.execute(_SETTLED, [_bound(each) | {"now": now} for each in good])
            for delivery, outcome in known:
                if not outcome.delivered:
                    _note(connection, delivery, **self._after(delivery, outcome))
            self._note_health(connection, known)
        for delivery, late in ended:
            if late is None:
                self._give_back(delivery)

    # One attempt

    def _attempt(self, delivery: Delivery) -> Outcome | None:
        """Sends; None when so little of the lease is left that the attempt could cross with another dispatcher's."""
        if self._clock.now() > delivery.next_at - TIMEOUT_S * MICROS:
            return None
        try:
            headers = sign_each(
                delivery.body,
                secrets=self._secrets_of(delivery.tenant, delivery.endpoint_id),
                timestamp=self._clock.now() // MICROS,
                message_id=delivery.event_id,
                scheme=delivery.scheme,
            )
            named = {"content-type": "application/json", "webhook-id": delivery.event_id, **headers}
            response = self._send(Post(delivery.url, named, delivery.body, TIMEOUT_S))
        except VedetteError as error:
            return Outcome(error.code)
        return Outcome(response.status, _retry_after(response))

    def _after(self, delivery: Delivery, outcome: Outcome) -> dict[str, Any]:
        """What becomes of a delivery."""
        now = self._clock.now()
        if outcome.delivered:
            return _DELIVERED | {"settled": now}
        error = str(outcome.result)[:MAX_ERROR]
        if outcome.result == HTTPStatus.GONE or delivery.attempts >= len(SCHEDULE_S):
            return {"status": DeliveryStatus.DEAD.value, "error": error, "settled": now}
        wait = max(SCHEDULE_S[delivery.attempts], outcome.retry_after) * (1 + JITTER * self._rng.random())
        return {"next_at": now + round(wait * MICROS), "error": error}

    def _note_health(self, connection: Connection, ended: Sequence[tuple[Delivery, Outcome]]) -> None:
        by_endpoint: defaultdict[_Key, list[Outcome]] = defaultdict(list)
        for delivery, outcome in ended:
            by_endpoint[delivery.tenant, delivery.endpoint_id].append(outcome)
        # In one order, so that two dispatchers never wait for each other.
        for (tenant, id_), outcomes in sorted(by_endpoint.items()):
            at = (endpoints.c.tenant == tenant) & (endpoints.c.id == id_)
            connection.execute(endpoints.update().where(at).values(self._health(outcomes)))

    def _health(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        now = self._clock.now()
        failed = [outcome for outcome in outcomes if not outcome.delivered]
        gone = any(outcome.result == HTTPStatus.GONE for outcome in failed)
        if len(failed) < len(outcomes) and not gone:
            # One that got through shows that it is there, whatever became of others in the same moment.
            return {"failures": 0, "paused_until": 0, "last_success": now}
        error = str(failed[-1].result)[:MAX_ERROR]
        values: dict[str, Any] = {"failures": endpoints.c.failures + 1, "last_failure": now, "last_error": error}
        asked = max((each.retry_after for each in failed if each.result in _SLOW_DOWN), default=0.0)
        steps = sa.case(
            *((endpoints.c.failures + 1 == n, now + _pause(n) * MICROS) for n in range(PAUSE_AFTER, PAUSE_AFTER + 6)),
            (endpoints.c.failures + 1 > PAUSE_AFTER, now + MAX_PAUSE_S * MICROS),
            else_=now + round(asked * MICROS) if asked else 0,
        )
        values["paused_until"] = steps
        return values | ({"enabled": 0} if gone else {})

    def _give_back(self, delivery: Delivery) -> None:
        with self._db.begin(synced=False) as connection:
            _note(connection, delivery, attempts=delivery.attempts - 1, next_at=self._clock.now())


def _pause(failures: int) -> int:
    """Seconds an endpoint is left alone after so many failures in a row."""
    return int(min(PAUSE_S * 2 ** (failures - PAUSE_AFTER), MAX_PAUSE_S))


def _retry_after(response: Response) -> float:
    """Seconds of a `Retry-After` header; its form as a date is not used by senders of webhooks and is ignored."""
    text = response.headers.get("retry-after", "").strip()
    return float(min(int(text[:MAX_DIGITS]), MAX_RETRY_AFTER_S)) if text.isascii() and text.isdigit() else 0.0


def _due(now: int, limit: int, busy: Sequence[_Key]) -> sa.Select[Any]:
    """What may be sent now: of an ordered endpoint, only the first that waits of each object."""
    earlier = deliveries.alias("earlier")
    before = (
        sa.select(sa.literal(1))
        .where(
            earlier.c.tenant == deliveries.c.tenant,
            earlier.c.endpoint_id == deliveries.c.endpoint_id,
            earlier.c.subject == deliveries.c.subject,
            earlier.c.status == sa.literal_column("'waiting'"),
            earlier.c.place < deliveries.c.place,
        )
        .exists()
    )
    query = joined().where(
        WAITING,
        deliveries.c.next_at <= now,
        endpoints.c.paused_until <= now,
        (endpoints.c.ordered == 0) | (deliveries.c.subject == sa.literal("")) | ~before,
    )
    if busy:
        query = query.where(sa.tuple_(deliveries.c.tenant, deliveries.c.endpoint_id).not_in(busy))
    return (
        query.order_by(deliveries.c.next_at, deliveries.c.place)
        .limit(limit)
        .with_for_update(skip_locked=True, of=deliveries)
    )


_AT: Final = (
    (deliveries.c.tenant == sa.bindparam("of_tenant"))
    & (deliveries.c.event_id == sa.bindparam("of_event"))
    & (deliveries.c.endpoint_id == sa.bindparam("of_endpoint"))
    & (deliveries.c.status == DeliveryStatus.WAITING.value)
)
_LEASED: Final = (
    deliveries.update()
    .where(_AT, deliveries.c.fence == sa.bindparam("was"))
    .values(attempts=sa.bindparam("tried"), fence=sa.bindparam("token"), next_at=sa.bindparam("until"))
)
_SETTLED: Final = (
    deliveries.update()
    .where(_AT, deliveries.c.fence == sa.bindparam("token"))
    .values(**_DELIVERED, settled=sa.bindparam("now"))
)


def _bound(delivery: Delivery) -> dict[str, Any]:
    return {
        "of_tenant": delivery.tenant,
        "of_event": delivery.event_id,
        "of_endpoint": delivery.endpoint_id,
        "token": delivery.fence,
        "tried": delivery.attempts,
        "until": delivery.next_at,
    }


def _note(connection: Connection, delivery: Delivery, **values: Any) -> bool:
    """Writes if nobody took a newer lease since."""
    at = (
        (deliveries.c.tenant == delivery.tenant)
        & (deliveries.c.event_id == delivery.event_id)
        & (deliveries.c.endpoint_id == delivery.endpoint_id)
        & (deliveries.c.fence == delivery.fence)
        & (deliveries.c.status == DeliveryStatus.WAITING.value)
    )
    return bool(connection.execute(deliveries.update().where(at).values(values)).rowcount)
