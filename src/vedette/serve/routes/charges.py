"""Charges and refunds."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Response

from vedette.move.requests import ChargeRequest
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import IdempotencyKey, JsonBody, merchant_in, reads, replayable, reply

router = APIRouter(prefix="/v1/charges", tags=["charges"])

_CHARGE = {"amount_minor": 1999, "currency": "EUR", "source": "tok_4f2a", "merchant": "m_9", "metadata": {}}


class RefundRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to give back; without an amount, all that is left."""

    amount_minor: int | None = None


@router.post("", status_code=201, openapi_extra=reads(ChargeRequest, _CHARGE))
def create_charge(
    caller: Annotated[Caller, allow("charges", "write", by_account=True)],
    key: IdempotencyKey,
    body: JsonBody,
    platform: Served,
) -> Response:
    """Decides on a payment and, unless it is blocked or challenged, holds and captures it: once per key."""
    caller.on(merchant_in(body))
    return replayable(platform.charges.create(caller.tenant, key, body, api_key=caller.principal.id))


@router.get("/{charge_id}")
def read_charge(
    caller: Annotated[Caller, allow("charges", "read", by_account=True)], charge_id: str, platform: Served
) -> Response:
    """A charge as it is now."""
    charge = caller.own(lambda: platform.charges.get(caller.tenant, charge_id))
    return reply(charge.to_json())


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
    return replayable(platform.charges.refund(caller.tenant, key, charge_id, body))
