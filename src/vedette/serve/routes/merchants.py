"""What is a merchant's: its payments in plain words, disputes, refunds, and the rules it writes for its own payments.

A caller that is bound to merchants reaches what is theirs; to it every other merchant is as unknown as one that does
not exist.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from vedette.core.decision import Action
from vedette.judge.decisions.register import Filters, Place
from vedette.judge.payment.own import OwnRules
from vedette.move.dispute import DisputeStatus
from vedette.move.refunded import refunds_of
from vedette.serve.filters import After, moment_of, to_time
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import MAX_PAGE, JsonBody, convert, page, reads, reply

router = APIRouter(prefix="/v1/merchants", tags=["merchants"])

MAX_RULES = 200_000
"""Characters of rules in a request."""
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Since = Annotated[str, Query(max_length=64, description="Event time from, ISO 8601 or microseconds.")]
Until = Annotated[str, Query(max_length=64, description="Event time to, not included.")]
Text = Annotated[str, msgspec.Meta(max_length=MAX_RULES)]
_BODY = {
    "rules": "block if :card_country: != :ip_country: and :amount_in_eur: > 500",
    "lists": [{"alias": "my_blocklist", "item_type": "email", "items": ["mule@example.com"]}],
}


class RulesBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A merchant's rules: a rule file's text, and the lists that it names."""

    rules: Text
    lists: list[dict[str, Any]] = []


class BacktestBody(RulesBody, frozen=True, forbid_unknown_fields=True):
    """Rules to try on the merchant's past payments."""

    since: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """Event time from, ISO 8601 or microseconds."""
    until: Annotated[str, msgspec.Meta(max_length=64)] = ""


class ShipBody(RulesBody, frozen=True, forbid_unknown_fields=True):
    """Rules to judge the merchant's payments by from now on; empty rules take all of them back."""

    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""
    after: int | None = None
    """Number of the version that the author saw, 0 for none; left out: whatever stands is replaced."""


@router.get("/{merchant}/payments")
def list_payments(
    *,
    caller: Annotated[Caller, allow("payments", "read", by_account=True)],
    merchant: str,
    platform: Served,
    action: Annotated[list[Action] | None, Query()] = None,
    since: Since = "",
    until: Until = "",
    after: After = "",
    limit: Limit = 100,
) -> Response:
    """The merchant's payments and what was decided on each, newest first. `next` is the `after` that follows."""
    caller.on(merchant)
    filters = Filters(actions=tuple(action or ()), since=to_time(since, "since"), until=to_time(until, "until"))
    start = moment_of(after)
    found = platform.merchants.payments(
        caller.tenant, merchant, filters=filters, after=Place(*start) if start else None, limit=limit + 1
    )
    last = found[limit - 1][1] if len(found) > limit else None
    following = f"{last.time}.{last.seq}" if last else ""
    return reply({"data": [one for one, _ in found[:limit]], "has_more": bool(following), "next": following})


@router.get("/{merchant}/payments/{event_id}")
def read_payment(
    caller: Annotated[Caller, allow("payments", "read", by_account=True)],
    merchant: str,
    event_id: str,
    platform: Served,
) -> Response:
    """What was decided on a payment and why, in plain words: no score, no value and no threshold."""
    caller.on(merchant)
    return reply(platform.merchants.view(caller.tenant, merchant, event_id))


@router.get("/{merchant}/disputes")
def list_disputes(
    caller: Annotated[Caller, allow("disputes", "read", by_account=True)],
    merchant: str,
    platform: Served,
    status: DisputeStatus | None = None,
    limit: Limit = 100,
) -> Response:
    """Disputes of the merchant's charges, newest first, with the time until which evidence is due."""
    caller.on(merchant)
    found = platform.disputes.of_merchant(caller.tenant, merchant, status=status, limit=limit)
    return page([one.to_json() for one in found])


@router.get("/{merchant}/refunds")
def list_refunds(
    caller: Annotated[Caller, allow("refunds", "read", by_account=True)],
    merchant: str,
    platform: Served,
    limit: Limit = 100,
) -> Response:
    """What the merchant gave back, newest first."""
    caller.on(merchant)
    return page(list(refunds_of(platform.money, caller.tenant, merchant, limit)))


@router.get("/{merchant}/rules")
def show_rules(
    caller: Annotated[Caller, allow("own_rules", "read", by_account=True)], merchant: str, platform: Served
) -> Response:
    """The merchant's rules and lists as they stand; number 0 where it never shipped any."""
    caller.on(merchant)
    return reply(platform.merchants.standing(caller.tenant, merchant))


@router.get("/{merchant}/rules/versions")
def list_versions(
    caller: Annotated[Caller, allow("own_rules", "read", by_account=True)],
    merchant: str,
    platform: Served,
    limit: Limit = 100,
) -> Response:
    """Every version with who shipped it and why, newest first, without its text."""
    caller.on(merchant)
    return page([_brief(one) for one in platform.owned.history(caller.tenant, merchant, limit)])


@router.post("/{merchant}/rules", status_code=201, openapi_extra=reads(ShipBody, _BODY))
def ship_rules(
    caller: Annotated[Caller, allow("own_rules", "write", by_account=True)],
    merchant: str,
    body: JsonBody,
    platform: Served,
) -> Response:
    """Ships rules for the merchant's own payments, once their tests pass; they decide within seconds."""
    caller.on(merchant)
    wanted: ShipBody = convert(body, ShipBody)
    made = platform.merchants.ship(
        caller.tenant,
        merchant,
        wanted.rules,
        wanted.lists,
        operator=caller.principal.id,
        reason=wanted.reason,
        after=wanted.after,
        origin=caller.origin,
    )
    return reply(made, 201)


@router.post("/{merchant}/rules/check", openapi_extra=reads(RulesBody, _BODY))
def check_rules(
    caller: Annotated[Caller, allow("own_rules", "read", by_account=True)],
    merchant: str,
    body: JsonBody,
    platform: Served,
) -> Response:
    """Reads rules, runs the tests in them, and says what their author should look at. Changes nothing."""
    caller.on(merchant)
    wanted: RulesBody = convert(body, RulesBody)
    return reply(platform.merchants.check(merchant, wanted.rules, wanted.lists))


@router.post("/{merchant}/rules/backtest", openapi_extra=reads(BacktestBody, _BODY))
def backtest_rules(
    caller: Annotated[Caller, allow("own_rules", "read", by_account=True)],
    merchant: str,
    body: JsonBody,
    platform: Served,
) -> Response:
    """What rules would have done with the merchant's own past payments, in counts and money. Changes nothing."""
    caller.on(merchant)
    wanted: BacktestBody = convert(body, BacktestBody)
    since, until = to_time(wanted.since, "since"), to_time(wanted.until, "until")
    report = platform.merchants.backtest(
        caller.tenant,
        merchant,
        wanted.rules,
        wanted.lists,
        since=since or 0,
        until=1 << 62 if until is None else until,
    )
    return reply(report)


def _brief(one: OwnRules) -> dict[str, Any]:
    return {
        "number": one.number,
        "operator": one.operator,
        "reason": one.reason,
        "time": one.time,
        "rules": len(one.read().rules),
        "lists": len(one.lists),
    }
