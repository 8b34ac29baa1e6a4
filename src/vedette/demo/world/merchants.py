"""Merchants: a few large ones, many small ones, each with its prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.demo.world.mint import generator, make_ids
from vedette.demo.world.nouns import Merchant
from vedette.demo.world.places import PLACES, SHARES

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Category(NamedTuple):
    """A line of business."""

    name: str
    price: float
    """Median amount, minor units."""
    spread: float
    """Standard deviation of the logarithm of amounts."""
    share: float
    """Of the merchants."""
    round: bool
    """Sells at a few round prices."""
    resale: float
    """How much a thief likes what it sells; 1 is average."""


CATEGORIES = (
    Category("grocery", 3_200, 0.7, 0.16, round=False, resale=0.3),
    Category("fashion", 5_900, 0.7, 0.17, round=False, resale=1.2),
    Category("electronics", 14_900, 1.0, 0.09, round=False, resale=3.0),
    Category("digital_goods", 1_499, 0.7, 0.11, round=True, resale=2.5),
    Category("gift_cards", 5_000, 0.5, 0.03, round=True, resale=4.0),
    Category("travel", 21_000, 0.9, 0.06, round=False, resale=1.8),
    Category("food_delivery", 2_600, 0.5, 0.13, round=False, resale=0.6),
    Category("home", 7_400, 0.9, 0.12, round=False, resale=0.8),
    Category("subscriptions", 1_199, 0.4, 0.08, round=True, resale=0.5),
    Category("charity", 2_000, 0.8, 0.05, round=True, resale=0.7),
)
ROUND_PRICES: Ints = np.array([500, 999, 1_000, 1_499, 1_999, 2_500, 2_999, 4_999, 5_000, 7_500, 9_999, 10_000, 15_000])
SUBSCRIPTIONS = 8
GIFT_CARDS = 4


@dataclass(frozen=True, slots=True)
class Merchants:
    """All merchants, a column each."""

    ids: list[str]
    category: Ints
    place: Ints
    popularity: Floats
    """Share of all payments."""
    price: Floats
    """Median amount, minor units."""

    def __len__(self) -> int:
        return len(self.ids)

    def currency(self, merchant: int) -> str:
        """What it is paid in."""
        return PLACES[self.place[merchant]].currency

    def noun(self, merchant: int) -> Merchant:
        """A merchant as the company knows it."""
        place = PLACES[self.place[merchant]]
        return Merchant(self.ids[merchant], CATEGORIES[self.category[merchant]].name, place.code, place.currency)

    def ranked(self) -> Ints:
        """Merchants from the largest to the smallest."""
        return np.argsort(-self.popularity, kind="stable")

    def amounts(self, rng: np.random.Generator, merchant: Ints, habit: Floats) -> Ints:
        """What somebody pays there, minor units. `habit` shifts the logarithm of the amount."""
        spread = np.array([c.spread for c in CATEGORIES])[self.category[merchant]]
        raw = self.price[merchant] * np.exp(spread * 0.7 * rng.standard_normal(len(merchant)) + habit)
        priced = np.array([c.round for c in CATEGORIES])[self.category[merchant]]
        nearest = ROUND_PRICES[np.clip(np.searchsorted(ROUND_PRICES, raw), 0, len(ROUND_PRICES) - 1)]
        return np.maximum(np.where(priced, nearest, raw), 100).astype(np.int64)


def make_merchants(seed: int, count: int) -> Merchants:
    """The merchants of a seed."""
    rng = generator(seed, "merchants")
    category = rng.choice(len(CATEGORIES), count, p=[c.share for c in CATEGORIES])
    weight = rng.pareto(1.15, count) + 0.05
    weight = np.minimum(weight, weight.sum() * 0.03)
    price = np.array([c.price for c in CATEGORIES])[category] * np.exp(0.35 * rng.standard_normal(count))
    return Merchants(
        ids=make_ids(rng, "mer", count),
        category=category,
        place=rng.choice(len(PLACES), count, p=SHARES),
        popularity=weight / weight.sum(),
        price=price,
    )
