"""What honest customers pay: habits, second tries, new devices, trips, subscriptions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vedette.core.clock import DAY
from vedette.demo.world.charges import FAIL, NOBODY, NOT_PROVIDED, PASS, UNAVAILABLE, Charges, Texts, join
from vedette.demo.world.customers import FAVOURITES, Customers, pick_merchants
from vedette.demo.world.merchants import Merchants
from vedette.demo.world.mint import make_addresses, make_ids
from vedette.demo.world.places import HOUR, HOURS, MINUTE, PLACES, SHARES

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FAVOURED = 0.72
"""Share of payments at one of the customer's favourite merchants."""
AT_HOME, ROAMING = 0.62, 0.32
"""Share of payments from the address at home, and from a shared mobile one; the rest come from anywhere."""
NEW_DEVICE, SECOND_DEVICE = 0.025, 0.2
NEW_CARD = 0.015
GUEST = 0.06
"""Share of payments without an account: the shop makes a new one each time."""
ABROAD = 0.012
MISTYPED = 0.012
AGAIN = 0.09
"""Share of payments followed by another of the same customer within the hour."""
MONTH = 30


def make_payments(
    rng: np.random.Generator,
    customers: Customers,
    merchants: Merchants,
    texts: Texts,
    *,
    first: int,
    days: int,
    factor: float = 1.0,
) -> Charges:
    """Payments of honest customers from day `first` on, in order of time.

    Args:
        rng: Where chance comes from.
        customers: Who pays.
        merchants: Whom.
        texts: Ids that are new are added here.
        first: First day; -60 is the first of the history, 0 is the day itself.
        days: How many days.
        factor: How much busier than usual.
    """
    begin = np.clip(customers.joined, first, first + days)
    spans = first + days - begin
    count = rng.poisson(customers.rate * factor * spans)
    who = np.repeat(np.arange(len(customers)), count)
    # A day by chance from those on which the customer is there, and an hour by the habits of the country.
    day = np.floor(begin[who] + rng.random(len(who)) * spans[who]).astype(np.int64)
    time = day * DAY + _hours(rng, customers.place[who])
    bought = _buy(rng, customers, merchants, texts, who=who, time=time)
    again = _again(rng, merchants, customers, bought)
    retried = _retry(rng, bought)
    renewed = _renew(rng, customers, merchants, first, days)
    return _as_guests(rng, join([_mistyped(bought, retried), again, retried[1], renewed]).sorted(), texts)


def _hours(rng: np.random.Generator, place: Ints) -> Ints:
    local = rng.choice(24, len(place), p=HOURS / HOURS.sum()) * HOUR + rng.integers(0, HOUR, len(place))
    offsets = np.array([p.offset for p in PLACES])[place] * HOUR
    return np.asarray((local - offsets) % DAY, np.int64)


def _buy(
    rng: np.random.Generator, customers: Customers, merchants: Merchants, texts: Texts, *, who: Ints, time: Ints
) -> Charges:
    count = len(who)
    merchant = customers.favourites[who, rng.integers(0, FAVOURITES, count)]
    for number in range(len(PLACES)):
        other = np.flatnonzero((customers.place[who] == number) & (rng.random(count) >= FAVOURED))
        merchant[other] = pick_merchants(rng, number, merchants, len(other))
    device = np.where(rng.random(count) < SECOND_DEVICE, customers.device2[who], customers.device[who])
    card = np.where(rng.random(count) < SECOND_DEVICE, customers.card2[who], customers.card[who])
    address, place, distance = _addresses(rng, customers, who, texts)
    _replace_devices(rng, device, texts)
    _replace_cards(rng, card, texts)
    return Charges(
        time=time,
        merchant=merchant,
        amount=merchants.amounts(rng, merchant, customers.habit[who]),
        customer=who,
        card=card,
        device=device,
        address=address,
        place=place,
        card_place=customers.place[who],
        distance=distance,
        age=np.maximum(0.0, customers.age[who] + time / DAY),
        cvc=np.where(rng.random(count) < 0.06, UNAVAILABLE, PASS),
    )


def _addresses(rng: np.random.Generator, customers: Customers, who: Ints, texts: Texts) -> tuple[Ints, Ints, Floats]:
    count = len(who)
    place = customers.place[who]
    where = rng.random(count)
    pool = customers.roaming[place]
    size = customers.roaming[place + 1] - pool
    address = np.where(where < AT_HOME, customers.home[who], pool + (rng.random(count) * size).astype(np.int64))
    distance = np.exp(np.where(where < AT_HOME, 1.6, 3.3) + 0.9 * rng.standard_normal(count))
    new = np.flatnonzero(where >= AT_HOME + ROAMING)
    abroad = new[rng.random(len(new)) < ABROAD / (1 - AT_HOME - ROAMING)]
    place[abroad] = rng.choice(len(PLACES), len(abroad), p=SHARES)
    distance[abroad] = np.exp(7.2 + 0.7 * rng.standard_normal(len(abroad)))
    address[new] = len(texts.addresses) + np.arange(len(new))
    texts.addresses += make_addresses(rng, place[new])
    return address, place, distance


def _replace_devices(rng: np.random.Generator, device: Ints, texts: Texts) -> None:
    new = np.flatnonzero(rng.random(len(device)) < NEW_DEVICE)
    device[new] = len(texts.devices) + np.arange(len(new))
    texts.devices += make_ids(rng, "dev", len(new))


def _replace_cards(rng: np.random.Generator, card: Ints, texts: Texts) -> None:
    new = np.flatnonzero(rng.random(len(card)) < NEW_CARD)
    texts.add_bins(rng.choice(texts.bins, len(new)))
    card[new] = len(texts.cards) + np.arange(len(new))
    texts.cards += make_ids(rng, "tok", len(new))


def _as_guests(rng: np.random.Generator, charges: Charges, texts: Texts) -> Charges:
    guest = np.flatnonzero((rng.random(len(charges)) < GUEST) & (charges.device != NOBODY))
    charges.customer[guest] = len(texts.customers) + np.arange(len(guest))
    charges.age[guest] = rng.exponential(0.02, len(guest))
    texts.customers += make_ids(rng, "cus", len(guest))
    return charges


def _again(rng: np.random.Generator, merchants: Merchants, customers: Customers, bought: Charges) -> Charges:
    """The same person buys again soon, at the same merchant or another favourite."""
    rows = np.flatnonzero(rng.random(len(bought)) < AGAIN)
    base = bought.take(rows)
    other = customers.favourites[base.customer, rng.integers(0, FAVOURITES, len(rows))]
    base.merchant[:] = np.where(rng.random(len(rows)) < 0.5, base.merchant, other)
    base.amount[:] = merchants.amounts(rng, base.merchant, customers.habit[base.customer])
    base.time[:] = _later(base.time, (rng.exponential(12 * MINUTE, len(rows))).astype(np.int64) + MINUTE // 4)
    return base


def _later(time: Ints, wait: Ints) -> Ints:
    """Later on the same day: what would fall after midnight happens before it."""
    end = (time // DAY + 1) * DAY - 1
    return np.asarray(np.minimum(time + wait, np.maximum(time, end - wait)))


def _retry(rng: np.random.Generator, bought: Charges) -> tuple[Ints, Charges]:
    """Rows whose security code was mistyped, and the second tries of most of them."""
    rows = np.flatnonzero(rng.random(len(bought)) < MISTYPED)
    tries = bought.take(rows[rng.random(len(rows)) < 0.8])
    tries.time[:] = _later(tries.time, rng.integers(MINUTE // 6, 3 * MINUTE, len(tries)))
    return rows, tries


def _mistyped(bought: Charges, retried: tuple[Ints, Charges]) -> Charges:
    bought.cvc[retried[0]] = FAIL
    return bought


def _renew(rng: np.random.Generator, customers: Customers, merchants: Merchants, first: int, days: int) -> Charges:
    """Monthly charges that a merchant makes without the customer."""
    who = np.flatnonzero(customers.subscription >= 0)
    due = rng.integers(0, MONTH, len(who))
    price = merchants.amounts(rng, customers.subscription[who], np.zeros(len(who)))
    parts = []
    for month in range(-3, 1):
        day = due + month * MONTH
        rows = np.flatnonzero((day >= first) & (day < first + days) & (day >= customers.joined[who]))
        one, count = who[rows], len(rows)
        time = day[rows] * DAY + _hours(rng, customers.place[one])
        parts.append(
            Charges(
                time=time,
                merchant=customers.subscription[one],
                amount=price[rows],
                customer=one,
                card=customers.card[one],
                device=np.full(count, NOBODY),
                address=np.full(count, NOBODY),
                place=customers.place[one],
                card_place=customers.place[one],
                distance=np.full(count, np.nan),
                age=np.maximum(0.0, customers.age[one] + time / DAY),
                cvc=np.full(count, NOT_PROVIDED),
            )
        )
    return join(parts)
