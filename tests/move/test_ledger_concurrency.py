"""Many writers: hot accounts, the same ids, opposite orders. No deadlock, no lost or doubled movement."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vedette.core.clock import SystemClock
from vedette.core.errors import DataError
from vedette.move.ledger.check import check
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.ledger.nouns import MAX_BATCH, U128_MAX, Account, AccountStatus, Transfer, TransferStatus

CHILD = Path(__file__).parent / "ledger_child.py"
SOURCE = Path(__file__).resolve().parents[2] / "src"
CREATED, EXISTS = TransferStatus.CREATED, TransferStatus.EXISTS


def together(count, act):
    """Runs `act(n)` in that many threads at once; gives the results in order, raises what any raised."""
    results, errors, barrier = [None] * count, [], threading.Barrier(count)

    def run(n):
        barrier.wait()
        try:
            results[n] = act(n)
        except Exception as error:  # noqa: BLE001 - raised again in the caller
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def opened(db, clock, accounts=8):
    ledger = Ledgers(db, clock)
    ledger.create_accounts("t", [Account(id=n + 1, ledger=1, code=1) for n in range(accounts)])
    return ledger


def moves(ids, rng, accounts=8):
    made = []
    for id_ in ids:
        debit, credit = rng.sample(range(1, accounts + 1), 2)
        made.append(Transfer(id=id_, debit_account_id=debit, credit_account_id=credit, amount=1, ledger=1, code=1))
    return made


def test_batches_on_hot_accounts_in_any_order(db, clock):
    ledger = opened(db, clock)

    def act(n):
        rng = random.Random(n)
        return [
            ledger.create_transfers("t", moves(range(1 + 1000 * n + 20 * turn, 21 + 1000 * n + 20 * turn), rng))
            for turn in range(8)
        ]

    statuses = [status for result in together(6, act) for batch in result for status in batch]
    assert statuses == [CREATED] * 6 * 8 * 20
    assert ledger.trial_balance("t") == {1: (0, 0)}
    report = check(db)
    assert (report.found, report.transfers) == (0, 6 * 8 * 20)


def test_the_same_ids_move_money_once(db, clock):
    ledger = opened(db, clock)

    def act(n):
        # The same transfers from every thread, each in its own order and with other company.
        same = moves(range(1, 41), random.Random(0))
        random.Random(n).shuffle(same)
        found = []
        for start in range(0, 40, 8):
            found += ledger.create_transfers("t", same[start : start + 8])
        return found

    results = together(6, act)
    assert sum(status is CREATED for result in results for status in result) == 40
    assert sum(status is EXISTS for result in results for status in result) == 5 * 40
    assert check(db).found == 0


def test_one_id_on_different_accounts(db, clock):
    """No common account lock: the second finds the first by the id alone."""
    ledger = opened(db, clock, accounts=12)

    def act(n):
        return [
            ledger.create_transfers(
                "t",
                [
                    Transfer(
                        id=turn, debit_account_id=2 * n + 1, credit_account_id=2 * n + 2, amount=1, ledger=1, code=1
                    )
                ],
            )[0]
            for turn in range(1, 16)
        ]

    results = together(6, act)
    for turn in range(15):
        statuses = sorted(result[turn] for result in results)
        assert statuses == ["created"] + ["exists_with_different_debit_account_id"] * 5
    assert check(db).found == 0


def test_one_pending_is_resolved_once(db, clock):
    ledger = opened(db, clock)
    pendings = [
        Transfer(id=n, debit_account_id=1, credit_account_id=2, amount=5, ledger=1, code=1, flags=2)
        for n in range(1, 11)
    ]
    assert ledger.create_transfers("t", pendings) == [CREATED] * 10

    def act(n):
        flags, amount = ((4, U128_MAX), (8, 0))[n % 2]
        return [
            ledger.create_transfers(
                "t", [Transfer(id=100 + 100 * n + p.id, pending_id=p.id, amount=amount, flags=flags)]
            )[0]
            for p in pendings
        ]

    results = together(6, act)
    for place in range(10):
        assert sum(result[place] is CREATED for result in results) == 1
    assert check(db).found == 0


def test_accounts_made_twice_at_once(db, clock):
    ledger = Ledgers(db, clock)
    wanted = [Account(id=n, ledger=1, code=1) for n in range(1, 30)]
    results = together(6, lambda n: ledger.create_accounts("t", random.Random(n).sample(wanted, len(wanted))))
    statuses = [status for result in results for status in result]
    assert (statuses.count(AccountStatus.CREATED), statuses.count(AccountStatus.EXISTS)) == (29, 5 * 29)


def test_a_limit_holds_under_contention(db, clock):
    ledger = Ledgers(db, clock)
    ledger.create_accounts("t", [Account(id=1, ledger=1, code=1, flags=2), Account(id=2, ledger=1, code=1)])
    ledger.create_transfers("t", [Transfer(id=1, debit_account_id=2, credit_account_id=1, amount=10, ledger=1, code=1)])

    def act(n):
        return [
            ledger.create_transfers(
                "t", [Transfer(id=10 + 10 * n + k, debit_account_id=1, credit_account_id=2, amount=1, ledger=1, code=1)]
            )[0]
            for k in range(5)
        ]

    statuses = [status for result in together(6, act) for status in result]
    assert statuses.count(CREATED) == 10
    assert statuses.count(TransferStatus.EXCEEDS_CREDITS) == 20
    assert check(db).found == 0


def test_tenants_share_nothing(db, clock):
    ledger = opened(db, clock)
    row = Transfer(id=1, debit_account_id=1, credit_account_id=2, amount=1, ledger=1, code=1)
    assert ledger.create_transfers("other", [row]) == [TransferStatus.DEBIT_ACCOUNT_NOT_FOUND]
    assert ledger.create_transfers("t", [row]) == [CREATED]
    assert ledger.lookup_accounts("other", [1, 2]) == []
    assert ledger.lookup_transfers("other", [1]) == []


def test_bounds(db, clock):
    ledger = opened(db, clock)
    assert ledger.create_transfers("t", []) == []
    with pytest.raises(DataError, match=r"ledger[.]batch[.]too_large"):
        ledger.create_transfers("t", [Transfer(id=1)] * (MAX_BATCH + 1))
    for wrong in ({"id": -1}, {"id": 2**128}, {"id": 1, "amount": 1.5}, {"id": 1, "timeout": 2**32}):
        with pytest.raises(DataError, match=r"ledger[.]field[.]range"):
            Transfer(**wrong)


def test_a_full_batch(db, clock):
    ledger = opened(db, clock)
    batch = moves(range(1, MAX_BATCH + 1), random.Random(1))
    assert set(ledger.create_transfers("t", batch)) == {CREATED}
    assert set(ledger.create_transfers("t", batch)) == {EXISTS}
    assert check(db).found == 0


def test_imports_keep_their_own_times(db, clock):
    ledger = Ledgers(db, clock)
    accounts = [Account(id=n, ledger=1, code=1, flags=16, timestamp=10 * n) for n in (1, 2)]
    assert ledger.create_accounts("t", [*accounts, Account(id=3, ledger=1, code=1)]) == [
        "created",
        "created",
        "imported_event_expected",
    ]
    assert ledger.create_accounts("t", [Account(id=4, ledger=1, code=1, flags=16, timestamp=15)]) == [
        "imported_event_timestamp_must_not_regress"
    ]

    def move(id_, timestamp, **changed):
        return Transfer(
            **{
                "id": id_,
                "debit_account_id": 1,
                "credit_account_id": 2,
                "amount": 1,
                "ledger": 1,
                "code": 1,
                "flags": 256,
                "timestamp": timestamp,
                **changed,
            }
        )

    assert ledger.create_transfers(
        "t",
        [
            move(1, 15),
            move(2, 10),
            move(3, 30),
            move(4, 30),
            move(5, 40, timeout=3, flags=258),
            move(6, 0),
            move(7, 2**63),
            move(8, clock.now() * 1_000 + 10**9),
            move(9, 50, flags=0),
        ],
    ) == [
        "imported_event_timestamp_must_postdate_credit_account",
        "imported_event_timestamp_must_not_regress",
        "created",
        "imported_event_timestamp_must_not_regress",
        "imported_event_timeout_must_be_zero",
        "imported_event_timestamp_out_of_range",
        "imported_event_timestamp_out_of_range",
        "imported_event_timestamp_must_not_advance",
        "imported_event_expected",
    ]
    assert ledger.lookup_transfers("t", [3])[0].timestamp == 30
    assert check(db).found == 0


def test_a_hot_account_with_8_writers(db, clock):
    """Every transfer credits one account: no deadlock, no lost update."""
    ledger = opened(db, clock, accounts=20)

    def act(n):
        rng, found = random.Random(n), []
        for turn in range(12):
            rows = [
                Transfer(
                    id=1 + 10_000 * n + 100 * turn + place,
                    debit_account_id=rng.randrange(2, 21),
                    credit_account_id=1,
                    amount=1 + place,
                    ledger=1,
                    code=1,
                )
                for place in range(20)
            ]
            found += ledger.create_transfers("t", rows)
        return found

    assert [status for result in together(8, act) for status in result] == [CREATED] * 8 * 12 * 20
    (hot,) = ledger.lookup_accounts("t", [1])
    assert hot.credits_posted == 8 * 12 * sum(range(1, 21))
    assert check(db).found == 0


@pytest.mark.kill
def test_killed_at_random(db, target):
    kill_at_random(db, target, range(4))


@pytest.mark.soak
@pytest.mark.parametrize("block", range(25))
def test_killed_at_random_500_times(db, target, block):
    """On both databases together."""
    kill_at_random(db, target, range(100 + block * 10, 110 + block * 10))


def kill_at_random(db, target, seeds):
    ledger = opened(db, SystemClock())
    there = 0
    for seed in seeds:
        child = subprocess.Popen(
            [sys.executable, str(CHILD), str(target[0]), target[1], str(seed)],
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"},
        )
        assert child.stdout.readline() == "ready\n"
        time.sleep(random.Random(seed).random() * 0.25)
        child.kill()
        told = [line.split() for line in child.stdout.read().splitlines() if line.count(" ") == 1]
        child.wait()
        child.stdout.close()
        for first, count in told:
            wanted = [int(first) + n for n in range(int(count))]
            assert len(ledger.lookup_transfers("t", wanted)) == len(wanted), "answered, then lost"
        with db.read() as connection:
            ids = connection.exec_driver_sql("select count(*) from ledger_transfer").scalar_one()
        assert ids % 2 == 0, "half a chain"
        assert ids >= there + sum(int(count) for _, count in told)
        there = ids
        assert check(db).findings == []
        assert ledger.trial_balance("t") == {1: (0, 0)}
