"""What money did for one charge, as hops of a trace, and which charge an id belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from vedette.core.db import Connection, Database, sa
from vedette.core.errors import NotFoundError
from vedette.core.hop import Hop, HopKind
from vedette.core.money import Money
from vedette.move import chart
from vedette.move.charge import CHARGES, REFUNDS, Charge, to_hex
from vedette.move.disputes import Disputes
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.ledger.nouns import NANOS, Transfer, TransferFlags
from vedette.move.outbox import Outbox
from vedette.move.outbox.tables import deliveries

_MICRO = NANOS // 1_000_000
_HEX = 32
_TRANSFERS = ("hold", "capture")


def charge_of(db: Database, disputes: Disputes, tenant: str, name: str) -> str:
    """Id of the charge that a charge, refund, dispute, transfer or webhook belongs to; empty when there is none.

    By the id of a transfer or webhook the tenant's rows are gone through, a second for some millions.
    """
    with suppress(NotFoundError):
        return disputes.get(tenant, name).charge_id
    places = [
        (CHARGES, CHARGES.c.id, CHARGES.c.id),
        (REFUNDS, REFUNDS.c.charge_id, REFUNDS.c.id),
        (deliveries, deliveries.c.subject, deliveries.c.event_id),
    ]
    with db.read() as connection:
        for table, charge, id_ in places:
            query = sa.select(charge).where(table.c.tenant == tenant, id_ == name).limit(1)
            found = connection.execute(query).scalar()
            if found:
                return str(found)
        return _moved_by(connection, tenant, name)


def _moved_by(connection: Connection, tenant: str, name: str) -> str:
    try:
        number = int(name, 16) if len(name) == _HEX else 0
    except ValueError:
        number = 0
    if not number:
        return ""
    held = sa.select(CHARGES.c.id).where(
        CHARGES.c.tenant == tenant, (CHARGES.c.hold_id == number) | (CHARGES.c.capture_id == number)
    )
    back = sa.select(REFUNDS.c.charge_id).where(REFUNDS.c.tenant == tenant, REFUNDS.c.transfer_id == number)
    return next((str(found) for query in (held, back) for found in connection.execute(query).scalars()), "")


def hops_of_charge(db: Database, ledger: Ledgers, outbox: Outbox, disputes: Disputes, charge: Charge) -> Iterator[Hop]:
    """The request, its transfers, refunds, disputes and webhooks, in no order."""
    yield Hop(
        time=charge.created,
        kind=HopKind.REQUEST,
        id=charge.id,
        text=f"charge of {Money(charge.amount_minor, charge.currency)} for {charge.merchant}"
        f"{_asked_by(charge)}: {charge.status.value}",
        resource="charges",
    )
    with db.read() as connection:
        refunds = connection.execute(
            REFUNDS.select().where(REFUNDS.c.tenant == charge.tenant, REFUNDS.c.charge_id == charge.id)
        ).all()
    for row in refunds:
        money = Money(row.amount_minor, charge.currency)
        yield Hop(time=row.created, kind=HopKind.REFUND, id=row.id, text=f"{money} given back", resource="refunds")
    disputed = disputes.of_charge(charge.tenant, charge.id)
    for dispute in disputed:
        text = f"{Money(dispute.amount_minor, charge.currency)} disputed ({dispute.reason}): {dispute.status}"
        yield Hop(time=dispute.opened, kind=HopKind.DISPUTE, id=dispute.id, text=text, resource="disputes")
    ids = [chart.to_id(name, charge.id) for name in _TRANSFERS] + [row.transfer_id for row in refunds]
    for transfer in ledger.lookup_transfers(charge.tenant, ids):
        yield _transfer(transfer, charge.currency)
    for subject in (charge.id, *(dispute.id for dispute in disputed)):
        yield from _webhooks(outbox, charge.tenant, subject)


def _asked_by(charge: Charge) -> str:
    event = charge.decision.event
    key = event.get("key") or event.get("user")
    return f", asked by {key}" if key else ""


def _transfer(transfer: Transfer, currency: str) -> Hop:
    flags = TransferFlags(transfer.flags)
    what = "held" if flags & TransferFlags.PENDING else "captured" if transfer.pending_id else "moved"
    return Hop(
        time=transfer.timestamp // _MICRO,
        kind=HopKind.TRANSFER,
        id=to_hex(transfer.id),
        text=f"{Money(transfer.amount, currency)} {what}",
        resource="ledger",
    )


def _webhooks(outbox: Outbox, tenant: str, subject: str) -> Iterator[Hop]:
    for sent in outbox.about(tenant, subject):
        when = f"{sent.status} to {sent.url}, {sent.attempts} attempts"
        yield Hop(
            time=sent.created,
            kind=HopKind.WEBHOOK,
            id=sent.event_id,
            text=f"{when}{f', last: {sent.error}' if sent.error else ''}",
            resource="webhooks",
        )
