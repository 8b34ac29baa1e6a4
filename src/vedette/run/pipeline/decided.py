"""Decisions as a log source: the flat view that Sigma rules and correlations read, source `decision`."""

from __future__ import annotations

from typing import Any

import msgspec

from vedette.core.clock import to_iso
from vedette.core.decision import Decision
from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.core.log import Record
from vedette.sense.sources import Source

SOURCE = "decision"
TOPIC = "decision"
MAX_REASONS = 10
"""Most reasons in the view: the weightiest."""

_TAKEN = (
    ("amount_minor", "amount_minor"),
    ("currency", "currency"),
    ("merchant", "merchant"),
    ("key", "key"),
    ("source", "card"),
    ("customer", "customer"),
    ("CUSTOMER_ID", "customer"),
    ("device", "device"),
    ("ip", "ip"),
    ("country", "country"),
    ("TERMINAL_ID", "terminal"),
    ("cvc_check", "cvc_check"),
    ("type", "type"),
    ("charge", "charge"),
)
"""Field of the decided event, field of the view; of two for one field the first that is there counts."""

_decode = msgspec.json.Decoder(Decision).decode


def to_decided(record: Record, source: Source) -> Event | DataError:
    """The view of the decision in a record of topic `decision`, as an event of its own.

    Its id is that of the decided event, so that a decision that was recorded twice counts once; its time is that
    event's time.

    Args:
        record: From the log.
        source: The source file `decision`.
    """
    try:
        decision = _decode(record.value)
    except msgspec.DecodeError as error:
        return DataError("log.decision.malformed", f"no decision: {error}", at=f"{TOPIC}@{record.offset}")
    try:
        event = source.to_event(
            view(decision), tenant=decision.tenant, stream=TOPIC, offset=record.offset, ingest_time=record.time
        )
    except DataError as error:
        return error
    return msgspec.structs.replace(event, seq=record.offset + 1)


def view(decision: Decision) -> dict[str, Any]:
    """A decision as flat fields; what the decided event does not say is absent."""
    data: dict[str, Any] = {
        "event_id": decision.event_id,
        "time": to_iso(decision.time),
        "action": decision.action.value,
        "score": decision.score,
        "risk_score": decision.risk_score,
        "challenge": decision.challenge,
        "reasons": [reason.code for reason in decision.reasons[:MAX_REASONS]],
        "rules": [rule.id for rule in decision.rules if rule.result == "fired"],
        "fallback": decision.fallback,
        "decided_source": decision.source,
    }
    event = decision.event
    for path, name in _TAKEN:
        if name not in data and (value := event.get(path)) is not None:
            data[name] = value
    return data
