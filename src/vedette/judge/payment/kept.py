"""Kept lists: items that people and outcomes add to the lists that rules name, change by change, so each can be undone.

A list file says which lists there are and what they start with; here is what was added and taken out since. Nothing is
overwritten: the lists as of any change can be had again, so a decision of then can be rebuilt.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from vedette.core.clock import Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.judge.payment.lists import DEFAULTS, MAX_LIST_ITEMS, ItemType, ValueList

MAX_SHOWN = 1_000


class ListAction(StrEnum):
    """What a change does."""

    ADD = "add"
    REMOVE = "remove"


class ListChange(msgspec.Struct, frozen=True, kw_only=True):
    """One item came or went."""

    seq: int
    tenant: str
    alias: str
    """Name of the list without the `@`."""
    item: str
    action: ListAction
    operator: str
    """Id of a person, or what learned it: `labels`, `refunds`."""
    reason: str
    event_id: str
    """Of the payment it was learned from; empty for what a person did by hand."""
    time: int
    """Microseconds UTC."""
    expires: int
    """From when on the item counts no more, microseconds UTC; 0: never."""


class _Why(NamedTuple):
    operator: str
    reason: str
    event_id: str = ""
    expires: int = 0


_METADATA = sa.MetaData()
_LIST = sa.Table(
    "payment_list",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("alias", sa.Text, primary_key=True),
    sa.Column("item_type", sa.Text, nullable=False),
    sqlite_strict=True,
)
_CHANGE = sa.Table(
    "payment_list_change",
    _METADATA,
    sa.Column("seq", LONG, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("alias", sa.Text, nullable=False),
    sa.Column("item", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("operator", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sa.Column("expires", LONG, nullable=False),
    sa.Index("payment_list_item", "tenant", "alias", "item", "seq"),
    sa.Index("payment_list_event", "tenant", "event_id"),
    sa.Index("payment_list_expiry", "tenant", "expires"),
    sqlite_strict=True,
)
_APPLIED = sa.Table(
    "payment_list_applied",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("seq", LONG, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sqlite_strict=True,
)
_PLACE = sa.Table(
    "payment_list_place",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("next", LONG, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "kept lists", create(_METADATA)),)
LEARNER: Final = "labels"


class KeptLists:
    """The lists of an installation, each tenant's its own.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Times of changes.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        database.migrate("payment_lists", MIGRATIONS)

    def add(
        self,
        tenant: str,
        alias: str,
        items: Sequence[str],
        *,
        operator: str,
        item_type: ItemType | None = None,
        reason: str = "",
        event_id: str = "",
        expires: int = 0,
    ) -> list[ListChange]:
        """Adds items; those that are there already, for as long, are left as they are.

        Args:
            tenant: Whose list.
            alias: Its name without the `@`.
            items: What to add.
            operator: Who does it.
            item_type: What its items are; needed for a list that is not there yet.
            reason: Why.
            event_id: Of the payment it was learned from.
            expires: From when on they count no more, microseconds UTC; 0: never.

        Raises:
            DataError: `payment.list.unknown` (no such list, and no type given), `payment.list.retyped`,
                `payment.list.full`.
            DefinitionError: `payment.list.alias`, `payment.list.item`.
        """
        with self._database.begin() as connection:
            kind = _typed(connection, tenant, alias, item_type)
            ValueList(alias, kind, tuple(items))
            held = _standing(connection, tenant, alias)
            now = self._clock.now()
            fresh = [item for item in dict.fromkeys(items) if not _covers(held.get(item), expires, now)]
            count = sum(_counts(change, now) for change in held.values())
            if count + len(fresh) > MAX_LIST_ITEMS:
                hint = "take out what is old, or let items expire"
                raise DataError("payment.list.full", f"list `@{alias}` has room for {MAX_LIST_ITEMS} items", hint=hint)
            insert_new(connection, _LIST, tenant=tenant, alias=alias, item_type=kind.value)
            why = _Why(operator, reason, event_id, expires)
            return self._store(connection, tenant, alias, fresh, ListAction.ADD, why)

    def remove(
        self, tenant: str, alias: str, items: Sequence[str], *, operator: str, reason: str = ""
    ) -> list[ListChange]:
        """Takes items out; those that are not there are left out."""
        with self._database.begin() as connection:
            held, now = _standing(connection, tenant, alias), self._clock.now()
            there = [item for item in dict.fromkeys(items) if item in held and _counts(held[item], now)]
            return self._store(connection, tenant, alias, there, ListAction.REMOVE, _Why(operator, reason))

    def undo(self, tenant: str, seq: int, *, operator: str, reason: str = "") -> ListChange:
        """Takes one change back.

        Raises:
            NotFoundError: `payment.list.change_unknown`.
            ConflictError: `payment.list.changed_since`: the item was changed again after it.
        """
        with self._database.begin() as connection:
            row = connection.execute(_CHANGE.select().where(_CHANGE.c.tenant == tenant, _CHANGE.c.seq == seq)).first()
            if row is None:
                raise NotFoundError("payment.list.change_unknown", "no such change of a list", at=str(seq))
            change = _change(row)
            newest = _standing(connection, tenant, change.alias)[change.item]
            if newest.seq != seq:
                hint = f"change {newest.seq} came after it"
                raise ConflictError("payment.list.changed_since", "the item was changed since", hint=hint, at=str(seq))
            return self._reverse(connection, change, operator, reason or f"undoes change {seq}")

    def forget(self, tenant: str, event_id: str, *, operator: str, reason: str) -> list[ListChange]:
        """Takes out what was learned from a payment and still stands: what was said of it is no longer so."""
        query = _CHANGE.select().where(_CHANGE.c.tenant == tenant, _CHANGE.c.event_id == event_id)
        with self._database.begin() as connection:
            learned = [_change(row) for row in connection.execute(query.order_by(_CHANGE.c.seq))]
            standing = {change.alias: _standing(connection, tenant, change.alias) for change in learned}
            return [
                self._reverse(connection, change, operator, reason)
                for change in learned
                if change.action is ListAction.ADD and standing[change.alias][change.item].seq == change.seq
            ]

    def held(self, tenant: str, now: int, upto: int | None = None) -> dict[str, ValueList]:
        """Alias -> list, of the items that count.

        Args:
            tenant: Whose.
            now: Items that expired by then are left out, microseconds UTC.
            upto: As of a change's number; None: with all changes.
        """
        with self._database.read() as connection:
            rows = connection.execute(_LIST.select().where(_LIST.c.tenant == tenant).order_by(_LIST.c.alias)).all()
            found = {}
            for row in rows:
                standing = _standing(connection, tenant, row.alias, upto)
                items = tuple(sorted(item for item, change in standing.items() if _counts(change, now)))
                found[row.alias] = ValueList(row.alias, ItemType(row.item_type), items)
            return found

    def newest(self, tenant: str) -> int:
        """Number of a tenant's last change; 0 before the first."""
        with self._database.read() as connection:
            query = sa.select(sa.func.max(_CHANGE.c.seq)).where(_CHANGE.c.tenant == tenant)
            return connection.execute(query).scalar() or 0

    def state(self, tenant: str, now: int) -> tuple[int, int]:
        """Number of a tenant's last change, and how many items have expired: while both stay, so do the lists."""
        mine = _CHANGE.c.tenant == tenant
        gone = sa.select(sa.func.count()).where(mine, _CHANGE.c.expires > 0, _CHANGE.c.expires <= now)
        with self._database.read() as connection:
            return self.newest(tenant), connection.execute(gone).scalar_one()

    def changes(self, tenant: str, alias: str = "", limit: int = 100) -> list[ListChange]:
        """Changes, newest first."""
        query = _CHANGE.select().where(_CHANGE.c.tenant == tenant).order_by(_CHANGE.c.seq.desc())
        if alias:
            query = query.where(_CHANGE.c.alias == alias)
        with self._database.read() as connection:
            return [_change(row) for row in connection.execute(query.limit(min(limit, MAX_SHOWN)))]

    # Which lists a rule set was made with

    def note_applied(self, tenant: str, version: str, seq: int, time: int) -> None:
        """Keeps which lists stand behind a version of the rules, before anything is decided by it."""
        with self._database.begin() as connection:
            insert_new(connection, _APPLIED, tenant=tenant, version=version, seq=seq, time=time)

    def applied(self, tenant: str, version: str) -> dict[str, ValueList] | None:
        """The lists behind a version of the rules; None for one that no lists were applied to."""
        query = _APPLIED.select().where(_APPLIED.c.tenant == tenant, _APPLIED.c.version == version)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else self.held(tenant, row.time, row.seq)

    # Where the learner of labels stands

    def place(self, start: int = 0) -> int:
        """Offset of the log from which on labels are to be read; `start` where none was kept."""
        with self._database.begin() as connection:
            insert_new(connection, _PLACE, name=LEARNER, next=start)
            return int(connection.execute(sa.select(_PLACE.c.next).where(_PLACE.c.name == LEARNER)).scalar_one())

    def move(self, following: int) -> None:
        """Notes how far labels were read; what came before is in the lists."""
        with self._database.begin() as connection:
            connection.execute(_PLACE.update().where(_PLACE.c.name == LEARNER).values(next=following))

    def _reverse(self, connection: Connection, change: ListChange, operator: str, reason: str) -> ListChange:
        back = ListAction.REMOVE if change.action is ListAction.ADD else ListAction.ADD
        why = _Why(operator, reason)
        return self._store(connection, change.tenant, change.alias, [change.item], back, why)[0]

    def _store(  # noqa: PLR0917 - what the rows have in common
        self,
        connection: Connection,
        tenant: str,
        alias: str,
        items: Sequence[str],
        action: ListAction,
        why: _Why,
    ) -> list[ListChange]:
        newest = connection.execute(sa.select(sa.func.max(_CHANGE.c.seq))).scalar() or 0
        changes = [
            ListChange(
                seq=seq,
                tenant=tenant,
                alias=alias,
                item=item,
                action=action,
                operator=why.operator,
                reason=why.reason,
                event_id=why.event_id,
                time=self._clock.now(),
                expires=why.expires,
            )
            for seq, item in enumerate(items, newest + 1)
        ]
        if changes:
            connection.execute(_CHANGE.insert(), [msgspec.to_builtins(change) for change in changes])
        return changes


def _typed(connection: Connection, tenant: str, alias: str, wanted: ItemType | None) -> ItemType:
    query = sa.select(_LIST.c.item_type).where(_LIST.c.tenant == tenant, _LIST.c.alias == alias)
    text = connection.execute(query).scalar()
    held = ItemType(text) if text else DEFAULTS.get(alias)
    if held is None and wanted is None:
        raise DataError("payment.list.unknown", f"no list `@{alias:.100}`", hint="say what its items are")
    if held is not None and wanted not in {None, held}:
        raise DataError("payment.list.retyped", f"list `@{alias}` holds {held}", hint="choose another name")
    kind = held or wanted
    assert kind is not None  # noqa: S101 - one of them is there
    return kind


def _standing(connection: Connection, tenant: str, alias: str, upto: int | None = None) -> dict[str, ListChange]:
    """Item -> its last change."""
    mine = (_CHANGE.c.tenant == tenant) & (_CHANGE.c.alias == alias)
    if upto is not None:
        mine &= _CHANGE.c.seq <= upto
    last = sa.select(sa.func.max(_CHANGE.c.seq)).where(mine).group_by(_CHANGE.c.item)
    rows = connection.execute(_CHANGE.select().where(_CHANGE.c.seq.in_(last)))
    return {change.item: change for change in map(_change, rows)}


def _counts(change: ListChange, now: int) -> bool:
    return change.action is ListAction.ADD and (change.expires == 0 or change.expires > now)


def _covers(change: ListChange | None, expires: int, now: int) -> bool:
    """Whether an item is there at least as long as it is wanted."""
    if change is None or not _counts(change, now):
        return False
    return change.expires == 0 or (expires != 0 and change.expires >= expires)


def _change(row: sa.Row[tuple[object, ...]]) -> ListChange:
    return msgspec.convert({name: getattr(row, name) for name in ListChange.__struct_fields__}, ListChange)
