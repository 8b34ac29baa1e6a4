"""The sixty days before the day: honest payments and old frauds, with the disputes that are known by now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vedette.core.clock import DAY
from vedette.demo.world.cast import players_of_history
from vedette.demo.world.charges import CVC, NOBODY, Charges, Draft, Texts, join
from vedette.demo.world.customers import HISTORY_DAYS
from vedette.demo.world.merchants import Merchants
from vedette.demo.world.mint import generator, make_ids
from vedette.demo.world.payments import make_payments
from vedette.demo.world.places import PLACES
from vedette.demo.world.stage import Stage

LABEL_DELAY: Final = 7 * DAY
"""From a payment until its dispute is known."""
DISPUTED: Final = 0.85
"""Share of frauds that somebody disputes."""
REGRETTED: Final = 0.0003
"""Share of good payments that their own payer disputes."""
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class History:
    """Payments before the day, in order of time."""

    ids: list[str]
    charges: Charges
    disputed: Bools


def make_history(stage: Stage) -> History:
    """The history of a seed."""
    rng = generator(stage.seed, "history")
    good = make_payments(rng, stage.customers, stage.merchants, stage.texts, first=-HISTORY_DAYS, days=HISTORY_DAYS)
    volume = np.bincount(good.time // DAY + HISTORY_DAYS, minlength=HISTORY_DAYS)
    drafts, bad = zip(*players_of_history(stage, volume), strict=True)
    fraud = np.concatenate([np.zeros(len(good), np.bool_), np.array(bad, np.bool_)])
    charges = join([good, to_charges(list(drafts), stage.texts)])
    order = np.argsort(charges.time, kind="stable")
    chance = rng.random(len(order))
    disputed = np.where(fraud[order], chance < DISPUTED, chance < REGRETTED)
    return History(make_ids(rng, "pay", len(order)), charges.take(order), disputed)


def to_charges(drafts: list[Draft], texts: Texts) -> Charges:
    """Drafts as columns; ids that are new are added to the texts."""
    customers, cards, devices, addresses = (
        _Codes(known) for known in (texts.customers, texts.cards, texts.devices, texts.addresses)
    )
    before = len(texts.cards)
    columns = Charges(
        time=_ints(draft.time for draft in drafts),
        merchant=_ints(draft.merchant for draft in drafts),
        amount=_ints(draft.amount for draft in drafts),
        customer=_ints(customers.code(draft.customer) for draft in drafts),
        card=_ints(cards.code(draft.card) for draft in drafts),
        device=_ints(devices.code(draft.device) for draft in drafts),
        address=_ints(addresses.code(draft.address) for draft in drafts),
        place=_ints(draft.place for draft in drafts),
        card_place=_ints(draft.card_place for draft in drafts),
        distance=np.array([draft.distance for draft in drafts], np.float64),
        age=np.array([draft.age for draft in drafts], np.float64),
        cvc=_ints(draft.cvc for draft in drafts),
    )
    prefixes = {draft.card: draft.card_bin for draft in drafts}
    texts.add_bins(_ints(prefixes[card] for card in texts.cards[before:]))
    return columns


def _ints(values: object) -> Ints:
    return np.array(list(values), np.int64)  # type: ignore[call-overload]


class _Codes:
    """Places of texts in a list that grows."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts
        self._codes = {text: place for place, text in enumerate(texts)}

    def code(self, text: str) -> int:
        found = self._codes.get(text)
        if found is None:
            found = self._codes[text] = len(self._texts)
            self._texts.append(text)
        return found


def to_table(history: History, merchants: Merchants, texts: Texts, day: int) -> pa.Table:
    """The history as the source `product` writes charges: one column per field, nested names with dots.

    `fraud` is 1 where a dispute is known, 0 where the time for one has passed, null where it has not.
    """
    charges = history.charges
    codes = [place.code for place in PLACES]
    told = charges.device != NOBODY
    known = charges.time + LABEL_DELAY <= 0
    return pa.table(
        {
            "id": pa.array(history.ids),
            "type": _words(np.zeros(len(charges), np.int64), ["charge"]),
            "time": pa.array(charges.time + day, pa.timestamp("us")),
            "merchant": _words(charges.merchant, merchants.ids),
            "amount_minor": pa.array(charges.amount.astype(np.float64)),
            "currency": _words(merchants.place[charges.merchant], [place.currency for place in PLACES])
            .cast(pa.string())
            .dictionary_encode(),
            "source": _words(charges.card, texts.cards),
            "customer": _words(charges.customer, texts.customers),
            "device": _words(charges.device, texts.devices, told),
            "ip": _words(charges.address, texts.addresses, told),
            "ip_country": _words(charges.place, codes, told),
            "country": _words(charges.card_place, codes),
            "card_country": _words(charges.card_place, codes),
            "card_bin": _prefixes(charges.card, texts),
            "cvc_check": _words(charges.cvc, list(CVC), told),
            "is_recurring": pa.array(~told, mask=told),
            "metadata.ip_distance_km": pa.array(np.round(charges.distance, 1)),
            "metadata.account_age_days": pa.array(np.round(charges.age, 2)),
            "fraud": pa.array(history.disputed.astype(np.int8), mask=~known),
        }
    )


def _words(codes: Ints, words: list[str], told: Bools | None = None) -> Any:
    places: Any = pa.array(codes.astype(np.int32), mask=None if told is None else ~told)
    return pa.DictionaryArray.from_arrays(places, pa.array(words))


def _prefixes(card: Ints, texts: Texts) -> Any:
    prefixes, codes = np.unique(texts.bins, return_inverse=True)
    return _words(codes[card], [str(prefix) for prefix in prefixes.tolist()])
