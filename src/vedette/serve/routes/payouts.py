"""Payouts, freezes and ledger balances."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Response

from vedette.move.requests import PayoutRequest
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import IdempotencyKey, JsonBody, convert, merchant_in, page, reads, replayable, reply

router = APIRouter(prefix="/v1", tags=["payouts and ledger"])

_PAYOUT = {"amount_minor": 50_000, "currency": "EUR", "merchant": "m_9"}


class FreezeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why payouts stop, or go on."""

    reason: str


@router.post("/payouts", status_code=201, openapi_extra=reads(PayoutRequest, _PAYOUT))
def schedule_payout(
    caller: Annotated[Caller, allow("payouts", "write", by_account=True)],
    key: IdempotencyKey,
    body: JsonBody,
    platform: Served,
) -> Response:
    """Reserves a merchant's money for a payout, once per key; frozen from the start while the merchant is."""
    caller.on(merchant_in(body))
    return replayable(platform.payouts.schedule(caller.tenant, key, body, api_key=caller.principal.id))


@router.get("/payouts/{payout_id}")
def read_payout(
    caller: Annotated[Caller, allow("payouts", "read", by_account=True)], payout_id: str, platform: Served
) -> Response:
    """A payout as it is now."""
    payout = caller.own(lambda: platform.payouts.get(caller.tenant, payout_id))
    return reply(payout.to_json())


@router.post("/payouts/{payout_id}/pay")
def pay_payout(
    caller: Annotated[Caller, allow("payouts", "write", by_account=True)],
    payout_id: str,
    key: IdempotencyKey,
    platform: Served,
) -> Response:
    """Sends a scheduled payout to the bank; the freeze is checked in the same transaction."""
    caller.own(lambda: platform.payouts.get(caller.tenant, payout_id))
    return replayable(platform.payouts.pay(caller.tenant, key, payout_id, api_key=caller.principal.id))


@router.post("/payouts/{payout_id}/cancel")
def cancel_payout(
    caller: Annotated[Caller, allow("payouts", "write", by_account=True)],
    payout_id: str,
    key: IdempotencyKey,
    platform: Served,
) -> Response:
    """Gives a payout that is not paid yet back to the merchant."""
    caller.own(lambda: platform.payouts.get(caller.tenant, payout_id))
    return replayable(platform.payouts.cancel(caller.tenant, key, payout_id, api_key=caller.principal.id))


@router.post("/payouts/{payout_id}/return")
def return_payout(
    caller: Annotated[Caller, allow("payouts", "write", by_account=True)],
    payout_id: str,
    key: IdempotencyKey,
    platform: Served,
) -> Response:
    """Records that the bank returned a paid payout."""
    caller.own(lambda: platform.payouts.get(caller.tenant, payout_id))
    return replayable(platform.payouts.give_back(caller.tenant, key, payout_id, api_key=caller.principal.id))


@router.post("/merchants/{merchant}/freeze", openapi_extra=reads(FreezeRequest, {"reason": "key leaked"}))
def freeze(
    caller: Annotated[Caller, allow("payouts", "freeze", by_account=True)],
    merchant: str,
    key: IdempotencyKey,
    body: JsonBody,
    platform: Served,
) -> Response:
    """Stops every payout of a merchant that is not paid yet. For people with a role, never for API keys."""
    caller.on(merchant, target=merchant)
    wanted: FreezeRequest = convert(body, FreezeRequest)
    return replayable(platform.payouts.freeze(caller.tenant, merchant, wanted.reason, key))


@router.post("/merchants/{merchant}/unfreeze", openapi_extra=reads(FreezeRequest, {"reason": "key revoked"}))
def unfreeze(
    caller: Annotated[Caller, allow("payouts", "freeze", by_account=True)],
    merchant: str,
    key: IdempotencyKey,
    body: JsonBody,
    platform: Served,
) -> Response:
    """Lets a merchant's payouts go on."""
    caller.on(merchant, target=merchant)
    wanted: FreezeRequest = convert(body, FreezeRequest)
    return replayable(platform.payouts.unfreeze(caller.tenant, merchant, wanted.reason, key))


@router.get("/ledger/trial-balance")
def trial_balance(caller: Annotated[Caller, allow("ledger", "read")], platform: Served) -> Response:
    """Debits less credits of every ledger (one a currency), pending and posted: zero, or the books are broken."""
    books = platform.ledger.trial_balance(caller.tenant)
    return page([{"ledger": each, "pending": str(sums[0]), "posted": str(sums[1])} for each, sums in books.items()])
