"""Obvious parts for tests: an engine that counts, a model that is one formula, transactions to decide on."""

from __future__ import annotations

import math
import random
import threading

import numpy as np

from vedette.core.event import Entity, Event
from vedette.core.label import Label
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.rules import PaymentRules, parse_rule

NAMES = ("customer_count", "customer_amount_sum", "seconds_since_previous", "known_frauds")
DAY = 86_400_000_000


class CountingFeatures:
    """Features by dictionary: what an event's customer did before it."""

    def __init__(self) -> None:
        self.names = NAMES
        self.offsets: dict[str, int] = {}
        self.customers: dict[str, tuple[int, float, int, int]] = {}
        self.owners: dict[str, str] = {}

    def fetch(self, event: Event) -> np.ndarray:
        count, amount, last, frauds = self.customers.get(str(event.data["CUSTOMER_ID"]), (0, 0.0, 0, 0))
        since = (event.event_time - last) / 1e6 if count else math.nan
        return np.array([count, amount, since, frauds], np.float64)

    def apply(self, event: Event) -> None:
        customer = str(event.data["CUSTOMER_ID"])
        count, amount, _, frauds = self.customers.get(customer, (0, 0.0, 0, 0))
        self.customers[customer] = (count + 1, amount + event.data["TX_AMOUNT"], event.event_time, frauds)
        self.owners[event.id] = customer

    def learn(self, label: Label) -> None:
        customer = self.owners.get(label.event_id)
        if customer is not None and label.fraud:
            count, amount, last, frauds = self.customers[customer]
            self.customers[customer] = (count, amount, last, frauds + 1)


class FormulaModel:
    """A logistic score of two features."""

    def __init__(self, sha256: str = "ab" * 32) -> None:
        self.id = "formula"
        self.sha256 = sha256
        self.features = ("customer_amount_sum", "customer_count")

    def contributions(self, vector: np.ndarray) -> np.ndarray:
        return np.array([vector[0] / 100, -vector[1] / 2])

    def score(self, vector: np.ndarray) -> float:
        return 1 / (1 + math.exp(2 - float(self.contributions(vector).sum())))


class Gate:
    """Something that can be told to hang, and to go on."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()

    def wait(self) -> None:
        assert self.open.wait(300), "the test forgot to open the gate"


RULES = {
    "large": "block if :amount_in_usd: > 300",
    "trusted": "allow if :customer: in ('7')",
    "busy": "review if :customer_count: >= 5",
    "terminal": "challenge if ::terminal:: = '3'",
}


def some_rules(**more: str) -> PaymentRules:
    table = with_features(NAMES)
    return PaymentRules([parse_rule(text, id=name, attributes=table) for name, text in {**RULES, **more}.items()])


def transaction(
    number: int, *, customer: object = 1, terminal: object = 9, amount: object = 20.0, time: int = 0
) -> Event:
    data = {
        "TRANSACTION_ID": number,
        "TX_DATETIME": "2018-04-01T00:00:00",
        "CUSTOMER_ID": customer,
        "TERMINAL_ID": terminal,
        "TX_AMOUNT": amount,
    }
    at = 1_522_540_800_000_000 + time * 1_000_000
    return Event(
        id=str(number),
        tenant="default",
        source="card_transactions",
        event_time=at,
        ingest_time=at,
        entities=(Entity("customer", str(customer)), Entity("terminal", str(terminal))),
        data=data,
    )


def transactions(count: int, seed: int = 1) -> list[Event]:
    rng = random.Random(seed)
    return [
        transaction(
            n, customer=rng.randrange(9), terminal=rng.randrange(5), amount=round(rng.expovariate(0.01), 2), time=n * 30
        )
        for n in range(count)
    ]
