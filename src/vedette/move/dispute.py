"""A dispute: what it is now, and the rows that say so."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from vedette.core.clock import to_iso
from vedette.core.db import LONG, Connection, Migration, create, sa
from vedette.core.errors import NotFoundError
from vedette.move.ledger.numbers import Unsigned


class DisputeStatus(StrEnum):
    """Where a dispute is; see `disputes`."""

    OPENED = "opened"
    """The amount is held; evidence is due."""
    SUBMITTED = "submitted"
    """Evidence was sent in time."""
    WON = "won"
    LOST = "lost"
    SETTLED = "settled"
    """The money is where the outcome says."""


class Outcome(StrEnum):
    """How the card network decided."""

    WON = "won"
    """For the merchant."""
    LOST = "lost"
    """For the payer."""


class Reason(StrEnum):
    """Why the payer disputes; the network's code belongs in `network_reason`."""

    FRAUDULENT = "fraudulent"
    NOT_RECEIVED = "product_not_received"
    UNACCEPTABLE = "product_unacceptable"
    DUPLICATE = "duplicate"
    CREDIT_NOT_PROCESSED = "credit_not_processed"
    CANCELLED = "subscription_cancelled"
    GENERAL = "general"


_METADATA = sa.MetaData()
DISPUTES = sa.Table(
    "dispute",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("charge_id", sa.Text, nullable=False),
    sa.Column("merchant", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("network_reason", sa.Text, nullable=False),
    sa.Column("amount_minor", Unsigned(16), nullable=False),
    sa.Column("held_minor", Unsigned(16), nullable=False),
    sa.Column("covered_minor", Unsigned(16), nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("evidence", sa.LargeBinary, nullable=False),
    sa.Column("evidence_due", LONG, nullable=False),
    sa.Column("opened", LONG, nullable=False),
    sa.Column("changed", LONG, nullable=False),
    sqlite_strict=True,
)
sa.Index("dispute_of_charge", DISPUTES.c.tenant, DISPUTES.c.charge_id)
_OF_MERCHANT: Final = sa.Index("dispute_of_merchant", DISPUTES.c.tenant, DISPUTES.c.merchant, DISPUTES.c.opened)
_OPENED: Final = DISPUTES.c.status == sa.literal_column("'opened'")
sa.Index("dispute_due", DISPUTES.c.evidence_due, sqlite_where=_OPENED, postgresql_where=_OPENED)


def _index_merchants(connection: Connection) -> None:
    _OF_MERCHANT.create(connection, checkfirst=True)


MIGRATIONS = (Migration(1, "disputes", create(_METADATA)), Migration(2, "disputes of a merchant", _index_merchants))


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute as it is now."""

    tenant: str
    id: str
    charge_id: str
    merchant: str
    status: DisputeStatus
    outcome: str = ""
    """Empty until the network decided."""
    reason: Reason
    network_reason: str
    """The network's own code, as it came."""
    amount_minor: int
    held_minor: int
    """Held of the merchant's balance."""
    covered_minor: int
    """What the merchant's balance did not hold; reserved of the platform's own money."""
    currency: str
    evidence: dict[str, str]
    evidence_due: int
    """Microseconds UTC; evidence that comes later is refused."""
    opened: int
    """Microseconds UTC."""
    changed: int
    """When it came to its status, microseconds UTC."""

    def to_json(self) -> dict[str, Any]:
        """The shape of answers and webhooks."""
        return {
            "id": self.id,
            "charge": self.charge_id,
            "merchant": self.merchant,
            "status": self.status.value,
            "outcome": self.outcome or None,
            "reason": self.reason.value,
            "network_reason": self.network_reason,
            "amount_minor": self.amount_minor,
            "held_minor": self.held_minor,
            "covered_minor": self.covered_minor,
            "currency": self.currency,
            "evidence": self.evidence,
            "evidence_due": to_iso(self.evidence_due),
        }


def load(connection: Connection, tenant: str, dispute_id: str, *, lock: bool = False) -> Dispute:
    """A dispute as it is now.

    Raises:
        NotFoundError: `dispute.not_found`, also for another tenant's.
    """
    query = sa.select(DISPUTES).where(DISPUTES.c.tenant == tenant, DISPUTES.c.id == dispute_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFoundError("dispute.not_found", "no such dispute", at=dispute_id[:64])
    return parse_row(row)


def parse_row(row: sa.Row[Any]) -> Dispute:
    """A dispute from its row."""
    values = {name: getattr(row, name) for name in Dispute.__struct_fields__}
    parsed = {
        "status": DisputeStatus(row.status),
        "reason": Reason(row.reason),
        "evidence": msgspec.json.decode(row.evidence),
    }
    return Dispute(**{**values, **parsed})


def columns(dispute: Dispute) -> dict[str, Any]:
    """The row of a dispute."""
    values = {name: getattr(dispute, name) for name in Dispute.__struct_fields__}
    return {**values, "evidence": msgspec.json.encode(dispute.evidence)}


def update(connection: Connection, dispute: Dispute, **values: Any) -> Dispute:
    """Changes a dispute that `load` locked."""
    changed = msgspec.structs.replace(dispute, **values)
    at = (DISPUTES.c.tenant == dispute.tenant) & (DISPUTES.c.id == dispute.id)
    connection.execute(DISPUTES.update().where(at).values(columns(changed)))
    return changed
