"""How far two reviewers agree beyond chance, over items that both looked at without seeing each other's answer.

Cohen's kappa is `(po - pe) / (1 - pe)`: `po` is the share of items with equal answers, `pe` the share that two people
with these two habits would have by chance. 1 is agreement always, 0 as chance has it, below 0 less than that. Where
both always say the same, chance explains all of it and kappa is not defined.

Source: J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20 (1960),
with its approximate standard error.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import msgspec

Z = 1.959963984540054
"""Of an interval of 95 %."""


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs of answers, counted."""

    items: int = 0
    both_fraud: int = 0
    both_genuine: int = 0
    first_fraud: int = 0
    """The first said fraud, the second did not."""
    second_fraud: int = 0
    observed: float | None = None
    """Share of equal answers, 0..1; None without items."""
    kappa: float | None = None
    """-1..1; None where it is not defined."""
    low: float | None = None
    high: float | None = None
    """Bounds of its interval of 95 %, cut at -1 and 1."""


class Pair(msgspec.Struct, frozen=True):
    """Two reviewers, by their ids in order, and how they agree."""

    reviewers: tuple[str, str]
    agreement: Agreement


def kappa(answers: Iterable[tuple[bool, bool]]) -> Agreement:
    """Counts pairs of answers, fraud or not, of a first and a second reviewer.

    Example:
        >>> told = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
        >>> round(kappa(told).kappa, 6)
        0.4
    """
    counts = {(first, second): 0 for first in (True, False) for second in (True, False)}
    for pair in answers:
        counts[pair] += 1
    items = sum(counts.values())
    base = Agreement(
        items=items,
        both_fraud=counts[True, True],
        both_genuine=counts[False, False],
        first_fraud=counts[True, False],
        second_fraud=counts[False, True],
    )
    if not items:
        return base
    observed = (counts[True, True] + counts[False, False]) / items
    first = (counts[True, True] + counts[True, False]) / items
    second = (counts[True, True] + counts[False, True]) / items
    chance = first * second + (1 - first) * (1 - second)
    if chance >= 1:
        return msgspec.structs.replace(base, observed=observed)
    found = (observed - chance) / (1 - chance)
    spread = Z * math.sqrt(observed * (1 - observed) / items) / (1 - chance)
    low, high = max(-1.0, found - spread), min(1.0, found + spread)
    return msgspec.structs.replace(base, observed=observed, kappa=found, low=low, high=high)


def pairs(answers: Iterable[tuple[tuple[str, bool], tuple[str, bool]]]) -> list[Pair]:
    """Agreement of each two people, those with most items first."""
    held: defaultdict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    for one, other in answers:
        (first, said), (second, told) = sorted((one, other))
        held[first, second].append((said, told))
    found = [Pair(names, kappa(each)) for names, each in held.items()]
    return sorted(found, key=lambda pair: (-pair.agreement.items, pair.reviewers))
