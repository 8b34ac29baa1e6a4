"""The plain way in: addresses, stamps, names, tests' balances, and questions about what was."""

import random

import pytest

from vedette.core.errors import DataError, DefinitionError
from vedette.move.ledger import (
    U128_MAX,
    Account,
    AccountFilter,
    AccountFlags,
    FilterFlags,
    Ledger,
    QueryFilter,
    Transfer,
    TransferFlags,
)
from vedette.testing.ledger import set_balances

S = 1_000_000_000


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request, tmp_path):
    if request.param == "sqlite":
        with Ledger.open(f"sqlite:///{tmp_path}/money.db") as opened:
            yield opened
        return
    url = request.getfixturevalue("postgres_url")
    schema = f"contract_{abs(hash(request.node.nodeid)) % 10**12}"
    with Ledger.open(url, schema=schema) as opened:
        yield opened
        with opened.db.begin() as connection:
            connection.exec_driver_sql(f"drop schema {schema} cascade")


def accounts(count=2, flags=0):
    return [Account(id=n + 1, ledger=1, code=1, flags=flags) for n in range(count)]


def move(id_, amount=1, debit=1, credit=2, **more):
    return Transfer(id=id_, debit_account_id=debit, credit_account_id=credit, amount=amount, ledger=1, code=1, **more)


def test_flags_have_published_names_and_bits():
    assert [flag.name for flag in TransferFlags] == (
        "linked pending post_pending_transfer void_pending_transfer balancing_debit balancing_credit"
        " closing_debit closing_credit imported"
    ).split()
    assert [flag.name for flag in AccountFlags] == (
        "linked debits_must_not_exceed_credits credits_must_not_exceed_debits history imported closed"
    ).split()
    for flags in (TransferFlags, AccountFlags):
        assert [flag.value for flag in flags] == [1 << bit for bit in range(len(flags))]
        assert flags(1 << 15 | 1).value == 1 << 15 | 1


def test_item_i_of_n_is_stamped_now_less_n_plus_i_plus_1(ledger):
    assert ledger.create_accounts(accounts(3), now=100 * S) == ["created"] * 3
    assert [a.timestamp for a in ledger.lookup_accounts([1, 2, 3])] == [100 * S - 2, 100 * S - 1, 100 * S]
    assert ledger.create_transfers([move(7), move(7, 2), move(8)], now=200 * S) == [
        "created",
        "exists_with_different_amount",
        "created",
    ]
    assert [t.timestamp for t in ledger.lookup_transfers([7, 8, 9])] == [200 * S - 2, 200 * S]
    assert ledger.create_transfers([]) == []


def test_reservations_lapse_with_the_callers_time(ledger):
    ledger.create_accounts(accounts(), now=S)
    assert ledger.create_transfers([move(5, 9, flags=TransferFlags.pending, timeout=2)], now=10 * S) == ["created"]
    assert ledger.expire(12 * S - 1) == 0
    assert ledger.lookup_accounts([1])[0].debits_pending == 9
    assert ledger.expire(12 * S) == 1
    assert ledger.lookup_accounts([1])[0].debits_pending == 0
    post = Transfer(id=6, pending_id=5, amount=U128_MAX, flags=TransferFlags.post_pending_transfer)
    assert ledger.create_transfers([post], now=13 * S) == ["pending_transfer_expired"]


def test_a_post_after_its_time_is_refused_without_anyone_expiring(ledger):
    ledger.create_accounts(accounts(), now=S)
    ledger.create_transfers([move(5, 9, flags=TransferFlags.pending, timeout=2)], now=10 * S)
    post = Transfer(id=6, pending_id=5, amount=U128_MAX, flags=TransferFlags.post_pending_transfer)
    assert ledger.create_transfers([post], now=12 * S) == ["pending_transfer_expired"]


def test_balances_for_tests(ledger):
    ledger.create_accounts(accounts())
    set_balances(ledger, 1, 1, 2, 3, U128_MAX)
    (a,) = ledger.lookup_accounts([1])
    assert (a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted) == (1, 2, 3, U128_MAX)
    with pytest.raises(LookupError):
        set_balances(ledger, 9, 0, 0, 0, 0)


def test_unknown_addresses_are_named():
    for url in ("mysql://x", "sqlite:///", "money.db"):
        with pytest.raises(DefinitionError, match="not the address of a ledger"):
            Ledger.open(url)


@pytest.mark.parametrize("field", ["id", "amount", "timeout", "code", "flags"])
def test_numbers_that_do_not_fit_are_named(field):
    for value in (-1, 2**200, 1.5, "7", None):
        with pytest.raises(DataError, match=f"`{field}` must be a whole number"):
            Transfer(**{"id": 1, field: value})


# What was


def world(ledger, rng, count=40):
    """Random movements among three accounts, the first of which keeps its balances; the accepted ones, in order."""
    ledger.create_accounts([Account(id=1, ledger=1, code=1, flags=8), *accounts(3)[1:]], now=S)
    made = []
    for n in range(count):
        debit, credit = rng.sample([1, 2, 3], 2)
        t = move(100 + n, rng.randrange(9), debit, credit, user_data_32=rng.randrange(2), flags=rng.choice([0, 0, 2]))
        if rng.random() < 0.2 and made:
            t = Transfer(id=t.id, pending_id=rng.choice(made).id, flags=rng.choice([4, 8]), amount=0)
        if ledger.create_transfers([t], now=(n + 2) * S) == ["created"]:
            made += ledger.lookup_transfers([t.id])
    return made


def pages(ask, **wanted):
    """Everything, a page of three at a time."""
    found = []
    while page := ask(**wanted, limit=3):
        found += page
        if wanted.get("flags", 0) & FilterFlags.reversed:
            wanted["timestamp_max"] = page[-1].timestamp - 1
        else:
            wanted["timestamp_min"] = page[-1].timestamp + 1
    return found


@pytest.mark.parametrize("flags", range(8))
def test_movements_of_an_account_in_pages(ledger, flags):
    made = world(ledger, random.Random(flags))
    sides = flags & 3 or 3
    for extra in ({}, {"user_data_32": 1}):
        expected = [
            t
            for t in made
            if (sides & 1 and t.debit_account_id == 1) or (sides & 2 and t.credit_account_id == 1)
            if not extra or t.user_data_32 == 1
        ]
        if flags & 4:
            expected.reverse()
        got = pages(lambda **f: ledger.get_account_transfers(AccountFilter(1, **f)), flags=flags, **extra)
        assert got == expected
        assert len(expected) > 2
        kept = pages(lambda **f: ledger.get_account_balances(AccountFilter(1, **f)), flags=flags, **extra)
        assert [balance.timestamp for balance in kept] == [t.timestamp for t in expected]
    assert ledger.get_account_balances(AccountFilter(2)) == []


def test_kept_balances_are_those_after_each_movement(ledger):
    world(ledger, random.Random(5))
    kept = ledger.get_account_balances(AccountFilter(1, flags=FilterFlags.reversed))
    (a,) = ledger.lookup_accounts([1])
    assert kept[0][1:5] == (a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted)
    pending = move(900, 5, flags=2, timeout=1)
    ledger.create_transfers([pending, move(901, 7)], now=100 * S)
    ledger.expire(200 * S)
    newest = ledger.get_account_balances(AccountFilter(1, flags=FilterFlags.reversed, limit=3))
    assert [b.debits_pending - a.debits_pending for b in newest] == [0, 5, 5]
    assert [b.debits_posted - a.debits_posted for b in newest] == [7, 7, 0]


def test_everything_by_time_and_code(ledger):
    made = world(ledger, random.Random(6))
    assert pages(lambda **f: ledger.query_transfers(QueryFilter(**f))) == made
    assert pages(lambda **f: ledger.query_transfers(QueryFilter(**f)), flags=4) == made[::-1]
    assert ledger.query_transfers(QueryFilter(code=2)) == []
    assert [a.id for a in pages(lambda **f: ledger.query_accounts(QueryFilter(ledger=1, **f)))] == [1, 2, 3]
    middle = made[len(made) // 2].timestamp
    assert ledger.query_transfers(QueryFilter(timestamp_min=middle, timestamp_max=middle)) == [made[len(made) // 2]]


@pytest.mark.parametrize(
    "bad", [{"limit": 0}, {"limit": 8191}, {"flags": 8}, {"timestamp_min": -1}, {"timestamp_max": 2**63}]
)
def test_bad_questions_are_refused(ledger, bad):
    for ask, wanted in (
        (ledger.get_account_transfers, AccountFilter(1, **bad)),
        (ledger.get_account_balances, AccountFilter(1, **bad)),
        (ledger.query_accounts, QueryFilter(**bad)),
        (ledger.query_transfers, QueryFilter(**bad)),
    ):
        with pytest.raises(DataError) as caught:
            ask(wanted)
        assert caught.value.code == "ledger.filter.invalid"
