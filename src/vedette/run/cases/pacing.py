"""How quick the responses were and how often each rule was wrong: computed from events, by rule."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean

import msgspec

from vedette.act.cases.file import Pace
from vedette.act.scores import fetch_scores
from vedette.run.cases.casefile import pace_of
from vedette.run.parts import Parts

MAX_CASES = 500
"""Cases that are looked at, those that changed last."""


class RulePace(msgspec.Struct, frozen=True, kw_only=True):
    """One rule, or all. Means in seconds over the cases where it happened; None where it never did."""

    cases: int = 0
    mttd_s: float | None = None
    """From the first event to the first alert."""
    mtta_s: float | None = None
    """From the first alert to the first person."""
    mttc_s: float | None = None
    """From the first alert to the end of containment."""
    judged: int = 0
    """Alerts with a verdict."""
    false_share: float | None = None
    """Share of these that were false."""


class Paces(msgspec.Struct, frozen=True):
    """The whole, and each rule."""

    total: RulePace
    rules: dict[str, RulePace]


def fetch_pace(parts: Parts, tenant: str) -> Paces:
    """Means over the newest cases, in all and by the rules that raised them."""
    every: list[Pace] = []
    by_rule: defaultdict[str, list[Pace]] = defaultdict(list)
    for case in parts.cases.find(tenant, limit=MAX_CASES):
        if not case.alerts:
            continue
        rules, found = pace_of(parts, tenant, case.id)
        every.append(found)
        for rule in rules:
            by_rule[rule].append(found)
    scores = fetch_scores(parts.state, tenant)
    rules_found = {
        name: _pace(by_rule.get(name, []), scores[name].judged, scores[name].false_share) for name in sorted(scores)
    }
    judged = sum(score.judged for score in scores.values())
    wrong = sum((score.false_share or 0.0) * score.judged for score in scores.values())
    return Paces(_pace(every, judged, wrong / judged if judged else None), rules_found)


def _pace(found: list[Pace], judged: int, false_share: float | None) -> RulePace:
    return RulePace(
        cases=len(found),
        mttd_s=_mean([one.detect_s for one in found]),
        mtta_s=_mean([one.acknowledge_s for one in found]),
        mttc_s=_mean([one.contain_s for one in found]),
        judged=judged,
        false_share=false_share,
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(mean(known), 3) if known else None
