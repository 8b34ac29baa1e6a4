"""Vedette's own rooms: lists of payment rules, merchants on hold, a decision looked at again.

They act through ports that `run` fills: `lists` (add and remove items), `payouts` (freeze), `rescreen`.
"""

from __future__ import annotations

from typing import Any

from vedette.act.actions import CHANGED, ActionCall, ActionResult, Argument, Repeats, Signature
from vedette.act.connectors.connector import Action, Reach
from vedette.act.effects import freeze_payouts, unfreeze_payouts
from vedette.core.errors import UnsupportedError
from vedette.judge.payment.lists import ItemType

HELD = "held_merchants"
"""The list that payment rules ask for merchants on hold: `block if :merchant: in @held_merchants`."""


def _port(reach: Reach, name: str) -> Any:
    if name not in reach.ports:
        hint = "run it where the service runs"
        raise UnsupportedError("action.unavailable", f"`{name}` is not open in this process", hint=hint)
    return reach.ports[name]


def _list(call: ActionCall, reach: Reach, alias: str, item: str) -> ActionResult:
    reason = call.arguments.get("reason") or call.key
    # A list that nobody made is an error of the playbook; ours is made when it is first used.
    kind = ItemType.STRING if alias == HELD else None
    changes = _port(reach, "lists").add(
        call.tenant, alias, [item], operator=call.operator, reason=reason, item_type=kind
    )
    return ActionResult({"list": alias, "item": item, "changed": bool(changes)})


def _unlist(call: ActionCall, reach: Reach, alias: str, item: str) -> ActionResult:
    if call.arguments.get("changed", True):
        _port(reach, "lists").remove(call.tenant, alias, [item], operator=call.operator, reason=call.key)
    return ActionResult({"list": alias, "item": item})


def _block(call: ActionCall, reach: Reach) -> ActionResult:
    return _list(call, reach, call.arguments["list"], call.arguments["item"])


def _unblock(call: ActionCall, reach: Reach) -> ActionResult:
    return _unlist(call, reach, call.arguments["list"], call.arguments["item"])


def _hold(call: ActionCall, reach: Reach) -> ActionResult:
    """New payments first, then the money that is to go out: killed in between, the call comes again and does both."""
    listed = _list(call, reach, HELD, call.arguments["account"])
    frozen = freeze_payouts(_port(reach, "payouts"))(call)
    changed = bool(listed.values["changed"] or frozen.values["changed"])
    return ActionResult({**frozen.values, "changed": changed})


def _release(call: ActionCall, reach: Reach) -> ActionResult:
    _unlist(call, reach, HELD, call.arguments["account"])
    return unfreeze_payouts(_port(reach, "payouts"))(call)


def _look_hold(call: ActionCall, reach: Reach) -> dict[str, Any]:
    account = call.arguments["account"]
    return {"account": account, "frozen_already": _port(reach, "payouts").is_frozen(call.tenant, account)}


def _look_list(call: ActionCall, reach: Reach) -> dict[str, Any]:
    held = _port(reach, "lists").held(call.tenant, reach.clock.now()).get(call.arguments["list"])
    items = held.items if held else ()
    listed = call.arguments["item"] in items
    return {"list": call.arguments["list"], "listed_already": listed, "entries": len(items)}


def _rescreen(call: ActionCall, reach: Reach) -> ActionResult:
    return ActionResult(_port(reach, "rescreen")(call.tenant, call.arguments["event"]))


def _look_event(call: ActionCall, reach: Reach) -> dict[str, Any]:
    found: dict[str, Any] = _port(reach, "rescreen")(call.tenant, call.arguments["event"])
    return found


_ITEM = {"list": Argument(str), "item": Argument(str), "reason": Argument(str, required=False)}
_ACCOUNT = {"account": Argument(str), "reason": Argument(str)}

ACTIONS = (
    Action(
        Signature(
            "list_add",
            "puts an item on a list that payment rules ask",
            _ITEM,
            drastic=True,
            touches={"item": "item"},
            undo="list_remove",
        ),
        _block,
        _look_list,
    ),
    Action(
        Signature(
            "list_remove",
            "takes an item off a list that payment rules ask",
            {**_ITEM, "changed": CHANGED},
            touches={"item": "item"},
        ),
        _unblock,
        _look_list,
    ),
    Action(
        Signature(
            "hold_account",
            f"puts a merchant on hold: on the list `@{HELD}` for its payments, and its payouts frozen",
            _ACCOUNT,
            drastic=True,
            contains=True,
            touches={"account": "account"},
            repeats=Repeats.KEY,
            undo="release_account",
        ),
        _hold,
        _look_hold,
    ),
    Action(
        Signature(
            "release_account",
            "takes a merchant off hold",
            {"account": Argument(str), "reason": Argument(str, required=False), "changed": CHANGED},
            touches={"account": "account"},
            repeats=Repeats.KEY,
        ),
        _release,
        _look_hold,
    ),
    Action(
        Signature(
            "rescreen",
            "asks what today's rules and lists say of a decided payment; decides nothing anew",
            {"event": Argument(str)},
            repeats=Repeats.READS,
        ),
        _rescreen,
        _look_event,
    ),
)
