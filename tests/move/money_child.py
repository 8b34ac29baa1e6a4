"""A separate process that does one thing with money and may kill itself at a named step.

Usage: money_child.py TARGET SCHEMA VERB DIE_AT SKEW_S ARGUMENT
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from money_world import MERCHANT, TENANT, World, charge

from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.errors import VedetteError
from vedette.move.charges import ChargeItem


class Skewed(SystemClock):
    """The machine's clock, some seconds ahead: what a retry after the lease sees."""

    def __init__(self, seconds):
        self.seconds = seconds

    def now(self):
        return super().now() + round(self.seconds * 1e6)

    def monotonic(self):
        return super().monotonic() + self.seconds


def many(world, argument):
    """Charges and refunds one after the other until somebody kills us; a line for each answer that was given."""
    first, count = map(int, argument.split(","))
    for n in range(first, first + count):
        made = world.charges.create(TENANT, f"k{n}", charge(100 + n))
        print(f"k{n} {made.body.hex()}", flush=True)
        if n % 3 == 0:
            given = world.charges.refund(TENANT, f"r{n}", made.json()["id"], {"amount_minor": 50})
            print(f"r{n} {given.body.hex()}", flush=True)


def batch(world, argument):
    """Charges in batches of so many until somebody kills us; a line for each answer that was given."""
    first, count, size = map(int, argument.split(","))
    for start in range(first, first + count, size):
        items = [ChargeItem(f"k{n}", charge(100 + n, merchant=f"m-{n % 3}")) for n in range(start, start + size)]
        for item, answer in zip(items, world.charges.create_many(TENANT, items), strict=True):
            if not isinstance(answer, VedetteError):
                print(f"{item.key} {answer.body.hex()}", flush=True)


def run(world, verb, argument):
    wanted = {"amount_minor": 700, "currency": "EUR", "merchant": MERCHANT}
    verbs = {
        "charge": lambda: world.charges.create(TENANT, "k1", charge(source=argument or "tok_visa")),
        "batch": lambda: batch(world, argument),
        "refund": lambda: world.charges.refund(TENANT, "r1", argument, {"amount_minor": 500}),
        "schedule": lambda: world.payouts.schedule(TENANT, "p1", wanted),
        "pay": lambda: world.payouts.pay(TENANT, "p2", argument),
        "freeze": lambda: world.payouts.freeze(TENANT, MERCHANT, "stolen key", "f1"),
        "dispute": lambda: world.disputes.open(TENANT, "d1", json.loads(argument)),
        "evidence": lambda: world.disputes.submit(TENANT, "d2", argument, {"evidence": {"receipt": "signed"}}),
        "won": lambda: world.disputes.decide(TENANT, "d3", argument, {"outcome": "won"}),
        "lost": lambda: world.disputes.decide(TENANT, "d3", argument, {"outcome": "lost"}),
        "settle": lambda: world.disputes.settle(TENANT, "d4", argument),
        "dispatch": lambda: world.dispatcher.run_once() and None,
        "many": lambda: many(world, argument),
    }
    return verbs[verb]()


def main():
    target, schema, verb, die_at, skew, argument = sys.argv[1:7]
    spool = Path(sys.argv[7]) if len(sys.argv) > 7 else None
    place = target if target.startswith("postgresql") else Path(target)
    world = World(open_database(place, schema=schema), Skewed(float(skew)), die_at=die_at, spool=spool)
    answer = run(world, verb, argument)
    if answer is not None:
        print(answer.status, answer.body.hex())


if __name__ == "__main__":
    main()
