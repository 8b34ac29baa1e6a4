"""The stage: all that is there before anything happens, and the props that players take from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from vedette.demo.world.charges import FAIL, PASS, Draft, Texts
from vedette.demo.world.customers import Customers, make_customers, make_tide, pick_merchants
from vedette.demo.world.merchants import CATEGORIES, Merchants, make_merchants
from vedette.demo.world.mint import Mint
from vedette.demo.world.nouns import Key
from vedette.demo.world.places import PLACES, SHARES
from vedette.demo.world.staff import Staff, make_staff
from vedette.demo.world.tide import Tide

MERCHANTS: Final = 2_000
CUSTOMERS: Final = 90_000
"""At scale 1; with second cards they own 100,000."""
SENDERS: Final = slice(4, 16)
"""Places in size of the merchants that send payments one by one, each with its own key."""
KNOWN_CARD: Final = 0.45
"""Share of stolen cards whose owners are customers of the company's merchants."""


class Card(NamedTuple):
    """A card in somebody's hands."""

    token: str
    prefix: int
    place: int


class Machine(NamedTuple):
    """A device and the address it speaks from."""

    device: str
    address: str
    place: int


@dataclass(frozen=True, slots=True)
class Stage:
    """The people and things of a seed."""

    seed: int
    merchants: Merchants
    customers: Customers
    texts: Texts
    staff: Staff
    tide: Tide
    key_ids: dict[str, str] = field(default_factory=dict)
    """Name of an API key -> the id that the platform gave it."""

    @property
    def senders(self) -> list[int]:
        """Merchants that send payments one by one: large ones, but not the largest."""
        ranked: list[int] = self.merchants.ranked()[SENDERS].tolist()
        return ranked

    def key_of(self, merchant: int) -> Key:
        """A merchant's API key."""
        owner = self.merchants.ids[merchant]
        return Key(f"live-{owner.removeprefix('mer_')}", owner)

    def key_id(self, name: str) -> str:
        """Id of a key; its name until the platform has told."""
        return self.key_ids.get(name, name)


def make_stage(seed: int, scale: float) -> Stage:
    """The stage of a seed."""
    merchants = make_merchants(seed, max(40, round(MERCHANTS * scale)))
    customers = make_customers(seed, max(500, round(CUSTOMERS * scale)), merchants)
    return Stage(seed, merchants, customers, Texts(customers), make_staff(seed), make_tide(customers))


class Props:
    """What a player takes from the stage: cards, machines, accounts, each new one from the common mint."""

    def __init__(self, stage: Stage, rng: np.random.Generator, name: str) -> None:
        self.stage = stage
        self.rng = rng
        self.mint = Mint(stage.seed, name)

    def chance(self, share: float) -> bool:
        """Whether something of this probability happens."""
        return bool(self.rng.random() < share)

    def place(self) -> int:
        """A country, as likely as it has customers."""
        return int(self.rng.choice(len(PLACES), p=SHARES))

    def card(self, prefix: int | None = None) -> Card:
        """A stolen card: of a customer, or of somebody who never bought here."""
        customers = self.stage.customers
        if prefix is None and self.chance(KNOWN_CARD):
            victim = self.customer()
            card = int(customers.card[victim])
            return Card(self.stage.texts.cards[card], int(customers.card_bin[card]), int(customers.place[victim]))
        prefix = int(self.rng.choice(customers.card_bin)) if prefix is None else prefix
        return Card(self.mint.id("tok"), prefix, self.place())

    def customer(self) -> int:
        """A customer who has been here for a while."""
        joined = self.stage.customers.joined
        while True:
            chosen = int(self.rng.integers(len(joined)))
            if joined[chosen] < -1:
                return chosen

    def machine(self, place: int | None = None) -> Machine:
        """A device never seen before, at an address never seen before."""
        where = self.place() if place is None else place
        return Machine(self.mint.id("dev"), self.mint.address(where), where)

    def owner(self, customer: int) -> tuple[Card, Machine]:
        """A customer's own card, and own device at home."""
        customers, texts = self.stage.customers, self.stage.texts
        place, card = int(customers.place[customer]), int(customers.card[customer])
        device, home = texts.devices[customers.device[customer]], texts.addresses[customers.home[customer]]
        return Card(texts.cards[card], int(customers.card_bin[card]), place), Machine(device, home, place)

    def roaming(self, place: int) -> str:
        """A shared mobile address of a country."""
        pool = self.stage.customers.roaming
        return self.stage.texts.addresses[int(self.rng.integers(pool[place], pool[place + 1]))]

    def merchant(self, *, liked: bool) -> int:
        """A merchant by size; a liked one sells what can be sold again."""
        merchants = self.stage.merchants
        if not liked:
            return int(pick_merchants(self.rng, self.place(), merchants, 1)[0])
        resale = np.array([c.resale for c in CATEGORIES])[merchants.category]
        weight = merchants.popularity**0.7 * resale
        return int(self.rng.choice(len(merchants), p=weight / weight.sum()))

    def amount(self, merchant: int, habit: float = 0.0) -> int:
        """What one pays there."""
        return int(self.stage.merchants.amounts(self.rng, np.array([merchant]), np.array([habit]))[0])

    def distance(self, machine: Machine, card: Card) -> float:
        """From the machine to where the card's bills go: thieves like addresses near their victims."""
        near = machine.place == card.place
        return float(np.exp((3.8 if near else 7.2) + (1.3 if near else 0.7) * self.rng.standard_normal()))

    def charge(
        self,
        now: float,
        *,
        merchant: int,
        amount: int,
        customer: str,
        card: Card,
        machine: Machine,
        age: float,
        fails: float = 0.0,
    ) -> Draft:
        """One payment at a tide, which fails the check of the security code with some probability."""
        return Draft(
            time=self.stage.tide.moment(now),
            merchant=merchant,
            amount=amount,
            customer=customer,
            card=card.token,
            card_bin=card.prefix,
            device=machine.device,
            address=machine.address,
            place=machine.place,
            card_place=card.place,
            distance=self.distance(machine, card),
            age=max(0.0, age),
            cvc=FAIL if self.chance(fails) else PASS,
        )
