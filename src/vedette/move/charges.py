"""Charges: from a request to captured money, once.

A charge goes through recovery points, each committed together with its effect:

1. *claimed*: the idempotency key is taken and the charge has its id.
2. *decided*: the decision is stored. It was asked for before, under an event id that only this claim can make, so a
   retry that asks again is answered the same. Blocked and challenged charges end here, with no ledger effect.
3. *held*: a pending transfer reserves the amount.
4. *finished*: the transfer is posted, the webhook is in the outbox, the answer is stored.

A process that dies between two of them leaves the earlier one; the client's retry, or `recover`, goes on from there.

Status of a charge:

    decided -> held -> captured -> partially_refunded -> refunded
      |          `---> failed        (the ledger refused)
      |-> blocked                    (final, no money moved)
      `-> challenged                 (final, no money moved: the payer must prove more, then the merchant charges anew)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from vedette.core.clock import Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, sa
from vedette.core.decision import Action, Decision
from vedette.core.errors import ConflictError, NotFoundError, TransientError
from vedette.core.event import Event
from vedette.core.ids import Ids
from vedette.move import chart
from vedette.move.events import to_charge
from vedette.move.idempotency import Answer, Claim, Idempotency, Request, to_answer, to_refusal
from vedette.move.ledger.ledger import Ledger
from vedette.move.ledger.nouns import U128_MAX, Transfer, TransferFlags, TransferStatus
from vedette.move.ledger.numbers import Unsigned
from vedette.move.limits import Limits, Rate
from vedette.move.outbox import Outbox
from vedette.move.requests import ChargeRequest, parse_charge, parse_refund

CREATE: Final = "POST /v1/charges"
HOLD_S: Final = 7 * 86_400
"""A hold that nobody captures lapses after this many seconds."""
CREATED: Final = 201
REFUSED: Final = 402
RECOVER: Final = 100
"""Most charges that one `recover` finishes."""
STEPS: Final = (
    "charge.claimed",
    "charge.decided_unsaved",
    "charge.decided",
    "charge.held_unsaved",
    "charge.held",
    "charge.captured_unsaved",
    "charge.finished",
)
"""Names a `Step` hears while a charge is made: before and after every commit."""
REFUND_STEPS: Final = ("refund.claimed", "refund.moved", "refund.finished")

Decide = Callable[[Event], Decision]
"""Decides on a charge. Asked again with the same event id it must answer the same, or not have answered before."""
Step = Callable[[str], None]


class ChargeStatus(StrEnum):
    """Where a charge is; see the module."""

    DECIDED = "decided"
    HELD = "held"
    CAPTURED = "captured"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    BLOCKED = "blocked"
    CHALLENGED = "challenged"
    FAILED = "failed"


_METADATA = sa.MetaData()
_charges = sa.Table(
    "charge",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("amount_minor", Unsigned(16), nullable=False),
    sa.Column("refunded_minor", Unsigned(16), nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("merchant", sa.Text, nullable=False),
    sa.Column("metadata", sa.LargeBinary, nullable=False),
    sa.Column("decision", sa.LargeBinary, nullable=False),
    sa.Column("hold_id", Unsigned(16)),
    sa.Column("capture_id", Unsigned(16)),
    sa.Column("created", LONG, nullable=False),
    sqlite_strict=True,
)
_refunds = sa.Table(
    "refund",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("charge_id", sa.Text, nullable=False),
    sa.Column("amount_minor", Unsigned(16), nullable=False),
    sa.Column("transfer_id", Unsigned(16), nullable=False),
    sa.Column("created", LONG, nullable=False),
    sqlite_strict=True,
)
sa.Index("refund_of_charge", _refunds.c.tenant, _refunds.c.charge_id)
_MIGRATIONS = (Migration(1, "charges and refunds", create(_METADATA)),)


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """A charge as it is now."""

    tenant: str
    id: str
    status: ChargeStatus
    amount_minor: int
    refunded_minor: int
    currency: str
    source: str
    """The token that stands for the card; never a card number."""
    merchant: str
    metadata: dict[str, str]
    decision: Decision
    hold_id: int | None
    capture_id: int | None
    created: int
    """Microseconds UTC."""

    def to_json(self) -> dict[str, Any]:
        """The shape of answers and webhooks: `{id, status, decision, ledger, ...}`; `ledger` is null without money."""
        decision = self.decision
        ledger = None
        if self.hold_id is not None:
            ledger = {"hold": _hex(self.hold_id), "capture": _hex(self.capture_id) if self.capture_id else None}
        return {
            "id": self.id,
            "status": self.status.value,
            "amount_minor": self.amount_minor,
            "refunded_minor": self.refunded_minor,
            "currency": self.currency,
            "merchant": self.merchant,
            "metadata": self.metadata,
            "decision": {
                "event_id": decision.event_id,
                "action": decision.action.value,
                "risk_score": decision.risk_score,
                "reasons": [{"code": r.code, "text": r.text, "weight": r.weight} for r in decision.reasons],
                "fallback": decision.fallback,
            },
            "ledger": ledger,
        }


@dataclass(frozen=True, slots=True)
class ChargeLimits:
    """Rates of a charge: both pass or neither is used."""

    per_key: Rate
    per_account: Rate


class Charges:
    """Makes and refunds charges.

    Args:
        db: One database for keys, charges, ledger and outbox; migrated here.
        clock: For times.
        ids: For charge and refund ids.
        keys: Idempotency keys, over `db`.
        ledger: Over `db`.
        outbox: Over `db`.
        decide: The decision port.
        limits: Rate limiter and the rates; None: no limit.
        step: Told the name of each of `STEPS` and `REFUND_STEPS` as it is reached; tests stop a process there.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        ids: Ids,
        *,
        keys: Idempotency,
        ledger: Ledger,
        outbox: Outbox,
        decide: Decide,
        limits: tuple[Limits, ChargeLimits] | None = None,
        step: Step = lambda _name: None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._ledger = ledger
        self._outbox = outbox
        self._decide = decide
        self._limits = limits
        self._step = step
        db.migrate("charges", _MIGRATIONS)

    def create(self, tenant: str, key: str, parameters: Any, *, api_key: str = "") -> Answer:
        """Charges once for each idempotency key; every retry gets the first answer, byte for byte.

        Args:
            tenant: Whose charge; walls everything.
            key: Idempotency key.
            parameters: `{amount_minor, currency, source, merchant, metadata}` as decoded from JSON.
            api_key: Id of the caller's API key (or of the person), for its rate limit and for the event that is decided
                on; never the secret.

        Returns:
            201 with the charge, blocked and challenged ones included; 402 when the ledger refused.

        Raises:
            DataError: `request.pan_refused`, `charge.*`, `money.*`, `idempotency.mismatch`, `idempotency.key.invalid`.
            ConflictError: `idempotency.key_in_use`, `idempotency.lease_lost`.
            TransientError: `limits.rate.exceeded`; nothing is stored, retry with the same key.
        """
        wanted = parse_charge(key, parameters)
        request = Request(tenant, key, CREATE, msgspec.to_builtins(wanted), {"by": api_key} if api_key else {})
        answer = self._keys.stored(request)
        if answer is not None:
            return answer
        with self._db.begin() as connection:
            claim = self._keys.claim(connection, request, self._ids.new("ch"))
        if isinstance(claim, Answer):
            return claim
        self._limit(claim, api_key)
        return self._carry_out(claim, wanted)

    def recover(self) -> int:
        """Finishes charges that got past their decision and whose process fell silent; answers how many.

        One that cannot be finished now is left for the next call.
        """
        with self._db.begin() as connection:
            claims = self._keys.abandoned(connection, CREATE, RECOVER)
        finished = 0
        for claim in claims:
            try:
                self._carry_out(claim, None)
            except (ConflictError, TransientError):
                continue
            finished += 1
        return finished

    def get(self, tenant: str, charge_id: str) -> Charge:
        """A charge as it is now.

        Raises:
            NotFoundError: `charge.not_found`, also for another tenant's.
        """
        with self._db.read() as connection:
            return _load(connection, tenant, charge_id)

    def refund(self, tenant: str, key: str, charge_id: str, parameters: Any) -> Answer:
        """Gives back all or part of a captured charge, in one transaction; once for each idempotency key.

        Args:
            tenant: Whose charge.
            key: Idempotency key, its own, not the charge's.
            charge_id: What to refund.
            parameters: `{amount_minor}`; left out: all that is left.

        Returns:
            201 with the refund; 402 when the charge or the merchant's balance does not hold that much.

        Raises:
            DataError: As for `create`, and `refund.*`.
            NotFoundError: `charge.not_found`.
            ConflictError: `idempotency.*`.
        """
        amount = parse_refund(key, parameters)
        request = Request(tenant, key, f"POST /v1/charges/{charge_id}/refunds", {"amount_minor": amount})

        def effect(connection: Connection, claim: Claim) -> Answer:
            self._step("refund.claimed")
            charge = _load(connection, tenant, charge_id, lock=True)
            left = _refundable(charge)
            wanted = left if amount is None else amount
            if not 0 < wanted <= left:
                return to_refusal(REFUSED, _too_much(left))
            answer = self._give_back(connection, charge, claim.resource, wanted)
            self._step("refund.moved")
            return answer

        answer = self._keys.once(request, self._ids.new("re"), effect)
        self._step("refund.finished")
        return answer

    def _limit(self, claim: Claim, api_key: str) -> None:
        # A retry that takes over was let through before: it finishes what is half done.
        if self._limits is None or claim.fence > 1:
            return
        limiter, rates = self._limits
        try:
            limiter.take(
                [(f"key:{claim.tenant}:{api_key}", rates.per_key), (f"account:{claim.tenant}", rates.per_account)]
            )
        except TransientError:
            self._keys.forget(claim)
            raise

    def _carry_out(self, claim: Claim, wanted: ChargeRequest | None) -> Answer:
        try:
            return self._run(claim, wanted)
        except BaseException:
            # Whatever stopped us, the next retry need not wait for the lease: it goes on from the last commit.
            self._keys.release(claim)
            raise

    def _run(self, claim: Claim, wanted: ChargeRequest | None) -> Answer:
        self._step("charge.claimed")
        if claim.point == "":
            assert wanted is not None  # noqa: S101  # abandoned claims have passed their decision
            event = _event(claim, wanted)
            decision = self._decide(event)
            self._step("charge.decided_unsaved")
            saved = self._save_decision(claim, wanted, decision)
            self._step("charge.decided")
            if isinstance(saved, Answer):
                return saved
            claim = saved
        if claim.point == "decided":
            with self._db.begin() as connection:
                held = self._hold(connection, claim)
                self._step("charge.held_unsaved")
            self._step("charge.held")
            if isinstance(held, Answer):
                return held
            claim = held
        with self._db.begin() as connection:
            answer = self._capture(connection, claim)
            self._step("charge.captured_unsaved")
        self._step("charge.finished")
        return answer

    def _save_decision(self, claim: Claim, wanted: ChargeRequest, decision: Decision) -> Claim | Answer:
        final = {Action.BLOCK: ChargeStatus.BLOCKED, Action.CHALLENGE: ChargeStatus.CHALLENGED}.get(decision.action)
        charge = Charge(
            tenant=claim.tenant,
            id=claim.resource,
            status=final or ChargeStatus.DECIDED,
            amount_minor=wanted.amount_minor,
            refunded_minor=0,
            currency=wanted.currency,
            source=wanted.source,
            merchant=wanted.merchant,
            metadata=wanted.metadata,
            decision=decision,
            hold_id=None,
            capture_id=None,
            created=claim.created,
        )
        with self._db.begin() as connection:
            # Every step starts by showing its fence: an attempt that was taken over stops before it writes.
            claim = self._keys.advance(connection, claim, "decided")
            connection.execute(_charges.insert().values(_columns(charge)))
            return claim if final is None else self._finish(connection, claim, charge, CREATED)

    def _hold(self, connection: Connection, claim: Claim) -> Claim | Answer:
        claim = self._keys.advance(connection, claim, "held")
        charge = _load(connection, claim.tenant, claim.resource, lock=True)
        clearing = chart.account(chart.Kind.CLEARING, charge.currency)
        merchant = chart.account(chart.Kind.MERCHANT, charge.currency, charge.merchant)
        self._ledger.create_accounts(charge.tenant, [clearing, merchant], within=connection)
        hold = Transfer(
            id=chart.to_id("hold", charge.id),
            debit_account_id=clearing.id,
            credit_account_id=merchant.id,
            amount=charge.amount_minor,
            ledger=clearing.ledger,
            code=chart.Movement.CHARGE,
            timeout=HOLD_S,
            flags=int(TransferFlags.PENDING),
        )
        (status,) = self._ledger.create_transfers(charge.tenant, [hold], within=connection)
        if status is not TransferStatus.CREATED:
            return self._fail(connection, claim, charge, status)
        _update(connection, charge, status=ChargeStatus.HELD, hold_id=hold.id)
        return claim

    def _capture(self, connection: Connection, claim: Claim) -> Answer:
        claim = self._keys.advance(connection, claim, claim.point)
        charge = _load(connection, claim.tenant, claim.resource, lock=True)
        capture = Transfer(
            id=chart.to_id("capture", charge.id),
            amount=U128_MAX,
            pending_id=charge.hold_id or 0,
            flags=int(TransferFlags.POST_PENDING_TRANSFER),
        )
        (status,) = self._ledger.create_transfers(charge.tenant, [capture], within=connection)
        if status is not TransferStatus.CREATED:
            return self._fail(connection, claim, charge, status)
        charge = _update(connection, charge, status=ChargeStatus.CAPTURED, capture_id=capture.id)
        return self._finish(connection, claim, charge, CREATED)

    def _fail(self, connection: Connection, claim: Claim, charge: Charge, status: TransferStatus) -> Answer:
        charge = _update(connection, charge, status=ChargeStatus.FAILED)
        self._outbox.emit(connection, charge.tenant, "charge.failed", charge.to_json())
        return self._keys.finish(connection, claim, to_refusal(REFUSED, _refused(status, charge.id)))

    def _finish(self, connection: Connection, claim: Claim, charge: Charge, status: int) -> Answer:
        self._outbox.emit(connection, charge.tenant, f"charge.{charge.status}", charge.to_json())
        return self._keys.finish(connection, claim, to_answer(status, charge.to_json()))

    def _give_back(self, connection: Connection, charge: Charge, refund_id: str, amount: int) -> Answer:
        refund = Transfer(
            id=chart.to_id("refund", refund_id),
            debit_account_id=chart.account(chart.Kind.MERCHANT, charge.currency, charge.merchant).id,
            credit_account_id=chart.account(chart.Kind.CLEARING, charge.currency).id,
            amount=amount,
            ledger=chart.to_ledger(charge.currency),
            code=chart.Movement.REFUND,
        )
        (status,) = self._ledger.create_transfers(charge.tenant, [refund], within=connection)
        if status is not TransferStatus.CREATED:
            return to_refusal(REFUSED, _refused(status, charge.id))
        refunded = charge.refunded_minor + amount
        whole = refunded == charge.amount_minor
        charge = _update(
            connection,
            charge,
            status=ChargeStatus.REFUNDED if whole else ChargeStatus.PARTIALLY_REFUNDED,
            refunded_minor=refunded,
        )
        connection.execute(
            _refunds.insert().values(
                tenant=charge.tenant,
                id=refund_id,
                charge_id=charge.id,
                amount_minor=amount,
                transfer_id=refund.id,
                created=self._clock.now(),
            )
        )
        shape = {
            "id": refund_id,
            "charge": charge.id,
            "status": "succeeded",
            "amount_minor": amount,
            "currency": charge.currency,
            "ledger": {"transfer": _hex(refund.id)},
        }
        self._outbox.emit(connection, charge.tenant, "charge.refunded", {"refund": shape, "charge": charge.to_json()})
        return to_answer(CREATED, shape)


def to_event_id(claim: Claim) -> str:
    """The event a claim is decided on: one for each tenant, idempotency key and charge, the same in every attempt."""
    return f"evt_{chart.to_id('event', claim.tenant, claim.key, claim.resource):032x}"


def _event(claim: Claim, wanted: ChargeRequest) -> Event:
    return to_charge(
        to_event_id(claim),
        wanted,
        tenant=claim.tenant,
        charge=claim.resource,
        time=claim.created,
        asked_by=claim.context.get("by", ""),
        ingest_time=claim.created,
    )


def _load(connection: Connection, tenant: str, charge_id: str, *, lock: bool = False) -> Charge:
    query = sa.select(_charges).where(_charges.c.tenant == tenant, _charges.c.id == charge_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFoundError("charge.not_found", "no such charge", at=charge_id[:64])
    values = {name: getattr(row, name) for name in Charge.__struct_fields__}
    return Charge(
        **{
            **values,
            "status": ChargeStatus(row.status),
            "metadata": msgspec.json.decode(row.metadata),
            "decision": msgspec.json.decode(row.decision, type=Decision),
        }
    )


def _columns(charge: Charge) -> dict[str, Any]:
    values = {name: getattr(charge, name) for name in Charge.__struct_fields__}
    return {
        **values,
        "metadata": msgspec.json.encode(charge.metadata),
        "decision": msgspec.json.encode(charge.decision),
    }


def _update(connection: Connection, charge: Charge, **values: Any) -> Charge:
    at = (_charges.c.tenant == charge.tenant) & (_charges.c.id == charge.id)
    connection.execute(_charges.update().where(at).values(values))
    return msgspec.structs.replace(charge, **values)


def _refundable(charge: Charge) -> int:
    """What is left to refund, minor units; 0 for a charge that was never captured."""
    captured = charge.status in (ChargeStatus.CAPTURED, ChargeStatus.PARTIALLY_REFUNDED)
    return charge.amount_minor - charge.refunded_minor if captured else 0


def _too_much(left: int) -> ConflictError:
    return ConflictError(
        "refund.amount.exceeds_captured", f"{left} minor units are left to refund", at="$.amount_minor"
    )


def _refused(status: TransferStatus, charge_id: str) -> ConflictError:
    return ConflictError(f"ledger.{status}", "the ledger refused to move this amount", at=charge_id)


def _hex(id_: int) -> str:
    return f"{id_:032x}"
