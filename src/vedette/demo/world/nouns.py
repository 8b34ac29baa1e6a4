"""What the world hands to whoever plays the day. None of it says which payments are an attacker's."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple


class Answer(StrEnum):
    """How a request ended, as its sender sees it."""

    CAPTURED = "captured"
    CHALLENGED = "challenged"
    BLOCKED = "blocked"
    FAILED = "failed"
    """The ledger refused."""
    UNAUTHORIZED = "unauthorized"
    """401: the key is not valid, or not any more."""
    LIMITED = "limited"
    """429: too many requests."""
    REFUSED = "refused"
    """Any other error."""


class Outcome(NamedTuple):
    """The answer to one request."""

    status: Answer
    charge: str = ""
    """Id of the charge, when one was made."""


class Payment(NamedTuple):
    """A request for a charge."""

    id: str
    """Idempotency key; answers are told under it."""
    time: int
    """Microseconds UTC."""
    http: bool
    """Sent by itself over HTTP with its key; the others go in batches."""
    key: str
    """Name of the API key, as in `World.keys`."""
    request: dict[str, Any]
    """Body of `POST /v1/charges`."""


class Refund(NamedTuple):
    """A request to give a charge back."""

    id: str
    time: int
    payment: str
    """Id of the payment that made the charge."""
    amount_minor: int


class Payout(NamedTuple):
    """A merchant asks for its money."""

    id: str
    time: int
    request: dict[str, Any]
    """`amount_minor`, `currency`, `merchant`."""


class Dispute(NamedTuple):
    """A cardholder's bank says that a payment was fraud: a label, learned late."""

    id: str
    time: int
    payment: str
    """Id of a payment of the history."""


class Step(NamedTuple):
    """Five minutes of the day."""

    until: int
    """Its end, microseconds UTC; everything in it happens before."""
    logs: Mapping[str, list[bytes]]
    """Source -> records as lines, oldest first."""
    payments: list[Payment]
    refunds: list[Refund]
    payouts: list[Payout]
    disputes: list[Dispute]


class Merchant(NamedTuple):
    """A shop that takes payments through the company."""

    id: str
    category: str
    country: str
    currency: str


class Key(NamedTuple):
    """An API key that must exist before the day."""

    name: str
    merchant: str


class Person(NamedTuple):
    """Somebody who works at the company."""

    name: str
    email: str
    role: str
