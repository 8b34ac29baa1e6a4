"""The ledger against the brute-force model: any batches, any chains, any clock; same statuses, same balances."""

import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_model import Model

from vedette.move.ledger import batch, book
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.ledger.nouns import U128_MAX, Account, AccountStatus, Transfer

ACCOUNTS = [
    Account(id=1, ledger=1, code=1),
    Account(id=2, ledger=1, code=1),
    Account(id=3, ledger=1, code=1, flags=2),
    Account(id=4, ledger=1, code=1, flags=4),
    Account(id=5, ledger=2, code=1),
    Account(id=6, ledger=1, code=1, flags=32),
]
COMMON = st.sampled_from
PLAIN = st.builds(
    Transfer,
    id=st.integers(1, 12),
    debit_account_id=COMMON([1, 1, 2, 3, 4]),
    credit_account_id=COMMON([2, 1, 3, 3, 4]),
    amount=st.integers(0, 12),
    ledger=COMMON([1]),
    code=COMMON([1]),
    flags=COMMON([0, 0, 1, 2, 2, 3, 16, 32, 48, 18, 66, 130]),
)
TIMED = st.builds(
    Transfer,
    id=st.integers(1, 12),
    debit_account_id=COMMON([1, 2]),
    credit_account_id=COMMON([3, 4]),
    amount=st.integers(0, 9),
    ledger=COMMON([1]),
    code=COMMON([1]),
    timeout=st.integers(1, 3),
    flags=COMMON([2, 2, 66]),
)
RESOLVING = st.builds(
    Transfer,
    id=st.integers(1, 24),
    amount=COMMON([0, 3, 5, U128_MAX]),
    pending_id=st.integers(1, 12),
    user_data_128=COMMON([0, 0, 1]),
    flags=COMMON([4, 8, 4, 8, 5]),
)
ODD = st.builds(
    Transfer,
    id=COMMON([0, 1, 2, 30, U128_MAX]),
    debit_account_id=COMMON([0, 1, 2, 5, 6, 99, U128_MAX]),
    credit_account_id=COMMON([0, 1, 2, 5, 6, 99, U128_MAX]),
    amount=COMMON([0, 1, 7, U128_MAX - 3, U128_MAX]),
    pending_id=COMMON([0, 0, 0, 1, 2, 30, U128_MAX]),
    user_data_128=COMMON([0, 0, 9]),
    user_data_64=COMMON([0, 0, 2**64 - 1]),
    user_data_32=COMMON([0, 0, 9]),
    timeout=COMMON([0, 0, 1]),
    ledger=COMMON([0, 1, 1, 2]),
    code=COMMON([0, 1, 1, 2]),
    flags=st.integers(0, 255) | COMMON([0, 2, 4, 8, 1 << 12]),
    timestamp=COMMON([0, 0, 0, 5]),
)
BATCHES = st.lists(
    st.tuples(st.integers(0, 2_000_000), st.lists(PLAIN | RESOLVING | TIMED | ODD, max_size=8)), min_size=1, max_size=6
)
_tenants = itertools.count()
RUN = batch.run


class Bases:
    """Runs batches and remembers what the first transfer of each was stamped with."""

    def __init__(self):
        self.last = 0

    def __call__(self, events, kind, working, *, base):
        self.last = base
        return RUN(events, kind, working, base=base)


def compare(ledger, clock, batches, tenant):
    model, bases = Model(), Bases()
    assert set(ledger.create_accounts(tenant, ACCOUNTS)) == {AccountStatus.CREATED}
    model.accounts = {a.id: a for a in ACCOUNTS}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batch, "run", bases)
        for gap, transfers in batches:
            clock.micros += gap
            got = ledger.create_transfers(tenant, transfers)
            model.expire(clock.micros * 1_000 + 999 - len(transfers))
            assert [status.value for status in got] == model.batch(transfers, bases.last)
            same_balances(ledger, model, tenant)
    stamps = {t.id: t.timestamp for t in ledger.lookup_transfers(tenant, list(model.times))}
    assert stamps == {t.id: model.times[t.id] for t, _ in model.done}
    return model


def same_balances(ledger, model, tenant):
    for a in ledger.lookup_accounts(tenant, list(model.accounts)):
        held = (a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted)
        assert held == model.balance(a.id)
        assert bool(a.flags & 32) == model.closed(a.id)
    assert set(ledger.trial_balance(tenant).values()) == {(0, 0)}


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(batches=BATCHES)
def test_as_the_model(db, clock, batches):
    compare(Ledgers(db, clock), clock, batches, f"t{next(_tenants)}")


def seeded(seed, count):
    """Batches from a plain generator, for long runs: mostly valid, so that balances grow and pendings resolve."""
    rng, ids, reserved = random.Random(seed), itertools.count(1), [1]
    for _ in range(count):
        batch = []
        for _ in range(rng.randrange(1, 12)):
            debit, credit = rng.sample([1, 2, 3, 4], 2)
            flags = rng.choice([0, 0, 0, 1, 2, 2, 2, 4, 4, 8, 16, 32] + [66] * (rng.random() < 0.1))
            resolving = flags & 12
            id_ = rng.choice([next(ids)] * 9 + reserved[-1:])
            if flags & 2:
                reserved.append(id_)
            batch.append(
                Transfer(
                    id=id_,
                    debit_account_id=0 if resolving else debit,
                    credit_account_id=0 if resolving else credit,
                    amount=rng.choice([0, 5, U128_MAX]) if flags == 4 else 0 if resolving else rng.randrange(50),
                    pending_id=rng.choice(reserved[-8:]) if resolving else 0,
                    timeout=rng.choice([0, 0, 1, 2]) if flags & 2 else 0,
                    ledger=0 if resolving else 1,
                    code=0 if resolving else 1,
                    flags=flags,
                )
            )
        yield rng.randrange(800_000), batch


@pytest.mark.parametrize("seed", range(4))
def test_long_runs_reach_what_matters(db, clock, seed):
    model = compare(Ledgers(db, clock), clock, seeded(seed, 25), f"s{seed}")
    assert len(model.done) > 15
    assert model.expired
    assert {model.resolution(t.id) for t, _ in model.done if t.flags & 2} >= {"posted", "voided"}


@pytest.mark.soak
@pytest.mark.parametrize("block", range(100))
def test_1_000_000_operations(db, clock, block):
    """5,000 and more in each block, on each database."""
    ledger = Ledgers(db, clock)
    done, seed = 0, 1_000 * block + 4
    while done < 5_000:
        batches = list(seeded(seed, 40))
        compare(ledger, clock, batches, f"s{seed}")
        done += sum(len(batch) for _, batch in batches)
        seed += 1


PLANTED = {
    "_exceeds": lambda _amount, _debit, _credit: None,
    "_balanced": lambda t, _debit, _credit: t.amount,
    "_closed": lambda _debit, _credit: None,
    "_differs": lambda _t, _pending, _amount: None,
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_model_sees_a_planted_bug(db, clock, monkeypatch, name):
    monkeypatch.setattr(book, name, PLANTED[name])
    rows = [
        Transfer(id=1, debit_account_id=1, credit_account_id=3, amount=5, ledger=1, code=1),
        Transfer(id=2, debit_account_id=3, credit_account_id=2, amount=9, ledger=1, code=1, flags=2),
        Transfer(id=3, debit_account_id=3, credit_account_id=2, amount=9, ledger=1, code=1, flags=16),
        Transfer(id=4, debit_account_id=6, credit_account_id=2, amount=1, ledger=1, code=1),
        Transfer(id=5, debit_account_id=1, credit_account_id=2, amount=4, ledger=1, code=1, flags=2),
        Transfer(id=6, debit_account_id=2, amount=3, pending_id=5, flags=4),
    ]
    with pytest.raises(AssertionError):
        compare(Ledgers(db, clock), clock, [(0, [row]) for row in rows], "t")


def test_timestamps_grow_along_every_account_whatever_the_clock_does(db, clock):
    ledger = Ledgers(db, clock)
    ledger.create_accounts("t", ACCOUNTS)
    stamps = []
    for n in range(20):
        clock.micros += random.Random(n).choice([-5_000_000, 0, 1])
        ledger.create_transfers(
            "t", [Transfer(id=n + 1, debit_account_id=1, credit_account_id=2, amount=1, ledger=1, code=1)]
        )
        stamps.append(ledger.lookup_transfers("t", [n + 1])[0].timestamp)
    assert stamps == sorted(set(stamps))
