"""Two services with a database each, and between them a bus that loses, doubles and reorders; either dies at any step.

A turn that is to die is done by a forked process, which opens the databases anew and kills itself (SIGKILL) at a step;
what it had put on the bus by then is on the bus. All else is done here. Time is a number.
"""

import os
import random
import signal
from contextlib import suppress
from dataclasses import dataclass

from vedette.core.db import open_database
from vedette.core.errors import ConflictError, NotFoundError
from vedette.move import chart
from vedette.move.crossing import Message, Receiver, Sender, State, parse_message
from vedette.move.ledger import Account, AccountFlags, Ledgers, Transfer
from vedette.move.ledger.check import check

TENANT, CURRENCY = "acme", "EUR"
EUR = chart.to_ledger(CURRENCY)
PAYER, PAYEE, SOURCE = 1, 2, 3
LIMIT_S, RETRY_S = 20.0, 2.0
FUNDS = 1_000


@dataclass
class Now:
    micros: int = 1_700_000_000_000_000

    def now(self):
        return self.micros

    def monotonic(self):
        return self.micros / 1e6


class Receiving(Receiver):
    """What the tests plant their bug into."""


class Side:
    """One service over its database."""

    def __init__(self, place, clock, make, step=lambda _name: None):
        target, schema = place
        self.db = open_database(target, schema=schema)
        self.ledgers = Ledgers(self.db, clock)
        self.service = make(self.db, clock, self.ledgers, step)


def sender(db, clock, ledgers, step):
    return Sender(db, clock, ledgers, peer="east", limit_s=LIMIT_S, retry_s=RETRY_S, step=step)


def receiver(db, clock, ledgers, step):
    return Receiving(db, clock, ledgers, peer="west", step=step)


class World:
    """Everything of one schedule.

    Args:
        places: Where the sender's and the receiver's databases are.
        seed: Of the schedule.
    """

    def __init__(self, places, seed, make_receiver=receiver):
        self.places, self.rng, self.clock = places, random.Random(seed), Now()
        self.makes = (sender, make_receiver)
        self.bus = []
        self.west, self.east = (Side(place, self.clock, make) for place, make in zip(places, self.makes, strict=True))
        self.wanted = {}
        self.deaths = 0
        limited = int(AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS)
        for side, id_, flags in ((self.west, PAYER, limited), (self.east, PAYEE, 0)):
            made = [Account(id_, ledger=EUR, code=9, flags=flags), Account(SOURCE, ledger=EUR, code=9)]
            side.ledgers.create_accounts(TENANT, made)
        fund = Transfer(1, SOURCE, PAYER, FUNDS, ledger=EUR, code=9)
        self.west.ledgers.create_transfers(TENANT, [fund])

    def close(self):
        for side in (self.west, self.east):
            side.db.close()

    def put(self, raw):
        """Onto the bus: lost, once, or several times."""
        self.bus += [raw] * self.rng.choice([0, 0, 1, 1, 1, 2, 3])

    def take(self):
        return self.bus.pop(self.rng.randrange(len(self.bus)))

    def turn(self, place, act):
        """`act(service, put)`, by us, or by a process that kills itself at one of its steps."""
        if self.rng.random() < 0.25:
            self.die(place, act, self.rng.randrange(3))
        else:
            act((self.west, self.east)[place].service, self.put)

    def die(self, place, act, steps):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            left = [steps]

            def step(_name):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1

            try:
                side = Side(self.places[place], self.clock, self.makes[place], step)
                act(side.service, lambda raw: os.write(writing, raw + b"\n"))
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        os.close(writing)
        with os.fdopen(reading, "rb") as lines:
            for line in lines:
                self.put(line.rstrip(b"\n"))
        os.waitpid(child, 0)
        self.deaths += 1

    def start(self, name, to=PAYEE):
        amount = self.rng.randrange(1, 400)
        self.wanted[name] = (amount, to)

        def act(service, _put):
            with suppress(ConflictError):  # not enough funds left: it never begins
                service.start(TENANT, name, from_account=PAYER, to_account=to, amount=amount, currency=CURRENCY)

        self.turn(0, act)

    def send(self):
        def act(service, put):
            for message in service.due():
                put(message.encode())

        self.turn(0, act)

    def deliver(self):
        message = parse_message(self.take())
        if message.kind in ("credit", "cancel"):
            self.turn(1, lambda service, put: put(service.receive(message).encode()))
        else:
            self.turn(0, lambda service, _put: service.receive(message))

    def play(self, turns=40):
        for n in range(turns):
            what = self.rng.random()
            if what < 0.1 and len(self.wanted) < 4:
                self.start(f"x{n}", to=self.rng.choice([PAYEE, PAYEE, PAYEE, 99]))
            elif what < 0.45:
                self.send()
            elif self.bus:
                self.deliver()
            self.clock.micros += round(self.rng.choice([0.1, 0.5, 3.0]) * 1e6)
        self.heal()

    def heal(self):
        """From now on nothing is lost and nobody dies; a limit and a few retries later nothing may be under way."""
        quiet = random.Random(1)
        quiet_rng, self.rng = self.rng, quiet
        self.turn = lambda place, act: act((self.west, self.east)[place].service, self.bus.append)
        for _ in range(round((LIMIT_S + 4 * RETRY_S) / RETRY_S)):
            self.send()
            while self.bus:
                self.deliver()
            self.clock.micros += round(RETRY_S * 1e6)
        self.rng = quiet_rng

    def sums(self, side, account):
        found = side.ledgers.lookup_accounts(TENANT, [account])
        return (
            (found[0].debits_pending, found[0].debits_posted, found[0].credits_pending, found[0].credits_posted)
            if found
            else (0, 0, 0, 0)
        )

    def verify(self):
        """Each crossing is applied on both sides or on neither, and nothing is under way."""
        done = 0
        for name, (amount, to) in self.wanted.items():
            try:
                one = self.west.service.get(TENANT, name)
            except NotFoundError:
                continue  # it died before it began, or there was not enough
            assert one.state in (State.APPLIED, State.REVERSED), one
            credit = chart.to_id("crossing.credit", "west", name)
            came = self.east.ledgers.lookup_transfers(TENANT, [credit])
            assert bool(came) == (one.state is State.APPLIED), one
            assert not (came and to != PAYEE)
            done += amount if came else 0
        assert self.west.service.in_transit(TENANT) == []
        out = self.sums(self.west, chart.account(chart.Kind.TRANSIT, CURRENCY, "east").id)
        into = self.sums(self.east, chart.account(chart.Kind.TRANSIT, CURRENCY, "west").id)
        assert (out, into) == ((0, 0, 0, done), (0, done, 0, 0))
        assert self.sums(self.west, PAYER) == (0, done, 0, FUNDS)
        assert self.sums(self.east, PAYEE) == (0, 0, 0, done)
        for side in (self.west, self.east):
            assert check(side.db).findings == []


__all__ = ["Message", "World"]
