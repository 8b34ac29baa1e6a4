"""The side that money comes to."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from vedette.core.clock import Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import DataError
from vedette.move import chart
from vedette.move.crossing.message import Kind, Message
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.ledger.nouns import Transfer, TransferStatus
from vedette.move.ledger.numbers import Unsigned

_METADATA = sa.MetaData()
VERDICTS = sa.Table(
    "crossing_in",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("peer", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("account", Unsigned(16), nullable=False),
    sa.Column("amount", Unsigned(16), nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sqlite_strict=True,
)
_MIGRATIONS = (Migration(1, "crossings that come", create(_METADATA)),)
CANCELLED = "cancelled"


class Verdict(StrEnum):
    """What became of a crossing here; written once."""

    APPLIED = "applied"
    REFUSED = "refused"


class Receiver:
    """Takes crossings of one peer. Safe in several processes at once.

    Args:
        db: The receiver's database; migrated here.
        clock: Times of the verdicts.
        ledgers: Over `db`.
        peer: Name of the other service; names the transit account.
        step: Told of every transaction before and after its commit; tests stop a process there.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        ledgers: Ledgers,
        *,
        peer: str,
        step: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._ledgers = ledgers
        self._peer = peer
        self._step = step
        db.migrate("crossing_in", _MIGRATIONS)

    def receive(self, message: Message) -> Message:
        """Decides on a crossing once, and answers every message with the verdict.

        Raises:
            DataError: `crossing.message.unexpected`, `crossing.mismatch`: the id stands for another one.
        """
        if message.kind not in (Kind.CREDIT, Kind.CANCEL):
            raise DataError("crossing.message.unexpected", f"`{message.kind}` is not for a receiver")
        with self._db.begin() as connection:
            verdict, reason = self._decide(connection, message)
            self._step("unsaved")
        self._step("saved")
        return Message(
            kind=Kind.APPLIED if verdict is Verdict.APPLIED else Kind.REFUSED,
            tenant=message.tenant,
            crossing=message.crossing,
            fence=message.fence,
            reason=reason,
        )

    def _decide(self, connection: Connection, message: Message) -> tuple[Verdict, str]:
        at = _at(message.tenant, self._peer, message.crossing)
        taking = message.kind is Kind.CREDIT
        # An insert that wins or does not: of a credit and its cancel, whichever comes first is the verdict.
        first = insert_new(
            connection,
            VERDICTS,
            tenant=message.tenant,
            peer=self._peer,
            id=message.crossing,
            verdict=(Verdict.APPLIED if taking else Verdict.REFUSED).value,
            fence=message.fence,
            account=message.account,
            amount=message.amount,
            currency=message.currency,
            reason="" if taking else CANCELLED,
            time=self._clock.now(),
        )
        if not first:
            row = connection.execute(sa.select(VERDICTS).where(at).with_for_update()).one()
            if (row.account, row.amount, row.currency) != (message.account, message.amount, message.currency):
                raise DataError("crossing.mismatch", "this id stands for another crossing", at=message.crossing[:64])
            if self._late(message.fence, row.fence) or row.verdict == Verdict.APPLIED or not taking:
                return Verdict(row.verdict), row.reason
        if not taking:
            return Verdict.REFUSED, CANCELLED
        status = self._credit(connection, message)
        if status is TransferStatus.CREATED:
            return Verdict.APPLIED, ""
        values = {"verdict": Verdict.REFUSED.value, "reason": status.value}
        connection.execute(VERDICTS.update().where(at).values(values))
        return Verdict.REFUSED, status.value

    def _late(self, fence: int, highest: int) -> bool:
        """Whether a message is older than the verdict: money that was cancelled must not come in afterwards."""
        return fence <= highest

    def _credit(self, connection: Connection, message: Message) -> TransferStatus:
        transit = chart.account(chart.Kind.TRANSIT, message.currency, self._peer)
        self._ledgers.create_accounts(message.tenant, [transit], within=connection)
        credit = Transfer(
            id=chart.to_id("crossing.credit", self._peer, message.crossing),
            debit_account_id=transit.id,
            credit_account_id=message.account,
            amount=message.amount,
            ledger=transit.ledger,
            code=chart.Movement.CROSSING,
        )
        return self._ledgers.create_transfers(message.tenant, [credit], within=connection)[0]


def _at(tenant: str, peer: str, crossing: str) -> sa.ColumnElement[bool]:
    return (VERDICTS.c.tenant == tenant) & (VERDICTS.c.peer == peer) & (VERDICTS.c.id == crossing)
