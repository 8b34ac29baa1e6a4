"""What an item of the review queue is expected to cost, and what follows from that: its place, and how many must look.

Expected cost is the calibrated score times what is at stake, in minor units of one currency, so that a small payment
that is surely bad and a large one that may be stand in one order. There are no exchange rates in the product: the rates
here are for this order alone, and no money is ever counted by them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from vedette.core.clock import MICROS, seconds_of
from vedette.core.documents import load_yaml
from vedette.core.errors import DefinitionError
from vedette.core.money import EXPONENTS

MAX_MINOR = 10**15
"""Most that one item may have at stake: what is larger stands first all the same."""


class Law(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    currency: str = "EUR"
    """What costs are counted in, ISO 4217."""
    rates: dict[str, float] = {}
    """Currency -> units of `currency` for one of its units; one that is not named counts as one."""
    worth_minor: dict[str, int] = {}
    """Source of an event without an amount -> what it may cost, minor units of `currency`; `default` for the others."""
    four_eyes_minor: int = 100_000
    """At stake from which on two people must agree."""
    lease: str = "10m"
    """How long a claim lasts."""
    age: str = "4h"
    """How long an item may wait before that itself is told."""
    horizon: str = "30d"
    """Decisions that are older when they are first read are not queued."""
    sample: float = 0.05
    """Share of items, 0..1, that two people look at so that their agreement can be measured."""

    @property
    def lease_us(self) -> int:
        """Microseconds that a claim lasts."""
        return (seconds_of(self.lease) or 0) * MICROS

    @property
    def age_us(self) -> int:
        """Microseconds that an item may wait."""
        return (seconds_of(self.age) or 0) * MICROS

    @property
    def horizon_us(self) -> int:
        """Microseconds after which a decision is not queued any more."""
        return (seconds_of(self.horizon) or 0) * MICROS

    def exposure(self, amount_minor: int | None, currency: str, source: str) -> int:
        """What is at stake, minor units of the law's currency; 0 or more.

        Args:
            amount_minor: Of the decided event; None where it has no amount.
            currency: Of the amount.
            source: Of the event, for what has no amount.
        """
        if amount_minor is None:
            return self.worth_minor.get(source, self.worth_minor.get("default", 0))
        scale = 10.0 ** (EXPONENTS.get(self.currency, 2) - EXPONENTS.get(currency, 2))
        whole = abs(amount_minor) * scale * self.rates.get(currency, 1.0)
        return min(MAX_MINOR, round(whole))

    def cost(self, score: float | None, exposure_minor: int) -> int:
        """Expected cost, minor units. What no model scored counts as certain: nothing is known in its favour."""
        return round(exposure_minor * (1.0 if score is None else min(1.0, max(0.0, score))))

    def eyes(self, exposure_minor: int, *, sampled: bool) -> int:
        """How many people must agree."""
        return 2 if sampled or exposure_minor >= self.four_eyes_minor else 1

    def sampled(self, item_id: str) -> bool:
        """Whether an item is of the sample that two people look at; the same for an id at any time."""
        drawn = int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:6])
        return drawn < self.sample * (1 << 48)


def load_law(path: Path) -> Law:
    """Reads the file.

    Raises:
        DefinitionError: `reviews.law.invalid`, with its place.
    """
    document = load_yaml(path.read_text(encoding="utf-8"), path=str(path))
    try:
        law = msgspec.convert(document.data, Law)
    except msgspec.ValidationError as error:
        raise DefinitionError("reviews.law.invalid", str(error), span=document.span()) from error
    wrong: Mapping[str, bool] = {
        "lease": not law.lease_us,
        "age": not law.age_us,
        "horizon": not law.horizon_us,
        "currency": law.currency not in EXPONENTS,
        "sample": not 0 <= law.sample <= 1,
        "rates": any(not rate > 0 for rate in law.rates.values()),
        "four_eyes_minor": law.four_eyes_minor < 0,
        "worth_minor": any(not 0 <= worth <= MAX_MINOR for worth in law.worth_minor.values()),
    }
    for name, bad in wrong.items():
        if bad:
            said = f"`{name}` is out of range"
            hint = "times such as `10m`, a share of 0 to 1, rates above 0, whole minor units"
            raise DefinitionError("reviews.law.invalid", said, span=document.span(f"$.{name}"), hint=hint)
    return law
