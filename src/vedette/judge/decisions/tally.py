"""The tally of a trial: what a version on trial did beside the live one, whom it hurt, and which guard-rail it broke.

Both versions decide on every payment of the trial, so each difference is known at once, label or not: a payment that
the trial stopped and the live version would have let through, and the other way round. Guard-rails are read off it.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from enum import StrEnum

import msgspec
import numpy as np

from vedette.core.decision import Action, Decision
from vedette.core.label import Label
from vedette.judge.decisions.register import to_amount
from vedette.judge.models.drift import ACT, FEWEST, Level, Watch
from vedette.judge.models.profile import Profile

STOPPED = frozenset({Action.BLOCK, Action.CHALLENGE})
KEPT = 10_000
"""Payments that were hurt or let through whose labels are still waited for."""
LATENCIES = 2_000
"""Newest latencies that a percentile is of."""
SELDOM = 50
"""Payments between two looks at latencies: a percentile costs more than a decision."""
ALIKE = 0.9
"""Share of payments on which a feature has the same value in both versions, from which on it is the same feature."""
DEVIATIONS = 3.0
"""Standard errors by which a difference must be beyond its limit: looking often must not find chance."""


class Guard(StrEnum):
    """What is guarded."""

    DECLINES = "declines"
    """More payments stopped than the live version would stop."""
    MISSES = "misses"
    """Fewer payments stopped than the live version would stop."""
    LATENCY = "latency"
    DRIFT = "drift"
    FAILURES = "failures"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial may cost before it is taken back by itself."""

    fewest: int = 100
    """Payments before shares are judged."""
    declines: float = 0.01
    """Further payments stopped, as a share of all."""
    misses: float = 0.5
    """Share of what the live version stops that the trial may let through; judged from `least_stopped` on."""
    least_stopped: int = 30
    latency_us: int = 5_000
    """99th percentile of the trial's own decisions."""
    latency_ratio: float = 4.0
    """And as a multiple of the live version's: a slow machine is no fault of the trial. Both must be passed."""
    failures: int = 3
    """Payments on which the trial gave no answer."""
    drift: bool = True
    """Whether a broken feature, or a drift of the scores that asks for action, ends it."""


class Breach(msgspec.Struct, frozen=True):
    """A guard-rail that was broken."""

    guard: Guard
    value: float
    limit: float
    text: str


class Harm(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial did to payments whose answer it gave."""

    seen: int
    """Payments that both versions decided on."""
    answered: int
    """Of them those whose answer the trial gave."""
    hurt: int
    """Answered payments that the trial stopped and the live version would have let through."""
    hurt_minor: dict[str, int]
    """Their money, minor units by currency."""
    missed: int
    """Answered payments that the trial let through and the live version would have stopped."""
    missed_minor: dict[str, int]
    failures: int
    """Payments on which the trial gave no answer; the live version's counted."""
    genuine: int
    """Hurt payments that are known to be genuine by now."""
    fraud: int
    """Missed payments that are known to be fraud by now."""


class Tally:
    """Counts of one trial. Written by the thread that decides; read by another, which sees whole numbers.

    Args:
        limits: Guard-rails.
        profile: Of the model on trial; None: drift is not guarded.
        features: Names of the model's inputs, in order.
    """

    def __init__(self, limits: Limits, profile: Profile | None = None, features: tuple[str, ...] = ()) -> None:
        self.limits = limits
        self.seen = self.answered = self.failures = 0
        self._more = self._fewer = self._live_stops = 0
        self._hurt, self._missed = Counter[str](), Counter[str]()
        self._hurt_count = self._missed_count = self._genuine = self._fraud = 0
        self._waiting: dict[str, bool] = {}
        self._latency: deque[int] = deque(maxlen=LATENCIES)
        self._live_latency: deque[int] = deque(maxlen=LATENCIES)
        self._watch = Watch(profile) if profile and limits.drift else None
        self._features = features
        self._rows: list[tuple[list[float], list[float], float]] = []
        self._drift: Breach | None = None

    def fail(self) -> None:
        """Takes a payment on which the trial gave no answer."""
        self.seen += 1
        self.failures += 1

    def add(self, live: Decision, tried: Decision, *, answered: bool) -> None:
        """Takes a payment with both decisions.

        Args:
            live: Of the live version.
            tried: Of the version on trial.
            answered: Whether the trial's counted.
        """
        self.seen += 1
        self.answered += answered
        stopped, would = tried.action in STOPPED, live.action in STOPPED
        self._live_stops += would
        if stopped != would:
            self._more += stopped
            self._fewer += would
            if answered:
                self._differ(tried, hurt=stopped)
        self._latency.append(tried.latency_us)
        self._live_latency.append(live.latency_us)
        if self._watch and tried.score is not None:
            self._rows.append((_row(tried, self._features), _row(live, self._features), tried.score))

    def _differ(self, tried: Decision, *, hurt: bool) -> None:
        amount, currency = to_amount(tried.source, tried.event)
        held = self._hurt if hurt else self._missed
        held[currency] += amount or 0
        if hurt:
            self._hurt_count += 1
        else:
            self._missed_count += 1
        if len(self._waiting) < KEPT:
            self._waiting[tried.event_id] = hurt

    def learn(self, label: Label) -> None:
        """Takes the truth about a payment; of others than the hurt and missed ones nothing is kept."""
        hurt = self._waiting.pop(label.event_id, None)
        if hurt is not None:
            self._genuine += hurt and not label.fraud
            self._fraud += (not hurt) and label.fraud

    def look(self) -> None:
        """Looks for drift in what came since the last look, `FEWEST` payments at least; for another thread to call.

        A feature that is the same in the live version is not the trial's doing, whatever became of it.
        """
        if self._watch is None or len(self._rows) < FEWEST:
            return
        rows, self._rows = self._rows, []
        own, other = (np.array([row[side] for row in rows]) for side in (0, 1))
        self._watch.add(own, np.array([row[2] for row in rows]))
        found = self._watch.look()
        self._watch.clear()
        same = (own == other) | (np.isnan(own) & np.isnan(other))
        shared = {name for name, column in zip(self._features, same.T, strict=True) if column.mean() > ALIKE}
        moved = [one for one in found.findings if one.name in shared]
        for one in found.findings:
            if one.level is Level.BROKEN and one.name not in shared:
                self._drift = Breach(Guard.DRIFT, one.index, ACT, f"{one.name}: {one.text}")
                return
            # Scores follow their inputs: where shared ones moved, nothing is learned from the scores.
            if one.level is Level.ACT and one.name == "score" and not moved:
                self._drift = Breach(Guard.DRIFT, one.index, ACT, f"{one.name}: {one.text}")

    def breach(self) -> Breach | None:
        """The first guard-rail that is broken; None while all hold."""
        limits = self.limits
        if self.failures >= limits.failures:
            return Breach(Guard.FAILURES, self.failures, limits.failures, f"{self.failures} payments without an answer")
        if self._drift:
            return self._drift
        if self.seen < limits.fewest:
            return None
        slow = self._slow() if self.seen % SELDOM == 0 else None
        return self._declines() or self._misses() or slow

    def _declines(self) -> Breach | None:
        share = (self._more - self._fewer) / self.seen
        error = math.sqrt(self._more + self._fewer) / self.seen
        if share - DEVIATIONS * error <= self.limits.declines:
            return None
        text = f"stops {share:.1%} more of {self.seen:,} payments than the live version"
        return Breach(Guard.DECLINES, share, self.limits.declines, text)

    def _misses(self) -> Breach | None:
        if self._live_stops < self.limits.least_stopped:
            return None
        share = self._fewer / self._live_stops
        error = math.sqrt(max(share * (1 - share), 0.0) / self._live_stops)
        if share - DEVIATIONS * error <= self.limits.misses:
            return None
        text = f"lets through {share:.0%} of the {self._live_stops:,} payments that the live version stops"
        return Breach(Guard.MISSES, share, self.limits.misses, text)

    def _slow(self) -> Breach | None:
        own = float(np.quantile(np.array(self._latency), 0.99))
        other = float(np.quantile(np.array(self._live_latency), 0.99))
        if own <= self.limits.latency_us or own <= self.limits.latency_ratio * other:
            return None
        text = f"p99 {own:,.0f} us, {other:,.0f} us of the live version"
        return Breach(Guard.LATENCY, own, float(self.limits.latency_us), text)

    def harm(self) -> Harm:
        """What it did so far."""
        return Harm(
            seen=self.seen,
            answered=self.answered,
            hurt=self._hurt_count,
            hurt_minor=dict(self._hurt),
            missed=self._missed_count,
            missed_minor=dict(self._missed),
            failures=self.failures,
            genuine=self._genuine,
            fraud=self._fraud,
        )


def _row(decision: Decision, names: tuple[str, ...]) -> list[float]:
    held = decision.features
    return [math.nan if (value := held.get(name)) is None else value for name in names]
