"""A separate process whose threads move money one transfer at a time, and print each id they were told `created` for.

Usage: ledger_singles_child.py URL SEED
"""

import random
import sys
import threading

from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.errors import TransientError
from vedette.move.ledger import Ledger, Ledgers, Transfer

CLIENTS = 8


def main():
    url, seed = sys.argv[1:3]
    ledger = Ledger(Ledgers(open_database(url, schema=None), SystemClock()), "t")
    lock = threading.Lock()

    def client(n):
        rng = random.Random(f"{seed} {n}")
        while True:
            debit, credit = rng.sample(range(1, 51), 2)
            id_ = rng.getrandbits(100) + 1
            row = Transfer(id=id_, debit_account_id=debit, credit_account_id=credit, amount=1, ledger=1, code=1)
            try:
                told = ledger.create_transfers([row])
            except TransientError:
                return
            assert told == ["created"]
            with lock:
                print(id_, flush=True)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
