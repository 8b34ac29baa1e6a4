"""Requests for charges, as columns for the many and as single drafts for what is played move by move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.demo.world.customers import Customers
from vedette.demo.world.merchants import Merchants
from vedette.demo.world.places import PLACES

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NOBODY = -1
"""Where a payment has no device or address: the merchant charges by itself."""
CVC = ("pass", "fail", "unavailable", "not_provided")
PASS, FAIL, UNAVAILABLE, NOT_PROVIDED = range(4)


class Draft(NamedTuple):
    """One payment as somebody means to make it; ids are texts, countries are places in `PLACES`."""

    time: int
    """Microseconds from midnight of the day."""
    merchant: int
    amount: int
    customer: str
    card: str
    card_bin: int
    device: str
    address: str
    place: int
    """Country of the address."""
    card_place: int
    distance: float
    """From the address to where the bills go, km."""
    age: float
    """Of the customer's account, days."""
    cvc: int = PASS
    http: bool = False
    key: str = ""
    """Name of the key, when it is not the merchant's own."""


@dataclass(frozen=True, slots=True)
class Charges:
    """Many payments, a column each, pointing into the lists of `Customers` and `Merchants`."""

    time: Ints
    merchant: Ints
    amount: Ints
    customer: Ints
    card: Ints
    device: Ints
    address: Ints
    place: Ints
    card_place: Ints
    distance: Floats
    age: Floats
    cvc: Ints

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: Any) -> Charges:
        """Some of them."""
        return Charges(*(getattr(self, field.name)[rows] for field in fields(self)))

    def sorted(self) -> Charges:
        """By time."""
        return self.take(np.argsort(self.time, kind="stable"))


def join(parts: list[Charges]) -> Charges:
    """One after the other."""
    return Charges(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Charges)))


class Texts:
    """Ids of customers, cards, devices and addresses: those that were there from the start, and what came later."""

    def __init__(self, customers: Customers) -> None:
        self.customers = list(customers.ids)
        self.cards = list(customers.cards)
        self.devices = list(customers.devices)
        self.addresses = list(customers.addresses)
        self.bins = customers.card_bin

    def add_bins(self, bins: Ints) -> None:
        """Issuer prefixes of the cards that were added."""
        self.bins = np.concatenate([self.bins, bins])


def to_draft(charges: Charges, texts: Texts, *, http: npt.NDArray[np.bool_]) -> Iterator[Draft]:
    """Columns as drafts."""
    columns = [getattr(charges, field.name).tolist() for field in fields(Charges)]
    for time, merchant, amount, customer, card, device, address, place, card_place, distance, age, cvc, by_http in zip(
        *columns, http.tolist(), strict=True
    ):
        told = device != NOBODY
        yield Draft(
            time=time,
            merchant=merchant,
            amount=amount,
            customer=texts.customers[customer],
            card=texts.cards[card],
            card_bin=int(texts.bins[card]),
            device=texts.devices[device] if told else "",
            address=texts.addresses[address] if told else "",
            place=place,
            card_place=card_place,
            distance=distance,
            age=age,
            cvc=cvc,
            http=by_http,
        )


def to_request(draft: Draft, merchants: Merchants) -> dict[str, Any]:
    """The body of `POST /v1/charges`. What is not known is not said."""
    told = {
        "customer": draft.customer,
        "country": PLACES[draft.card_place].code,
        "card_country": PLACES[draft.card_place].code,
        "card_bin": str(draft.card_bin),
        "account_age_days": f"{draft.age:.2f}",
    }
    if draft.device:
        told["device"] = draft.device
        told["ip"] = draft.address
        told["ip_country"] = PLACES[draft.place].code
        told["ip_distance_km"] = f"{draft.distance:.1f}"
        told["cvc_check"] = CVC[draft.cvc]
    else:
        told["is_recurring"] = "true"
    return {
        "amount_minor": draft.amount,
        "currency": merchants.currency(draft.merchant),
        "source": draft.card,
        "merchant": merchants.ids[draft.merchant],
        "metadata": told,
    }
