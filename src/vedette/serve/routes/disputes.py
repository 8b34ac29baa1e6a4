"""Disputes: what card networks tell us, and what merchants answer."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Response

from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import IdempotencyKey, JsonBody, page, reads, replayable, reply

router = APIRouter(prefix="/v1", tags=["disputes"])

_OPENED = {"charge": "ch_1", "reason": "fraudulent", "evidence_due": "2030-01-31T00:00:00Z", "network_reason": "10.4"}


class DisputeBody(msgspec.Struct, frozen=True):
    """What the network tells of a new dispute."""

    charge: str
    reason: str
    evidence_due: str
    amount_minor: int | None = None
    network_reason: str = ""


class EvidenceBody(msgspec.Struct, frozen=True):
    """The merchant's evidence: text by name."""

    evidence: dict[str, str]


class OutcomeBody(msgspec.Struct, frozen=True):
    """`won` or `lost`."""

    outcome: str


@router.post("/disputes", status_code=201, openapi_extra=reads(DisputeBody, _OPENED))
def open_dispute(
    caller: Annotated[Caller, allow("disputes", "settle")], key: IdempotencyKey, body: JsonBody, platform: Served
) -> Response:
    """Opens a dispute of a charge and holds its amount, once per key. For the integration with the card network."""
    return replayable(platform.disputes.open(caller.tenant, key, body, api_key=caller.principal.id))


@router.get("/disputes/{dispute_id}")
def read_dispute(
    caller: Annotated[Caller, allow("disputes", "read", by_account=True)], dispute_id: str, platform: Served
) -> Response:
    """A dispute as it is now."""
    dispute = caller.own(lambda: platform.disputes.get(caller.tenant, dispute_id))
    return reply(dispute.to_json())


@router.get("/charges/{charge_id}/disputes")
def list_disputes(
    caller: Annotated[Caller, allow("disputes", "read", by_account=True)], charge_id: str, platform: Served
) -> Response:
    """The disputes of a charge, oldest first."""
    caller.own(lambda: platform.charges.get(caller.tenant, charge_id))
    return page([dispute.to_json() for dispute in platform.disputes.of_charge(caller.tenant, charge_id)])


@router.post(
    "/disputes/{dispute_id}/evidence", openapi_extra=reads(EvidenceBody, {"evidence": {"receipt": "signed on May 2"}})
)
def submit_evidence(
    caller: Annotated[Caller, allow("disputes", "write", by_account=True)],
    dispute_id: str,
    key: IdempotencyKey,
    body: JsonBody,
    platform: Served,
) -> Response:
    """Sends the merchant's evidence, once, while it is due."""
    caller.own(lambda: platform.disputes.get(caller.tenant, dispute_id))
    return replayable(platform.disputes.submit(caller.tenant, key, dispute_id, body, api_key=caller.principal.id))


@router.post("/disputes/{dispute_id}/outcome", openapi_extra=reads(OutcomeBody, {"outcome": "lost"}))
def decide_dispute(
    caller: Annotated[Caller, allow("disputes", "settle")],
    dispute_id: str,
    key: IdempotencyKey,
    body: JsonBody,
    platform: Served,
) -> Response:
    """Records what the card network decided; it becomes a label of the charge at this time."""
    return replayable(platform.disputes.decide(caller.tenant, key, dispute_id, body, api_key=caller.principal.id))


@router.post("/disputes/{dispute_id}/settle")
def settle_dispute(
    caller: Annotated[Caller, allow("disputes", "settle")], dispute_id: str, key: IdempotencyKey, platform: Served
) -> Response:
    """Moves the money as the outcome says."""
    return replayable(platform.disputes.settle(caller.tenant, key, dispute_id, api_key=caller.principal.id))
