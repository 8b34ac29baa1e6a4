"""Risk points: what a signal is worth, how those of one rule add up, and how they fade. Written once, for all rooms.

Example:
    >>> grown(20, 1), grown(20, 4), grown(20, 1_000_000)
    (20.0, 60.0, 80.0)
    >>> fading(HALF_LIFE)
    0.5
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from vedette.core.clock import DAY
from vedette.core.signal import Level

HALF_LIFE = DAY
"""After this long points count half, where nothing else is said."""

POINTS: Mapping[Level, int] = {
    Level.INFORMATIONAL: 1,
    Level.LOW: 5,
    Level.MEDIUM: 20,
    Level.HIGH: 50,
    Level.CRITICAL: 80,
}
"""Points of a rule's first signal, by its level."""

MAX_FACTOR = 4.0
"""One rule counts at most this often, however many signals it gives: a noisy low rule never looks like an attack."""


def grown(points: float, count: int) -> float:
    """Points of so many signals of one rule: each doubling of the signals adds the first one's again."""
    return points * min(1.0 + math.log2(count), MAX_FACTOR)


def fading(age: int, half_life: int = HALF_LIFE) -> float:
    """Share of its points that is left after some microseconds; 1 before."""
    return math.exp2(-max(0, age) / half_life)
