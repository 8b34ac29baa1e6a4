"""The working set of one batch of transfers: statuses and effects in memory. Pure; the database is elsewhere.

`Book` holds every row a batch can read, loaded beforehand under lock. While a chain is open each accepted change is
noted in a journal, so that a broken chain can be taken back exactly.
"""

# One return per status, top to bottom in order of precedence: read it beside `TransferStatus`.
# ruff: noqa: C901, PLR0911, PLR0912

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, TypeVar

import msgspec

from vedette.move.ledger.filters import AccountBalance
from vedette.move.ledger.nouns import (
    NANOS,
    TIMESTAMP_MAX,
    TRANSIENT,
    U128_MAX,
    AccountFlags,
    PendingStatus,
    Transfer,
    TransferFlags,
    TransferStatus,
)

# Plain integers: an IntFlag operation costs a microsecond, and each transfer makes a dozen.
_DEBITS_LIMITED: Final = int(AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS)
_CREDITS_LIMITED: Final = int(AccountFlags.CREDITS_MUST_NOT_EXCEED_DEBITS)
_CLOSED: Final = int(AccountFlags.CLOSED)
_HISTORY: Final = int(AccountFlags.HISTORY)
_PENDING: Final = int(TransferFlags.PENDING)
_POST: Final = int(TransferFlags.POST_PENDING_TRANSFER)
_VOID: Final = int(TransferFlags.VOID_PENDING_TRANSFER)
_BALANCING_DEBIT: Final = int(TransferFlags.BALANCING_DEBIT)
_BALANCING_CREDIT: Final = int(TransferFlags.BALANCING_CREDIT)
_CLOSING_DEBIT: Final = int(TransferFlags.CLOSING_DEBIT)
_CLOSING_CREDIT: Final = int(TransferFlags.CLOSING_CREDIT)
_BALANCING: Final = _BALANCING_DEBIT | _BALANCING_CREDIT
_ROOMY: Final = 125
"""Numbers of at most so many bits do not overflow 128 of them, added as often as `_overflows` does."""
_IMPORTED: Final = int(TransferFlags.IMPORTED)
_TRANSFER_KNOWN: Final = sum(int(flag) for flag in TransferFlags)
_NOT_WHILE_RESOLVING: Final = _PENDING | _BALANCING_DEBIT | _BALANCING_CREDIT | _CLOSING_DEBIT | _CLOSING_CREDIT


_Held = TypeVar("_Held")


class Row:
    """An account while a batch works on it: the fields that change, beside those that decide."""

    __slots__ = (
        "credits_pending",
        "credits_posted",
        "debits_pending",
        "debits_posted",
        "flags",
        "id",
        "ledger",
        "opened",
        "touched",
    )

    def __init__(self, id_: int, ledger: int, opened: int) -> None:
        self.id = id_
        self.ledger = ledger
        self.opened = opened
        """When it was made, nanoseconds UTC."""
        self.flags = 0
        self.debits_pending = 0
        self.debits_posted = 0
        self.credits_pending = 0
        self.credits_posted = 0
        self.touched = opened

    def balances(self) -> tuple[int, int, int, int, int, int]:
        """Everything that changes, in the order `restore` takes it."""
        return (
            self.debits_pending,
            self.debits_posted,
            self.credits_pending,
            self.credits_posted,
            self.flags,
            self.touched,
        )

    def restore(self, held: tuple[int, int, int, int, int, int]) -> None:
        """Goes back to what `balances` returned."""
        (
            self.debits_pending,
            self.debits_posted,
            self.credits_pending,
            self.credits_posted,
            self.flags,
            self.touched,
        ) = held


def last_stamp(now: int, rows: Mapping[int, Row], count: int) -> int:
    """Timestamp of the last of so many transfers: now, or as soon as what touched these accounts before allows."""
    return max(now, max((row.touched for row in rows.values()), default=0) + 1 + count)


class Book:
    """Rows of one batch.

    Args:
        rows: Every account the batch names, those that exist.
        transfers: Stored transfers among the batch's ids and the pending ids it names.
        pendings: Status of those that are two-phase.
        failed: Burnt ids among the batch's.
        last_timestamp: Newest timestamp of any stored transfer or account; only imports ask for it.
        taken: Timestamps that an import may not reuse.
    """

    def __init__(
        self,
        *,
        rows: dict[int, Row],
        transfers: dict[int, Transfer],
        pendings: dict[int, PendingStatus],
        failed: Iterable[int] = (),
        last_timestamp: int = 0,
        taken: Iterable[int] = (),
    ) -> None:
        self.rows = rows
        self.transfers = transfers
        self.pendings = pendings
        self.failed = set(failed)
        self.last_timestamp = last_timestamp
        self.taken = set(taken)
        self.burnt: list[int] = []
        self.created: list[Transfer] = []
        self.changed: dict[int, Row] = {}
        self.resolved: dict[int, tuple[PendingStatus, int]] = {}
        """Pending id -> its new status, and when it came to it; 0 for one that is pending."""
        self.history: list[AccountBalance] = []
        """Balances of accounts that keep them, after each movement."""
        self._journal: list[Callable[[], object]] | None = None

    def mark(self) -> None:
        """A chain begins: from here on changes can be taken back."""
        self._journal = []

    def keep(self) -> None:
        """The chain is whole: its changes stay."""
        self._journal = None

    def undo(self) -> None:
        """The chain is broken: takes back everything since `mark`, newest first."""
        while self._journal:
            self._journal.pop()()
        self._journal = None

    def burn(self, transfer: Transfer, status: TransferStatus) -> None:
        """Remembers an id whose failure was a passing condition."""
        if status in TRANSIENT and transfer.id not in self.failed:
            self.failed.add(transfer.id)
            self.burnt.append(transfer.id)

    def expire(self, lapsed: Iterable[Transfer], now: int) -> None:
        """Gives the reservations of lapsed pending transfers back, all at one time."""
        touched: dict[int, Row] = {}
        for pending in lapsed:
            debit, credit = self.rows[pending.debit_account_id], self.rows[pending.credit_account_id]
            self._touch(debit, now)
            self._touch(credit, now)
            self._release(pending, debit, credit)
            self._resolve(pending.id, PendingStatus.EXPIRED, now)
            touched |= {debit.id: debit, credit.id: credit}
        self._note(touched.values(), now)

    def create(self, t: Transfer, timestamp: int) -> TransferStatus:
        """Decides one transfer and applies it if it is accepted.

        Args:
            t: As requested.
            timestamp: What it is stamped with when accepted, nanoseconds UTC.
        """
        if t.flags & ~_TRANSFER_KNOWN:
            return TransferStatus.RESERVED_FLAG
        if t.id == 0:
            return TransferStatus.ID_MUST_NOT_BE_ZERO
        if t.id == U128_MAX:
            return TransferStatus.ID_MUST_NOT_BE_INT_MAX
        existing = self.transfers.get(t.id)
        if existing is not None:
            return _compare(t, existing, self.transfers.get(existing.pending_id))
        if t.id in self.failed:
            return TransferStatus.ID_ALREADY_FAILED
        if t.flags & (_POST | _VOID):
            return self._resolve_pending(t, timestamp)
        wrong = _malformed(t)
        if wrong is not None:
            return wrong
        debit, credit = self.rows.get(t.debit_account_id), self.rows.get(t.credit_account_id)
        if debit is None:
            return TransferStatus.DEBIT_ACCOUNT_NOT_FOUND
        if credit is None:
            return TransferStatus.CREDIT_ACCOUNT_NOT_FOUND
        if debit.ledger != credit.ledger:
            return TransferStatus.ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER
        if t.ledger != debit.ledger:
            return TransferStatus.TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS
        # Most transfers have none of this: what it costs to ask is paid a thousand times a batch.
        if t.flags & _IMPORTED:
            wrong = self._imported(t, debit, credit)
        if (debit.flags | credit.flags) & _CLOSED:
            wrong = wrong or _closed(debit, credit)
        if wrong is not None:
            return wrong
        amount = _balanced(t, debit, credit) if t.flags & _BALANCING else t.amount
        sums = amount | debit.debits_pending | debit.debits_posted | credit.credits_pending | credit.credits_posted
        if sums >> _ROOMY or t.timeout:
            wrong = _overflows(t, timestamp, amount, debit, credit)
        wrong = wrong or _exceeds(amount, debit, credit)
        if wrong is not None:
            return wrong
        self._move(t, timestamp, amount, debit, credit)
        return TransferStatus.CREATED

    def _imported(self, t: Transfer, debit: Row, credit: Row) -> TransferStatus | None:
        if t.timestamp <= self.last_timestamp or t.timestamp in self.taken:
            return TransferStatus.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
        if t.timestamp <= debit.opened:
            return TransferStatus.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_DEBIT_ACCOUNT
        if t.timestamp <= credit.opened:
            return TransferStatus.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_CREDIT_ACCOUNT
        return TransferStatus.IMPORTED_EVENT_TIMEOUT_MUST_BE_ZERO if t.timeout else None

    def _move(self, t: Transfer, timestamp: int, amount: int, debit: Row, credit: Row) -> None:
        self._touch(debit, timestamp)
        self._touch(credit, timestamp)
        if t.flags & _PENDING:
            debit.debits_pending += amount
            credit.credits_pending += amount
            self._resolve(t.id, PendingStatus.PENDING, 0)
        else:
            debit.debits_posted += amount
            credit.credits_posted += amount
        if t.flags & _CLOSING_DEBIT:
            debit.flags |= _CLOSED
        if t.flags & _CLOSING_CREDIT:
            credit.flags |= _CLOSED
        if (debit.flags | credit.flags) & _HISTORY:
            self._note((debit, credit), timestamp)
        plain = t.amount == amount and t.timestamp == timestamp
        self._store(t if plain else msgspec.structs.replace(t, amount=amount, timestamp=timestamp))

    def _resolve_pending(self, t: Transfer, timestamp: int) -> TransferStatus:
        wrong = _malformed_resolution(t)
        if wrong is not None:
            return wrong
        pending = self.transfers.get(t.pending_id)
        if pending is None:
            return TransferStatus.PENDING_TRANSFER_NOT_FOUND
        if not pending.flags & _PENDING:
            return TransferStatus.PENDING_TRANSFER_NOT_PENDING
        amount = _resolved_amount(t, pending)
        debit, credit = self.rows.get(pending.debit_account_id), self.rows.get(pending.credit_account_id)
        if debit is None or credit is None:
            # Created by another batch between our two looks: its accounts are not locked.
            return TransferStatus.PENDING_TRANSFER_NOT_FOUND
        wrong = _differs(t, pending, amount) or self._already(pending, timestamp)
        if wrong is None and t.flags & _IMPORTED and (t.timestamp <= self.last_timestamp or t.timestamp in self.taken):
            wrong = TransferStatus.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
        if wrong is None and not t.flags & _VOID:
            wrong = _closed(debit, credit)
        if wrong is not None:
            return wrong
        self._touch(debit, timestamp)
        self._touch(credit, timestamp)
        self._release(pending, debit, credit)
        if t.flags & _POST:
            debit.debits_posted += amount
            credit.credits_posted += amount
        self._resolve(pending.id, PendingStatus.POSTED if t.flags & _POST else PendingStatus.VOIDED, timestamp)
        self._note((debit, credit), timestamp)
        self._store(
            Transfer(
                id=t.id,
                debit_account_id=pending.debit_account_id,
                credit_account_id=pending.credit_account_id,
                amount=amount,
                pending_id=pending.id,
                user_data_128=t.user_data_128 or pending.user_data_128,
                user_data_64=t.user_data_64 or pending.user_data_64,
                user_data_32=t.user_data_32 or pending.user_data_32,
                ledger=pending.ledger,
                code=pending.code,
                flags=t.flags,
                timestamp=timestamp,
            )
        )
        return TransferStatus.CREATED

    def _already(self, pending: Transfer, timestamp: int) -> TransferStatus | None:
        match self.pendings[pending.id]:
            case PendingStatus.POSTED:
                return TransferStatus.PENDING_TRANSFER_ALREADY_POSTED
            case PendingStatus.VOIDED:
                return TransferStatus.PENDING_TRANSFER_ALREADY_VOIDED
            case PendingStatus.EXPIRED:
                return TransferStatus.PENDING_TRANSFER_EXPIRED
        expires_at = pending.expires_at
        return TransferStatus.PENDING_TRANSFER_EXPIRED if expires_at is not None and expires_at <= timestamp else None

    def _release(self, pending: Transfer, debit: Row, credit: Row) -> None:
        debit.debits_pending -= pending.amount
        credit.credits_pending -= pending.amount
        if pending.flags & _CLOSING_DEBIT:
            debit.flags &= ~_CLOSED
        if pending.flags & _CLOSING_CREDIT:
            credit.flags &= ~_CLOSED

    def _touch(self, row: Row, timestamp: int) -> None:
        if self._journal is not None:
            self._journal.append(partial(row.restore, row.balances()))
        self.changed[row.id] = row
        row.touched = max(row.touched, timestamp)

    def _store(self, t: Transfer) -> None:
        if self._journal is not None:
            self._journal.append(partial(self._unstore, t.id, self.last_timestamp))
        self.transfers[t.id] = t
        self.created.append(t)
        self.last_timestamp = max(self.last_timestamp, t.timestamp)

    def _unstore(self, id_: int, previous: int) -> None:
        del self.transfers[id_]
        self.created.pop()
        self.last_timestamp = previous

    def _note(self, rows: Iterable[Row], timestamp: int) -> None:
        for row in rows:
            if row.flags & _HISTORY:
                self.history.append(AccountBalance(row.id, *row.balances()[:4], timestamp))
                if self._journal is not None:
                    self._journal.append(self.history.pop)

    def _resolve(self, id_: int, status: PendingStatus, timestamp: int) -> None:
        if self._journal is not None:
            self._journal.append(partial(_put, self.pendings, id_, self.pendings.get(id_)))
            self._journal.append(partial(_put, self.resolved, id_, self.resolved.get(id_)))
        self.pendings[id_] = status
        self.resolved[id_] = (status, timestamp)


def _put(into: dict[int, _Held], id_: int, held: _Held | None) -> None:
    if held is None:
        del into[id_]
    else:
        into[id_] = held


def _malformed(t: Transfer) -> TransferStatus | None:
    if t.debit_account_id == 0:
        return TransferStatus.DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO
    if t.debit_account_id == U128_MAX:
        return TransferStatus.DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX
    if t.credit_account_id == 0:
        return TransferStatus.CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO
    if t.credit_account_id == U128_MAX:
        return TransferStatus.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX
    if t.debit_account_id == t.credit_account_id:
        return TransferStatus.ACCOUNTS_MUST_BE_DIFFERENT
    if t.pending_id:
        return TransferStatus.PENDING_ID_MUST_BE_ZERO
    if not t.flags & _PENDING:
        if t.timeout:
            return TransferStatus.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
        if t.flags & (_CLOSING_DEBIT | _CLOSING_CREDIT):
            return TransferStatus.CLOSING_TRANSFER_MUST_BE_PENDING
    if t.ledger == 0:
        return TransferStatus.LEDGER_MUST_NOT_BE_ZERO
    return TransferStatus.CODE_MUST_NOT_BE_ZERO if t.code == 0 else None


def _malformed_resolution(t: Transfer) -> TransferStatus | None:
    if (t.flags & _POST and t.flags & _VOID) or t.flags & _NOT_WHILE_RESOLVING:
        return TransferStatus.FLAGS_ARE_MUTUALLY_EXCLUSIVE
    if t.pending_id == 0:
        return TransferStatus.PENDING_ID_MUST_NOT_BE_ZERO
    if t.pending_id == U128_MAX:
        return TransferStatus.PENDING_ID_MUST_NOT_BE_INT_MAX
    if t.pending_id == t.id:
        return TransferStatus.PENDING_ID_MUST_BE_DIFFERENT
    return TransferStatus.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER if t.timeout else None


def _resolved_amount(t: Transfer, pending: Transfer) -> int:
    everything = U128_MAX if t.flags & _POST else 0
    return pending.amount if t.amount == everything else t.amount


def _differs(t: Transfer, pending: Transfer, amount: int) -> TransferStatus | None:
    if t.debit_account_id not in (0, pending.debit_account_id):
        return TransferStatus.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID
    if t.credit_account_id not in (0, pending.credit_account_id):
        return TransferStatus.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID
    if t.ledger not in (0, pending.ledger):
        return TransferStatus.PENDING_TRANSFER_HAS_DIFFERENT_LEDGER
    if t.code not in (0, pending.code):
        return TransferStatus.PENDING_TRANSFER_HAS_DIFFERENT_CODE
    if amount > pending.amount:
        return TransferStatus.EXCEEDS_PENDING_TRANSFER_AMOUNT
    if t.flags & _VOID and amount < pending.amount:
        return TransferStatus.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT
    return None


def _closed(debit: Row, credit: Row) -> TransferStatus | None:
    if debit.flags & _CLOSED:
        return TransferStatus.DEBIT_ACCOUNT_ALREADY_CLOSED
    return TransferStatus.CREDIT_ACCOUNT_ALREADY_CLOSED if credit.flags & _CLOSED else None


def _balanced(t: Transfer, debit: Row, credit: Row) -> int:
    amount = t.amount
    if t.flags & _BALANCING_DEBIT:
        amount = min(amount, max(0, debit.credits_posted - debit.debits_posted - debit.debits_pending))
    if t.flags & _BALANCING_CREDIT:
        amount = min(amount, max(0, credit.debits_posted - credit.credits_posted - credit.credits_pending))
    return amount


def _overflows(t: Transfer, timestamp: int, amount: int, debit: Row, credit: Row) -> TransferStatus | None:
    if t.flags & _PENDING:
        if amount + debit.debits_pending > U128_MAX:
            return TransferStatus.OVERFLOWS_DEBITS_PENDING
        if amount + credit.credits_pending > U128_MAX:
            return TransferStatus.OVERFLOWS_CREDITS_PENDING
    if amount + debit.debits_posted > U128_MAX:
        return TransferStatus.OVERFLOWS_DEBITS_POSTED
    if amount + credit.credits_posted > U128_MAX:
        return TransferStatus.OVERFLOWS_CREDITS_POSTED
    if amount + debit.debits_pending + debit.debits_posted > U128_MAX:
        return TransferStatus.OVERFLOWS_DEBITS
    if amount + credit.credits_pending + credit.credits_posted > U128_MAX:
        return TransferStatus.OVERFLOWS_CREDITS
    return TransferStatus.OVERFLOWS_TIMEOUT if timestamp + t.timeout * NANOS > TIMESTAMP_MAX else None


def _exceeds(amount: int, debit: Row, credit: Row) -> TransferStatus | None:
    if debit.flags & _DEBITS_LIMITED and debit.debits_pending + debit.debits_posted + amount > debit.credits_posted:
        return TransferStatus.EXCEEDS_CREDITS
    if (
        credit.flags & _CREDITS_LIMITED
        and credit.credits_pending + credit.credits_posted + amount > credit.debits_posted
    ):
        return TransferStatus.EXCEEDS_DEBITS
    return None


def _compare(t: Transfer, existing: Transfer, pending: Transfer | None) -> TransferStatus:
    """Status of a transfer whose id is taken: `EXISTS` when it asks for what already happened.

    A post or void may leave fields 0 that its pending transfer filled in.
    """
    if t.flags != existing.flags:
        return TransferStatus.EXISTS_WITH_DIFFERENT_FLAGS
    if t.pending_id != existing.pending_id:
        return TransferStatus.EXISTS_WITH_DIFFERENT_PENDING_ID
    if t.timeout != existing.timeout:
        return TransferStatus.EXISTS_WITH_DIFFERENT_TIMEOUT
    wild = pending is not None
    if t.debit_account_id != existing.debit_account_id and not (wild and t.debit_account_id == 0):
        return TransferStatus.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID
    if t.credit_account_id != existing.credit_account_id and not (wild and t.credit_account_id == 0):
        return TransferStatus.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID
    if not _same_amount(t, existing, pending):
        return TransferStatus.EXISTS_WITH_DIFFERENT_AMOUNT
    if (t.user_data_128 or (pending.user_data_128 if pending else 0)) != existing.user_data_128:
        return TransferStatus.EXISTS_WITH_DIFFERENT_USER_DATA_128
    if (t.user_data_64 or (pending.user_data_64 if pending else 0)) != existing.user_data_64:
        return TransferStatus.EXISTS_WITH_DIFFERENT_USER_DATA_64
    if (t.user_data_32 or (pending.user_data_32 if pending else 0)) != existing.user_data_32:
        return TransferStatus.EXISTS_WITH_DIFFERENT_USER_DATA_32
    if t.ledger != existing.ledger and not (wild and t.ledger == 0):
        return TransferStatus.EXISTS_WITH_DIFFERENT_LEDGER
    if t.code != existing.code and not (wild and t.code == 0):
        return TransferStatus.EXISTS_WITH_DIFFERENT_CODE
    return TransferStatus.EXISTS


def _same_amount(t: Transfer, existing: Transfer, pending: Transfer | None) -> bool:
    if pending is not None:
        return _resolved_amount(t, pending) == existing.amount
    if t.flags & _BALANCING:
        # The amount of a balancing transfer is an upper bound; what moved depends on the balance at that time.
        return t.amount >= existing.amount
    return t.amount == existing.amount
