"""What moves money, as events of the source `product`: what rules, features, alerts and the event store see.

A merchant tells what it knows of the payer in a charge's `metadata`, which is text to text. Names that mean something
to rules (`bindings.TOLD`) become fields of the event; the rest stays in its `metadata`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec

from vedette.core.clock import to_iso
from vedette.core.content import shipped
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.money import Money
from vedette.judge.decisions.bindings import TOLD
from vedette.judge.payment.attributes import ATTRIBUTES, Kind
from vedette.move.charge import Charge
from vedette.move.chart import to_id
from vedette.move.requests import ChargeRequest
from vedette.prove.audit import NOBODY, AuditRecord
from vedette.sense.sightings import LABEL_SOURCE
from vedette.sense.sources import Source, load_source

SOURCE: Final = "product"
CHARGE: Final = "charge"
REFUND: Final = "refund"
PAYOUT: Final = "payout"
DISPUTE: Final = "dispute"
KEY_REFUSED: Final = "key.refused"
AUTHENTICATE: Final = "keys.authenticate"
"""Action of the audit records of refused keys."""
_OF_PAYER: Final = ("customer", "device", "ip", "country", "card_country", "email")
_TRUTH = {"true": True, "false": False}
_PERSON = "per_"


@cache
def product() -> Source:
    """The shipped source file of these events."""
    path = shipped("sources") / f"{SOURCE}.yaml"
    return load_source(path.read_bytes(), path=str(path))


def to_charge(
    event_id: str, wanted: ChargeRequest, *, tenant: str, charge: str, time: int, asked_by: str, ingest_time: int
) -> Event:
    """The event that a charge is decided on; the same from the same arguments, whichever attempt asks.

    Args:
        event_id: Of the event.
        wanted: The request.
        tenant: Whose it is.
        charge: Id of the charge.
        time: When the payment was asked for, microseconds UTC.
        asked_by: Id of the API key, or of the person; empty when unknown.
        ingest_time: When we read it, microseconds UTC.
    """
    told, rest = lift(wanted.metadata)
    data = {
        "id": event_id,
        "type": CHARGE,
        "time": to_iso(time),
        "charge": charge,
        **asker(asked_by),
        "merchant": wanted.merchant,
        "amount_minor": wanted.amount_minor,
        "currency": wanted.currency,
        "source": wanted.source,
        **told,
        "metadata": rest,
    }
    return product().to_event(data, tenant=tenant, stream=f"charge:{charge}", offset=0, ingest_time=ingest_time)


def to_refund(
    charge: Charge, *, refund: str, transfer: int, amount_minor: int, time: int, asked_by: str, reason: str = ""
) -> Event:
    """The event of a refund that was made: the charge's own entities, who asked to give it back, and why if told."""
    told, _ = lift(charge.metadata)
    data: dict[str, Any] = {
        "id": _id("refund", charge.tenant, f"{transfer:032x}"),
        "type": REFUND,
        "time": to_iso(time),
        "refund": refund,
        "charge": charge.id,
        **asker(asked_by),
        "merchant": charge.merchant,
        "amount_minor": amount_minor,
        "currency": charge.currency,
        "source": charge.source,
        **({"reason": reason} if reason else {}),
        **{name: told[name] for name in _OF_PAYER if name in told},
    }
    return product().to_event(data, tenant=charge.tenant, stream=f"refund:{refund}", offset=0, ingest_time=time)


def to_dispute(
    status: str, charge: Charge, *, dispute: str, key: str, reason: str, money: Money, time: int, asked_by: str
) -> Event:
    """The event of a dispute's change of status: the charge's own entities; `key` is that of what changed it."""
    told, _ = lift(charge.metadata)
    data: dict[str, Any] = {
        "id": _id("dispute", charge.tenant, dispute, status, key),
        "type": DISPUTE,
        "time": to_iso(time),
        "dispute": dispute,
        "status": status,
        "reason": reason,
        "charge": charge.id,
        **asker(asked_by),
        "merchant": charge.merchant,
        "amount_minor": money.amount_minor,
        "currency": money.currency,
        "source": charge.source,
        **{name: told[name] for name in _OF_PAYER if name in told},
    }
    return product().to_event(data, tenant=charge.tenant, stream=f"dispute:{dispute}", offset=0, ingest_time=time)


def to_label(label: Label, *, cause: str) -> Event:
    """The event that carries a label; `cause` is the id of what told us, such as a dispute's."""
    return Event(
        id=f"label:{label.event_id}:{cause}",
        tenant=label.tenant,
        source=LABEL_SOURCE,
        event_time=label.observed_time,
        ingest_time=label.observed_time,
        data=msgspec.to_builtins(label),
    )


def to_payout(
    status: str, *, tenant: str, payout: str, key: str, merchant: str, money: Money, time: int, asked_by: str
) -> Event:
    """The event of a payout's change of status; `key` is the idempotency key of what changed it."""
    data = {
        "id": _id("payout", tenant, payout, status, key),
        "type": PAYOUT,
        "time": to_iso(time),
        "payout": payout,
        "status": status,
        **asker(asked_by),
        "merchant": merchant,
        "amount_minor": money.amount_minor,
        "currency": money.currency,
    }
    return product().to_event(data, tenant=tenant, stream=f"payout:{payout}", offset=0, ingest_time=time)


def to_refused(record: AuditRecord) -> Event | None:
    """The event of a key that was refused though it is known; None for every other audit record."""
    if record.action != AUTHENTICATE or record.actor == NOBODY:
        return None
    data: dict[str, Any] = {
        "id": _id("refused", record.id),
        "type": KEY_REFUSED,
        "time": to_iso(record.time),
        **asker(record.actor),
        "reason": record.code,
        **({"ip": record.origin} if record.origin else {}),
    }
    return product().to_event(
        data, tenant=record.tenant, stream=f"audit:{record.id}", offset=0, ingest_time=record.time
    )


def _id(*parts: str) -> str:
    return f"evt_{to_id('event', *parts):032x}"


def asker(principal: str) -> dict[str, str]:
    """The field that names who asked: `user` for a person, `key` for an API key."""
    if not principal:
        return {}
    return {"user" if principal.startswith(_PERSON) else "key": principal}


def lift(metadata: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Metadata as (fields of the event, what stays metadata).

    A truth value is `true` or `false`; another text for it stays metadata, and so does an empty one. `ip` goes before
    `ip_address`. An e-mail address becomes the SHA-256 of its lower-case form, and its domain.
    """
    told: dict[str, Any] = {}
    rest: dict[str, str] = {}
    for name, text in metadata.items():
        field = TOLD.get(name)
        value = _value(name, text) if field else None
        if field is None or value is None or (field != name and field in metadata):
            rest[name] = text
        else:
            told[field] = value
    address = told.get("email", "")
    if "@" in address:
        told["email"] = hashlib.sha256(address.strip().lower().encode()).hexdigest()
        told.setdefault("email_domain", address.strip().lower().rpartition("@")[2])
    return told, rest


def _value(name: str, text: str) -> Any:
    known = ATTRIBUTES.get(name)
    if known and known.kind is Kind.BOOLEAN:
        return _TRUTH.get(text.lower())
    return text or None
