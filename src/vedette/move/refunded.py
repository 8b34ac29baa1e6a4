"""What a merchant gave back: its refunds, newest first."""

from __future__ import annotations

import msgspec

from vedette.core.db import Database, sa
from vedette.move.charge import CHARGES, REFUNDS


class Refunded(msgspec.Struct, frozen=True, kw_only=True):
    """A refund of one of a merchant's charges."""

    id: str
    charge: str
    amount_minor: int
    currency: str
    time: int
    """Microseconds UTC."""


def refunds_of(database: Database, tenant: str, merchant: str, limit: int = 100) -> list[Refunded]:
    """The newest refunds of a merchant's charges, newest first. Costs a look at each refund of the tenant."""
    query = (
        sa.select(REFUNDS.c.id, REFUNDS.c.charge_id, REFUNDS.c.amount_minor, CHARGES.c.currency, REFUNDS.c.created)
        .join(CHARGES, (CHARGES.c.tenant == REFUNDS.c.tenant) & (CHARGES.c.id == REFUNDS.c.charge_id))
        .where(REFUNDS.c.tenant == tenant, CHARGES.c.merchant == merchant)
        .order_by(REFUNDS.c.created.desc(), REFUNDS.c.id.desc())
        .limit(limit)
    )
    with database.read() as connection:
        return [
            Refunded(
                id=row.id,
                charge=row.charge_id,
                amount_minor=row.amount_minor,
                currency=row.currency,
                time=row.created,
            )
            for row in connection.execute(query)
        ]
