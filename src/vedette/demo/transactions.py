"""Card transactions with three kinds of fraud: stolen amounts, a tampered terminal, a leaked card."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

CUSTOMERS = 500
TERMINALS = 900
REACH = 12
"""Terminals that one customer uses."""
COLUMNS = (
    "TRANSACTION_ID",
    "TX_DATETIME",
    "CUSTOMER_ID",
    "TERMINAL_ID",
    "TX_AMOUNT",
    "TX_TIME_SECONDS",
    "TX_TIME_DAYS",
    "TX_FRAUD",
    "TX_FRAUD_SCENARIO",
)
_DAY = 86_400
_HIGH = 180.0
"""Amounts above this were paid with a stolen card (scenario 1)."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Something is compromised from `start` for `days`."""

    who: int
    start: int
    days: int

    def covers(self, day: int) -> bool:
        return self.start <= day < self.start + self.days


def write_transactions(path: Path, *, seed: int, days: int, start: datetime) -> int:
    """Writes a CSV of card transactions in time order.

    Args:
        path: File to write.
        seed: Same seed, same file.
        days: Length of the history.
        start: First day, midnight UTC.

    Returns:
        How many transactions were written.
    """
    rng = np.random.default_rng(seed)
    rows = sorted(_rows(rng, days))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, (seconds, customer, terminal, amount, scenario) in enumerate(rows):
            moment = start.astimezone(UTC) + timedelta(seconds=seconds)
            writer.writerow(
                (
                    number,
                    moment.strftime("%Y-%m-%d %H:%M:%S"),
                    customer,
                    terminal,
                    f"{amount:.2f}",
                    seconds,
                    seconds // _DAY,
                    int(scenario > 0),
                    scenario,
                )
            )
    return len(rows)


def _rows(rng: np.random.Generator, days: int) -> list[tuple[int, int, int, float, int]]:
    spend = rng.uniform(8, 90, CUSTOMERS)
    pace = rng.uniform(0.5, 3.5, CUSTOMERS)
    reach = rng.integers(0, TERMINALS, (CUSTOMERS, REACH))
    tampered = [_Span(int(rng.integers(TERMINALS)), day, 21) for day in range(days)]
    leaked = [_Span(int(rng.integers(CUSTOMERS)), day, 10) for day in range(days)]
    rows: list[tuple[int, int, int, float, int]] = []
    for day in range(days):
        bad_terminals = {span.who for span in tampered if span.covers(day)}
        bad_customers = {span.who for span in leaked if span.covers(day)}
        for customer, count in enumerate(rng.poisson(pace)):
            for _ in range(int(count)):
                second = int(np.clip(rng.normal(_DAY / 2, _DAY / 5), 0, _DAY - 1))
                terminal = int(reach[customer, rng.integers(REACH)])
                amount = round(float(abs(rng.normal(spend[customer], spend[customer] / 2))), 2)
                scenario = 0
                if customer in bad_customers and rng.random() < 1 / 3:
                    amount, scenario = round(amount * 5, 2), 3
                elif terminal in bad_terminals:
                    scenario = 2
                elif amount > _HIGH:
                    scenario = 1
                rows.append((day * _DAY + second, customer, terminal, amount, scenario))
    return rows
