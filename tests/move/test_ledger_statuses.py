"""Every status of a transfer and of an account, each by a request of its own, on both databases."""

import pytest

from vedette.move.ledger import U128_MAX, Account, AccountStatus, Ledger, Ledgers, Transfer, TransferStatus
from vedette.testing.ledger import set_balances

S = 1_000_000_000
NOW = 1_000 * S
LINKED, PENDING, POST, VOID, BAL_D, BAL_C, CLOSE_D, CLOSE_C, IMPORTED = (1 << bit for bit in range(9))


@pytest.fixture
def ledger(db, clock):
    """Accounts 1 and 2 plain, 3 and 4 limited, 5 of another ledger, 6 closed; transfers by name below."""
    opened = Ledger(Ledgers(db, clock), "t")
    flags = {3: 2, 4: 4, 6: 32}
    made = [Account(n, ledger=2 if n == 5 else 1, code=1, flags=flags.get(n, 0)) for n in range(1, 7)]
    assert set(opened.create_accounts(made, now=100 * S)) == {"created"}
    rows = [
        move(60, amount=5, user_data_128=1, user_data_64=2, user_data_32=3),
        *(move(50 + n, amount=10, flags=PENDING, timeout=1 if n == 3 else 0) for n in range(4)),
    ]
    assert set(opened.create_transfers(rows, now=200 * S)) == {"created"}
    rows = [resolve(61, 51), Transfer(62, pending_id=52, flags=VOID)]
    assert opened.create_transfers(rows, now=200 * S + 9) == ["created"] * 2
    opened.expire(300 * S)
    assert opened.create_transfers([move(70, debit=3)], now=400 * S) == ["exceeds_credits"]
    return opened


def move(id_, debit=1, credit=2, amount=1, **more):
    return Transfer(id_, debit, credit, amount, **{"ledger": 1, "code": 1, **more})


def resolve(id_, pending, amount=U128_MAX, **more):
    return Transfer(id_, amount=amount, pending_id=pending, **{"flags": POST, **more})


def imported(id_, timestamp=500 * S, **more):
    return move(id_, timestamp=timestamp, flags=IMPORTED | more.pop("flags", 0), **more)


HUGE = U128_MAX - 5
CASES = {
    "created": [move(1)],
    "linked_event_failed": [move(1, flags=LINKED), move(2, debit=9)],
    "linked_event_chain_open": [move(1, flags=LINKED)],
    "imported_event_expected": [imported(1), move(2)],
    "imported_event_not_expected": [move(1), imported(2)],
    "timestamp_must_be_zero": [move(1, timestamp=1)],
    "imported_event_timestamp_out_of_range": [imported(1, 0)],
    "imported_event_timestamp_must_not_advance": [imported(1, NOW)],
    "reserved_flag": [move(1, flags=1 << 9)],
    "id_must_not_be_zero": [move(0)],
    "id_must_not_be_int_max": [move(U128_MAX)],
    "exists_with_different_flags": [move(60, amount=5, flags=PENDING)],
    "exists_with_different_pending_id": [resolve(61, 50)],
    "exists_with_different_timeout": [move(50, amount=10, flags=PENDING, timeout=7)],
    "exists_with_different_debit_account_id": [move(60, debit=4)],
    "exists_with_different_credit_account_id": [move(60, credit=4)],
    "exists_with_different_amount": [move(60, amount=6)],
    "exists_with_different_user_data_128": [move(60, amount=5, user_data_128=9)],
    "exists_with_different_user_data_64": [move(60, amount=5, user_data_128=1, user_data_64=9)],
    "exists_with_different_user_data_32": [move(60, amount=5, user_data_128=1, user_data_64=2, user_data_32=9)],
    "exists_with_different_ledger": [
        move(60, amount=5, user_data_128=1, user_data_64=2, user_data_32=3, ledger=2),
    ],
    "exists_with_different_code": [move(60, amount=5, user_data_128=1, user_data_64=2, user_data_32=3, code=2)],
    "exists": [move(60, amount=5, user_data_128=1, user_data_64=2, user_data_32=3)],
    "id_already_failed": [move(70, debit=1)],
    "flags_are_mutually_exclusive": [resolve(1, 50, flags=POST | VOID)],
    "debit_account_id_must_not_be_zero": [move(1, debit=0)],
    "debit_account_id_must_not_be_int_max": [move(1, debit=U128_MAX)],
    "credit_account_id_must_not_be_zero": [move(1, credit=0)],
    "credit_account_id_must_not_be_int_max": [move(1, credit=U128_MAX)],
    "accounts_must_be_different": [move(1, debit=2)],
    "pending_id_must_be_zero": [move(1, pending_id=50)],
    "pending_id_must_not_be_zero": [resolve(1, 0)],
    "pending_id_must_not_be_int_max": [resolve(1, U128_MAX)],
    "pending_id_must_be_different": [resolve(1, 1)],
    "timeout_reserved_for_pending_transfer": [move(1, timeout=1)],
    "closing_transfer_must_be_pending": [move(1, flags=CLOSE_D)],
    "ledger_must_not_be_zero": [move(1, ledger=0)],
    "code_must_not_be_zero": [move(1, code=0)],
    "debit_account_not_found": [move(1, debit=9)],
    "credit_account_not_found": [move(1, credit=9)],
    "accounts_must_have_the_same_ledger": [move(1, credit=5)],
    "transfer_must_have_the_same_ledger_as_accounts": [move(1, ledger=2)],
    "pending_transfer_not_found": [resolve(1, 99)],
    "pending_transfer_not_pending": [resolve(1, 60)],
    "pending_transfer_has_different_debit_account_id": [resolve(1, 50, debit_account_id=2)],
    "pending_transfer_has_different_credit_account_id": [resolve(1, 50, credit_account_id=1)],
    "pending_transfer_has_different_ledger": [resolve(1, 50, ledger=2)],
    "pending_transfer_has_different_code": [resolve(1, 50, code=2)],
    "exceeds_pending_transfer_amount": [resolve(1, 50, amount=11)],
    "pending_transfer_has_different_amount": [resolve(1, 50, amount=9, flags=VOID)],
    "pending_transfer_already_posted": [resolve(1, 51)],
    "pending_transfer_already_voided": [resolve(1, 52)],
    "pending_transfer_expired": [resolve(1, 53)],
    "imported_event_timestamp_must_not_regress": [imported(1, 150 * S)],
    "imported_event_timestamp_must_postdate_debit_account": [imported(1, 700 * S, debit=7)],
    "imported_event_timestamp_must_postdate_credit_account": [imported(1, 700 * S, credit=7)],
    "imported_event_timeout_must_be_zero": [imported(1, flags=PENDING, timeout=1)],
    "debit_account_already_closed": [move(1, debit=6)],
    "credit_account_already_closed": [move(1, credit=6)],
    "overflows_debits_pending": [move(1, amount=10, flags=PENDING)],
    "overflows_credits_pending": [move(1, amount=10, flags=PENDING)],
    "overflows_debits_posted": [move(1, amount=10)],
    "overflows_credits_posted": [move(1, amount=10)],
    "overflows_debits": [move(1, amount=10)],
    "overflows_credits": [move(1, amount=10)],
    "overflows_timeout": [move(1, flags=PENDING, timeout=2**32 - 1)],
    "exceeds_credits": [move(1, debit=3)],
    "exceeds_debits": [move(1, credit=4)],
}
BALANCES = {
    "overflows_debits_pending": (1, HUGE, 0, 0, 0),
    "overflows_credits_pending": (2, 0, 0, HUGE, 0),
    "overflows_debits_posted": (1, 0, HUGE, 0, 0),
    "overflows_credits_posted": (2, 0, 0, 0, HUGE),
    "overflows_debits": (1, HUGE - 20, 20, 0, 0),
    "overflows_credits": (2, 0, 0, HUGE - 20, 20),
}
LATE = 2**63 - 2 * S


@pytest.mark.parametrize("status", TransferStatus)
def test_transfers(ledger, status):
    if status in BALANCES:
        set_balances(ledger, *BALANCES[status])
    if "postdate" in status:
        assert ledger.create_accounts([Account(7, ledger=1, code=1)], now=800 * S) == ["created"]
    now = LATE if status == "overflows_timeout" else NOW
    got = ledger.create_transfers(CASES[status], now=now)
    assert status in (got[0], got[-1]), got


def account(id_=9, **more):
    return Account(id_, **{"ledger": 1, "code": 1, **more})


ACCOUNTS = {
    "created": [account()],
    "linked_event_failed": [account(flags=1), account(10, code=0)],
    "linked_event_chain_open": [account(flags=1)],
    "imported_event_expected": [account(flags=16, timestamp=500 * S), account(10)],
    "imported_event_not_expected": [account(), account(10, flags=16, timestamp=500 * S)],
    "timestamp_must_be_zero": [account(timestamp=1)],
    "imported_event_timestamp_out_of_range": [account(flags=16)],
    "imported_event_timestamp_must_not_advance": [account(flags=16, timestamp=NOW)],
    "reserved_field": [account(reserved=1)],
    "reserved_flag": [account(flags=1 << 6)],
    "id_must_not_be_zero": [account(0)],
    "id_must_not_be_int_max": [account(U128_MAX)],
    "exists_with_different_flags": [account(1, flags=2)],
    "exists_with_different_user_data_128": [account(1, user_data_128=1)],
    "exists_with_different_user_data_64": [account(1, user_data_64=1)],
    "exists_with_different_user_data_32": [account(1, user_data_32=1)],
    "exists_with_different_ledger": [account(1, ledger=2)],
    "exists_with_different_code": [account(1, code=2)],
    "exists": [account(1)],
    "flags_are_mutually_exclusive": [account(flags=6)],
    "debits_pending_must_be_zero": [account(debits_pending=1)],
    "debits_posted_must_be_zero": [account(debits_posted=1)],
    "credits_pending_must_be_zero": [account(credits_pending=1)],
    "credits_posted_must_be_zero": [account(credits_posted=1)],
    "ledger_must_not_be_zero": [account(ledger=0)],
    "code_must_not_be_zero": [account(code=0)],
    "imported_event_timestamp_must_not_regress": [account(flags=16, timestamp=50 * S)],
}


@pytest.mark.parametrize("status", AccountStatus)
def test_accounts(ledger, status):
    got = ledger.create_accounts(ACCOUNTS[status], now=NOW)
    assert status in (got[0], got[-1]), got
