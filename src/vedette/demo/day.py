"""The day: what happens, told to the product step by step over HTTP; what it answers, told to the world.

Logs, payments, refunds, payouts and disputes go through the routes that anybody's would; people work at their desks.
Nothing here knows what is an attack.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from vedette.core.errors import PermanentError, TransientError
from vedette.demo.clock import DayClock
from vedette.demo.staff import Staff
from vedette.demo.wire import Reply, Wire
from vedette.demo.world.nouns import Answer, Dispute, Outcome, Payment, Payout, Refund, Step

NDJSON: Final = "application/x-ndjson"
BATCH: Final = 1_000
"""Charges of one batch request."""
PUSH_BYTES: Final = 4 << 20
"""Bytes of one push of events."""
LAZY: Final = frozenset({"store", "reviews", "register", "sightings", "quality"})
"""Stages that no alert on an attack waits for; the day ends when they are done too."""
TOO_MANY, TRIES, WAIT_S = 429, 100, 0.2
"""Told to slow down, the company's own systems wait, and try so often."""
POLL_S: Final = 0.04
CATCH_UP_S: Final = 120.0
"""Real seconds that the pipelines may take to catch up."""

_STATUS: Final = {
    "captured": Answer.CAPTURED,
    "challenged": Answer.CHALLENGED,
    "blocked": Answer.BLOCKED,
}
_REFUSALS: Final = {401: Answer.UNAUTHORIZED, 402: Answer.FAILED, TOO_MANY: Answer.LIMITED}
_encode = msgspec.json.Encoder().encode


class World(Protocol):
    """What makes the day happen."""

    def steps(self) -> Iterator[Step]:
        """The day, five minutes at a time."""

    def observe(self, answers: Mapping[str, Outcome]) -> None:
        """Hears how the step's payments ended, by their ids, before the next step is asked for."""


@dataclass(frozen=True, slots=True)
class Passes:
    """Secrets that the player was given."""

    merchants: Mapping[str, str]
    """Name of an API key -> its secret."""
    feed: str
    """Of the company's own systems: pushes logs, sends charges in batches, refunds, payouts and labels."""
    watch: str
    """Reads how far the pipelines are."""


class Paid(msgspec.Struct, frozen=True, array_like=True):
    """How one payment ended."""

    id: str
    time: int
    answer: Answer
    charge: str
    amount_minor: int
    currency: str
    customer: str


@dataclass(slots=True)
class Record:
    """What happened so far, as a client knows it."""

    events: int = 0
    """Log records that the product took."""
    payments: int = 0
    refunds: int = 0
    payouts: int = 0
    disputes: int = 0
    answers: dict[Answer, int] = field(default_factory=dict)
    paid: list[Paid] = field(default_factory=list)
    charges: dict[str, str] = field(default_factory=dict)
    """Payment -> its charge, for those that moved money."""
    latencies: list[float] = field(default_factory=list)
    """Seconds of each single charge over HTTP, as its sender sees it."""
    now: int = 0


class Day:
    """Plays a world's day.

    Args:
        world: What happens.
        wire: To the product.
        clock: Its clock.
        passes: Secrets.
        staff: People at their desks.
        tell: Called after each step.
    """

    def __init__(
        self,
        world: World,
        *,
        wire: Wire,
        clock: DayClock,
        passes: Passes,
        staff: Staff,
        tell: Callable[[Record], None] = lambda _record: None,
    ) -> None:
        self._world = world
        self._wire = wire
        self._clock = clock
        self._passes = passes
        self._staff = staff
        self._tell = tell
        self._pushed = 0
        self.record = Record()

    def play(self) -> Record:
        """The whole day; gives what happened.

        Raises:
            PermanentError: `demo.request.refused`: the product does not take what it should.
            TransientError: `demo.server.silent`, `demo.pipelines.slow`.
        """
        steps = self._world.steps()
        step = next(steps, None)
        while step is not None:
            self._world.observe(self._send(step))
            # The pipelines catch up while the world thinks of what comes next.
            following = next(steps, None)
            self._settle(lazy=False)
            self._staff.turn(step.until)
            self._tell(self.record)
            step = following
        self._settle(lazy=True)
        return self.record

    def _send(self, step: Step) -> dict[str, Outcome]:
        answers: dict[str, Outcome] = {}
        for payment in step.payments:
            if payment.http:
                self._clock.set(payment.time)
                answers[payment.id] = self._keep(payment, self._charge(payment))
        self._clock.set(step.until)
        self.record.now = step.until
        for source, lines in step.logs.items():
            self._push(source, lines)
        rest = [payment for payment in step.payments if not payment.http]
        for start in range(0, len(rest), BATCH):
            part = rest[start : start + BATCH]
            for payment, outcome in zip(part, self._charge_many(part), strict=True):
                answers[payment.id] = self._keep(payment, outcome)
        self._refund(step.refunds)
        self._pay_out(step.payouts)
        self._dispute(step.disputes)
        return answers

    # Payments

    def _charge(self, payment: Payment) -> Outcome:
        body = _encode(payment.request)
        secret = self._passes.merchants[payment.key]
        started = time.perf_counter()
        reply = self._wire.send("POST", "/v1/charges", bearer=secret, body=body, key=payment.id)
        self.record.latencies.append(time.perf_counter() - started)
        return _outcome(reply.status, reply.json())

    def _charge_many(self, payments: list[Payment]) -> Iterator[Outcome]:
        lines = (_encode({"key": each.id, "time": each.time, "charge": each.request}) for each in payments)
        reply = self._feed("/v1/charges/batch", b"\n".join(lines), media=NDJSON)
        for line in _taken(reply, "/v1/charges/batch").body.splitlines():
            answer = msgspec.json.decode(line)
            yield _outcome(answer["status"], answer["body"])

    def _keep(self, payment: Payment, outcome: Outcome) -> Outcome:
        record, request = self.record, payment.request
        record.payments += 1
        record.answers[outcome.status] = record.answers.get(outcome.status, 0) + 1
        if outcome.status is Answer.CAPTURED:
            record.charges[payment.id] = outcome.charge
        record.paid.append(
            Paid(
                payment.id,
                payment.time,
                outcome.status,
                outcome.charge,
                request["amount_minor"],
                request["currency"],
                request["metadata"].get("customer", ""),
            )
        )
        return outcome

    def _refund(self, refunds: Iterable[Refund]) -> None:
        for refund in refunds:
            charge = self.record.charges.get(refund.payment)
            if charge:
                body = _encode({"amount_minor": refund.amount_minor})
                self._feed(f"/v1/charges/{charge}/refunds", body, key=refund.id)
                self.record.refunds += 1

    def _pay_out(self, payouts: Iterable[Payout]) -> None:
        for payout in payouts:
            self._feed("/v1/payouts", _encode(payout.request), key=payout.id)
            self.record.payouts += 1

    def _dispute(self, disputes: Iterable[Dispute]) -> None:
        for dispute in disputes:
            label = {"event_id": dispute.payment, "fraud": True, "observed_time": dispute.time, "kind": "dispute"}
            _taken(self._feed("/v1/labels", _encode(label)), "/v1/labels")
            self.record.disputes += 1

    def _feed(self, path: str, body: bytes, *, key: str = "", media: str = "application/json") -> Reply:
        """Sends as the company's own systems do: told to slow down, they wait and send the same again."""
        for _ in range(TRIES):
            reply = self._wire.send("POST", path, bearer=self._passes.feed, body=body, media=media, key=key)
            if reply.status != TOO_MANY:
                break
            time.sleep(WAIT_S)
        return reply

    # Logs

    def _push(self, source: str, lines: list[bytes]) -> None:
        for part in _parts(lines):
            self._pushed += 1
            path = f"/v1/events?source={source}&batch=day-{self._pushed}"
            reply = self._feed(path, b"\n".join(part), media=NDJSON)
            counts: dict[str, Any] = _taken(reply, path).json()
            self.record.events += sum(each["stored"] for each in counts.values())

    def _settle(self, *, lazy: bool) -> None:
        """Waits until the pipelines have seen everything; those that no alert waits for only when asked."""
        until = time.monotonic() + CATCH_UP_S
        while time.monotonic() < until:
            lags = self._wire.get("/v1/readiness", bearer=self._passes.watch)["lag_records"]
            if not any(lag for name, lag in lags.items() if lazy or name not in LAZY):
                return
            time.sleep(POLL_S)
        raise TransientError("demo.pipelines.slow", f"the pipelines do not catch up: {lags}")


def _outcome(status: int, body: Any) -> Outcome:
    """What a sender makes of an answer."""
    made = body.get("status") if isinstance(body, dict) else None
    answer = _STATUS.get(str(made)) or _REFUSALS.get(status, Answer.REFUSED)
    return Outcome(answer, str(body.get("id", "")) if made else "")


def _taken(reply: Reply, path: str) -> Reply:
    if not reply.ok:
        text = reply.body[:300].decode("utf-8", "replace")
        raise PermanentError("demo.request.refused", f"{reply.status}: {text}", at=path)
    return reply


def _parts(lines: list[bytes]) -> Iterator[list[bytes]]:
    """Lines in parts of at most `PUSH_BYTES`."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        if part and size + len(line) > PUSH_BYTES:
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line) + 1
    if part:
        yield part
