"""Intake: from a request's or a file's data to an event that can be decided on, or a coded refusal with its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.judge.decisions.bindings import binding_of
from vedette.prove.dlp import refuse_pans
from vedette.sense.features.values import to_fraud
from vedette.sense.sources import MAX_ID, Source
from vedette.sense.times import check_future

STREAM = "request"


def to_event(data: Any, source: Source, *, tenant: str, ingest_time: int) -> Event:
    """An event from the source's own fields. What tells the outcome is taken out first.

    Args:
        data: A decoded JSON object.
        source: Its source, such as `card_transactions`.
        tenant: Whose it is.
        ingest_time: Now, microseconds UTC.

    Raises:
        DataError: `decision.event.shape` (no object), `decision.event.no_id`, `event.time.unparsable`,
            `event.time.future`; what else `check_event` refuses.
    """
    if not isinstance(data, dict):
        raise DataError("decision.event.shape", "an event is a JSON object", at="$")
    truth = binding_of(source.name).truth
    plain = {name: value for name, value in data.items() if name not in truth} if truth else data
    binding_of(source.name).check(plain)
    try:
        event = source.to_event(plain, tenant=tenant, stream=STREAM, offset=0, ingest_time=ingest_time)
    except DataError as error:
        named = next((name for name in source.definition.time if name in plain), next(iter(source.definition.time)))
        raise DataError(error.code, error.message, hint=error.hint, at=f"$.{named}") from error
    own = source.definition.id
    if not own or _absent(plain, own):
        hint = f"give `{own}`: a decision is kept under it, so that a retry gets the same answer"
        raise DataError("decision.event.no_id", "the event has no id of its own", hint=hint, at=f"$.{own}")
    refuse_pans(event.data)
    return event


def _absent(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name)
    return isinstance(value, bool) or not isinstance(value, str | int) or value == "" or len(str(value)) > MAX_ID


def check_event(event: Event, *, now: int) -> None:
    """Refuses an event that cannot be decided on.

    Raises:
        DataError: `event.time.future`, `decision.event.no_id`, `decision.event.type`, `decision.event.negative`,
            `money.amount.invalid`, `money.currency.unknown`, `request.pan_refused`, each with its JSON path.
    """
    if not event.id or len(event.id) > MAX_ID:
        raise DataError("decision.event.no_id", f"an event id has 1 to {MAX_ID} characters", at="$.id")
    check_future(event.event_time, now)
    binding_of(event.source).check(event.data)
    refuse_pans(event.data)


def to_label(data: Mapping[str, Any], event: Event, *, truth: str, delay: int) -> Label | None:
    """The label that history carries itself, known `delay` microseconds after its event; None without one.

    Args:
        data: The record before `to_event` took its outcome out.
        event: What `to_event` made of it.
        truth: Field that tells it: 1 or true is fraud, 0 or false genuine.
        delay: Microseconds until the label is known.
    """
    fraud = to_fraud(data.get(truth)) if truth else None
    if fraud is None:
        return None
    known = event.event_time + delay
    return Label(event_id=event.id, tenant=event.tenant, fraud=bool(fraud), observed_time=known, kind="verdict")
