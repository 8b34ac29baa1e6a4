"""Whether a rule is worth its alerts: keep it, tune it, or retire it; from what people found its alerts to be.

Precision is the share of judged alerts that were what the rule is after; an alert of something allowed counts as judged
and not as that. With few verdicts a share says little, so the law asks the bounds of Wilson's interval (90 %), not the
share itself: **keep** when at least half is right at the lower bound, **retire** when less than a tenth is at the
upper, **tune** when less than half is at the upper, and else **wait** for more verdicts. One wrong alert of one retires
nothing; none right of 25 does.

Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from vedette.act.grouping import Verdict
from vedette.act.load import Minutes
from vedette.act.scores import Score

Z = 1.6448536269514722
"""Of an interval of 90 %."""
GOOD = 0.5
POOR = 0.1


class Advice(StrEnum):
    """What to do with a rule."""

    KEEP = "keep"
    TUNE = "tune"
    RETIRE = "retire"
    WAIT = "wait"
    """Too few verdicts to tell."""


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """One rule."""

    rule_id: str
    title: str = ""
    alerts: int = 0
    open: int = 0
    judged: int = 0
    """Alerts with a verdict."""
    right: int = 0
    """Of these, what the rule is after."""
    precision: float | None = None
    """`right / judged`, 0..1; None without a verdict."""
    low: float = 0.0
    """Lower bound of the precision."""
    high: float = 1.0
    """Upper bound."""
    minutes: float = 0.0
    """Of people's work that its alerts cost or will cost."""
    shadow: int = 0
    """Alerts that it would have raised while it ran in shadow."""
    advice: Advice = Advice.WAIT


def interval(right: int, judged: int, z: float = Z) -> tuple[float, float]:
    """Wilson's bounds of a share; (0, 1) of nothing.

    Example:
        >>> [round(bound, 3) for bound in interval(8, 10)]
        [0.541, 0.931]
    """
    if not judged:
        return 0.0, 1.0
    share, square = right / judged, z * z
    middle = share + square / (2 * judged)
    spread = z * math.sqrt(share * (1 - share) / judged + square / (4 * judged * judged))
    scale = 1 + square / judged
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def advise(right: int, judged: int) -> Advice:
    """What so many verdicts advise."""
    low, high = interval(right, judged)
    if low >= GOOD:
        return Advice.KEEP
    if high < POOR:
        return Advice.RETIRE
    return Advice.TUNE if high < GOOD else Advice.WAIT


def weigh(
    scores: Mapping[str, Score],
    minutes: Minutes,
    *,
    titles: Mapping[str, str] | None = None,
    shadows: Mapping[str, int] | None = None,
) -> list[Worth]:
    """Every rule that made an alert or is named, those to act on first, the dearest first.

    Args:
        scores: Rule id -> what became of its alerts.
        minutes: What an alert costs.
        titles: Rule id -> title, of rules that are to be shown though they made no alert.
        shadows: Rule id -> alerts in shadow.
    """
    titles, shadows = titles or {}, shadows or {}
    found = [
        _worth(name, scores.get(name, Score()), minutes, titles.get(name, ""), shadows.get(name, 0))
        for name in dict.fromkeys([*scores, *titles, *shadows])
    ]
    order = [Advice.RETIRE, Advice.TUNE, Advice.KEEP, Advice.WAIT]
    return sorted(found, key=lambda one: (order.index(one.advice), -one.minutes, one.rule_id))


def _worth(name: str, score: Score, minutes: Minutes, title: str, shadow: int) -> Worth:
    right = score.verdicts.get(Verdict.TRUE_POSITIVE, 0)
    low, high = interval(right, score.judged)
    return Worth(
        rule_id=name,
        title=title,
        alerts=score.alerts,
        open=score.open,
        judged=score.judged,
        right=right,
        precision=right / score.judged if score.judged else None,
        low=low,
        high=high,
        minutes=round(minutes.of(name) * score.alerts, 1),
        shadow=shadow,
        advice=advise(right, score.judged),
    )
