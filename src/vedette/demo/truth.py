"""The truth about a played day. Only the score board may import this module; a test sees to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vedette.demo.world.record import Attack, Benign, Fraud, Good, read_records

__all__ = ["Attack", "Benign", "Fraud", "Good", "Truth", "read_truth"]


@dataclass(frozen=True, slots=True)
class Truth:
    """Who did what on the day."""

    attacks: tuple[Attack, ...]
    frauds: tuple[Fraud, ...]
    benign: tuple[Benign, ...]
    good: Good

    @property
    def bad_payments(self) -> frozenset[str]:
        """Ids of all payments that no honest person made."""
        attacks = {payment for attack in self.attacks for payment in attack.payments}
        return frozenset(attacks | {payment for fraud in self.frauds for payment in fraud.payments})


def read_truth(path: Path) -> Truth:
    """Reads `truth.ndjson`, which `World.write_truth` wrote."""
    records = read_records(path)
    return Truth(
        attacks=tuple(record for record in records if isinstance(record, Attack)),
        frauds=tuple(record for record in records if isinstance(record, Fraud)),
        benign=tuple(record for record in records if isinstance(record, Benign)),
        good=next(record for record in records if isinstance(record, Good)),
    )
