"""A charge: what it is now, and the rows that say so."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from vedette.core.db import LONG, Connection, Migration, create, execute, marked, sa
from vedette.core.decision import Decision
from vedette.core.errors import NotFoundError
from vedette.move.ledger.numbers import Unsigned, packer


class ChargeStatus(StrEnum):
    """Where a charge is; see `charges`."""

    CAPTURED = "captured"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    BLOCKED = "blocked"
    CHALLENGED = "challenged"
    FAILED = "failed"


_METADATA = sa.MetaData()
CHARGES = sa.Table(
    "charge",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("amount_minor", Unsigned(16), nullable=False),
    sa.Column("refunded_minor", Unsigned(16), nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("merchant", sa.Text, nullable=False),
    sa.Column("metadata", sa.LargeBinary, nullable=False),
    sa.Column("decision", sa.LargeBinary, nullable=False),
    sa.Column("hold_id", Unsigned(16)),
    sa.Column("capture_id", Unsigned(16)),
    sa.Column("created", LONG, nullable=False),
    sa.Column("disputed_minor", Unsigned(16), nullable=False),
    sqlite_strict=True,
)
REFUNDS = sa.Table(
    "refund",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("charge_id", sa.Text, nullable=False),
    sa.Column("amount_minor", Unsigned(16), nullable=False),
    sa.Column("transfer_id", Unsigned(16), nullable=False),
    sa.Column("created", LONG, nullable=False),
    sqlite_strict=True,
)
sa.Index("refund_of_charge", REFUNDS.c.tenant, REFUNDS.c.charge_id)


def _add_disputed(connection: Connection) -> None:
    if any(column["name"] == "disputed_minor" for column in sa.inspect(connection).get_columns("charge")):
        return  # made with it by the first step
    sqlite = connection.dialect.name == "sqlite"
    column = f"blob not null default x'{'00' * 16}'" if sqlite else "numeric(39) not null default 0"
    connection.exec_driver_sql(f"alter table charge add column disputed_minor {column}")


MIGRATIONS = (
    Migration(1, "charges and refunds", create(_METADATA)),
    Migration(2, "what is disputed", _add_disputed),
)


_INSERT: Final = (
    f"insert into charge ({', '.join(column.name for column in CHARGES.columns)})"
    f" values ({', '.join('?' * len(CHARGES.columns))})"
)


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """A charge as it is now."""

    tenant: str
    id: str
    status: ChargeStatus
    amount_minor: int
    refunded_minor: int
    currency: str
    source: str
    """The token that stands for the card; never a card number."""
    merchant: str
    metadata: dict[str, str]
    decision: Decision
    hold_id: int | None
    capture_id: int | None
    created: int
    """Microseconds UTC."""
    disputed_minor: int = 0
    """What disputes hold or took; it cannot be refunded."""

    def to_json(self) -> dict[str, Any]:
        """The shape of answers and webhooks: `{id, status, decision, ledger, ...}`; `ledger` is null without money."""
        decision = self.decision
        ledger = None
        if self.hold_id is not None:
            ledger = {"hold": to_hex(self.hold_id), "capture": to_hex(self.capture_id) if self.capture_id else None}
        return {
            "id": self.id,
            "status": self.status.value,
            "amount_minor": self.amount_minor,
            "refunded_minor": self.refunded_minor,
            "currency": self.currency,
            "merchant": self.merchant,
            "metadata": self.metadata,
            "decision": {
                "event_id": decision.event_id,
                "action": decision.action.value,
                "risk_score": decision.risk_score,
                "reasons": [{"code": r.code, "text": r.text, "weight": r.weight} for r in decision.reasons],
                "fallback": decision.fallback,
            },
            "ledger": ledger,
        }


def load(connection: Connection, tenant: str, charge_id: str, *, lock: bool = False) -> Charge:
    """A charge as it is now.

    Raises:
        NotFoundError: `charge.not_found`, also for another tenant's.
    """
    query = sa.select(CHARGES).where(CHARGES.c.tenant == tenant, CHARGES.c.id == charge_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFoundError("charge.not_found", "no such charge", at=charge_id[:64])
    values = {name: getattr(row, name) for name in Charge.__struct_fields__}
    return Charge(
        **{
            **values,
            "status": ChargeStatus(row.status),
            "metadata": msgspec.json.decode(row.metadata),
            "decision": msgspec.json.decode(row.decision, type=Decision),
        }
    )


def insert(connection: Connection, charges: Sequence[Charge]) -> None:
    """Writes new charges."""
    wide = packer(connection)
    rows = [
        (
            charge.tenant,
            charge.id,
            charge.status.value,
            wide(charge.amount_minor),
            wide(charge.refunded_minor),
            charge.currency,
            charge.source,
            charge.merchant,
            msgspec.json.encode(charge.metadata),
            msgspec.json.encode(charge.decision),
            None if charge.hold_id is None else wide(charge.hold_id),
            None if charge.capture_id is None else wide(charge.capture_id),
            charge.created,
            wide(charge.disputed_minor),
        )
        for charge in charges
    ]
    execute(connection, marked(connection, _INSERT), rows)


def update(connection: Connection, charge: Charge, **values: Any) -> Charge:
    """Changes a charge that `load` locked."""
    at = (CHARGES.c.tenant == charge.tenant) & (CHARGES.c.id == charge.id)
    connection.execute(CHARGES.update().where(at).values(values))
    return msgspec.structs.replace(charge, **values)


def refundable(charge: Charge) -> int:
    """What is left to refund or dispute, minor units; 0 for a charge that was never captured."""
    captured = charge.status in (ChargeStatus.CAPTURED, ChargeStatus.PARTIALLY_REFUNDED)
    return charge.amount_minor - charge.refunded_minor - charge.disputed_minor if captured else 0


def to_hex(id_: int) -> str:
    """An id of the ledger as text."""
    return f"{id_:032x}"
