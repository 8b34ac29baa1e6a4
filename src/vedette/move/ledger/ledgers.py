"""The ledgers of every tenant over one database: load under lock, decide in memory, write back, in one transaction.

Every account a batch can touch is locked first, in id order; only then are balances, earlier transfers and pendings
read. Two batches that share an account therefore run one after the other, and two that do not never wait. Calls that
come at the same time share a transaction; each stays a batch of its own, with its own chains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, TypeVar

from vedette.core.clock import Clock
from vedette.core.db import Connection, Database, sa
from vedette.core.errors import DataError, TransientError
from vedette.move.group import Group
from vedette.move.ledger import schema
from vedette.move.ledger.ahead import Ahead
from vedette.move.ledger.batch import GRAIN, run, run_each
from vedette.move.ledger.book import Book, Row, last_stamp
from vedette.move.ledger.nouns import (
    MAX_BATCH,
    Account,
    AccountFlags,
    AccountStatus,
    PendingStatus,
    Transfer,
    TransferFlags,
    TransferStatus,
)
from vedette.move.ledger.opening import Opening
from vedette.move.ledger.rows import Rows, to_int

_TRIES: Final = 8
"""Batches that make one id on different accounts collide at most once per id; then one sees the other."""
_PENDING: Final = int(TransferFlags.PENDING)
_IMPORTED: Final = int(TransferFlags.IMPORTED)
_Result = TypeVar("_Result")


class _Call(NamedTuple):
    """A batch of transfers that may share its transaction."""

    tenant: str
    transfers: Sequence[Transfer]


class _Moved(NamedTuple):
    """What batches came to."""

    statuses: list[list[TransferStatus]]
    lapsed: int
    """Reservations whose time had passed before them."""
    rows: dict[int, Row]
    """Accounts as they are left."""


class Ledgers:
    """Accounts and transfers of every tenant; no account of one tenant is visible to another.

    Each write takes `within`, an open transaction of `db` to join; without it the call commits by itself, together
    with others that come at the same time. It takes `now`, nanoseconds UTC: item i of n is stamped `now - n + i + 1`,
    and the caller sees to it that times go forward. Left out it is the clock's, or later if that went back: timestamps
    grow along every account.

    Args:
        db: Home of the tables; migrated here.
        clock: Stamps what comes without a time.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self.db = db
        self._clock = clock
        self._ahead = None if db.is_sqlite else Ahead(db, clock)
        self._group: Group[_Call, list[TransferStatus]] = Group(self._together, limit=MAX_BATCH)
        db.migrate("ledger", schema.MIGRATIONS)

    def create_accounts(
        self, tenant: str, accounts: Sequence[Account], *, now: int | None = None, within: Connection | None = None
    ) -> list[AccountStatus]:
        """Creates accounts; one status each, in order. Repeating a call answers `exists` and changes nothing.

        Raises:
            DataError: `ledger.batch.too_large`.
        """
        _bounded(accounts)
        with self._joined(within) as connection:
            rows = Rows(connection, tenant)
            return self._collided(connection, lambda _hopeful: self._create_accounts(rows, accounts, now))

    def create_transfers(
        self, tenant: str, transfers: Sequence[Transfer], *, now: int | None = None, within: Connection | None = None
    ) -> list[TransferStatus]:
        """Moves money; one status each, in order. Repeating a call answers `exists` and moves nothing.

        Pending transfers whose time has passed are expired first, at most `MAX_BATCH` of them.

        Raises:
            DataError: `ledger.batch.too_large`.
        """
        _bounded(transfers)
        if within is None and now is None:
            return self._group.do(_Call(tenant, transfers), len(transfers))
        with self._joined(within) as connection:
            return self._create_transfers(connection, tenant, [transfers], now)[0]

    def expire(self, tenant: str, *, now: int | None = None, within: Connection | None = None) -> int:
        """Gives back the reservations whose time has passed, at most `MAX_BATCH`; answers how many there were."""
        with self._joined(within) as connection:
            return self._move(Rows(connection, tenant), [[]], now, hopeful=False).lapsed

    def lookup_accounts(self, tenant: str, ids: Sequence[int], *, within: Connection | None = None) -> list[Account]:
        """The accounts of those ids that exist, in the order asked for."""
        with self._seen(within) as connection:
            found = Rows(connection, tenant).accounts(ids)
        return [found[id_] for id_ in ids if id_ in found]

    def lookup_transfers(self, tenant: str, ids: Sequence[int], *, within: Connection | None = None) -> list[Transfer]:
        """The transfers of those ids that exist, in the order asked for."""
        with self._seen(within) as connection:
            found = Rows(connection, tenant).transfers(ids)
        return [found[id_] for id_ in ids if id_ in found]

    def lookup_pending(self, tenant: str, id_: int, *, within: Connection | None = None) -> PendingStatus | None:
        """Where a two-phase transfer is; None when `id_` is no two-phase transfer."""
        with self._seen(within) as connection:
            return Rows(connection, tenant).pendings([id_]).get(id_)

    def trial_balance(self, tenant: str) -> dict[int, tuple[int, int]]:
        """Ledger -> (debits pending - credits pending, debits posted - credits posted). Both are always 0."""
        sums: dict[int, tuple[int, int]] = {}
        columns = "ledger, debits_pending, credits_pending, debits_posted, credits_posted"
        with self.db.read() as connection:
            query = f"select {columns} from ledger_account where tenant = {{}}"  # names of ours
            for row in Rows(connection, tenant).query(query, tenant):
                pending, posted = sums.get(row[0], (0, 0))
                sums[row[0]] = (
                    pending + to_int(row[1]) - to_int(row[2]),
                    posted + to_int(row[3]) - to_int(row[4]),
                )
        return sums

    @contextmanager
    def _joined(self, within: Connection | None) -> Iterator[Connection]:
        if within is not None:
            yield within
        else:
            with self.db.begin() as connection:
                yield connection

    @contextmanager
    def _seen(self, within: Connection | None) -> Iterator[Connection]:
        if within is not None:
            yield within
        else:
            with self.db.read() as connection:
                yield connection

    def _collided(self, connection: Connection, attempt: Callable[[bool], _Result]) -> _Result:
        # SQLite has one writer at a time. On PostgreSQL two batches may insert one id under different account locks:
        # the loser waits for the winner's commit, gets a unique violation, and decides again with the row in sight.
        if self.db.is_sqlite:
            return attempt(False)
        for turn in range(_TRIES):
            try:
                with connection.begin_nested():
                    return attempt(turn == 0)
            except sa.exc.IntegrityError:
                continue
        raise _contended()

    def _create_accounts(self, rows: Rows, accounts: Sequence[Account], now: int | None) -> list[AccountStatus]:
        imported = any(a.flags & AccountFlags.IMPORTED for a in accounts)
        if imported:
            rows.alone()
        book = Opening(
            rows.accounts(a.id for a in accounts),
            last_timestamp=rows.newest("ledger_account") if imported else 0,
            taken=rows.taken("ledger_transfer", [a.timestamp for a in accounts]) if imported else [],
        )
        last = self._clock.now() * 1_000 if now is None else now
        statuses = run(accounts, AccountStatus, book, base=last - len(accounts) + 1)
        rows.add_accounts(book.created)
        return statuses

    def _together(self, calls: Sequence[_Call]) -> list[list[TransferStatus]]:
        # In order of the tenants: two groups must not wait for each other in a circle.
        by_tenant: dict[str, list[int]] = {}
        for place in sorted(range(len(calls)), key=lambda place: calls[place].tenant):
            by_tenant.setdefault(calls[place].tenant, []).append(place)
        given = {tenant: [calls[place].transfers for place in places] for tenant, places in by_tenant.items()}
        told = (self._ahead and self._ahead.attempt(given)) or self._usually(given)
        answers: list[list[TransferStatus]] = [[] for _ in calls]
        for tenant, places in by_tenant.items():
            for place, statuses in zip(places, told[tenant], strict=True):
                answers[place] = statuses
        return answers

    def _usually(self, given: Mapping[str, Sequence[Sequence[Transfer]]]) -> dict[str, list[list[TransferStatus]]]:
        for turn in range(_TRIES):
            hopeful = turn == 0 and not self.db.is_sqlite
            moved: dict[str, _Moved] = {}
            try:
                with self.db.begin() as connection:
                    for tenant, batches in given.items():
                        moved[tenant] = self._move(Rows(connection, tenant), batches, None, hopeful=hopeful)
            except sa.exc.IntegrityError:
                # Alone in its transaction, a group that collides is done again as a whole; see `_collided`.
                continue
            if self._ahead is not None:
                for tenant, one in moved.items():
                    self._ahead.learn(tenant, one.rows)
            return {tenant: one.statuses for tenant, one in moved.items()}
        raise _contended()

    def _create_transfers(
        self, connection: Connection, tenant: str, batches: Sequence[Sequence[Transfer]], now: int | None
    ) -> list[list[TransferStatus]]:
        rows = Rows(connection, tenant)
        return self._collided(connection, lambda hopeful: self._move(rows, batches, now, hopeful=hopeful).statuses)

    def _move(self, rows: Rows, batches: Sequence[Sequence[Transfer]], now: int | None, *, hopeful: bool) -> _Moved:
        """Decides batches one after the other and writes what they come to.

        Hopeful: takes every id for a new one, which saves a look at each. If all are created, the unique key proves it
        right or undoes everything; if not, it looks and decides again.
        """
        count = sum(map(len, batches))
        last = self._clock.now() * 1_000 if now is None else now
        # What the clock calls now is a whole microsecond.
        due = rows.due(last - count + (GRAIN if now is None else 0), MAX_BATCH)
        book = _load(rows, batches, due, known=not hopeful)
        if now is None:
            last = last_stamp(last, book.rows, count)
        statuses, lapsed = _decide(book, batches, due, last - count)
        if hopeful and any(status is not TransferStatus.CREATED for batch in statuses for status in batch):
            book = _load(rows, batches, due, known=True)
            statuses, lapsed = _decide(book, batches, due, last - count)
        _store(rows, book)
        return _Moved(statuses, lapsed, book.rows)


def _decide(
    book: Book, batches: Sequence[Sequence[Transfer]], due: Sequence[int], before: int
) -> tuple[list[list[TransferStatus]], int]:
    """Statuses of batches whose first transfer is stamped after `before`, and how many reservations lapsed."""
    # Looked at under lock: another batch may have resolved some meanwhile.
    lapsed = [book.transfers[id_] for id_ in due if book.pendings[id_] is PendingStatus.PENDING]
    book.expire(lapsed, before)
    return run_each(batches, book, before + 1), len(lapsed)


def _contended() -> TransientError:
    return TransientError("ledger.batch.contended", "other batches keep creating the same ids", retry_after=0.1)


def _bounded(batch: Sequence[object]) -> None:
    if len(batch) > MAX_BATCH:
        raise DataError("ledger.batch.too_large", f"{len(batch)} in one batch", hint=f"send at most {MAX_BATCH}")


def _load(rows: Rows, batches: Sequence[Sequence[Transfer]], due: Sequence[int], *, known: bool) -> Book:
    transfers = [t for batch in batches for t in batch]
    imported = [t.timestamp for t in transfers if t.flags & _IMPORTED]
    if imported:
        rows.alone()
    resolved = {t.pending_id for t in transfers if t.pending_id}
    # Transfers never change, so the accounts of a pending one may be read before they are locked.
    targets = rows.transfers(resolved.union(due))
    accounts = {t.debit_account_id for t in transfers} | {t.credit_account_id for t in transfers}
    for t in targets.values():
        accounts |= {t.debit_account_id, t.credit_account_id}
    locked = rows.lock(accounts)
    ids = {t.id for t in transfers}
    stored = targets | (rows.transfers(ids) if known else {})
    # A stored post or void is compared with what its pending transfer filled in.
    stored |= rows.transfers({t.pending_id for t in stored.values() if t.pending_id} - stored.keys())
    waiting = {t.id for t in stored.values() if t.flags & _PENDING}
    return Book(
        rows=locked,
        transfers=stored,
        pendings=rows.pendings(waiting),
        failed=rows.failed(ids),
        last_timestamp=rows.newest("ledger_transfer") if imported else 0,
        taken=rows.taken("ledger_account", imported),
    )


def _store(rows: Rows, book: Book) -> None:
    rows.add_transfers(book.created)
    created = {t.id: t for t in book.created if t.flags & _PENDING}
    rows.add_pendings([(t, *book.resolved[id_]) for id_, t in created.items()])
    rows.set_statuses([(id_, *at) for id_, at in book.resolved.items() if id_ not in created])
    rows.add_failed(book.burnt)
    rows.add_balances(book.history)
    rows.set_balances(book.changed.values())
