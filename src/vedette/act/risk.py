"""How risky an entity is now, from its alerts: bounded, and fading by event time.

Risk is computed, never stored: resolving an alert as noise takes its part away at once, and no order of arrival can
change it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from vedette.act.grouping import Alert, AlertState
from vedette.core.risk import HALF_LIFE, POINTS, fading, grown

SCALE = 50.0
"""Points at which risk is 50."""

RELEVANT = 10 * HALF_LIFE
"""Older alerts count less than a thousandth and are left out."""


FAINT = 2.0**-10
"""Points that stand for none where alerts are ordered."""


def points(alert: Alert, at: int) -> float:
    """What an alert adds at time `at` (microseconds UTC of event time); 0 when suppressed."""
    if alert.state is AlertState.SUPPRESSED:
        return 0.0
    return _fresh(alert) * fading(at - alert.last_time)


def fades(alert: Alert) -> int:
    """Event time at which the alert has faded to one point, microseconds UTC; whatever its state.

    All alerts fade alike, so the one that fades last is the riskiest at any moment: this constant orders a queue.
    """
    return alert.last_time + round(HALF_LIFE * math.log2(max(_fresh(alert), FAINT)))


def _fresh(alert: Alert) -> float:
    """Points at the time of its last signal."""
    return grown(POINTS[alert.level], alert.signal_count)


def risk(alerts: Iterable[Alert], at: int) -> float:
    """Risk of an entity, 0 (nothing known) up to but not reaching 100, one decimal; 50 for one fresh high alert."""
    return to_risk(points(alert, at) for alert in alerts)


def to_risk(parts: Iterable[float]) -> float:
    """Risk from the points of alerts."""
    return min(99.9, round(100.0 * (1.0 - math.exp2(-math.fsum(parts) / SCALE)), 1))


def faded(fades_at: int, at: int) -> float:
    """Points at a time, not before the alert's last, from the time at which it has faded to one point."""
    return math.exp2((fades_at - at) / HALF_LIFE)
