"""Webhook endpoints, their health, deliveries and dead letters."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query, Response

from vedette.core.clock import to_iso
from vedette.move.outbox import Delivery, DeliveryStatus, Endpoint
from vedette.run.webhooks import OVERLAP_S
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import JsonBody, convert, page, reads, reply

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


class EndpointRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where webhooks go, and how."""

    url: str
    scheme: Literal["standard", "timestamped"] = "standard"
    ordered: bool = False


class EnableRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether an endpoint gets webhooks."""

    enabled: bool


class RotateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long both secrets sign, seconds."""

    overlap_s: Annotated[int, msgspec.Meta(ge=0, le=31_622_400)] = OVERLAP_S


@router.post("", status_code=201, openapi_extra=reads(EndpointRequest, {"url": "https://merchant.example/hook"}))
def add_endpoint(caller: Annotated[Caller, allow("webhooks", "write")], body: JsonBody, platform: Served) -> Response:
    """Adds an endpoint for signed webhooks. Its signing secret is in this answer and nowhere else."""
    wanted: EndpointRequest = convert(body, EndpointRequest)
    endpoint, secret = platform.add_endpoint(caller.tenant, wanted.url, scheme=wanted.scheme, ordered=wanted.ordered)
    return reply({"id": endpoint, "url": wanted.url, "scheme": wanted.scheme, "secret": secret}, 201)


@router.get("")
def list_endpoints(caller: Annotated[Caller, allow("webhooks", "read")], platform: Served) -> Response:
    """The endpoints and their health, oldest first."""
    return page([_endpoint(each) for each in platform.outbox.endpoints(caller.tenant)])


@router.get("/deliveries")
def list_deliveries(
    caller: Annotated[Caller, allow("webhooks", "read")],
    platform: Served,
    status: Annotated[DeliveryStatus | None, Query()] = None,
) -> Response:
    """Deliveries and where each stands, oldest first. `status=dead` lists the dead letters."""
    return page([_delivery(each) for each in platform.outbox.deliveries(caller.tenant, status=status)])


@router.post("/deliveries/{message_id}/{endpoint_id}/replay")
def replay_delivery(
    caller: Annotated[Caller, allow("webhooks", "write")], message_id: str, endpoint_id: str, platform: Served
) -> Response:
    """Sends a dead letter again: the same event id and body, the schedule from its start."""
    platform.outbox.replay(caller.tenant, message_id, endpoint_id)
    return reply({"event_id": message_id, "endpoint": endpoint_id, "status": DeliveryStatus.WAITING})


@router.post("/{endpoint_id}/enabled", openapi_extra=reads(EnableRequest, {"enabled": True}))
def enable_endpoint(
    caller: Annotated[Caller, allow("webhooks", "write")], endpoint_id: str, body: JsonBody, platform: Served
) -> Response:
    """Switches an endpoint on or off, and forgets its failures."""
    wanted: EnableRequest = convert(body, EnableRequest)
    platform.outbox.enable(caller.tenant, endpoint_id, enabled=wanted.enabled)
    return reply({"id": endpoint_id, "enabled": wanted.enabled})


@router.post("/{endpoint_id}/rotate", openapi_extra=reads(RotateRequest, {"overlap_s": 3600}))
def rotate_secret(
    caller: Annotated[Caller, allow("webhooks", "write")], endpoint_id: str, body: JsonBody, platform: Served
) -> Response:
    """A new signing secret, shown this once. Until the overlap ends deliveries are signed with both."""
    wanted: RotateRequest = convert(body, RotateRequest)
    platform.outbox.endpoint(caller.tenant, endpoint_id)
    secret = platform.signing.rotate(endpoint_id, overlap_s=wanted.overlap_s)
    return reply({"id": endpoint_id, "secret": secret, "overlap_s": wanted.overlap_s})


def _endpoint(endpoint: Endpoint) -> dict[str, object]:
    times = ("paused_until", "last_success", "last_failure")
    shown = {name: getattr(endpoint, name) for name in ("id", "url", "scheme", "ordered", "enabled", "failures")}
    counted = {"waiting": endpoint.waiting, "dead": endpoint.dead, "last_error": endpoint.last_error}
    moments = {name: to_iso(at) if (at := getattr(endpoint, name)) else None for name in times}
    return {**shown, "health": endpoint.health, **counted, **moments}


def _delivery(delivery: Delivery) -> dict[str, object]:
    return {
        "event_id": delivery.event_id,
        "endpoint": delivery.endpoint_id,
        "status": delivery.status,
        "attempts": delivery.attempts,
        "error": delivery.error,
    }
