"""What is asked of the history: filters, and the balances that answer them. The names are the published ones."""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple

import msgspec


class AccountBalance(NamedTuple):
    """The balances of an account right after a movement; kept for accounts with the flag `history`."""

    account_id: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    timestamp: int
    """Of the transfer, or when a reservation lapsed; nanoseconds UTC."""


class FilterFlags(IntFlag):
    """What of an account's movements is asked for. Neither side named: both."""

    debits = 1
    """Where the account is debited."""
    credits = 2
    """Where it is credited."""
    reversed = 4
    """Newest first."""


class AccountFilter(msgspec.Struct, frozen=True):
    """Which movements of one account; 0 in a field asks for anything.

    The next page begins after the last timestamp of this one: `timestamp_min = last + 1`, or with `reversed`
    `timestamp_max = last - 1`.
    """

    account_id: int
    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    code: int = 0
    timestamp_min: int = 0
    """Nanoseconds UTC, inclusive."""
    timestamp_max: int = 0
    """Nanoseconds UTC, inclusive; 0: no end."""
    limit: int = 100
    """1 to `MAX_BATCH`."""
    flags: int = 0


class QueryFilter(msgspec.Struct, frozen=True):
    """Which accounts or transfers of a tenant; 0 in a field asks for anything.

    Pages as `AccountFilter`; things of one timestamp stay on one page, which may be longer than `limit` by them.
    """

    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    ledger: int = 0
    code: int = 0
    timestamp_min: int = 0
    timestamp_max: int = 0
    limit: int = 100
    flags: int = 0
    """`reversed`, or 0."""
