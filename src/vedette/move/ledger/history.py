"""Questions about what was: an account's movements and balances, transfers and accounts by time, in pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from vedette.core.db import Database
from vedette.core.errors import DataError
from vedette.move.ledger.filters import AccountBalance, AccountFilter, FilterFlags, QueryFilter
from vedette.move.ledger.nouns import MAX_BATCH, TIMESTAMP_MAX, U128_MAX, Account, Transfer
from vedette.move.ledger.rows import ACCOUNT, TRANSFER, Rows, to_account, to_balance, to_transfer

_DEBITS: Final = int(FilterFlags.debits)
_CREDITS: Final = int(FilterFlags.credits)
_REVERSED: Final = int(FilterFlags.reversed)
_WIDTHS: Final = {"user_data_128": 16, "user_data_64": 8, "user_data_32": 0, "ledger": 0, "code": 0}
"""Field -> bytes of a wide one."""
_Noun = TypeVar("_Noun", Account, Transfer, AccountBalance)


class _Kind(NamedTuple, Generic[_Noun]):
    """What is looked for, and where."""

    table: str
    columns: str
    key: str
    """Orders what has one timestamp."""
    parse: Callable[[Sequence[Any]], _Noun]


_BALANCE: Final = "account_id, debits_pending, debits_posted, credits_pending, credits_posted, timestamp"
_TRANSFERS: Final = _Kind("ledger_transfer", TRANSFER, "id", to_transfer)
_ACCOUNTS: Final = _Kind("ledger_account", ACCOUNT, "id", to_account)
_BALANCES: Final = _Kind("ledger_balance", _BALANCE, "account_id", to_balance)


def get_account_transfers(db: Database, tenant: str, wanted: AccountFilter) -> list[Transfer]:
    """Movements of one account."""
    _check(wanted, known=_DEBITS | _CREDITS | _REVERSED)
    _check_account(wanted)
    # One look for each side: each has its index, and an OR over both would use neither.
    found = [t for side in _sides(wanted) for t in _page(db, tenant, wanted, _TRANSFERS, side)]
    found.sort(key=lambda t: t.timestamp, reverse=bool(wanted.flags & _REVERSED))
    return found[: wanted.limit]


def get_account_balances(db: Database, tenant: str, wanted: AccountFilter) -> list[AccountBalance]:
    """Kept balances of one account; those after movements that the filter leaves out are left out."""
    _check(wanted, known=_DEBITS | _CREDITS | _REVERSED)
    _check_account(wanted)
    narrowed = any(getattr(wanted, name) for name in _WIDTHS if name != "ledger") or len(_sides(wanted)) == 1
    if narrowed:
        moved = get_account_transfers(db, tenant, wanted)
        if not moved:
            return []
        times = sorted(t.timestamp for t in moved)
        span = _page(db, tenant, _between(wanted, times), _BALANCES, "account_id")
        kept = set(times)
        return [balance for balance in span if balance.timestamp in kept]
    return _page(db, tenant, wanted, _BALANCES, "account_id")


def query_accounts(db: Database, tenant: str, wanted: QueryFilter) -> list[Account]:
    """Accounts by when they were made."""
    _check(wanted, known=_REVERSED)
    return _page(db, tenant, wanted, _ACCOUNTS)


def query_transfers(db: Database, tenant: str, wanted: QueryFilter) -> list[Transfer]:
    """Transfers by when they were made."""
    _check(wanted, known=_REVERSED)
    return _page(db, tenant, wanted, _TRANSFERS)


def _between(wanted: AccountFilter, times: Sequence[int]) -> AccountFilter:
    return AccountFilter(
        wanted.account_id, timestamp_min=times[0], timestamp_max=times[-1], limit=0, flags=wanted.flags & _REVERSED
    )


def _sides(wanted: AccountFilter) -> list[str]:
    """The columns that name the account."""
    sides = (("debit_account_id", _DEBITS), ("credit_account_id", _CREDITS))
    return [side for side, flag in sides if wanted.flags & flag] or [side for side, _ in sides]


def _check(wanted: AccountFilter | QueryFilter, *, known: int) -> None:
    if not 0 < wanted.limit <= MAX_BATCH:
        raise DataError("ledger.filter.invalid", f"a page has 1 to {MAX_BATCH} entries", at="$.limit")
    if wanted.flags & ~known:
        raise DataError("ledger.filter.invalid", "unknown flag", at="$.flags")
    for name in ("timestamp_min", "timestamp_max"):
        if not 0 <= getattr(wanted, name) <= TIMESTAMP_MAX:
            raise DataError("ledger.filter.invalid", "not a time in nanoseconds", at=f"$.{name}")


def _check_account(wanted: AccountFilter) -> None:
    if not 0 < wanted.account_id < U128_MAX:
        raise DataError("ledger.filter.invalid", "not the id of an account", at="$.account_id")


def _page(
    db: Database, tenant: str, wanted: AccountFilter | QueryFilter, kind: _Kind[_Noun], side: str = ""
) -> list[_Noun]:
    with db.read() as connection:
        rows = Rows(connection, tenant)
        conditions, values = _conditions(rows, tenant, wanted, side)
        way = "desc" if wanted.flags & _REVERSED else "asc"
        query = f"select {kind.columns} from {kind.table} where"
        limit = f" limit {wanted.limit}" if wanted.limit else ""
        ordered = f"{query} {conditions} order by timestamp {way}, {kind.key}{limit}"
        found = [kind.parse(row) for row in rows.query(ordered, *values)]
        if side or len(found) < wanted.limit:
            return found
        # Several accounts' times may meet in one nanosecond; a page never ends between them.
        last = found[-1].timestamp
        tied = rows.query(f"{query} {conditions} and timestamp = {{}} order by {kind.key}", *values, last)
        return [noun for noun in found if noun.timestamp != last] + [kind.parse(row) for row in tied]


def _conditions(rows: Rows, tenant: str, wanted: AccountFilter | QueryFilter, side: str) -> tuple[str, list[Any]]:
    """What rows must fulfil, with `{}` for each value."""
    given: list[tuple[str, Any]] = [("tenant =", tenant)]
    if isinstance(wanted, AccountFilter):
        given.append((f"{side} =", rows.packed(wanted.account_id)))
    for name, size in _WIDTHS.items():
        value = getattr(wanted, name, 0)
        if value:
            given.append((f"{name} =", rows.packed(value, size) if size else value))
    for name, sign in (("timestamp_min", ">="), ("timestamp_max", "<=")):
        if getattr(wanted, name):
            given.append((f"timestamp {sign}", getattr(wanted, name)))
    return " and ".join(f"{name} {{}}" for name, _ in given), [value for _, value in given]
