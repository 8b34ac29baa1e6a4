"""Payouts: a merchant's balance on its way to a bank, stopped at once by a freeze.

Scheduling reserves the amount with a pending transfer, so it can be neither refunded nor paid twice. Paying posts it.
A freeze of the merchant holds every payout that is not yet paid; whether one is frozen is read in the transaction that
would pay it, under the lock that a freeze takes, so no payout slips past a freeze that was answered.

Status of a payout:

    scheduled -> paid -> returned      (the bank sent it back; the merchant has the money again)
      |  ^
      v  |  freeze, unfreeze
     frozen
    scheduled, frozen -> cancelled     (the reservation is given back)
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Final

import msgspec

from vedette.core.db import LONG, Connection, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, NotFoundError
from vedette.core.money import Money
from vedette.move import chart
from vedette.move.events import to_payout
from vedette.move.idempotency import Answer, Claim, Request, to_answer, to_refusal
from vedette.move.ledger.nouns import U128_MAX, Transfer, TransferFlags, TransferStatus
from vedette.move.ledger.numbers import Unsigned
from vedette.move.requests import parse_freeze, parse_payout
from vedette.move.writer import CONFLICT, CREATED, OK, REFUSED, Writer

STEPS: Final = ("payout.claimed", "payout.moved", "payout.finished")
"""Names a `Step` hears in every write: key taken, money moved, committed."""


class PayoutStatus(StrEnum):
    """Where a payout is; see the module."""

    SCHEDULED = "scheduled"
    FROZEN = "frozen"
    PAID = "paid"
    RETURNED = "returned"
    CANCELLED = "cancelled"


_CHANGES: Final = {
    PayoutStatus.PAID: ("pay", {PayoutStatus.SCHEDULED}),
    PayoutStatus.CANCELLED: ("cancel", {PayoutStatus.SCHEDULED, PayoutStatus.FROZEN}),
    PayoutStatus.RETURNED: ("return", {PayoutStatus.PAID}),
}
"""Status to reach -> the verb that reaches it, and the statuses it may come from."""

_METADATA = sa.MetaData()
_payouts = sa.Table(
    "payout",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("merchant", sa.Text, nullable=False),
    sa.Column("amount_minor", Unsigned(16), nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("created", LONG, nullable=False),
    sqlite_strict=True,
)
sa.Index("payout_of_merchant", _payouts.c.tenant, _payouts.c.merchant, _payouts.c.status)
_freezes = sa.Table(
    "payout_freeze",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("merchant", sa.Text, primary_key=True),
    sa.Column("frozen", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("changed", LONG, nullable=False),
    sqlite_strict=True,
)
"""One row a merchant, there from its first payout or freeze on: what both of them lock."""
_MIGRATIONS = (Migration(1, "payouts and freezes", create(_METADATA)),)


class Payout(msgspec.Struct, frozen=True, kw_only=True):
    """A payout as it is now."""

    tenant: str
    id: str
    status: PayoutStatus
    merchant: str
    amount_minor: int
    currency: str
    created: int
    """Microseconds UTC."""

    def to_json(self) -> dict[str, Any]:
        """The shape of answers and webhooks."""
        return {
            "id": self.id,
            "status": self.status.value,
            "merchant": self.merchant,
            "amount_minor": self.amount_minor,
            "currency": self.currency,
        }


class Payouts(Writer):
    """Schedules, freezes, pays and takes back payouts. Every write takes an idempotency key and is one transaction.

    `step` hears the names of `STEPS`.
    """

    COMPONENTS: ClassVar = {"payouts": _MIGRATIONS}

    def schedule(self, tenant: str, key: str, parameters: Any, *, api_key: str = "") -> Answer:
        """Reserves `{amount_minor, currency, merchant}` for a payout.

        Returns:
            201 with the payout, `frozen` at once when the merchant is; 402 when the balance does not hold the amount.

        Raises:
            DataError: `request.*`, `money.*`, `idempotency.*`.
        """
        wanted = parse_payout(key, parameters)
        request = Request(tenant, key, "POST /v1/payouts", msgspec.to_builtins(wanted), {"by": api_key})

        def effect(connection: Connection, claim: Claim) -> Answer:
            frozen = self._lock(connection, tenant, wanted.merchant)
            payout = Payout(
                tenant=tenant,
                id=claim.resource,
                status=PayoutStatus.FROZEN if frozen else PayoutStatus.SCHEDULED,
                merchant=wanted.merchant,
                amount_minor=wanted.amount_minor,
                currency=wanted.currency,
                created=self._clock.now(),
            )
            status = self._reserve(connection, payout)
            self._step("payout.moved")
            if status is not TransferStatus.CREATED:
                return _refused(status, payout.id)
            connection.execute(_payouts.insert().values(msgspec.structs.asdict(payout)))
            self._tell(connection, payout, claim)
            return to_answer(CREATED, payout.to_json())

        return self._once("payout", request, self._ids.new("po"), effect)

    def pay(self, tenant: str, key: str, payout_id: str, *, api_key: str = "") -> Answer:
        """Posts a scheduled payout: the money has left. A frozen one is refused with 409 and stays frozen.

        Raises:
            NotFoundError: `payout.not_found`.
            DataError, ConflictError: `idempotency.*`.
        """
        return self._change(tenant, key, payout_id, PayoutStatus.PAID, api_key)

    def cancel(self, tenant: str, key: str, payout_id: str, *, api_key: str = "") -> Answer:
        """Gives a scheduled or frozen payout's reservation back to the merchant.

        Raises:
            NotFoundError: `payout.not_found`.
            DataError, ConflictError: `idempotency.*`.
        """
        return self._change(tenant, key, payout_id, PayoutStatus.CANCELLED, api_key)

    def give_back(self, tenant: str, key: str, payout_id: str, *, api_key: str = "") -> Answer:
        """Records that the bank returned a paid payout: the merchant has the money again.

        Raises:
            NotFoundError: `payout.not_found`.
            DataError, ConflictError: `idempotency.*`.
        """
        return self._change(tenant, key, payout_id, PayoutStatus.RETURNED, api_key)

    def freeze(self, tenant: str, account: str, reason: str, key: str) -> Answer:
        """Stops every payout of a merchant that is not paid yet. Freezing a frozen one changes only the reason.

        Args:
            tenant: Whose merchant.
            account: The merchant's id.
            reason: For people; kept and shown.
            key: Idempotency key.

        Returns:
            200 with `{merchant, frozen, reason, payouts}`; `payouts` are the ids this call froze.

        Raises:
            DataError: `request.*`, `idempotency.*`.
        """
        return self._set_frozen(tenant, account, reason, key, frozen=True)

    def unfreeze(self, tenant: str, account: str, reason: str, key: str) -> Answer:
        """Lets a merchant's payouts go on; frozen ones are scheduled again. See `freeze`."""
        return self._set_frozen(tenant, account, reason, key, frozen=False)

    def is_frozen(self, tenant: str, account: str) -> bool:
        """Whether a merchant's payouts are frozen."""
        at = (_freezes.c.tenant == tenant) & (_freezes.c.merchant == account)
        with self._db.read() as connection:
            return bool(connection.execute(sa.select(_freezes.c.frozen).where(at)).scalar())

    def get(self, tenant: str, payout_id: str) -> Payout:
        """A payout as it is now.

        Raises:
            NotFoundError: `payout.not_found`, also for another tenant's.
        """
        with self._db.read() as connection:
            return _load(connection, tenant, payout_id)

    def _tell(self, connection: Connection, payout: Payout, claim: Claim) -> None:
        """Tells of a payout as it now is: a webhook, and an event for rules."""
        self._outbox.emit(connection, payout.tenant, f"payout.{payout.status}", payout.to_json())
        event = to_payout(
            payout.status,
            tenant=payout.tenant,
            payout=payout.id,
            key=claim.key,
            merchant=payout.merchant,
            money=Money(payout.amount_minor, payout.currency),
            time=self._clock.now(),
            asked_by=str(claim.context.get("by", "")),
        )
        self._told.tell(connection, [event])

    def _lock(self, connection: Connection, tenant: str, merchant: str) -> bool:
        """Locks the merchant's freeze row, making it if need be; whether it is frozen."""
        insert_new(
            connection,
            _freezes,
            tenant=tenant,
            merchant=merchant,
            frozen=0,
            reason="",
            changed=self._clock.now(),
        )
        at = (_freezes.c.tenant == tenant) & (_freezes.c.merchant == merchant)
        return bool(connection.execute(sa.select(_freezes.c.frozen).where(at).with_for_update()).scalar_one())

    def _change(self, tenant: str, key: str, payout_id: str, to: PayoutStatus, api_key: str) -> Answer:
        verb, allowed = _CHANGES[to]
        request = Request(tenant, key, f"POST /v1/payouts/{payout_id}/{verb}", None, {"by": api_key})

        def effect(connection: Connection, claim: Claim) -> Answer:
            merchant = _load(connection, tenant, payout_id).merchant
            frozen = self._lock(connection, tenant, merchant)
            payout = _load(connection, tenant, payout_id)  # again: the lock may have had to wait for a freeze
            if payout.status not in allowed or (frozen and to is PayoutStatus.PAID):
                return to_refusal(CONFLICT, _wrong_status(payout, verb))
            status = self._move(connection, payout, to)
            self._step("payout.moved")
            if status is not TransferStatus.CREATED:
                return _refused(status, payout_id)
            payout = _update(connection, payout, to)
            self._tell(connection, payout, claim)
            return to_answer(OK, payout.to_json())

        return self._once("payout", request, payout_id, effect)

    def _set_frozen(self, tenant: str, merchant: str, reason: str, key: str, *, frozen: bool) -> Answer:
        parse_freeze(key, merchant, reason)
        verb = "freeze" if frozen else "unfreeze"
        request = Request(tenant, key, f"POST /v1/merchants/{merchant}/{verb}", {"reason": reason})
        was, to = (
            (PayoutStatus.SCHEDULED, PayoutStatus.FROZEN) if frozen else (PayoutStatus.FROZEN, PayoutStatus.SCHEDULED)
        )

        def effect(connection: Connection, claim: Claim) -> Answer:
            self._lock(connection, tenant, merchant)
            at = (_freezes.c.tenant == tenant) & (_freezes.c.merchant == merchant)
            values = {"frozen": int(frozen), "reason": reason, "changed": self._clock.now()}
            connection.execute(_freezes.update().where(at).values(values))
            held = sa.select(_payouts).where(
                _payouts.c.tenant == tenant, _payouts.c.merchant == merchant, _payouts.c.status == was
            )
            changed = [_payout(row) for row in connection.execute(held.order_by(_payouts.c.id)).all()]
            self._step("payout.moved")
            for payout in changed:
                self._tell(connection, _update(connection, payout, to), claim)
            shape = {
                "merchant": merchant,
                "frozen": frozen,
                "reason": reason,
                "payouts": [payout.id for payout in changed],
            }
            return to_answer(OK, shape)

        return self._once("payout", request, merchant, effect)

    def _reserve(self, connection: Connection, payout: Payout) -> TransferStatus:
        merchant = chart.account(chart.Kind.MERCHANT, payout.currency, payout.merchant)
        leaving = chart.account(chart.Kind.PAYOUT, payout.currency)
        self._ledger.create_accounts(payout.tenant, [merchant, leaving], within=connection)
        hold = Transfer(
            id=chart.to_id("payout", payout.id),
            debit_account_id=merchant.id,
            credit_account_id=leaving.id,
            amount=payout.amount_minor,
            ledger=merchant.ledger,
            code=chart.Movement.PAYOUT,
            flags=int(TransferFlags.PENDING),
        )
        return self._ledger.create_transfers(payout.tenant, [hold], within=connection)[0]

    def _move(self, connection: Connection, payout: Payout, to: PayoutStatus) -> TransferStatus:
        match to:
            case PayoutStatus.PAID:
                flags, amount = TransferFlags.POST_PENDING_TRANSFER, U128_MAX
            case PayoutStatus.CANCELLED:
                flags, amount = TransferFlags.VOID_PENDING_TRANSFER, 0
            case _:
                return self._reverse(connection, payout)
        resolve = Transfer(
            id=chart.to_id(f"payout.{to}", payout.id),
            amount=amount,
            pending_id=chart.to_id("payout", payout.id),
            flags=int(flags),
        )
        return self._ledger.create_transfers(payout.tenant, [resolve], within=connection)[0]

    def _reverse(self, connection: Connection, payout: Payout) -> TransferStatus:
        back = Transfer(
            id=chart.to_id("payout.returned", payout.id),
            debit_account_id=chart.account(chart.Kind.PAYOUT, payout.currency).id,
            credit_account_id=chart.account(chart.Kind.MERCHANT, payout.currency, payout.merchant).id,
            amount=payout.amount_minor,
            ledger=chart.to_ledger(payout.currency),
            code=chart.Movement.PAYOUT_RETURN,
        )
        return self._ledger.create_transfers(payout.tenant, [back], within=connection)[0]


def _payout(row: sa.Row[Any]) -> Payout:
    values = {name: getattr(row, name) for name in Payout.__struct_fields__}
    return Payout(**{**values, "status": PayoutStatus(row.status)})


def _load(connection: Connection, tenant: str, payout_id: str) -> Payout:
    at = (_payouts.c.tenant == tenant) & (_payouts.c.id == payout_id)
    row = connection.execute(sa.select(_payouts).where(at)).one_or_none()
    if row is None:
        raise NotFoundError("payout.not_found", "no such payout", at=payout_id[:64])
    return _payout(row)


def _update(connection: Connection, payout: Payout, status: PayoutStatus) -> Payout:
    at = (_payouts.c.tenant == payout.tenant) & (_payouts.c.id == payout.id)
    connection.execute(_payouts.update().where(at).values(status=status))
    return msgspec.structs.replace(payout, status=status)


def _refused(status: TransferStatus, payout_id: str) -> Answer:
    error = ConflictError(f"ledger.{status}", "the ledger refused to move this amount", at=payout_id)
    return to_refusal(REFUSED, error)


def _wrong_status(payout: Payout, verb: str) -> ConflictError:
    if payout.status is PayoutStatus.FROZEN:
        return ConflictError("payout.frozen", "payouts of this merchant are frozen", at=payout.id)
    return ConflictError("payout.status", f"cannot {verb} a payout that is {payout.status}", at=payout.id)
