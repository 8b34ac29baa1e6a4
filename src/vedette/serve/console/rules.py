"""Rules: what runs, how each does in front of people, since when it is as it is, and what cannot run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from vedette.act.quieting import Shadow
from vedette.act.scores import HOUR, Score, fetch_hours, fetch_scores
from vedette.core.clock import DAY
from vedette.core.errors import NotFoundError
from vedette.core.signal import Level
from vedette.expr.printer import to_text
from vedette.judge.correlation.definition import Correlation, Part
from vedette.judge.decisions.register import Filters, Row
from vedette.judge.payment.rules import PaymentRule
from vedette.judge.shipments import Standing
from vedette.judge.sigma.documents import Skipped
from vedette.judge.sigma.load import all_of
from vedette.judge.sigma.rules import Rule
from vedette.judge.versions import Kind
from vedette.run.platform import Platform
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, look

RECENT = 2_000
"""Newest decisions that the health of payment rules is counted on."""
SHOWN_DAYS = 7
SHOWN_CHANGES = 10
MAX_ROWS = 500
"""Most rules of one page of the list; the search narrows it."""

router = APIRouter(tags=["console"], include_in_schema=False)

Reader = Annotated[Visitor, look("rules", "read")]


class SigmaRow(msgspec.Struct, frozen=True):
    """One Sigma rule in the list."""

    rule: Rule | Correlation
    score: Score
    changed: int
    standing: Standing | None = None
    """Its stage, of a rule that was shipped."""
    degraded: str = ""
    """What is wrong with the data that it rests on."""


class PaymentRow(msgspec.Struct, frozen=True):
    """One payment rule in the list."""

    rule: PaymentRule
    fired: int
    """Among the recent decisions."""
    changed: int


@router.get("/rules")
def list_rules(
    request: Request, visitor: Reader, platform: Served, q: Annotated[str, Query(max_length=200)] = ""
) -> HTMLResponse:
    """Sigma rules: those that fire first, each with what people found its alerts to be."""
    rows = _sigma_rows(platform, visitor.tenant, q)
    counts = _counts(platform)
    return show(
        request,
        visitor,
        "rules.html",
        view="/rules",
        counts=counts,
        q=q,
        found=len(rows),
        rows=rows[:MAX_ROWS],
        levels={level: sum(row.rule.level is level for row in rows) for level in reversed(Level)},
    )


@router.get("/rules/payment")
def list_payment_rules(request: Request, visitor: Reader, platform: Served) -> HTMLResponse:
    """Payment rules in the order in which their classes are asked, with how often each fired lately."""
    recent = platform.register.find(visitor.tenant, limit=RECENT)
    return show(
        request,
        visitor,
        "rules_payment.html",
        view="/rules/payment",
        counts=_counts(platform),
        rows=_payment_rows(platform, recent),
        recent=len(recent),
        version=platform.desk.scoring.rules.version,
    )


@router.get("/rules/skipped")
def list_skipped(request: Request, visitor: Reader, platform: Served) -> HTMLResponse:
    """Rules that cannot run here, by reason: nothing is left out silently."""
    skipped = _skipped(platform)
    reasons = Counter(each.reason for each in skipped)
    return show(
        request,
        visitor,
        "rules_skipped.html",
        view="/rules/skipped",
        counts=_counts(platform),
        reasons=reasons.most_common(),
        rows=skipped[:MAX_ROWS],
    )


@router.get("/rules/payment/{rule_id:path}")
def show_payment_rule(request: Request, visitor: Reader, platform: Served, rule_id: str) -> HTMLResponse:
    """One payment rule: its text, its tests, its history, and the decisions it fired on."""
    rules = platform.desk.scoring.rules.rules
    rule = next((each for each in rules if each.id == rule_id), None)
    if rule is None:
        raise NotFoundError("rules.rule.unknown", "no payment rule of that id runs here")
    span = platform.register.span(visitor.tenant)
    since = (span[1] if span else platform.clock.now()) - SHOWN_DAYS * DAY
    wanted = Filters(reason=f"rule.{rule.id}", since=since)
    return show(
        request,
        visitor,
        "rule_payment.html",
        rule=rule,
        condition=to_text(rule.node),
        history=platform.versions.history(Kind.PAYMENT, rule.id),
        fired=platform.register.count(visitor.tenant, wanted),
        decided=platform.register.count(visitor.tenant, Filters(since=since)),
        days=SHOWN_DAYS,
        rows=platform.register.find(visitor.tenant, wanted, limit=25),
    )


@router.get("/rules/{rule_id:path}")
def show_rule(request: Request, visitor: Reader, platform: Served, rule_id: str) -> HTMLResponse:
    """One Sigma rule or correlation: what it looks for and why, its health, its history, its newest alerts."""
    rule = platform.rules.get(rule_id) or platform.correlations.get(rule_id)
    if rule is None:
        raise NotFoundError("rules.rule.unknown", "no Sigma rule of that id runs here")
    newest = fetch_scores(platform.state, visitor.tenant, rule=rule.id).get(rule.id, Score())
    start = (newest.last_time or platform.clock.now()) // HOUR * HOUR - SHOWN_DAYS * DAY
    nodes = rule.nodes if isinstance(rule, Rule) else {}
    return show(
        request,
        visitor,
        "rule.html",
        rule=rule,
        degraded=platform.quality.degraded(visitor.tenant).get(rule.id, ()),
        text=platform.rule_text(rule.id),
        conditions={source: to_text(node) for source, node in sorted(nodes.items())},
        counts=rule if isinstance(rule, Correlation) else None,
        parts=[(part, platform.rules.get(part.id) or platform.correlations.get(part.id)) for part in _parts(rule)],
        score=newest,
        history=platform.versions.history(Kind.SIGMA, rule.id),
        standing=platform.edition.standings.get(rule.id),
        changes=platform.shipments.history(rule.id)[:SHOWN_CHANGES],
        shadow=_shadow(platform, visitor.tenant, rule.id),
        days=SHOWN_DAYS,
        chart=_hours(platform, visitor.tenant, rule.id, start),
    )


def _shadow(platform: Platform, tenant: str, rule_id: str) -> Shadow | None:
    """What the version on trial would have raised while it ran in shadow."""
    tried = next((one for one in all_of(platform.edition.trial.rules) if one.id == rule_id), None)
    return platform.alerts.shadows(tenant).get((rule_id, tried.version)) if tried else None


def _parts(rule: Rule | Correlation) -> Sequence[Part]:
    return rule.parts if isinstance(rule, Correlation) else ()


def _sigma(platform: Platform) -> list[Rule | Correlation]:
    """What alerts by itself: correlations, and the rules that are no mere step of one."""
    return [*platform.correlations.values(), *platform.rules.values()]


def _skipped(platform: Platform) -> list[Skipped]:
    skipped = platform.edition.live.rules.skipped
    return sorted(skipped, key=lambda each: (each.reason, each.path))


def _counts(platform: Platform) -> dict[str, int]:
    return {
        "sigma": len(platform.rules) + len(platform.correlations),
        "payment": len(platform.desk.scoring.rules.rules),
        "skipped": len(_skipped(platform)),
    }


def _sigma_rows(platform: Platform, tenant: str, q: str) -> list[SigmaRow]:
    scores, changed = fetch_scores(platform.state, tenant), platform.versions.changed(Kind.SIGMA)
    standings = platform.edition.standings
    words = q.casefold().split()
    degraded = platform.quality.degraded(tenant)
    rows = [
        SigmaRow(
            rule,
            scores.get(rule.id, Score()),
            changed.get(rule.id, 0),
            standings.get(rule.id),
            "; ".join(one.said for one in degraded.get(rule.id, ())),
        )
        for rule in _sigma(platform)
        if all(word in f"{rule.title} {rule.id} {' '.join(rule.tags)}".casefold() for word in words)
    ]
    return sorted(rows, key=lambda row: (-row.score.open, -row.score.alerts, -row.rule.level.severity_id, row.rule.id))


def _payment_rows(platform: Platform, recent: Sequence[Row]) -> list[PaymentRow]:
    fired = Counter(reason.code for row in recent for reason in row.reasons)
    changed = platform.versions.changed(Kind.PAYMENT)
    return [
        PaymentRow(rule, fired[f"rule.{rule.id}"], changed.get(rule.id, 0))
        for rule in platform.desk.scoring.rules.rules
    ]


def _hours(platform: Platform, tenant: str, rule: str, start: int) -> dict[str, Any]:
    """Alerts by hour and level, as a chart."""
    found = fetch_hours(platform.state, tenant, rule, start)
    hours = [start + place * HOUR for place in range(SHOWN_DAYS * 24 + 1)]
    series = []
    for level in Level:
        held = {hour: alerts for hour, each, alerts in found if each is level}
        if held:
            series.append({"name": str(level), "data": [held.get(hour, 0) for hour in hours]})
    return {"kind": "bars", "time": True, "x": hours, "series": series, "unit": "alerts"}
