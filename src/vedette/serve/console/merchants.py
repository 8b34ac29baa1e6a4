"""Pages of a merchant: its payments in plain words, disputes with their clocks, refunds, and rules of its own.

For people who are bound to merchants, and see nothing else; and for the platform's people, who see the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from vedette.core.clock import DAY
from vedette.core.decision import Action
from vedette.core.errors import DataError, NotFoundError, Problems, VedetteError
from vedette.judge.decisions.register import Filters, Place, to_amount
from vedette.move.dispute import Dispute, DisputeStatus
from vedette.move.refunded import refunds_of
from vedette.run.platform import Platform
from vedette.serve.console.page import show
from vedette.serve.errors import status_of
from vedette.serve.filters import After, moment_of
from vedette.serve.policy import Served
from vedette.serve.session import MERCHANTS, Visitor, act, look

router = APIRouter(tags=["console"], include_in_schema=False)

PAGE = 50
MAX_TEXT = 200_000
MAX_EVIDENCE = 20_000
DAYS = (7, 30, 90, 365)
"""Periods that a backtest looks back."""

Payments = Annotated[Visitor, look("payments", "read", by_account=True)]
Disputed = Annotated[Visitor, look("disputes", "read", by_account=True)]
Answering = Annotated[Visitor, act("disputes", "write", by_account=True)]
Refunding = Annotated[Visitor, look("refunds", "read", by_account=True)]
Reading = Annotated[Visitor, look("own_rules", "read", by_account=True)]
Trying = Annotated[Visitor, act("own_rules", "read", by_account=True)]
Writing = Annotated[Visitor, act("own_rules", "write", by_account=True)]
Field = Annotated[str, Form(max_length=MAX_TEXT)]


def own(platform: Platform, visitor: Visitor, resource: str, verb: str, merchant: str) -> None:
    """Lets a bound visitor reach what is its own.

    Raises:
        NotFoundError: `access.not_found`: another's is as unknown as none.
    """
    if visitor.principal.accounts:
        platform.access.authorize(
            visitor.principal, resource, verb, account=merchant, target=merchant, origin=visitor.origin, hide=True
        )


def place_of(merchant: str, rest: str = "") -> str:
    """The address of a merchant's page."""
    return f"{MERCHANTS}/{quote(merchant, safe='')}{rest}"


def tabs_of(visitor: Visitor, merchant: str) -> list[tuple[str, str]]:
    """The views of a merchant that the visitor may open."""
    views = (
        ("Payments", "", "payments"),
        ("Disputes", "/disputes", "disputes"),
        ("Refunds", "/refunds", "refunds"),
        ("Rules", "/rules", "own_rules"),
    )
    return [(label, place_of(merchant, rest)) for label, rest, resource in views if visitor.may_own(resource, "read")]


@router.get(MERCHANTS, response_model=None)
def show_merchants(
    request: Request,
    visitor: Payments,
    platform: Served,
    merchant: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """Which merchant; who is bound to one is led to it."""
    bound = sorted(visitor.principal.accounts)
    if merchant.strip() or len(bound) == 1:
        return RedirectResponse(place_of(merchant.strip() or bound[0]), 303)
    known = bound or platform.owned.merchants(visitor.tenant)
    return show(request, visitor, "merchants.html", known=[(name, place_of(name)) for name in known], bound=bound)


@router.get(MERCHANTS + "/{merchant}")
def show_payments(
    *,
    request: Request,
    visitor: Payments,
    platform: Served,
    merchant: str,
    action: Annotated[list[Action] | None, Query()] = None,
    after: After = "",
) -> HTMLResponse:
    """The merchant's payments, newest first."""
    own(platform, visitor, "payments", "read", merchant)
    start, actions = moment_of(after), tuple(action or ())
    found = platform.merchants.payments(
        visitor.tenant,
        merchant,
        filters=Filters(actions=actions),
        after=Place(*start) if start else None,
        limit=PAGE + 1,
    )
    here = place_of(merchant)
    chosen = "".join(f"&action={one}" for one in actions)
    last = found[PAGE - 1][1] if len(found) > PAGE else None
    due = platform.disputes.of_merchant(visitor.tenant, merchant, status=DisputeStatus.OPENED)
    return _page(
        request,
        visitor,
        merchant,
        "merchant.html",
        rows=[(one, f"{here}/payments/{quote(one.event_id, safe='')}") for one, _ in found[:PAGE]],
        spans=[("All", here, not actions)]
        + [(one.value, f"{here}?action={one.value}", actions == (one,)) for one in Action],
        next_url=f"{here}?after={last.time}.{last.seq}{chosen}" if last else "",
        first_url=here if after else "",
        due=due if visitor.may_own("disputes", "read") else [],
    )


@router.get(MERCHANTS + "/{merchant}/payments/{event_id:whole}")
def show_payment(request: Request, visitor: Payments, platform: Served, merchant: str, event_id: str) -> HTMLResponse:
    """One payment and why it was decided as it was."""
    own(platform, visitor, "payments", "read", merchant)
    view = platform.merchants.view(visitor.tenant, merchant, event_id)
    record = platform.desk.find(visitor.tenant, event_id)
    assert record is not None  # noqa: S101 - the view is of it
    amount = to_amount(record.source, record.event)
    return _page(request, visitor, merchant, "merchant_payment.html", view=view, time=record.time, amount=amount)


@router.get(MERCHANTS + "/{merchant}/disputes")
def show_disputes(request: Request, visitor: Disputed, platform: Served, merchant: str) -> HTMLResponse:
    """The merchant's disputes, newest first."""
    own(platform, visitor, "disputes", "read", merchant)
    found = platform.disputes.of_merchant(visitor.tenant, merchant)
    return _page(request, visitor, merchant, "merchant_disputes.html", rows=found)


@router.get(MERCHANTS + "/{merchant}/disputes/{dispute_id}")
def show_dispute(request: Request, visitor: Disputed, platform: Served, merchant: str, dispute_id: str) -> HTMLResponse:
    """One dispute, and the form of its evidence."""
    own(platform, visitor, "disputes", "read", merchant)
    return _dispute(request, visitor, platform, merchant, dispute_id)


@router.post(MERCHANTS + "/{merchant}/disputes/{dispute_id}", response_model=None)
def submit_evidence(
    *,
    request: Request,
    visitor: Answering,
    platform: Served,
    merchant: str,
    dispute_id: str,
    name: Annotated[str, Form(max_length=100)] = "",
    text: Annotated[str, Form(max_length=MAX_EVIDENCE)] = "",
    once: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Sends the merchant's evidence, once."""
    own(platform, visitor, "disputes", "write", merchant)
    _owned(platform, visitor, merchant, dispute_id)
    try:
        if not name.strip() or not text.strip() or not once:
            raise DataError("dispute.evidence.empty", "say what the evidence is, and what it says")
        answer = platform.disputes.submit(
            visitor.tenant,
            f"page:{visitor.principal.id}:{once}",
            dispute_id,
            {"evidence": {name.strip(): text.strip()}},
            api_key=visitor.principal.id,
        )
        if answer.status >= 400:  # noqa: PLR2004
            told = msgspec.json.decode(answer.body)["error"]
            raise DataError(told["code"], told["message"])
    except VedetteError as error:
        return _dispute(request, visitor, platform, merchant, dispute_id, error=error)
    return RedirectResponse(place_of(merchant, f"/disputes/{quote(dispute_id, safe='')}"), 303)


@router.get(MERCHANTS + "/{merchant}/refunds")
def show_refunds(request: Request, visitor: Refunding, platform: Served, merchant: str) -> HTMLResponse:
    """What the merchant gave back, newest first."""
    own(platform, visitor, "refunds", "read", merchant)
    found = refunds_of(platform.money, visitor.tenant, merchant)
    return _page(request, visitor, merchant, "merchant_refunds.html", rows=found)


@router.get(MERCHANTS + "/{merchant}/rules")
def show_rules(request: Request, visitor: Reading, platform: Served, merchant: str) -> HTMLResponse:
    """The merchant's rules as they stand, and the editor."""
    own(platform, visitor, "own_rules", "read", merchant)
    standing = platform.merchants.standing(visitor.tenant, merchant)
    return _editor(request, visitor, platform, merchant, rules=standing.rules, lists=to_lines(standing.lists))


@router.post(MERCHANTS + "/{merchant}/rules/try")
def try_rules(
    *,
    request: Request,
    visitor: Trying,
    platform: Served,
    merchant: str,
    rules: Field = "",
    lists: Field = "",
    days: Annotated[int, Form()] = 30,
) -> HTMLResponse:
    """Checks rules and backtests them on the merchant's own past payments. Changes nothing."""
    own(platform, visitor, "own_rules", "read", merchant)
    try:
        since = platform.clock.now() - (days if days in DAYS else DAYS[1]) * DAY
        report = platform.merchants.backtest(visitor.tenant, merchant, rules, from_lines(lists), since=since)
    except VedetteError as error:
        return _editor(request, visitor, platform, merchant, rules=rules, lists=lists, days=days, error=error)
    return _editor(request, visitor, platform, merchant, rules=rules, lists=lists, days=days, report=report)


@router.post(MERCHANTS + "/{merchant}/rules", response_model=None)
def ship_rules(
    *,
    request: Request,
    visitor: Writing,
    platform: Served,
    merchant: str,
    rules: Field = "",
    lists: Field = "",
    reason: Annotated[str, Form(max_length=200)] = "",
    after: Annotated[int, Form()] = 0,
) -> Response:
    """Ships rules for the merchant's own payments."""
    own(platform, visitor, "own_rules", "write", merchant)
    try:
        platform.merchants.ship(
            visitor.tenant,
            merchant,
            rules,
            from_lines(lists),
            operator=visitor.principal.id,
            reason=reason,
            after=after,
            origin=visitor.origin,
        )
    except VedetteError as error:
        return _editor(request, visitor, platform, merchant, rules=rules, lists=lists, error=error)
    return RedirectResponse(place_of(merchant, "/rules"), 303)


def from_lines(text: str) -> list[dict[str, Any]]:
    """Lists as people write them, one a line: `name type: item, item`.

    Raises:
        DataError: `payment.list.line`.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        head, colon, items = line.partition(":")
        words = head.split()
        if not colon or len(words) != 2:  # noqa: PLR2004
            hint = "such as `regulars customer_id: cus_1, cus_2`"
            raise DataError("payment.list.line", f"line {number} of the lists is no list", hint=hint)
        wanted = [item.strip() for item in items.split(",") if item.strip()]
        found.append({"alias": words[0].removeprefix("@"), "item_type": words[1], "items": wanted})
    return found


def to_lines(lists: Sequence[dict[str, Any]]) -> str:
    """What `from_lines` reads."""
    return "\n".join(f"{one['alias']} {one['item_type']}: {', '.join(one['items'])}" for one in lists)


def _page(request: Request, visitor: Visitor, merchant: str, template: str, **more: Any) -> HTMLResponse:
    here = more.pop("current", "")
    return show(
        request,
        visitor,
        template,
        merchant=merchant,
        base=place_of(merchant),
        tabs=tabs_of(visitor, merchant),
        current=here or request.url.path,
        **more,
    )


def _editor(
    request: Request,
    visitor: Visitor,
    platform: Platform,
    merchant: str,
    *,
    rules: str,
    lists: str,
    days: int = DAYS[1],
    error: VedetteError | None = None,
    report: Any = None,
) -> HTMLResponse:
    problems: Sequence[VedetteError] = error.problems if isinstance(error, Problems) else [error] if error else []
    return _page(
        request,
        visitor,
        merchant,
        "merchant_rules.html",
        current=place_of(merchant, "/rules"),
        status=status_of(error) if error else 200,
        standing=platform.merchants.standing(visitor.tenant, merchant),
        history=platform.owned.history(visitor.tenant, merchant, 10),
        rules=rules,
        lists=lists,
        days=days,
        periods=[(each, f"{each} days") for each in DAYS],
        problems=problems,
        report=report,
    )


def _owned(platform: Platform, visitor: Visitor, merchant: str, dispute_id: str) -> Dispute:
    found = platform.disputes.get(visitor.tenant, dispute_id)
    if found.merchant != merchant:
        raise NotFoundError("dispute.not_found", "no such dispute", at=dispute_id[:64])
    return found


def _dispute(
    request: Request,
    visitor: Visitor,
    platform: Platform,
    merchant: str,
    dispute_id: str,
    *,
    error: VedetteError | None = None,
) -> HTMLResponse:
    found = _owned(platform, visitor, merchant, dispute_id)
    return _page(
        request,
        visitor,
        merchant,
        "merchant_dispute.html",
        current=place_of(merchant, "/disputes"),
        status=status_of(error) if error else 200,
        dispute=found,
        problem=error,
        token=secrets.token_urlsafe(12),
        open=found.status is DisputeStatus.OPENED and found.evidence_due > platform.clock.now(),
    )
