"""What moves money, as events of the source `product`: what rules, features, alerts and the event store see.

A merchant tells what it knows of the payer in a charge's `metadata`, which is text to text. Names that mean something
to rules (`bindings.TOLD`) become fields of the event; the rest stays in its `metadata`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from vedette.core.clock import to_iso
from vedette.core.content import shipped
from vedette.core.event import Event
from vedette.judge.decisions.bindings import TOLD
from vedette.judge.payment.attributes import ATTRIBUTES, Kind
from vedette.move.requests import ChargeRequest
from vedette.sense.sources import Source, load_source

SOURCE: Final = "product"
CHARGE: Final = "charge"
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
