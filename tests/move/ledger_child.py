"""A separate process that moves money in linked pairs until somebody kills it.

Usage: ledger_child.py TARGET SCHEMA SEED
"""

import random
import sys

from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.move.ledger import Ledger, Ledgers, Transfer

LINKED, PENDING, POST, VOID = 1, 2, 4, 8


def pair(rng, id_):
    """Two transfers that happen together, or a reservation and what becomes of it."""
    debit, credit = rng.sample(range(1, 6), 2)
    first = {
        "debit_account_id": debit,
        "credit_account_id": credit,
        "amount": rng.randrange(1, 50),
        "ledger": 1,
        "code": 1,
    }
    if rng.random() < 0.5:
        return [Transfer(id=id_, **first, flags=LINKED), Transfer(id=id_ + 1, **first)]
    flags = rng.choice([POST, VOID])
    last = Transfer(id=id_ + 1, pending_id=id_, amount=2**128 - 1 if flags == POST else 0, flags=flags)
    return [Transfer(id=id_, **first, flags=LINKED | PENDING), last]


def main():
    target, schema, seed = sys.argv[1:4]
    ledger = Ledger(Ledgers(open_database(target, schema=schema), SystemClock()), "t")
    rng = random.Random(seed)
    id_ = rng.getrandbits(100) + 1
    print("ready", flush=True)
    while True:
        batch = []
        for _ in range(rng.randrange(1, 60)):
            batch += pair(rng, id_)
            id_ += 2
        assert set(ledger.create_transfers(batch)) == {"created"}
        print(f"{batch[0].id} {len(batch)}", flush=True)


if __name__ == "__main__":
    main()
