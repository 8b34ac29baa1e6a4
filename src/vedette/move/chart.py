"""The chart of accounts: which ledger accounts a tenant's money moves between.

A charge debits `clearing` (what the card networks owe us) and credits the merchant. A refund is the reverse. A payout
debits the merchant and credits `payout` (what is on its way to banks). A merchant can never go below zero. Money on its
way to or from another service is on `transit`, one for each peer; what a dispute holds back is on `dispute`, and
`reserve` is the platform's own money that covers what a merchant does not have.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from functools import lru_cache
from typing import Final

from vedette.move.ledger.nouns import Account, AccountFlags


class Kind(IntEnum):
    """What an account is; its ledger `code`."""

    CLEARING = 1
    MERCHANT = 2
    PAYOUT = 3
    TRANSIT = 4
    DISPUTE = 5
    RESERVE = 6


class Movement(IntEnum):
    """What a transfer is; its ledger `code`."""

    CHARGE = 1
    REFUND = 2
    PAYOUT = 3
    PAYOUT_RETURN = 4
    CROSSING = 5
    DISPUTE = 6
    DISPUTE_RETURN = 7


_LETTERS: Final = 26


def to_ledger(currency: str) -> int:
    """Number of a currency's ledger: its three letters in base 26, from 1. `AAA` is 1."""
    number = 0
    for letter in currency:
        number = number * _LETTERS + ord(letter) - ord("A")
    return number + 1


def to_currency(ledger: int) -> str:
    """The inverse of `to_ledger`."""
    number, letters = ledger - 1, ""
    for _ in range(3):
        number, letter = divmod(number, _LETTERS)
        letters = chr(ord("A") + letter) + letters
    return letters


def to_id(*parts: str) -> int:
    """A 128-bit id that the same parts always give, such as a transfer's from its charge and step."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:16], "big")


@lru_cache(maxsize=10_000)
def account(kind: Kind, currency: str, merchant: str = "") -> Account:
    """The account of that kind; ledger accounts are per tenant, so the tenant is no part of the id."""
    limited = AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS if kind is Kind.MERCHANT else 0
    return Account(
        id=to_id("account", kind.name, currency, merchant), ledger=to_ledger(currency), code=kind, flags=int(limited)
    )
