"""What the overview tells, from the real stores: one snapshot of a span of time."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from vedette.act.cases import CaseFilter, CaseState
from vedette.act.grouping import Alert, AlertState
from vedette.act.queue import HOUR, AlertFilter
from vedette.act.risk import risk
from vedette.core.decision import Action
from vedette.core.event import Entity
from vedette.core.log import Log
from vedette.core.signal import Level
from vedette.judge.decisions.register import LATENCY_MS, MINUTE, Minute, quantile
from vedette.run.platform import Platform

OPEN = (AlertState.NEW, AlertState.IN_PROGRESS)
OPEN_CASES = (CaseState.NEW, CaseState.IN_PROGRESS, CaseState.ON_HOLD)
STOPPED = (Action.BLOCK, Action.REVIEW, Action.CHALLENGE)
QUIET = HOUR
"""After this long without a decision or an alert, the span shown ends with the last one instead of now."""
BUSY_LAG = 5_000
"""Records behind the end of the log from which a stage is called behind."""
RATE_MINUTES = 5
RANKED = 400
"""Riskiest open alerts that the list of entities is made from."""


class Span(StrEnum):
    """How far the overview looks back."""

    HOUR = "1h"
    QUARTER = "6h"
    DAY = "24h"

    @property
    def micros(self) -> int:
        """Its length."""
        return {Span.HOUR: 1, Span.QUARTER: 6, Span.DAY: 24}[self] * HOUR

    @property
    def step(self) -> int:
        """Width of a chart's step."""
        return {Span.HOUR: 1, Span.QUARTER: 2, Span.DAY: 10}[self] * MINUTE


class Sum(msgspec.Struct):
    """Decisions and what they were worth."""

    count: int = 0
    amounts: dict[str, int] = {}
    """Currency -> minor units."""

    def add(self, minute: Minute) -> None:
        """Counts a minute's decisions in."""
        self.count += minute.count
        if minute.currency:
            self.amounts[minute.currency] = self.amounts.get(minute.currency, 0) + minute.amount_minor


class StageHealth(msgspec.Struct, frozen=True):
    """One stage that follows the log."""

    name: str
    lag: int
    """Records."""
    behind: bool


class Ranked(msgspec.Struct, frozen=True):
    """An entity among the riskiest."""

    entity: Entity
    risk: float
    alerts: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the overview. Times are microseconds UTC."""

    span: Span
    since: int
    until: int
    anchored: bool
    """True when the span ends with the last activity rather than now."""
    decided: int
    rate: float
    """Decisions a second in the last minutes of the span."""
    peak: float
    """Most decisions a second in one minute."""
    at_risk: Sum
    """Let through and waiting for a person's look."""
    stopped: Sum
    """Blocked."""
    p50: float | None
    """Milliseconds, upper bound; infinite above the histogram."""
    p99: float | None
    levels: dict[Level, int]
    """Open alerts."""
    unassigned: int
    cases: int
    waiting: int
    """Approvals that wait for a person."""
    riskiest: list[Alert]
    entities: list[Ranked]
    stages: list[StageHealth]
    quarantined: int
    failures: int
    """Errors that guards caught since the start."""
    fresh: dict[str, int]
    """Topic -> when its last record was written."""
    charts: dict[str, Any]


def to_summary(platform: Platform, tenant: str, span: Span) -> Summary:
    """Reads the stores."""
    now = platform.clock.now()
    until = _end(platform, tenant, now)
    since = until - span.micros
    minutes = platform.register.minutes(tenant, since - since % MINUTE, until)
    alerts = platform.alerts.page(tenant, AlertFilter(state=OPEN), limit=RANKED).alerts
    facets = platform.alerts.facets(tenant, AlertFilter(state=OPEN), now=now).counts
    cases = platform.cases.counts(tenant, CaseFilter()).get("state", {})
    by_step, latency = _histograms(minutes, span.step)
    by_minute = Counter[int]()
    for minute in minutes:
        by_minute[minute.time] += minute.count
    recent = sum(count for time, count in by_minute.items() if time >= until - RATE_MINUTES * MINUTE)
    return Summary(
        span=span,
        since=since,
        until=until,
        anchored=until != now,
        decided=sum(minute.count for minute in minutes),
        rate=recent / (RATE_MINUTES * 60),
        peak=max(by_minute.values(), default=0) / 60,
        at_risk=_sum(minutes, Action.REVIEW),
        stopped=_sum(minutes, Action.BLOCK),
        p50=quantile(latency, 0.5),
        p99=quantile(latency, 0.99),
        levels={level: facets["level"].get(level, 0) for level in reversed(Level)},
        unassigned=facets["assignee"].get("nobody", 0),
        cases=sum(cases.get(state, 0) for state in OPEN_CASES),
        waiting=len(platform.approvals.find(tenant, pending=True)),
        riskiest=alerts[:6],
        entities=_entities(alerts, until),
        stages=[StageHealth(name, lag, lag > BUSY_LAG) for name, lag in platform.lags().items()],
        quarantined=platform.quarantine.count(tenant),
        failures=platform.meters.failed(),
        fresh={topic: at for topic in ("event", "decision", "signal") if (at := _last_written(platform.log, topic))},
        charts={
            "actions": _actions(minutes, since, until, span.step),
            "latency": _latency(by_step, _steps(since, until, span.step)),
            "alerts": _alerts(platform.alerts.hours(tenant, since=since, until=until), since, until),
            "reasons": _reasons(platform.register.top_reasons(tenant, since, until, actions=STOPPED, limit=8)),
        },
    )


def _end(platform: Platform, tenant: str, now: int) -> int:
    """Now; after a quiet hour the last activity, so that a day that is over can still be looked at."""
    decided = platform.register.span(tenant)
    last = max(decided[1] if decided else 0, platform.alerts.newest(tenant))
    return now if not last or now - last < QUIET else last + 1


def _sum(minutes: Iterable[Minute], action: Action) -> Sum:
    found = Sum(0, {})
    for minute in minutes:
        if minute.action is action:
            found.add(minute)
    return found


def _histograms(minutes: Sequence[Minute], step: int) -> tuple[dict[int, list[int]], list[int]]:
    """Histograms of latency, by start of step, and of all minutes together."""
    if not minutes:
        return {}, [0] * (len(LATENCY_MS) + 1)
    starts, place = np.unique([minute.time // step * step for minute in minutes], return_inverse=True)
    total = np.zeros((len(starts), len(LATENCY_MS) + 1), np.int64)
    np.add.at(total, place, np.array([minute.latency for minute in minutes], np.int64))
    return dict(zip(starts.tolist(), total.tolist(), strict=True)), total.sum(axis=0).tolist()


def _last_written(log: Log, topic: str) -> int:
    """When the last record of a topic was written, microseconds UTC; 0 for an empty one."""
    ends = [(part, log.end(topic, part)) for part in range(log.partitions(topic))]
    last = [log.read(topic, part, end - 1, 1) for part, end in ends if end]
    return max((record.time for records in last for record in records), default=0)


def _entities(alerts: Sequence[Alert], at: int) -> list[Ranked]:
    """Entities by the risk of their open alerts."""
    held: dict[Entity, list[Alert]] = defaultdict(list)
    for alert in alerts:
        if alert.entity is not None:
            held[alert.entity].append(alert)
    ranked = [Ranked(entity, risk(group, at), len(group)) for entity, group in held.items()]
    return sorted(ranked, key=lambda each: (-each.risk, -each.alerts, each.entity))[:8]


def _steps(since: int, until: int, step: int) -> range:
    return range(since // step * step, until, step)


def _actions(minutes: Sequence[Minute], since: int, until: int, step: int) -> dict[str, Any]:
    """Decisions a minute by action, averaged over each step."""
    counts: dict[tuple[int, Action], int] = Counter()
    for minute in minutes:
        counts[minute.time // step * step, minute.action] += minute.count
    steps = _steps(since, until, step)
    per = step // MINUTE
    return {
        "kind": "bars",
        "time": True,
        "unit": "/min",
        "empty": "No decision in this time.",
        "x": list(steps),
        "series": [{"name": action, "data": [round(counts[at, action] / per, 2) for at in steps]} for action in Action],
    }


def _latency(by_step: Mapping[int, list[int]], steps: range) -> dict[str, Any]:
    """Upper bounds of the median and of the 99th percentile in each step, milliseconds."""

    def bound(at: int, share: float) -> float | None:
        found = quantile(by_step[at], share) if at in by_step else None
        return None if found is None else min(found, LATENCY_MS[-1])

    return {
        "kind": "lines",
        "time": True,
        "connect": True,
        "unit": "ms",
        "empty": "No decision in this time.",
        "x": list(steps),
        "series": [
            {"name": "p50", "color": "series-1", "data": [bound(at, 0.5) for at in steps]},
            {"name": "p99", "color": "series-3", "data": [bound(at, 0.99) for at in steps]},
        ],
    }


def _alerts(hours: Mapping[tuple[int, Level], int], since: int, until: int) -> dict[str, Any]:
    steps = _steps(since, until, HOUR)
    return {
        "kind": "bars",
        "time": True,
        "empty": "No alert in this time.",
        "x": list(steps),
        "series": [{"name": level, "data": [hours.get((at, level), 0) for at in steps]} for level in Level],
    }


def _reasons(top: Sequence[tuple[str, Mapping[Action, int]]]) -> dict[str, Any]:
    return {
        "kind": "ranks",
        "empty": "Nothing was stopped in this time.",
        "x": [reason_label(code) for code, _ in top],
        "urls": [f"/decisions?reason={quote(code)}" for code, _ in top],
        "series": [{"name": action, "data": [counts.get(action, 0) for _, counts in top]} for action in STOPPED],
    }


def reason_label(code: str) -> str:
    """A reason's code for people: the rule's or the feature's name."""
    kind, _, name = code.partition(".")
    return {"rule": name, "model": name, "fallback": f"fallback: {name}"}.get(kind, code)


def latency_text(bound: float | None) -> str:
    """An upper bound of the histogram as text."""
    if bound is None:
        return "\N{EN DASH}"
    return f"> {LATENCY_MS[-1]}" if math.isinf(bound) else f"\N{LESS-THAN OR EQUAL TO} {bound:g}"
