"""Customers: where they live, what they own, how often and where they buy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vedette.demo.world.merchants import SUBSCRIPTIONS, Merchants
from vedette.demo.world.mint import generator, make_addresses, make_ids
from vedette.demo.world.places import HOUR, PLACES, SHARES, hour_cumulative
from vedette.demo.world.tide import Tide

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FAVOURITES = 5
HISTORY_DAYS = 60
GROWTH = 4.0
"""Customers that the company's merchants have brought by a share x of the history: x to this power."""
DOMESTIC = 8.0
"""How much more a customer likes a merchant of the same country."""
RATE = 0.53
"""Payments a day of the average customer."""
CARDS_EACH = 1.12
BINS = 900
"""Issuer prefixes of six digits."""


@dataclass(frozen=True, slots=True)
class Customers:
    """All customers, a column each; the lists of ids are indexed by the columns."""

    ids: list[str]
    cards: list[str]
    devices: list[str]
    addresses: list[str]
    place: Ints
    card: Ints
    """First card; the second is the same when there is one only."""
    card2: Ints
    device: Ints
    device2: Ints
    home: Ints
    """Address at home."""
    rate: Floats
    """Payments a day."""
    habit: Floats
    """Shifts the logarithm of what is paid."""
    joined: Floats
    """Day from which the customer buys, from -60 to 0."""
    age: Floats
    """Age of the account on day 0, days."""
    favourites: Ints
    """Merchants, `FAVOURITES` to a customer."""
    subscription: Ints
    """Merchant of a monthly subscription, or -1."""
    roaming: Ints
    """First of each country's shared mobile addresses, and one past the last of all."""
    card_bin: Ints
    """Issuer prefix of each card."""

    def __len__(self) -> int:
        return len(self.ids)


def make_customers(seed: int, count: int, merchants: Merchants) -> Customers:
    """The customers of a seed."""
    rng = generator(seed, "customers")
    place = rng.choice(len(PLACES), count, p=SHARES)
    second_card = np.flatnonzero(rng.random(count) < CARDS_EACH - 1)
    second_device = np.flatnonzero(rng.random(count) < 0.3)
    household = np.where(rng.random(count) < 0.8, np.arange(count), rng.integers(0, count, count))
    # Whoever shares a home lives in the same country.
    place = place[household]
    joined = _joined(rng, count)
    pools = np.maximum(4, (SHARES * count / 20).astype(np.int64))
    homes = make_addresses(rng, place)
    mobile = make_addresses(rng, np.repeat(np.arange(len(PLACES)), pools))
    cards = count + len(second_card)
    return Customers(
        ids=make_ids(rng, "cus", count),
        cards=make_ids(rng, "tok", cards),
        devices=make_ids(rng, "dev", count + len(second_device)),
        addresses=homes + mobile,
        place=place,
        card=np.arange(count),
        card2=_second(count, second_card),
        device=np.arange(count),
        device2=_second(count, second_device),
        home=household,
        rate=RATE * rng.gamma(0.9, 1 / 0.9, count),
        habit=0.45 * rng.standard_normal(count),
        joined=joined,
        age=rng.exponential(380, count) - joined,
        favourites=_favourites(rng, place, merchants),
        subscription=_subscription(rng, count, merchants),
        roaming=count + np.concatenate([[0], np.cumsum(pools)]),
        card_bin=_bins(rng, cards),
    )


def _joined(rng: np.random.Generator, count: int) -> Floats:
    late = rng.random(count) ** (1 / GROWTH)
    return np.where(rng.random(count) < 0.03, -HISTORY_DAYS, HISTORY_DAYS * (late - 1)).astype(np.float64)


def _second(count: int, owners: Ints) -> Ints:
    numbers = np.arange(count)
    numbers[owners] = count + np.arange(len(owners))
    return numbers


def _bins(rng: np.random.Generator, count: int) -> Ints:
    known = rng.integers(400_000, 560_000, BINS)
    return np.asarray(known[(rng.beta(0.6, 3.0, count) * BINS).astype(np.int64)])


def _favourites(rng: np.random.Generator, place: Ints, merchants: Merchants) -> Ints:
    chosen = np.zeros((len(place), FAVOURITES), np.int64)
    for number in range(len(PLACES)):
        mine = np.flatnonzero(place == number)
        chosen[mine] = pick_merchants(rng, number, merchants, len(mine) * FAVOURITES).reshape(-1, FAVOURITES)
    return chosen


def pick_merchants(rng: np.random.Generator, place: int, merchants: Merchants, count: int) -> Ints:
    """Merchants that people of a country go to."""
    weight = merchants.popularity * np.where(merchants.place == place, DOMESTIC, 1.0)
    cumulative = np.cumsum(weight) / weight.sum()
    return np.minimum(np.searchsorted(cumulative, rng.random(count)), len(merchants) - 1)


def _subscription(rng: np.random.Generator, count: int, merchants: Merchants) -> Ints:
    sellers = np.flatnonzero(merchants.category == SUBSCRIPTIONS)
    if not len(sellers):
        return np.full(count, -1)
    weight = merchants.popularity[sellers]
    return np.where(rng.random(count) < 0.18, rng.choice(sellers, count, p=weight / weight.sum()), -1)


def make_tide(customers: Customers) -> Tide:
    """The tide of what these customers buy."""
    weight = np.bincount(customers.place, weights=customers.rate, minlength=len(PLACES))
    by_hour = np.stack([hour_cumulative(place) for place in PLACES])
    done = np.concatenate([[0.0], (weight / weight.sum()) @ by_hour])
    return Tide(np.arange(25) * float(HOUR), np.asarray(done, np.float64))
