"""Rows of the ledger's tables, in and out, a batch at a time.

Batches are thousands of rows, so this speaks to the driver itself: wide numbers are packed and unpacked here, and
PostgreSQL takes new rows by COPY and new balances by one UPDATE over arrays. Everything else about the two databases is
the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from vedette.core.db import Connection, copy_in, execute
from vedette.move.ledger.book import Row
from vedette.move.ledger.filters import AccountBalance
from vedette.move.ledger.nouns import U128_MAX, Account, PendingStatus, Transfer

_CHUNK: Final = 4_000
"""Ids in one `IN (...)`; SQLite takes 32,766 parameters."""
TRANSFER: Final = (
    "id, debit_account_id, credit_account_id, amount, pending_id, user_data_128, user_data_64, user_data_32, timeout,"
    " ledger, code, flags, timestamp"
)
_BALANCES: Final = "debits_pending, debits_posted, credits_pending, credits_posted"
ACCOUNT: Final = f"id, {_BALANCES}, user_data_128, user_data_64, user_data_32, 0, ledger, code, flags, timestamp"
_WORKING: Final = f"id, ledger, timestamp, {_BALANCES}, flags, touched"
_ACCOUNT_ROW: Final = (
    f"tenant, id, {_BALANCES}, user_data_128, user_data_64, user_data_32, ledger, code, flags, timestamp, touched"
)
_PENDING_ROW: Final = "tenant, id, status, expires_at"
_BALANCE_ROW: Final = f"tenant, account_id, {_BALANCES}, timestamp"
_SET_SQLITE: Final = (
    "update ledger_account set debits_pending = ?, debits_posted = ?, credits_pending = ?, credits_posted = ?,"
    " flags = ?, touched = ? where id = ? and tenant = ?"
)
_SET_POSTGRES: Final = (
    "update ledger_account a set debits_pending = v.a, debits_posted = v.b, credits_pending = v.c,"
    " credits_posted = v.d, flags = v.e, touched = v.f"
    " from unnest(%s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[], %s::int[], %s::bigint[], %s::numeric[])"
    " as v(a, b, c, d, e, f, id) where a.id = v.id and a.tenant = %s"
)
_RESOLVE_SQLITE: Final = "update ledger_pending set status = ?, resolved_at = ? where id = ? and tenant = ?"
_RESOLVE_POSTGRES: Final = (
    "update ledger_pending p set status = v.s, resolved_at = v.r"
    " from unnest(%s::text[], %s::bigint[], %s::numeric[]) as v(s, r, id) where p.id = v.id and p.tenant = %s"
)


def wide(number: int) -> bytes:
    """16 bytes, big-endian: sorted as the number is."""
    return number.to_bytes(16, "big")


def long(number: int) -> bytes:
    """8 bytes, big-endian."""
    return number.to_bytes(8, "big")


def to_int(raw: Any) -> int:
    """A wide number as either database gives it."""
    return int.from_bytes(raw, "big") if type(raw) is bytes else int(raw or 0)


class Rows:
    """The rows of one tenant, in one transaction.

    Args:
        connection: The transaction.
        tenant: Whose rows.
    """

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant
        self._sqlite = connection.dialect.name == "sqlite"

    def lock(self, ids: Iterable[int]) -> dict[int, Row]:
        """Accounts as working rows, locked in id order before their balances are read."""
        # `no key`: the lock of one who changes balances, which lets others still refer to the row.
        return self.working(ids, "" if self._sqlite else _FOR_UPDATE)

    def working(self, ids: Iterable[int], ending: str = "") -> dict[int, Row]:
        """Accounts as working rows, as they are now."""
        found = {}
        for raw in self._among(f"select {_WORKING} from ledger_account", ids, ending):
            row = Row(to_int(raw[0]), raw[1], raw[2])
            row.debits_pending, row.debits_posted = to_int(raw[3]), to_int(raw[4])
            row.credits_pending, row.credits_posted = to_int(raw[5]), to_int(raw[6])
            row.flags, row.touched = raw[7], raw[8]
            found[row.id] = row
        return found

    def accounts(self, ids: Iterable[int]) -> dict[int, Account]:
        """Accounts of those ids that exist."""
        return {a.id: a for a in map(to_account, self._among(f"select {ACCOUNT} from ledger_account", ids))}

    def transfers(self, ids: Iterable[int]) -> dict[int, Transfer]:
        """Transfers of those ids that exist."""
        return {t.id: t for t in map(to_transfer, self._among(f"select {TRANSFER} from ledger_transfer", ids))}

    def pendings(self, ids: Iterable[int]) -> dict[int, PendingStatus]:
        """Status of those ids that are two-phase transfers."""
        rows = self._among("select id, status from ledger_pending", ids)
        return {to_int(row[0]): PendingStatus(row[1]) for row in rows}

    def failed(self, ids: Iterable[int]) -> list[int]:
        """Those ids that are burnt."""
        return [to_int(row[0]) for row in self._among("select id from ledger_failed", ids)]

    def due(self, before: int, limit: int) -> list[int]:
        """Ids of pending transfers that lapse at or before a time, oldest first."""
        query = "select id from ledger_pending where status = 'pending' and expires_at <= {} and tenant = {}"
        return [
            to_int(row[0]) for row in self.query(f"{query} order by expires_at, id limit {limit}", before, self._tenant)
        ]

    def alone(self) -> None:
        """Keeps every other writer out: an import compares its times with every stored one."""
        if not self._sqlite:
            self._connection.exec_driver_sql("lock table ledger_account, ledger_transfer in exclusive mode")

    def newest(self, table: str) -> int:
        """The newest timestamp of a table; 0 when it is empty."""
        return int(self.query(f"select max(timestamp) from {table} where tenant = {{}}", self._tenant)[0][0] or 0)

    def taken(self, table: str, timestamps: Sequence[int]) -> set[int]:
        """Those timestamps that a table holds."""
        found: set[int] = set()
        fitting = [stamp for stamp in timestamps if stamp < 2**63]
        for start in range(0, len(fitting), _CHUNK):
            some = fitting[start : start + _CHUNK]
            marks = ", ".join("{}" for _ in some)
            query = f"select timestamp from {table} where tenant = {{}} and timestamp in ({marks})"
            found |= {row[0] for row in self.query(query, self._tenant, *some)}
        return found

    def query(self, statement: str, *values: Any) -> Sequence[Sequence[Any]]:
        """Rows of a statement of ours; `{}` stands for a value."""
        marked = statement.format(*("?" if self._sqlite else "%s" for _ in values))
        found: list[tuple[Any, ...]] = execute(self._connection, marked, values).fetchall()
        return found

    def packed(self, number: int, size: int = 16) -> Any:
        """A wide number as a value of `query`."""
        return number.to_bytes(size, "big") if self._sqlite else number

    def _among(self, select: str, ids: Iterable[int], ending: str = "") -> list[Any]:
        wanted = sorted({id_ for id_ in ids if 0 < id_ < U128_MAX})
        if not wanted:
            return []
        if not self._sqlite:
            # One array, so one prepared statement for every size of batch.
            array = "{" + ",".join(map(str, wanted)) + "}"
            query = f"{select} where id = any(%s::numeric[]) and tenant = %s order by id{ending}"
            listed: list[Any] = execute(self._connection, query, (array, self._tenant)).fetchall()
            return listed
        found: list[Any] = []
        for start in range(0, len(wanted), _CHUNK):
            some = wanted[start : start + _CHUNK]
            query = f"{select} where id in ({','.join('?' * len(some))}) and tenant = ?"
            found += execute(self._connection, query, (*map(wide, some), self._tenant)).fetchall()
        return found

    # Writing

    def add_accounts(self, accounts: Sequence[Account]) -> None:
        """New accounts, in id order: two batches that make the same ones would else wait in a circle."""
        made = sorted(accounts, key=lambda account: account.id)
        self._insert("ledger_account", _ACCOUNT_ROW, made, _pack_account, _line_account)

    def add_transfers(self, transfers: Sequence[Transfer]) -> None:
        """New transfers."""
        self._insert("ledger_transfer", f"tenant, {TRANSFER}", transfers, _pack_transfer, _line_transfer)

    def add_pendings(self, transfers: Sequence[tuple[Transfer, PendingStatus, int]]) -> None:
        """Status of new two-phase transfers, and when it was reached."""
        self._insert("ledger_pending", f"{_PENDING_ROW}, resolved_at", transfers, _pack_pending, _line_pending)

    def add_failed(self, ids: Sequence[int]) -> None:
        """Burns ids."""
        self._insert("ledger_failed", "tenant, id", ids, lambda id_: (wide(id_),), lambda id_: f"{id_}")

    def add_balances(self, balances: Sequence[AccountBalance]) -> None:
        """Keeps balances."""
        self._insert("ledger_balance", _BALANCE_ROW, balances, _pack_balance, lambda b: "\t".join(map(str, b)))

    def set_balances(self, rows: Iterable[Row]) -> None:
        """Writes what changed of accounts that `lock` gave."""
        changed = sorted(rows, key=lambda row: row.id)
        if not changed:
            return
        if self._sqlite:
            values = [(*_wide_sums(r), r.flags, r.touched, wide(r.id), self._tenant) for r in changed]
            execute(self._connection, _SET_SQLITE, values)
        else:
            columns = zip(*((*r.balances(), r.id) for r in changed), strict=True)
            execute(self._connection, _SET_POSTGRES, (*map(_array, columns), self._tenant))

    def set_statuses(self, resolved: Sequence[tuple[int, PendingStatus, int]]) -> None:
        """Resolves two-phase transfers that were there: (id, status, when)."""
        if not resolved:
            return
        if self._sqlite:
            values = [(status.value, when, wide(id_), self._tenant) for id_, status, when in resolved]
            execute(self._connection, _RESOLVE_SQLITE, values)
        else:
            ids, statuses, times = zip(*resolved, strict=True)
            given = (_array(status.value for status in statuses), _array(times), _array(ids), self._tenant)
            execute(self._connection, _RESOLVE_POSTGRES, given)

    def _insert(
        self,
        table: str,
        columns: str,
        nouns: Sequence[Any],
        pack: Callable[[Any], tuple[Any, ...]],
        line: Callable[[Any], str],
    ) -> None:
        if not nouns:
            return
        if self._sqlite:
            marks = ", ".join("?" * (columns.count(",") + 1))
            statement = f"insert into {table} ({columns}) values ({marks})"  # names of ours
            tenant = (self._tenant,)
            execute(self._connection, statement, [tenant + pack(noun) for noun in nouns])
        else:
            tenant_text = _escaped(self._tenant)
            text = "".join([f"{tenant_text}\t{line(noun)}\n" for noun in nouns])
            copy_in(self._connection, f"copy {table} ({columns}) from stdin", text)


_FOR_UPDATE: Final = " for no key update"


def to_account(row: Sequence[Any]) -> Account:
    """An account from the columns `ACCOUNT`."""
    return Account(*map(to_int, row[:7]), *row[7:])


def to_transfer(row: Sequence[Any]) -> Transfer:
    """A transfer from the columns `TRANSFER`."""
    return Transfer(*map(to_int, row[:7]), *row[7:])


def to_balance(row: Sequence[Any]) -> AccountBalance:
    """Kept balances from the columns account, four balances, timestamp."""
    account, *sums = map(to_int, row[:5])
    return AccountBalance(account, sums[0], sums[1], sums[2], sums[3], row[5])


def _wide_sums(a: Account | Row) -> tuple[bytes, bytes, bytes, bytes]:
    return wide(a.debits_pending), wide(a.debits_posted), wide(a.credits_pending), wide(a.credits_posted)


def _pack_account(a: Account) -> tuple[Any, ...]:
    data = (wide(a.user_data_128), long(a.user_data_64), a.user_data_32)
    return (wide(a.id), *_wide_sums(a), *data, a.ledger, a.code, a.flags, a.timestamp, a.timestamp)


def _line_account(a: Account) -> str:
    sums = f"{a.debits_pending}\t{a.debits_posted}\t{a.credits_pending}\t{a.credits_posted}"
    data = f"{a.user_data_128}\t{a.user_data_64}\t{a.user_data_32}"
    return f"{a.id}\t{sums}\t{data}\t{a.ledger}\t{a.code}\t{a.flags}\t{a.timestamp}\t{a.timestamp}"


def _pack_transfer(t: Transfer) -> tuple[Any, ...]:
    return (
        t.id.to_bytes(16, "big"),
        t.debit_account_id.to_bytes(16, "big"),
        t.credit_account_id.to_bytes(16, "big"),
        t.amount.to_bytes(16, "big"),
        t.pending_id.to_bytes(16, "big") if t.pending_id else None,
        t.user_data_128.to_bytes(16, "big"),
        t.user_data_64.to_bytes(8, "big"),
        t.user_data_32,
        t.timeout,
        t.ledger,
        t.code,
        t.flags,
        t.timestamp,
    )


def _line_transfer(t: Transfer) -> str:
    return (
        f"{t.id}\t{t.debit_account_id}\t{t.credit_account_id}\t{t.amount}\t{t.pending_id or _NULL}\t{t.user_data_128}\t"
        f"{t.user_data_64}\t{t.user_data_32}\t{t.timeout}\t{t.ledger}\t{t.code}\t{t.flags}\t{t.timestamp}"
    )


_NULL: Final = "\\N"


def _pack_pending(given: tuple[Transfer, PendingStatus, int]) -> tuple[Any, ...]:
    t, status, when = given
    return (wide(t.id), status.value, t.expires_at, when or None)


def _line_pending(given: tuple[Transfer, PendingStatus, int]) -> str:
    t, status, when = given
    return f"{t.id}\t{status.value}\t{t.expires_at or _NULL}\t{when or _NULL}"


def _pack_balance(b: AccountBalance) -> tuple[Any, ...]:
    return (*map(wide, b[:5]), b.timestamp)


def _array(values: Iterable[object]) -> str:
    """A PostgreSQL array of numbers or of plain words."""
    return "{" + ",".join(map(str, values)) + "}"


def _escaped(text: str) -> str:
    """For COPY's text form."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
