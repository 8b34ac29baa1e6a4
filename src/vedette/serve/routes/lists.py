"""Lists that payment rules name: what is in them, who changed them and why, and how to take that back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from vedette.core.errors import DataError, NotFoundError
from vedette.judge.payment.kept import ListChange
from vedette.judge.payment.lists import ItemType
from vedette.run.pipeline.learning import tell
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import MAX_PAGE, JsonBody, Moment, convert, page, reads, reply

router = APIRouter(prefix="/v1/lists", tags=["lists"])

Items = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1_000)]
Reason = Annotated[str, msgspec.Meta(max_length=200)]
Alias = Annotated[str, Query(description="Name of the list, without the `@`.", max_length=100)]


class AddRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Items to add. A list that is not there yet is made when `item_type` is given."""

    items: Items
    item_type: ItemType | None = None
    reason: Reason = ""
    expires: Moment = 0
    """From when on they count no more, microseconds UTC; 0: never."""


class RemoveRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Items to take out."""

    items: Items
    reason: Reason = ""


class UndoRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a change is taken back."""

    reason: Reason = ""


_ADDED = {"items": ["mule@example.com"], "item_type": "email", "reason": "named by the police"}


@router.get("")
def show_lists(caller: Annotated[Caller, allow("lists", "read")], platform: Served) -> Response:
    """Every list that something was added to, and how much it holds."""
    held = platform.lists.held(caller.tenant, platform.clock.now())
    return page([{"alias": one.alias, "item_type": one.item_type, "size": len(one.items)} for one in held.values()])


@router.get("/changes")
def list_changes(
    caller: Annotated[Caller, allow("lists", "read")],
    platform: Served,
    alias: Alias = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> Response:
    """Who changed what and why, newest first."""
    return page(list(platform.lists.changes(caller.tenant, alias, limit)))


@router.get("/{alias}")
def show_list(caller: Annotated[Caller, allow("lists", "read")], alias: str, platform: Served) -> Response:
    """The items of a list that count now."""
    found = platform.lists.held(caller.tenant, platform.clock.now()).get(alias)
    if found is None:
        raise NotFoundError("payment.list.unknown", "nothing was added to a list of that name", at=alias[:64])
    return reply({"alias": found.alias, "item_type": found.item_type, "items": found.items})


@router.post("/{alias}/items", openapi_extra=reads(AddRequest, _ADDED))
def add_items(
    caller: Annotated[Caller, allow("lists", "write")], alias: str, body: JsonBody, platform: Served
) -> Response:
    """Adds items; gives the changes, of which each can be undone. Rules ask with them within seconds."""
    wanted: AddRequest = convert(body, AddRequest)
    made = platform.lists.add(
        caller.tenant,
        alias,
        wanted.items,
        operator=caller.principal.id,
        item_type=wanted.item_type,
        reason=wanted.reason,
        expires=wanted.expires,
    )
    return _told(platform, made)


@router.post("/{alias}/items/remove", openapi_extra=reads(RemoveRequest, {"items": ["mule@example.com"]}))
def remove_items(
    caller: Annotated[Caller, allow("lists", "write")], alias: str, body: JsonBody, platform: Served
) -> Response:
    """Takes items out; those that are not there are left out."""
    wanted: RemoveRequest = convert(body, RemoveRequest)
    made = platform.lists.remove(caller.tenant, alias, wanted.items, operator=caller.principal.id, reason=wanted.reason)
    return _told(platform, made)


@router.post("/changes/{seq}/undo", openapi_extra=reads(UndoRequest, {"reason": "the payer was honest"}))
def undo_change(
    caller: Annotated[Caller, allow("lists", "write")], seq: int, body: JsonBody, platform: Served
) -> Response:
    """Takes one change back, unless the item was changed again after it."""
    wanted: UndoRequest = convert(body, UndoRequest)
    if not 0 < seq < 1 << 62:
        raise DataError("payment.list.change_unknown", "no such change of a list")
    made = platform.lists.undo(caller.tenant, seq, operator=caller.principal.id, reason=wanted.reason)
    return _told(platform, [made])


def _told(platform: Served, made: Sequence[ListChange]) -> Response:
    for change in made:
        tell(platform.audit, change)
    return page(list(made))
