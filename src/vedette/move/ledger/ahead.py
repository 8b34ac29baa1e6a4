"""Deciding ahead of PostgreSQL: from balances as this process last knew them, proved by the transaction itself.

The usual way asks for the accounts under lock, decides, and writes: a wait for each. Here a few transfers are decided
from memory and sent as one transaction in one round trip, which begins by locking the accounts in id order and fails
unless they are exactly as they were taken to be, no id is burnt or taken and no reservation is due. A wrong guess, as
after another process moved money, therefore costs time and nothing else: the group is done the usual way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final

from vedette.core.clock import Clock
from vedette.core.db import Connection, Database
from vedette.core.flight import RefusedError, Statement, commit
from vedette.move.ledger.batch import GRAIN, run_each
from vedette.move.ledger.book import Book, Row, last_stamp
from vedette.move.ledger.nouns import Transfer, TransferFlags, TransferStatus
from vedette.move.ledger.rows import TRANSFER, Rows

MOST: Final = 256
"""Transfers in one group; what is larger gains nothing and is copied in faster."""
MEMORY: Final = 20_000
"""Accounts of a tenant that are remembered."""
MAX_PAUSE: Final = 255
"""Groups done the usual way after guesses went wrong one after the other."""
_UNUSUAL: Final = int(
    TransferFlags.POST_PENDING_TRANSFER | TransferFlags.VOID_PENDING_TRANSFER | TransferFlags.IMPORTED
)
_PENDING: Final = int(TransferFlags.PENDING)
_COLUMNS: Final = "debits_pending, debits_posted, credits_pending, credits_posted, flags, touched"
_AS_KNOWN: Final = (
    "select 1 / coalesce(array_agg(id) = $2::numeric[] and array_agg(debits_pending) = $3::numeric[]"
    " and array_agg(debits_posted) = $4::numeric[] and array_agg(credits_pending) = $5::numeric[]"
    " and array_agg(credits_posted) = $6::numeric[] and array_agg(flags) = $7::int[]"
    " and array_agg(touched) = $8::bigint[], false)::int"
    f" from (select id, {_COLUMNS} from ledger_account where id = any($2::numeric[]) and tenant = $1::text"
    " order by id for no key update) a"
)
# Counted, since an `exists` of a table that was never analysed is answered by reading all of it.
_FREE: Final = (
    "select 1 / ((select count(*) from ledger_failed where id = any($2::numeric[]) and tenant = $1::text)"
    " + (select count(*) from ledger_pending where status = 'pending' and expires_at <= $3::bigint"
    " and tenant = $1::text) = 0)::int"
)
_UNTAKEN: Final = (
    "select 1 / ((select count(*) from ledger_transfer where id = any($2::numeric[]) and tenant = $1::text) = 0)::int"
)
# Row by row through the key, in id order, whatever the planner thinks of the table's size.
_SET: Final = (
    "update ledger_account a set debits_pending = v.a, debits_posted = v.b, credits_pending = v.c,"
    " credits_posted = v.d, flags = v.e, touched = v.f from unnest($2::numeric[], $3::numeric[], $4::numeric[],"
    " $5::numeric[], $6::numeric[], $7::int[], $8::bigint[]) as v(id, a, b, c, d, e, f),"
    " lateral (select ctid from ledger_account where id = v.id and tenant = $1::text offset 0) at"
    " where a.ctid = at.ctid"
)


def _adding(table: str, columns: str, types: str) -> str:
    given = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(types.split(), start=2))
    return f"insert into {table} (tenant, {columns}) select $1::text, * from unnest({given})"  # names of ours


_FIELDS: Final = [name for name in TRANSFER.split(", ") if name != "pending_id"]
"""Resolutions go the usual way."""
_ADD_TRANSFERS: Final = _adding(
    "ledger_transfer", ", ".join(_FIELDS), f"{'numeric ' * 6} bigint bigint bigint int int bigint"
)
_ADD_PENDINGS: Final = _adding("ledger_pending", "id, status, expires_at", "numeric text bigint")
_ADD_FAILED: Final = _adding("ledger_failed", "id", "numeric")
_ADD_BALANCES: Final = _adding(
    "ledger_balance",
    "account_id, debits_pending, debits_posted, credits_pending, credits_posted, timestamp",
    "numeric numeric numeric numeric numeric bigint",
)


_PROVED: Final = "vedette_ledger_as_known"
_DIVISION: Final = "22012"
"""SQLSTATE of a division by zero: something was not as it was taken to be."""
_TEXTS: Final = {
    _PROVED: _AS_KNOWN,
    "vedette_ledger_free": _FREE,
    "vedette_ledger_untaken": _UNTAKEN,
    "vedette_ledger_transfers": _ADD_TRANSFERS,
    "vedette_ledger_pendings": _ADD_PENDINGS,
    "vedette_ledger_failed": _ADD_FAILED,
    "vedette_ledger_balances": _ADD_BALANCES,
    "vedette_ledger_set": _SET,
}
_Told = dict[str, list[list[TransferStatus]]]


class Ahead:
    """Decides groups of transfers from memory.

    Args:
        db: PostgreSQL, with the ledger's tables.
        clock: Stamps transfers.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._rows: dict[str, dict[int, Row]] = {}
        """Tenant -> accounts as the last group left them. Thrown away when that proves wrong."""
        self._connection: Connection | None = None
        self._alone = threading.Lock()
        """Held while the rows change: what one thread takes for known, no other may move meanwhile."""
        self._pause = 0
        self._wrong = 0
        """Groups to leave out now, and as many after the last wrong guess."""

    def attempt(self, batches: Mapping[str, Sequence[Sequence[Transfer]]]) -> _Told | None:
        """Statuses of committed batches; None when nothing was done and the usual way has to be taken.

        Args:
            batches: Of each tenant, in order of the tenants.

        Raises:
            TransientError: `core.db.unavailable`; as after any failed commit, whether it happened is not known.
        """
        if not self._alone.acquire(blocking=False):
            return None
        try:
            return self._attempt(batches)
        finally:
            self._alone.release()

    def learn(self, tenant: str, rows: Mapping[int, Row]) -> None:
        """Accounts as this process left them on the usual way."""
        with self._alone:
            self._room(tenant).update(rows)

    def _room(self, tenant: str) -> dict[int, Row]:
        """What is remembered of a tenant, emptied when that is too much."""
        known = self._rows.setdefault(tenant, {})
        if len(known) > MEMORY:
            known.clear()
        return known

    def _attempt(self, batches: Mapping[str, Sequence[Sequence[Transfer]]]) -> _Told | None:
        if self._pause:
            self._pause -= 1
            return None
        if not _usual(batches) or not all(self._known(tenant, given) for tenant, given in batches.items()):
            return None
        told: _Told = {}
        try:
            if self._connection is None or self._connection.invalidated:
                self._connection = self._db.own()
            commit(self._connection, _TEXTS, self._statements(batches, told))
        except RefusedError as refused:
            self._rows = {}
            if (refused.name, refused.state) == (_PROVED, _DIVISION):
                self._pause = self._wrong = min(2 * self._wrong + 1, MAX_PAUSE)
            return None
        except BaseException:
            self._rows = {}
            raise
        self._wrong //= 2
        return told

    def _known(self, tenant: str, batches: Sequence[Sequence[Transfer]]) -> bool:
        """Whether memory has all accounts of these transfers, after a look at those it had not."""
        wanted = _accounts(batches)
        if wanted <= self._rows.get(tenant, {}).keys():
            return True
        known = self._room(tenant)
        missing = wanted - known.keys()
        with self._db.read() as reading:
            found = Rows(reading, tenant).working(missing)
        known.update(found)
        return len(found) == len(missing)

    def _statements(self, batches: Mapping[str, Sequence[Sequence[Transfer]]], told: _Told) -> Iterator[Statement]:
        """Decides, and says what has to hold and what to write; the rows in memory change with it."""
        for tenant, given in batches.items():
            transfers = [t for batch in given for t in batch]
            rows = {id_: self._rows[tenant][id_] for id_ in sorted(_accounts(given))}
            yield _statement("as_known", tenant, ((row.id, *row.balances()) for row in rows.values()))
            now = self._clock.now() * 1_000
            due = now - len(transfers) + GRAIN
            yield Statement("vedette_ledger_free", (tenant, _array(t.id for t in transfers), str(due)))
            last = last_stamp(now, rows, len(transfers))
            book = Book(rows=rows, transfers={}, pendings={})
            told[tenant] = run_each(given, book, last - len(transfers) + 1)
            statuses = [status for batch in told[tenant] for status in batch]
            if len(book.created) < len(transfers):
                # The key refuses those that are created; of the others nobody knows yet whether they were before.
                others = [t.id for t, status in zip(transfers, statuses, strict=True) if status is not _CREATED]
                yield Statement("vedette_ledger_untaken", (tenant, _array(others)))
            yield from _effects(tenant, book)


def _usual(batches: Mapping[str, Sequence[Sequence[Transfer]]]) -> bool:
    """Whether the accounts and ids in sight are all that these transfers can depend on."""
    every = [t for given in batches.values() for batch in given for t in batch]
    return 0 < len(every) <= MOST and not any(t.pending_id or t.flags & _UNUSUAL for t in every)


def _accounts(batches: Sequence[Sequence[Transfer]]) -> set[int]:
    return {id_ for batch in batches for t in batch for id_ in (t.debit_account_id, t.credit_account_id)}


def _effects(tenant: str, book: Book) -> Iterator[Statement]:
    # In id order: two processes that make the same ids must not wait for each other in a circle.
    created = sorted(book.created, key=lambda t: t.id)
    if created:
        yield _statement("transfers", tenant, map(attrgetter(*_FIELDS), created))
    pendings = [(t.id, "pending", t.expires_at or _NULL) for t in created if t.flags & _PENDING]
    if pendings:
        yield _statement("pendings", tenant, pendings)
    if book.burnt:
        yield _statement("failed", tenant, [(id_,) for id_ in sorted(book.burnt)])
    if book.history:
        yield _statement("balances", tenant, book.history)
    if book.changed:
        yield _statement("set", tenant, ((id_, *row.balances()) for id_, row in sorted(book.changed.items())))


def _statement(name: str, tenant: str, rows: Iterable[Sequence[object]]) -> Statement:
    """One that takes a tenant and an array of each column."""
    return Statement(f"vedette_ledger_{name}", (tenant, *map(_array, zip(*rows, strict=True))))


_NULL: Final = "NULL"
_CREATED: Final = TransferStatus.CREATED


def _array(values: Iterable[object]) -> str:
    return "{" + ",".join(map(str, values)) + "}"
