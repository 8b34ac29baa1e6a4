"""The product's own events: customers who log in, keys that are used, records that staff look at."""

from __future__ import annotations

import numpy as np

from vedette.demo.world.charges import NOBODY, Charges
from vedette.demo.world.logs.book import Book, clock
from vedette.demo.world.logs.columns import Columns
from vedette.demo.world.mint import generator, make_ids
from vedette.demo.world.places import FIRST_OCTET, HOUR, MINUTE, PLACES
from vedette.demo.world.staff import Employee
from vedette.demo.world.stage import Stage

LOGINS = 0.5
"""Share of payments before which the customer logs in."""
WRONG = 0.05
"""Share of logins that fail: a wrong password."""
CHANGES = 0.004
"""Share of logins after which somebody changes the e-mail address or the password."""
KEY_USES = 0.35
"""Share of requests of merchants' servers that are logged."""
VIEWED = {"support": 55, "risk": 30, "operations": 12, "finance": 4}
"""Customer records that one of these looks at in a shift."""
TICKETED = {"support": 0.93, "risk": 0.9, "operations": 0.8, "finance": 0.7}


class CustomerLog:
    """Logins of customers, and the few changes of their accounts."""

    def __init__(self, stage: Stage, payments: Charges) -> None:
        rng = generator(stage.seed, "logins")
        online = np.flatnonzero((payments.device != NOBODY) & (rng.random(len(payments)) < LOGINS))
        failed = online[rng.random(len(online)) < WRONG]
        changed = online[rng.random(len(online)) < CHANGES]
        row = np.concatenate([online, failed, changed])
        kind = np.repeat([0, 1, 2], [len(online), len(failed), len(changed)])
        kind[kind == 2] += rng.integers(0, 2, len(changed))
        before = np.where(kind == 0, rng.integers(10, 180, len(row)), np.where(kind == 1, 200, 5)) * (MINUTE // 60)
        self._stage = stage
        self._columns = Columns(
            np.maximum(0, payments.time[row] - before),
            kind,
            payments.merchant[row],
            payments.customer[row],
            payments.device[row],
            payments.address[row],
            payments.place[row],
            make_ids(rng, "evt", len(row)),
        )

    def write(self, book: Book, begin: int, end: int) -> None:
        """Puts the lines of [begin, end) into the book."""
        texts, merchants = self._stage.texts, self._stage.merchants.ids
        kinds = ("login.succeeded", "login.failed", "email.changed", "password.changed")
        book.put(
            "product",
            [
                (
                    time,
                    f'{{"id":"{name}","type":"{kinds[kind]}","time":"{book.date}T{clock(time)}Z",'
                    f'"merchant":"{merchants[merchant]}","customer":"{texts.customers[customer]}",'
                    f'"device":"{texts.devices[device]}","ip":"{texts.addresses[address]}",'
                    f'"ip_country":"{PLACES[place].code}"}}'.encode(),
                )
                for time, kind, merchant, customer, device, address, place, name in self._columns.rows(begin, end)
            ],
        )


class KeyLog:
    """Use of API keys by the merchants' own servers."""

    def __init__(self, stage: Stage, payments: Charges) -> None:
        rng = generator(stage.seed, "key uses")
        row = np.flatnonzero(rng.random(len(payments)) < KEY_USES)
        self._stage = stage
        self._servers = rng.integers(1, 250, (len(stage.merchants), 3)).tolist()
        self._columns = Columns(
            payments.time[row], payments.merchant[row], rng.integers(0, 2, len(row)), make_ids(rng, "evt", len(row))
        )

    def write(self, book: Book, begin: int, end: int) -> None:
        """Puts the lines of [begin, end) into the book."""
        merchants = self._stage.merchants
        keys = [self._stage.key_id(self._stage.key_of(number).name) for number in range(len(merchants))]
        lines = []
        for time, merchant, server, name in self._columns.rows(begin, end):
            a, b, c = self._servers[merchant]
            lines.append(
                (
                    time,
                    f'{{"id":"{name}","type":"api_key.used","time":"{book.date}T{clock(time)}Z",'
                    f'"merchant":"{merchants.ids[merchant]}","key":"{keys[merchant]}",'
                    f'"ip":"{FIRST_OCTET + int(merchants.place[merchant])}.{a}.{b}.{c ^ server}",'
                    f'"user_agent":"shop-server/2.4"}}'.encode(),
                )
            )
        book.put("product", lines)


class ViewLog:
    """Customer records that staff look at, nearly always for a ticket."""

    def __init__(self, stage: Stage, payments: Charges) -> None:
        rng = generator(stage.seed, "views")
        people = [person for person in stage.staff.of(*VIEWED) if rng.random() < 0.88]
        count = rng.poisson([VIEWED[person.role] for person in people])
        who = np.repeat(np.arange(len(people)), count)
        begins = np.array([person.begins for person in people])[who] * HOUR
        ticketed = rng.random(len(who)) < np.array([TICKETED[person.role] for person in people])[who]
        self._people: list[Employee] = people
        self._stage = stage
        self._columns = Columns(
            (begins + rng.integers(0, 8 * HOUR, len(who))) % (24 * HOUR),
            who,
            rng.choice(payments.customer, len(who)),
            np.where(ticketed, rng.integers(100_000, 180_000, len(who)), 0),
            make_ids(rng, "evt", len(who)),
        )

    def write(self, book: Book, begin: int, end: int) -> None:
        """Puts the lines of [begin, end) into the book."""
        for time, who, customer, ticket, name in self._columns.rows(begin, end):
            person = self._people[who]
            record = viewed(name, person, self._stage.texts.customers[customer], self._stage.staff.address(person))
            if ticket:
                record["ticket"] = f"T-{ticket}"
            book.note(time, "product", record)


def viewed(name: str, person: Employee, customer: str, address: str) -> dict[str, str]:
    """A member of staff looks at a customer's record."""
    return {
        "id": name,
        "type": "customer.viewed",
        "user": person.email,
        "role": person.role,
        "customer": customer,
        "ip": address,
        "device": person.laptop,
    }
