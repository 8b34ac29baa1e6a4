"""Charges and refunds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Response

from vedette.core.documents import load_json
from vedette.core.errors import DataError, DeniedError, VedetteError
from vedette.move.charges import MAX_BATCH, ChargeItem
from vedette.move.idempotency import Answer
from vedette.move.requests import ChargeRequest
from vedette.prove.access import Principal, permit
from vedette.prove.dlp import scrub
from vedette.sense.times import TimeFormat, parse_time
from vedette.serve.body import MAX_BODY
from vedette.serve.errors import body_of, status_of
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import (
    MAX_DEPTH,
    NDJSON,
    IdempotencyKey,
    JsonBody,
    LinesBody,
    convert,
    merchant_in,
    reads,
    replayable,
    reply,
)

router = APIRouter(prefix="/v1/charges", tags=["charges"])

_CHARGE = {"amount_minor": 1999, "currency": "EUR", "source": "tok_4f2a", "merchant": "m_9", "metadata": {}}
_BATCH = {
    "requestBody": {
        "required": True,
        "content": {
            NDJSON: {
                "schema": {"type": "string"},
                "example": msgspec.json.encode({"key": "order-17", "charge": _CHARGE}).decode() + "\n",
            }
        },
    }
}


class ChargeLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a batch."""

    key: str
    """Idempotency key."""
    charge: Any
    """As the body of a single charge."""
    time: int | str | None = None
    """When it was asked for: microseconds UTC or ISO 8601, of the last day; now when left out."""
    api_key: str = ""
    """Id of the key that asked, where the sender has proven it itself: it must be able to make this charge now. Left
    out: the sender's own."""


class AnswerLine(msgspec.Struct, frozen=True):
    """What became of one line."""

    key: str | None
    """Its idempotency key; null when the line has none that can be read."""
    status: int
    """HTTP status of a single charge's answer."""
    body: msgspec.Raw
    """Its body, byte for byte."""
    replayed: bool = False
    """True when an earlier request made it."""


class RefundRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to give back; without an amount, all that is left. `fraudulent` teaches the block lists."""

    amount_minor: int | None = None
    reason: Literal["duplicate", "fraudulent", "requested_by_customer"] | None = None


@router.post("", status_code=201, openapi_extra=reads(ChargeRequest, _CHARGE))
def create_charge(
    caller: Annotated[Caller, allow("charges", "write", by_account=True)],
    key: IdempotencyKey,
    body: JsonBody,
    platform: Served,
) -> Response:
    """Decides on a payment and, unless it is blocked or challenged, holds and captures it: once per key."""
    caller.on(merchant_in(body))
    made = platform.charges.create(caller.tenant, key, body, api_key=caller.principal.id)
    return replayable(replace(made, body=msgspec.json.encode(_shown(caller, made.json()))) if _bound(caller) else made)


@router.post("/batch", openapi_extra=_BATCH)
def create_charges(caller: Annotated[Caller, allow("charges", "batch")], body: LinesBody, platform: Served) -> Response:
    """Charges up to 5,000 lines, each as if it came alone; a line is answered by a line."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > MAX_BATCH:
        raise DataError("charge.batch.too_large", f"{len(lines)} lines", hint=f"send at most {MAX_BATCH}")
    read = [_read(line) for line in lines]
    named = {line.api_key for line in read if isinstance(line, ChargeLine) and line.api_key}
    vouched = platform.access.vouch(caller.tenant, named, origin=caller.origin) if named else {}
    wanted = [_item(line, vouched, caller.principal.id) for line in read]
    items = [item for item in wanted if isinstance(item, ChargeItem)]
    outcomes = iter(platform.charges.create_many(caller.tenant, items) if items else [])
    answers = (
        _answer_line(line, next(outcomes) if isinstance(item, ChargeItem) else item)
        for line, item in zip(read, wanted, strict=True)
    )
    return Response(b"".join(msgspec.json.encode(answer) + b"\n" for answer in answers), 200, media_type=NDJSON)


@router.get("/{charge_id}")
def read_charge(
    caller: Annotated[Caller, allow("charges", "read", by_account=True)], charge_id: str, platform: Served
) -> Response:
    """A charge as it is now."""
    charge = caller.own(lambda: platform.charges.get(caller.tenant, charge_id))
    return reply(_shown(caller, charge.to_json()))


@router.post("/{charge_id}/refunds", status_code=201, openapi_extra=reads(RefundRequest, {"amount_minor": 500}))
def create_refund(
    caller: Annotated[Caller, allow("refunds", "write", by_account=True)],
    charge_id: str,
    key: IdempotencyKey,
    body: JsonBody,
    platform: Served,
) -> Response:
    """Gives back all or part of a captured charge: once per key, never more than was captured."""
    caller.own(lambda: platform.charges.get(caller.tenant, charge_id))
    return replayable(platform.charges.refund(caller.tenant, key, charge_id, body, api_key=caller.principal.id))


def _read(raw: bytes) -> ChargeLine | VedetteError:
    try:
        line: ChargeLine = convert(load_json(raw, max_bytes=MAX_BODY, max_depth=MAX_DEPTH), ChargeLine)
    except VedetteError as error:
        return error
    return line


def _item(
    line: ChargeLine | VedetteError, vouched: Mapping[str, Principal | DeniedError], sender: str
) -> ChargeItem | VedetteError:
    if isinstance(line, VedetteError):
        return line
    asker = vouched.get(line.api_key)
    if isinstance(asker, DeniedError):
        return asker
    if asker and permit(asker, "charges", "write", account=merchant_in(line.charge)):
        return DeniedError("access.denied", "that key may not make this charge", at="$.api_key")
    try:
        time = parse_time(line.time, TimeFormat.ISO) if isinstance(line.time, str) else line.time
    except VedetteError as error:
        return error
    return ChargeItem(line.key, line.charge, time, line.api_key or sender)


def _answer_line(line: ChargeLine | VedetteError, outcome: Answer | VedetteError) -> AnswerLine:
    key = line.key if isinstance(line, ChargeLine) else None
    if isinstance(outcome, VedetteError):
        # A key that is refused may hold what must not be repeated.
        return AnswerLine(scrub(key) if key else None, status_of(outcome), msgspec.Raw(body_of(outcome)))
    return AnswerLine(key, outcome.status, msgspec.Raw(outcome.body), outcome.replayed)


def _bound(caller: Caller) -> bool:
    """Whether the caller acts for merchants, who are not told by what they would find the platform's thresholds."""
    return bool(caller.principal.accounts)


def _shown(caller: Caller, charge: dict[str, Any]) -> dict[str, Any]:
    """The charge as this caller may see it; why, in plain words, is told by the decision's explanation."""
    if not _bound(caller) or "decision" not in charge:
        return charge
    return charge | {"decision": charge["decision"] | {"risk_score": None, "reasons": []}}
