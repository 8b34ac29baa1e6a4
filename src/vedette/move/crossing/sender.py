"""The side that money leaves."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import msgspec

from vedette.core.clock import MICROS, Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, sa
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.move import chart
from vedette.move.crossing.message import Kind, Message
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.ledger.nouns import U128_MAX, Transfer, TransferFlags, TransferStatus
from vedette.move.ledger.numbers import Unsigned

LIMIT_S: Final = 60.0
"""Seconds after which a crossing without a verdict is cancelled."""
RETRY_S: Final = 2.0
"""Seconds between two messages of one crossing."""
BATCH: Final = 100
"""Most messages of one turn."""
CANCEL_FENCE: Final = 2

_METADATA = sa.MetaData()
CROSSINGS = sa.Table(
    "crossing_out",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("peer", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("from_account", Unsigned(16), nullable=False),
    sa.Column("to_account", Unsigned(16), nullable=False),
    sa.Column("amount", Unsigned(16), nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("started", LONG, nullable=False),
    sa.Column("limit_at", LONG, nullable=False),
    sa.Column("next_at", LONG, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sqlite_strict=True,
)
_OPEN: Final = CROSSINGS.c.state.in_([sa.literal_column("'sent'"), sa.literal_column("'cancelling'")])
sa.Index("crossing_out_due", CROSSINGS.c.next_at, sqlite_where=_OPEN, postgresql_where=_OPEN)
_MIGRATIONS = (Migration(1, "crossings that leave", create(_METADATA)),)


class State(StrEnum):
    """Where a crossing is; see the package."""

    SENT = "sent"
    CANCELLING = "cancelling"
    APPLIED = "applied"
    REVERSED = "reversed"


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """A crossing as it is now."""

    tenant: str
    id: str
    peer: str
    state: State
    from_account: int
    to_account: int
    amount: int
    currency: str
    fence: int
    started: int
    """Microseconds UTC."""
    limit_at: int
    """When it is cancelled if there is no verdict; microseconds UTC."""
    next_at: int
    reason: str


class Sender:
    """Starts crossings to one peer and sees them through. Safe in several processes at once.

    Args:
        db: The sender's database; migrated here.
        clock: For limits.
        ledgers: Over `db`.
        peer: Name of the other service; names the transit account.
        limit_s: Seconds until a crossing without a verdict is cancelled.
        retry_s: Seconds between two messages of one crossing.
        step: Told of every transaction before and after its commit; tests stop a process there.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        ledgers: Ledgers,
        *,
        peer: str,
        limit_s: float = LIMIT_S,
        retry_s: float = RETRY_S,
        step: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._ledgers = ledgers
        self._peer = peer
        self._limit = round(limit_s * MICROS)
        self._retry = round(retry_s * MICROS)
        self._step = step
        db.migrate("crossing_out", _MIGRATIONS)

    def start(
        self, tenant: str, crossing: str, *, from_account: int, to_account: int, amount: int, currency: str
    ) -> Crossing:
        """Reserves the amount and begins; once for each id, a repetition answers with what is there.

        Args:
            tenant: Whose.
            crossing: Id, the caller's.
            from_account: Account here that is debited.
            to_account: Account there that is credited.
            amount: Minor units, > 0.
            currency: ISO 4217.

        Raises:
            DataError: `crossing.amount.invalid`, `crossing.mismatch`: the id stands for another one.
            ConflictError: `ledger.*`: the ledger does not reserve the amount. Nothing was begun.
        """
        if amount <= 0:
            raise DataError("crossing.amount.invalid", "the amount must be more than zero", at="$.amount")
        now = self._clock.now()
        wanted = Crossing(
            tenant=tenant,
            id=crossing,
            peer=self._peer,
            state=State.SENT,
            from_account=from_account,
            to_account=to_account,
            amount=amount,
            currency=currency,
            fence=1,
            started=now,
            limit_at=now + self._limit,
            next_at=now,
            reason="",
        )
        with self._db.begin() as connection:
            there = _load(connection, tenant, crossing)
            if there is not None:
                return _same(wanted, there)
            self._reserve(connection, wanted)
            connection.execute(CROSSINGS.insert().values(msgspec.structs.asdict(wanted)))
            self._step("unsaved")
        self._step("saved")
        return wanted

    def due(self) -> list[Message]:
        """What to send now; each comes again after a while, until there is a verdict.

        A crossing past its limit is cancelled: from then on its message is `cancel`.
        """
        now = self._clock.now()
        query = sa.select(CROSSINGS).where(_OPEN, CROSSINGS.c.next_at <= now, CROSSINGS.c.peer == self._peer)
        messages = []
        with self._db.begin() as connection:
            rows = connection.execute(query.order_by(CROSSINGS.c.next_at).limit(BATCH).with_for_update()).all()
            for row in rows:
                one = _crossing(row)
                values: dict[str, Any] = {"next_at": now + self._retry}
                if one.limit_at <= now:
                    values |= {"state": State.CANCELLING.value, "fence": CANCEL_FENCE}
                    one = msgspec.structs.replace(one, state=State.CANCELLING, fence=CANCEL_FENCE)
                connection.execute(CROSSINGS.update().where(_at(one.tenant, one.id)).values(values))
                messages.append(_message(one))
            self._step("unsaved")
        self._step("saved")
        return messages

    def receive(self, message: Message) -> Crossing:
        """Takes a verdict: posts the reservation or gives it back. A verdict that is known changes nothing.

        Raises:
            DataError: `crossing.message.unexpected`: this is no verdict.
            NotFoundError: `crossing.not_found`.
        """
        if message.kind not in (Kind.APPLIED, Kind.REFUSED):
            raise DataError("crossing.message.unexpected", f"`{message.kind}` is not for a sender")
        state = State.APPLIED if message.kind is Kind.APPLIED else State.REVERSED
        with self._db.begin() as connection:
            one = _load(connection, message.tenant, message.crossing, lock=True)
            if one is None:
                raise NotFoundError("crossing.not_found", "no such crossing", at=message.crossing[:64])
            if one.state in (State.SENT, State.CANCELLING):
                self._settle(connection, one, state)
                values = {"state": state.value, "reason": message.reason}
                connection.execute(CROSSINGS.update().where(_at(one.tenant, one.id)).values(values))
                one = msgspec.structs.replace(one, state=state, reason=message.reason)
            self._step("unsaved")
        self._step("saved")
        return one

    def in_transit(self, tenant: str) -> list[Crossing]:
        """Crossings without a verdict, oldest first. Their sum is what the transit accounts hold as pending."""
        query = sa.select(CROSSINGS).where(_OPEN, CROSSINGS.c.tenant == tenant, CROSSINGS.c.peer == self._peer)
        with self._db.read() as connection:
            return [_crossing(row) for row in connection.execute(query.order_by(CROSSINGS.c.started)).all()]

    def get(self, tenant: str, crossing: str) -> Crossing:
        """A crossing as it is now.

        Raises:
            NotFoundError: `crossing.not_found`.
        """
        with self._db.read() as connection:
            one = _load(connection, tenant, crossing)
        if one is None:
            raise NotFoundError("crossing.not_found", "no such crossing", at=crossing[:64])
        return one

    def _reserve(self, connection: Connection, one: Crossing) -> None:
        transit = chart.account(chart.Kind.TRANSIT, one.currency, self._peer)
        self._ledgers.create_accounts(one.tenant, [transit], within=connection)
        hold = Transfer(
            id=_hold(one),
            debit_account_id=one.from_account,
            credit_account_id=transit.id,
            amount=one.amount,
            ledger=transit.ledger,
            code=chart.Movement.CROSSING,
            flags=int(TransferFlags.PENDING),
        )
        (status,) = self._ledgers.create_transfers(one.tenant, [hold], within=connection)
        if status is not TransferStatus.CREATED:
            raise ConflictError(f"ledger.{status}", "the ledger does not reserve this amount", at=one.id)

    def _settle(self, connection: Connection, one: Crossing, state: State) -> None:
        applied = state is State.APPLIED
        flag = TransferFlags.POST_PENDING_TRANSFER if applied else TransferFlags.VOID_PENDING_TRANSFER
        resolve = Transfer(
            id=chart.to_id("crossing.settle", self._peer, one.id),
            pending_id=_hold(one),
            amount=U128_MAX if applied else 0,
            flags=int(flag),
        )
        (status,) = self._ledgers.create_transfers(one.tenant, [resolve], within=connection)
        if status is not TransferStatus.CREATED:
            # Only an edited ledger gets here: the reservation has no timeout, and nobody else resolves it.
            raise ConflictError(f"ledger.{status}", "the reservation cannot be resolved", at=one.id)


def _hold(one: Crossing) -> int:
    return chart.to_id("crossing.hold", one.peer, one.id)


def _at(tenant: str, crossing: str) -> sa.ColumnElement[bool]:
    return (CROSSINGS.c.tenant == tenant) & (CROSSINGS.c.id == crossing)


def _load(connection: Connection, tenant: str, crossing: str, *, lock: bool = False) -> Crossing | None:
    query = sa.select(CROSSINGS).where(_at(tenant, crossing))
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else _crossing(row)


def _crossing(row: sa.Row[Any]) -> Crossing:
    values = {name: getattr(row, name) for name in Crossing.__struct_fields__}
    return Crossing(**{**values, "state": State(row.state)})


def _same(wanted: Crossing, there: Crossing) -> Crossing:
    for name in ("peer", "from_account", "to_account", "amount", "currency"):
        if getattr(wanted, name) != getattr(there, name):
            raise DataError("crossing.mismatch", f"this id stands for a crossing of another `{name}`", at=there.id)
    return there


def _message(one: Crossing) -> Message:
    return Message(
        kind=Kind.CANCEL if one.state is State.CANCELLING else Kind.CREDIT,
        tenant=one.tenant,
        crossing=one.id,
        fence=one.fence,
        account=one.to_account,
        amount=one.amount,
        currency=one.currency,
    )
