"""Disputes: a payer asks the money back through the card network, and the merchant may object.

Each change is one transaction with its ledger movement, its webhook and its event, once for each idempotency key.

    opened -> submitted -> won | lost -> settled
      |  -> lost                             no evidence by the day it was due
      |  -> won | lost                       the network need not wait for evidence

What moves in the ledger:

    opened     the amount is reserved: of the merchant's balance as far as it goes, the rest of the platform's reserve
    settled    won: what was reserved is given back; lost: it is posted, and paid back to the network

The outcome is a label on the event that the charge was decided on, observed when the outcome arrived and not before:
training at an earlier time does not see it. Fraud is what was lost as `fraudulent`; every other outcome says it was
none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import msgspec

from vedette.core.db import Connection, sa
from vedette.core.errors import ConflictError
from vedette.core.label import Label
from vedette.core.money import Money
from vedette.move import charge as charge_rows
from vedette.move import chart
from vedette.move.charge import Charge, refundable
from vedette.move.dispute import (
    DISPUTES,
    MIGRATIONS,
    Dispute,
    DisputeStatus,
    Outcome,
    Reason,
    columns,
    load,
    parse_row,
    update,
)
from vedette.move.events import to_dispute, to_label
from vedette.move.idempotency import Answer, Claim, Request, to_answer, to_refusal
from vedette.move.ledger.nouns import U128_MAX, Transfer, TransferFlags, TransferStatus
from vedette.move.requests import DisputeRequest, parse_dispute, parse_evidence, parse_outcome
from vedette.move.writer import CONFLICT, CREATED, OK, REFUSED, Writer

STEPS: Final = ("dispute.claimed", "dispute.moved", "dispute.finished")
"""Names a `Step` hears in every write: key taken, money moved, committed."""
SWEEP: Final = 100
"""Most disputes that one `lapse` ends."""
_OPEN: Final = (DisputeStatus.OPENED, DisputeStatus.SUBMITTED)
_DECIDED: Final = (DisputeStatus.WON, DisputeStatus.LOST)
_PARTS: Final = ("held", "covered")


class Disputes(Writer):
    """Opens, answers, decides and settles disputes. `step` hears the names of `STEPS`."""

    COMPONENTS: ClassVar = {"charges": charge_rows.MIGRATIONS, "disputes": MIGRATIONS}

    def open(self, tenant: str, key: str, parameters: Any, *, api_key: str = "") -> Answer:
        """Opens a dispute and holds its amount: `{charge, reason, evidence_due, amount_minor, network_reason}`.

        Args:
            tenant: Whose charge.
            key: Idempotency key.
            parameters: As decoded from JSON. `evidence_due` is ISO 8601; without `amount_minor` all that was captured
                and not refunded is disputed.
            api_key: Id of who tells us, for the event.

        Returns:
            201 with the dispute; 402 when the charge does not hold that much.

        Raises:
            DataError: `request.*`, `money.*`, `dispute.*`, `idempotency.*`.
            NotFoundError: `charge.not_found`.
            ConflictError: `idempotency.*`.
        """
        wanted = parse_dispute(key, parameters, now=self._clock.now())
        request = Request(tenant, key, "POST /v1/disputes", msgspec.to_builtins(wanted), {"by": api_key})

        def effect(connection: Connection, claim: Claim) -> Answer:
            charge = charge_rows.load(connection, tenant, wanted.charge, lock=True)
            left = refundable(charge)
            amount = wanted.amount_minor or left
            if not 0 < amount <= left:
                return to_refusal(REFUSED, _too_much(left))
            dispute = self._hold(connection, claim, charge, wanted, amount)
            charge_rows.update(connection, charge, disputed_minor=charge.disputed_minor + amount)
            connection.execute(DISPUTES.insert().values(columns(dispute)))
            self._tell(connection, dispute, charge, claim.key, str(claim.context.get("by", "")))
            return to_answer(CREATED, dispute.to_json())

        return self._write(request, self._ids.new("dp"), effect)

    def submit(self, tenant: str, key: str, dispute_id: str, parameters: Any, *, api_key: str = "") -> Answer:
        """Sends the merchant's evidence, `{evidence: {name: text}}`, while it is due.

        Returns:
            200 with the dispute; 409 when evidence was sent before, is late, or the dispute is decided.

        Raises:
            NotFoundError: `dispute.not_found`.
            DataError, ConflictError: `request.*`, `dispute.*`, `idempotency.*`.
        """
        evidence = parse_evidence(key, parameters)

        def change(connection: Connection, dispute: Dispute) -> Dispute | ConflictError:
            now = self._clock.now()
            if dispute.status is not DisputeStatus.OPENED:
                return _wrong_status(dispute, "submit")
            if now >= dispute.evidence_due:
                return ConflictError("dispute.evidence.late", "evidence was due earlier", at=dispute.id)
            return update(connection, dispute, status=DisputeStatus.SUBMITTED, evidence=evidence, changed=now)

        return self._change(tenant, key, dispute_id, "evidence", {"evidence": evidence}, change, api_key)

    def decide(self, tenant: str, key: str, dispute_id: str, parameters: Any, *, api_key: str = "") -> Answer:
        """Records what the network decided, `{outcome}`: `won` or `lost`. From now on it is a label.

        Returns:
            200 with the dispute; 409 when it is decided.

        Raises:
            NotFoundError: `dispute.not_found`.
            DataError, ConflictError: `request.*`, `dispute.outcome.unknown`, `idempotency.*`.
        """
        outcome = parse_outcome(key, parameters)

        def change(connection: Connection, dispute: Dispute) -> Dispute | ConflictError:
            if dispute.status not in _OPEN:
                return _wrong_status(dispute, "decide")
            return self._decided(connection, dispute, outcome)

        return self._change(tenant, key, dispute_id, "outcome", {"outcome": outcome.value}, change, api_key)

    def settle(self, tenant: str, key: str, dispute_id: str, *, api_key: str = "") -> Answer:
        """Moves the money as the outcome says.

        Returns:
            200 with the dispute; 409 when it is not decided, or settled.

        Raises:
            NotFoundError: `dispute.not_found`.
            DataError, ConflictError: `idempotency.*`.
        """

        def change(connection: Connection, dispute: Dispute) -> Dispute | ConflictError:
            if dispute.status not in _DECIDED:
                return _wrong_status(dispute, "settle")
            self._resolve(connection, dispute)
            if dispute.outcome == Outcome.WON:
                charge = charge_rows.load(connection, tenant, dispute.charge_id, lock=True)
                left = charge.disputed_minor - dispute.amount_minor
                charge_rows.update(connection, charge, disputed_minor=left)
            return update(connection, dispute, status=DisputeStatus.SETTLED, changed=self._clock.now())

        return self._change(tenant, key, dispute_id, "settle", None, change, api_key)

    def lapse(self) -> int:
        """Loses disputes whose evidence is overdue, at most `SWEEP`; answers how many there were."""
        query = sa.select(DISPUTES).where(
            DISPUTES.c.status == sa.literal_column("'opened'"), DISPUTES.c.evidence_due <= self._clock.now()
        )
        with self._db.read() as connection:
            overdue = [parse_row(row) for row in connection.execute(query.limit(SWEEP))]
        for dispute in overdue:
            self.decide(dispute.tenant, f"lapse:{dispute.id}", dispute.id, {"outcome": Outcome.LOST.value})
        return len(overdue)

    def get(self, tenant: str, dispute_id: str) -> Dispute:
        """A dispute as it is now.

        Raises:
            NotFoundError: `dispute.not_found`, also for another tenant's.
        """
        with self._db.read() as connection:
            return load(connection, tenant, dispute_id)

    def of_charge(self, tenant: str, charge_id: str) -> list[Dispute]:
        """The disputes of a charge, oldest first."""
        query = sa.select(DISPUTES).where(DISPUTES.c.tenant == tenant, DISPUTES.c.charge_id == charge_id)
        with self._db.read() as connection:
            return [parse_row(row) for row in connection.execute(query.order_by(DISPUTES.c.opened, DISPUTES.c.id))]

    def of_merchant(
        self, tenant: str, merchant: str, *, status: DisputeStatus | None = None, limit: int = 100
    ) -> list[Dispute]:
        """The newest disputes of a merchant's charges, newest first.

        Args:
            tenant: Whose merchant.
            merchant: Whose charges.
            status: Only those that are there.
            limit: Most disputes.
        """
        query = sa.select(DISPUTES).where(DISPUTES.c.tenant == tenant, DISPUTES.c.merchant == merchant)
        if status is not None:
            query = query.where(DISPUTES.c.status == status.value)
        with self._db.read() as connection:
            found = connection.execute(query.order_by(DISPUTES.c.opened.desc(), DISPUTES.c.id.desc()).limit(limit))
            return [parse_row(row) for row in found]

    def _write(self, request: Request, resource: str, effect: Callable[[Connection, Claim], Answer]) -> Answer:
        def moved(connection: Connection, claim: Claim) -> Answer:
            answer = effect(connection, claim)
            self._step("dispute.moved")
            return answer

        return self._once("dispute", request, resource, moved)

    def _change(  # noqa: PLR0917  # one verb's route, body and effect
        self,
        tenant: str,
        key: str,
        dispute_id: str,
        verb: str,
        body: Any,
        change: Callable[[Connection, Dispute], Dispute | ConflictError],
        api_key: str,
    ) -> Answer:
        request = Request(tenant, key, f"POST /v1/disputes/{dispute_id}/{verb}", body, {"by": api_key})

        def effect(connection: Connection, claim: Claim) -> Answer:
            changed = change(connection, load(connection, tenant, dispute_id, lock=True))
            if isinstance(changed, ConflictError):
                return to_refusal(CONFLICT, changed)
            charge = charge_rows.load(connection, tenant, changed.charge_id)
            self._tell(connection, changed, charge, claim.key, str(claim.context.get("by", "")))
            return to_answer(OK, changed.to_json())

        return self._write(request, dispute_id, effect)

    def _decided(self, connection: Connection, dispute: Dispute, outcome: Outcome) -> Dispute:
        now = self._clock.now()
        decided = update(connection, dispute, status=DisputeStatus(outcome.value), outcome=outcome.value, changed=now)
        charge = charge_rows.load(connection, dispute.tenant, dispute.charge_id)
        label = Label(
            event_id=charge.decision.event_id,
            tenant=dispute.tenant,
            fraud=outcome is Outcome.LOST and dispute.reason is Reason.FRAUDULENT,
            observed_time=now,
        )
        self._told.tell(connection, [to_label(label, cause=dispute.id)])
        return decided

    def _hold(
        self, connection: Connection, claim: Claim, charge: Charge, wanted: DisputeRequest, amount: int
    ) -> Dispute:
        merchant = chart.account(chart.Kind.MERCHANT, charge.currency, charge.merchant)
        disputed = chart.account(chart.Kind.DISPUTE, charge.currency)
        reserve = chart.account(chart.Kind.RESERVE, charge.currency)
        self._ledger.create_accounts(charge.tenant, [merchant, disputed, reserve], within=connection)
        held = _held(claim.resource, "held", merchant.id, disputed.id, disputed.ledger, amount)
        # As much as the merchant has: a payer's claim does not wait for the merchant's next sale.
        held = msgspec.structs.replace(held, flags=int(TransferFlags.PENDING | TransferFlags.BALANCING_DEBIT))
        self._moved(connection, charge.tenant, [held])
        (there,) = self._ledger.lookup_transfers(charge.tenant, [held.id], within=connection)
        covered = _held(claim.resource, "covered", reserve.id, disputed.id, disputed.ledger, amount - there.amount)
        self._moved(connection, charge.tenant, [covered])
        now = self._clock.now()
        return Dispute(
            tenant=charge.tenant,
            id=claim.resource,
            charge_id=charge.id,
            merchant=charge.merchant,
            status=DisputeStatus.OPENED,
            reason=wanted.reason,
            network_reason=wanted.network_reason,
            amount_minor=amount,
            held_minor=there.amount,
            covered_minor=amount - there.amount,
            currency=charge.currency,
            evidence={},
            evidence_due=wanted.evidence_due,
            opened=now,
            changed=now,
        )

    def _resolve(self, connection: Connection, dispute: Dispute) -> None:
        """Won: both reservations are given back. Lost: both are posted, and the network gets the amount."""
        won = dispute.outcome == Outcome.WON
        flag = TransferFlags.VOID_PENDING_TRANSFER if won else TransferFlags.POST_PENDING_TRANSFER
        moves = [
            Transfer(
                id=chart.to_id(f"dispute.{part}.settled", dispute.id),
                pending_id=chart.to_id(f"dispute.{part}", dispute.id),
                amount=0 if won else U128_MAX,
                flags=int(flag),
            )
            for part in _PARTS
        ]
        if not won:
            disputed = chart.account(chart.Kind.DISPUTE, dispute.currency)
            back = Transfer(
                id=chart.to_id("dispute.returned", dispute.id),
                debit_account_id=disputed.id,
                credit_account_id=chart.account(chart.Kind.CLEARING, dispute.currency).id,
                amount=dispute.amount_minor,
                ledger=disputed.ledger,
                code=chart.Movement.DISPUTE_RETURN,
            )
            moves.append(back)
        self._moved(connection, dispute.tenant, moves)

    def _moved(self, connection: Connection, tenant: str, moves: list[Transfer]) -> None:
        statuses = self._ledger.create_transfers(tenant, moves, within=connection)
        wrong = [status for status in statuses if status is not TransferStatus.CREATED]
        if wrong:
            # A closed account, or an edited ledger; raised, so that nothing of it stays.
            raise ConflictError(f"ledger.{wrong[0]}", "the ledger refused to move this amount")

    def _tell(self, connection: Connection, dispute: Dispute, charge: Charge, key: str, asked_by: str) -> None:
        """Tells of a dispute as it now is: a webhook, and an event for rules."""
        self._outbox.emit(connection, dispute.tenant, f"dispute.{dispute.status}", dispute.to_json())
        event = to_dispute(
            dispute.status,
            charge,
            dispute=dispute.id,
            key=key,
            reason=dispute.reason,
            money=Money(dispute.amount_minor, dispute.currency),
            time=self._clock.now(),
            asked_by=asked_by,
        )
        self._told.tell(connection, [event])


def _held(  # noqa: PLR0917  # a transfer's own fields
    dispute: str, part: str, debit: int, credit: int, ledger: int, amount: int
) -> Transfer:
    return Transfer(
        id=chart.to_id(f"dispute.{part}", dispute),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=amount,
        ledger=ledger,
        code=chart.Movement.DISPUTE,
        flags=int(TransferFlags.PENDING),
    )


def _too_much(left: int) -> ConflictError:
    return ConflictError(
        "dispute.amount.exceeds_captured", f"{left} minor units are left to dispute", at="$.amount_minor"
    )


def _wrong_status(dispute: Dispute, verb: str) -> ConflictError:
    return ConflictError("dispute.status", f"cannot {verb} a dispute that is `{dispute.status}`", at=dispute.id)
