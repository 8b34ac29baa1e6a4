"""The ledger over the database: load under lock, decide in memory, write back, in one transaction.

Every account a batch can touch is locked first, in id order; only then are balances, earlier transfers and pendings
read. Two batches that share an account therefore run one after the other, and two that do not never wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, TypeVar

from vedette.core.clock import Clock
from vedette.core.db import Connection, Database, sa
from vedette.core.errors import DataError, TransientError
from vedette.move.ledger import schema
from vedette.move.ledger.batch import run
from vedette.move.ledger.book import Book, Row
from vedette.move.ledger.nouns import (
    MAX_BATCH,
    U128_MAX,
    Account,
    AccountFlags,
    AccountStatus,
    PendingStatus,
    Transfer,
    TransferFlags,
    TransferStatus,
)
from vedette.move.ledger.numbers import Unsigned
from vedette.move.ledger.opening import Opening

_CHUNK: Final = 4_000
"""Ids in one `IN (...)`; SQLite takes 32,766 parameters."""
_TRIES: Final = 8
"""Batches that make one id on different accounts collide at most once per id; then one sees the other."""
_PENDING: Final = int(TransferFlags.PENDING)
_IMPORTED: Final = int(TransferFlags.IMPORTED)
_DUE: Final = (
    sa.select(schema.pending.c.id)
    .where(
        schema.pending.c.tenant == sa.bindparam("tenant"),
        schema.pending.c.status == sa.literal_column("'pending'"),
        schema.pending.c.expires_at < sa.bindparam("now"),
    )
    .order_by(schema.pending.c.expires_at)
    .limit(MAX_BATCH)
)
_BALANCES: Final = ("debits_pending", "debits_posted", "credits_pending", "credits_posted", "flags", "touched")
_SET_BALANCES: Final = (
    schema.account.update()
    .where(schema.account.c.tenant == sa.bindparam("t"), schema.account.c.id == sa.bindparam("i"))
    .values({name: sa.bindparam(f"new_{name}") for name in _BALANCES})
)
_SET_STATUS: Final = (
    schema.pending.update()
    .where(schema.pending.c.tenant == sa.bindparam("t"), schema.pending.c.id == sa.bindparam("i"))
    .values(status=sa.bindparam("s"))
)
_Status = TypeVar("_Status", AccountStatus, TransferStatus)
_ACCOUNT_FIELDS: Final = Account.__struct_fields__
_TRANSFER_FIELDS: Final = Transfer.__struct_fields__


class Ledger:
    """Accounts and transfers of every tenant; no account of one tenant is visible to another.

    Each write takes `within`, an open transaction of `db` to join; without it the call commits by itself.

    Args:
        db: Home of the tables; migrated here.
        clock: Stamps transfers. A clock that goes back does not: timestamps grow along every account regardless.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        db.migrate("ledger", schema.MIGRATIONS)

    def create_accounts(
        self, tenant: str, accounts: Sequence[Account], *, within: Connection | None = None
    ) -> list[AccountStatus]:
        """Creates accounts; one status each, in order. Repeating a call answers `exists` and changes nothing.

        Raises:
            DataError: `ledger.batch.too_large`.
        """
        _bounded(accounts)
        with self._joined(within) as connection:
            return self._collided(connection, lambda: self._create_accounts(connection, tenant, accounts))

    def create_transfers(
        self, tenant: str, transfers: Sequence[Transfer], *, within: Connection | None = None
    ) -> list[TransferStatus]:
        """Moves money; one status each, in order. Repeating a call answers `exists` and moves nothing.

        Pending transfers whose time has passed are expired first, at most `MAX_BATCH` of them.

        Raises:
            DataError: `ledger.batch.too_large`.
        """
        _bounded(transfers)
        with self._joined(within) as connection:
            return self._collided(connection, lambda: self._create_transfers(connection, tenant, transfers))

    def expire(self, tenant: str, *, within: Connection | None = None) -> int:
        """Gives back the reservations whose time has passed, at most `MAX_BATCH`; answers how many there were."""
        with self._joined(within) as connection:
            due = self._due(connection, tenant)
            self._create_transfers(connection, tenant, [])
            return len(due)

    def lookup_accounts(self, tenant: str, ids: Sequence[int], *, within: Connection | None = None) -> list[Account]:
        """The accounts of those ids that exist, in the order asked for."""
        with self._seen(within) as connection:
            found = {row.id: _account(row) for row in _select(connection, schema.account, tenant, ids)}
        return [found[id_] for id_ in ids if id_ in found]

    def lookup_transfers(self, tenant: str, ids: Sequence[int], *, within: Connection | None = None) -> list[Transfer]:
        """The transfers of those ids that exist, in the order asked for."""
        with self._seen(within) as connection:
            found = {row.id: _transfer(row) for row in _select(connection, schema.transfer, tenant, ids)}
        return [found[id_] for id_ in ids if id_ in found]

    def lookup_pending(self, tenant: str, id_: int, *, within: Connection | None = None) -> PendingStatus | None:
        """Where a two-phase transfer is; None when `id_` is no two-phase transfer."""
        with self._seen(within) as connection:
            rows = _select(connection, schema.pending, tenant, [id_])
        return PendingStatus(rows[0].status) if rows else None

    def trial_balance(self, tenant: str) -> dict[int, tuple[int, int]]:
        """Ledger -> (debits pending - credits pending, debits posted - credits posted). Both are always 0."""
        sums: dict[int, tuple[int, int]] = {}
        with self._db.read() as connection:
            for row in connection.execute(sa.select(schema.account).where(schema.account.c.tenant == tenant)):
                pending, posted = sums.get(row.ledger, (0, 0))
                sums[row.ledger] = (
                    pending + row.debits_pending - row.credits_pending,
                    posted + row.debits_posted - row.credits_posted,
                )
        return sums

    @contextmanager
    def _joined(self, within: Connection | None) -> Iterator[Connection]:
        if within is not None:
            yield within
        else:
            with self._db.begin() as connection:
                yield connection

    @contextmanager
    def _seen(self, within: Connection | None) -> Iterator[Connection]:
        if within is not None:
            yield within
        else:
            with self._db.read() as connection:
                yield connection

    def _collided(self, connection: Connection, attempt: Callable[[], list[_Status]]) -> list[_Status]:
        # SQLite has one writer at a time. On PostgreSQL two batches may insert one id under different account locks:
        # the loser waits for the winner's commit, gets a unique violation, and decides again with the row in sight.
        if self._db.is_sqlite:
            return attempt()
        for _ in range(_TRIES):
            try:
                with connection.begin_nested():
                    return attempt()
            except sa.exc.IntegrityError:
                continue
        raise TransientError("ledger.batch.contended", "other batches keep creating the same ids", retry_after=0.1)

    def _create_accounts(self, connection: Connection, tenant: str, accounts: Sequence[Account]) -> list[AccountStatus]:
        imported = any(a.flags & AccountFlags.IMPORTED for a in accounts)
        if imported:
            self._alone(connection)
        known = {row.id: _account(row) for row in _select(connection, schema.account, tenant, [a.id for a in accounts])}
        newest = (
            connection.execute(
                sa.select(sa.func.max(schema.account.c.timestamp)).where(schema.account.c.tenant == tenant)
            ).scalar()
            if imported
            else 0
        )
        stamps = [a.timestamp for a in accounts] if imported else []
        taken = _taken(connection, schema.transfer, tenant, stamps)
        book = Opening(known, last_timestamp=newest or 0, taken=taken)
        statuses = run(accounts, AccountStatus, book, base=self._clock.now() * 1_000)
        if book.created:
            # In id order: two batches that make the same accounts would else wait for each other in a circle.
            made = sorted(book.created, key=lambda account: account.id)
            connection.execute(
                schema.account.insert(),
                [{**_columns(a, _ACCOUNT_FIELDS, tenant), "touched": a.timestamp} for a in made],
            )
        return statuses

    def _create_transfers(
        self, connection: Connection, tenant: str, transfers: Sequence[Transfer]
    ) -> list[TransferStatus]:
        imported = any(t.flags & _IMPORTED for t in transfers)
        if imported:
            self._alone(connection)
        due = self._due(connection, tenant)
        book = self._load(connection, tenant, transfers, due, imported=imported)
        base = 1 + max(self._clock.now() * 1_000, *(row.touched for row in book.rows.values()), 0)
        for t in due:
            # Read again under lock: another batch may have resolved it meanwhile.
            if book.pendings[t.id] is PendingStatus.PENDING:
                book.expire(t, base)
        statuses = run(transfers, TransferStatus, book, base=base + 1)
        _store(connection, tenant, book)
        return statuses

    def _due(self, connection: Connection, tenant: str) -> list[Transfer]:
        """Pending transfers whose time has passed, oldest first."""
        rows = connection.execute(_DUE, {"tenant": tenant, "now": (self._clock.now() + 1) * 1_000}).scalars()
        return [_transfer(row) for row in _select(connection, schema.transfer, tenant, list(rows))]

    def _load(
        self,
        connection: Connection,
        tenant: str,
        transfers: Sequence[Transfer],
        due: Sequence[Transfer],
        *,
        imported: bool,
    ) -> Book:
        resolved = {t.pending_id for t in transfers if t.pending_id}
        # Transfers never change, so the accounts of a pending one may be read before they are locked.
        targets = [_transfer(row) for row in _select(connection, schema.transfer, tenant, resolved)]
        accounts = {id_ for t in (*transfers, *targets, *due) for id_ in (t.debit_account_id, t.credit_account_id)}
        locked = _select(connection, schema.account, tenant, accounts, lock=True)
        rows = {row.id: Row(_account(row), row.touched) for row in locked}
        ids = {t.id for t in transfers}
        stored = {row.id: _transfer(row) for row in _select(connection, schema.transfer, tenant, ids | resolved)}
        # A pending transfer that was created between the two looks has accounts we did not lock: not found, then.
        stored = {
            id_: t
            for id_, t in stored.items()
            if id_ in ids or {t.debit_account_id, t.credit_account_id} <= rows.keys()
        }
        stored.update((t.id, t) for t in due)
        waiting = {t.id for t in stored.values() if t.flags & _PENDING}
        statuses = _select(connection, schema.pending, tenant, waiting)
        failed = _select(connection, schema.failed, tenant, ids)
        newest = (
            connection.execute(
                sa.select(sa.func.max(schema.transfer.c.timestamp)).where(schema.transfer.c.tenant == tenant)
            ).scalar()
            if imported
            else 0
        )
        return Book(
            rows=rows,
            transfers=stored,
            pendings={row.id: PendingStatus(row.status) for row in statuses},
            failed=[row.id for row in failed],
            last_timestamp=newest or 0,
            taken=_taken(connection, schema.account, tenant, [t.timestamp for t in transfers] if imported else []),
        )

    def _alone(self, connection: Connection) -> None:
        # An import compares its times with every stored one, so nothing may be stored meanwhile.
        if not self._db.is_sqlite:
            connection.exec_driver_sql("lock table ledger_account, ledger_transfer in exclusive mode")


def _bounded(batch: Sequence[object]) -> None:
    if len(batch) > MAX_BATCH:
        raise DataError("ledger.batch.too_large", f"{len(batch)} in one batch", hint=f"send at most {MAX_BATCH}")


def _select(
    connection: Connection, table: sa.Table, tenant: str, ids: Iterable[int], *, lock: bool = False
) -> list[sa.Row[Any]]:
    wanted = sorted({id_ for id_ in ids if 0 < id_ < U128_MAX})
    rows: list[sa.Row[Any]] = []
    for start in range(0, len(wanted), _CHUNK):
        given = {"tenant": tenant, "ids": wanted[start : start + _CHUNK]}
        rows += connection.execute(_by_ids(table, lock=lock, sqlite=connection.dialect.name == "sqlite"), given)
    return rows


@cache
def _by_ids(table: sa.Table, *, lock: bool, sqlite: bool) -> sa.Select[Any]:
    # Kept: building and hashing the statement costs more than running it for one id.
    among = (
        table.c.id.in_(sa.bindparam("ids", expanding=True))
        if sqlite
        # One array, so one prepared statement for every size of batch.
        else table.c.id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(Unsigned(16))))
    )
    query = sa.select(table).where(table.c.tenant == sa.bindparam("tenant"), among).order_by(table.c.id)
    return query.with_for_update(key_share=True) if lock else query


def _taken(connection: Connection, table: sa.Table, tenant: str, timestamps: Sequence[int]) -> list[int]:
    if not timestamps:
        return []
    fitting = [stamp for stamp in timestamps if stamp < 2**63]
    query = sa.select(table.c.timestamp).where(table.c.tenant == tenant, table.c.timestamp.in_(fitting))
    return list(connection.execute(query).scalars())


def _account(row: sa.Row[Any]) -> Account:
    return Account(**{name: getattr(row, name) for name in _ACCOUNT_FIELDS if name != "reserved"})


def _transfer(row: sa.Row[Any]) -> Transfer:
    values = {name: getattr(row, name) for name in _TRANSFER_FIELDS}
    return Transfer(**{**values, "pending_id": row.pending_id or 0})


def _columns(noun: Account | Transfer, fields: Sequence[str], tenant: str) -> dict[str, Any]:
    return {"tenant": tenant, **{name: getattr(noun, name) for name in fields if name != "reserved"}}


def _store(connection: Connection, tenant: str, book: Book) -> None:
    if book.created:
        rows = [_columns(t, _TRANSFER_FIELDS, tenant) for t in book.created]
        for row in rows:
            row["pending_id"] = row["pending_id"] or None
        connection.execute(schema.transfer.insert(), rows)
    created = {t.id: t for t in book.created if t.flags & _PENDING}
    fresh = [
        {"tenant": tenant, "id": id_, "status": book.resolved[id_].value, "expires_at": t.expires_at}
        for id_, t in created.items()
    ]
    if fresh:
        connection.execute(schema.pending.insert(), fresh)
    moved = [{"t": tenant, "i": id_, "s": status.value} for id_, status in book.resolved.items() if id_ not in created]
    if moved:
        connection.execute(_SET_STATUS, moved)
    if book.burnt:
        connection.execute(schema.failed.insert(), [{"tenant": tenant, "id": id_} for id_ in book.burnt])
    if book.changed:
        _store_balances(connection, tenant, book.changed)


def _store_balances(connection: Connection, tenant: str, changed: dict[int, Row]) -> None:
    names = [f"new_{name}" for name in _BALANCES]
    connection.execute(
        _SET_BALANCES,
        [
            {"t": tenant, "i": id_, **dict(zip(names, row.balances(), strict=True))}
            for id_, row in sorted(changed.items())
        ],
    )
