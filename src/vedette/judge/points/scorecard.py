"""Scorecards: a score without a trained model, from conditions that each multiply the odds of fraud.

A condition is one of the payment rule language. It becomes an input of its own, 1 where it holds and else 0, beside the
features, so that a record holds what was found, a decision is rebuilt from it bit for bit, and contributions add up to
the log odds exactly: weights are whole multiples of 2^-40, so their sums have no rounding error.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from vedette.core.event import Event
from vedette.core.label import Label
from vedette.expr.nodes import Space
from vedette.judge.decisions.bindings import readers
from vedette.judge.decisions.parts import Features, Scorer, Vector
from vedette.judge.payment.rules import Outcome, PaymentRule

PREFIX = "holds_"
"""Before a condition's id, the name of its input."""
MAX_ODDS = 1_000_000.0
"""Most that one condition may multiply the odds by; its inverse is the least."""
_GRID = 2.0**40


@dataclass(frozen=True, slots=True)
class Odds:
    """One condition."""

    rule: PaymentRule
    """Its id and condition; the action says nothing."""
    times: float
    """What it multiplies the odds of fraud by, above 0; below 1 where it speaks against fraud."""
    reason: str = ""
    """In plain words."""

    @property
    def weight(self) -> float:
        """Log odds it adds."""
        return round(math.log(self.times) * _GRID) / _GRID


class Scorecard(Scorer):
    """Base rate and conditions.

    Args:
        name: Of the point.
        base: Probability of fraud where no condition holds, above 0 and below 1.
        odds: The conditions, ids distinct.
    """

    def __init__(self, name: str, base: float, odds: Sequence[Odds]) -> None:
        self._id = name
        self.base = base
        self.odds = tuple(odds)
        self.bias = round(math.log(base / (1 - base)) * _GRID) / _GRID
        self._weights = np.array([one.weight for one in self.odds], np.float64)
        content = [base, [[one.rule.id, one.rule.version, one.times] for one in self.odds]]
        self._sha256 = hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def id(self) -> str:
        """The point's name."""
        return self._id

    @property
    def sha256(self) -> str:
        """Hash of base rate, conditions and odds."""
        return self._sha256

    @property
    def features(self) -> tuple[str, ...]:
        """One input for each condition."""
        return tuple(PREFIX + one.rule.id for one in self.odds)

    @property
    def words(self) -> Mapping[str, str]:
        """Input -> what to say where it holds."""
        return MappingProxyType({PREFIX + one.rule.id: one.reason for one in self.odds if one.reason})

    def score(self, vector: Vector) -> float:
        """Probability of fraud."""
        raw = self.bias + float(self.contributions(vector).sum())
        return 1 / (1 + math.exp(-raw))

    def contributions(self, vector: Vector) -> Vector:
        """Log odds of each condition that holds."""
        found: Vector = self._weights * vector
        return found

    def over(self, features: Features | None, source: str) -> Carded:
        """The features with what the conditions say beside them."""
        return Carded(self, features, source)


class Carded(Features):
    """Features of an engine, and one more for each condition of a scorecard.

    Args:
        card: The conditions.
        engine: None where nothing is counted.
        source: Of the events.
    """

    def __init__(self, card: Scorecard, engine: Features | None, source: str) -> None:
        self._card = card
        self._engine = engine
        counted = engine.names if engine else ()
        fields = frozenset(field for one in card.odds for field in one.rule.fields)
        self._readers = readers(source, fields)
        wanted = {field.name for field in fields if field.space is Space.ATTRIBUTE}
        self._places = tuple((f":{name}:", place) for place, name in enumerate(counted) if name in wanted)
        self._names = (*counted, *card.features)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the engine, then those of the conditions."""
        return self._names

    def fetch(self, event: Event) -> Vector:
        """Values as of the event; a condition that a missing value leaves open does not hold."""
        held = self._engine.fetch(event) if self._engine else np.zeros(0)
        values: dict[str, object] = {
            key: found for key, read in self._readers if (found := read(event.data)) is not None
        }
        for key, place in self._places:
            value = float(held[place])
            values[key] = None if math.isnan(value) else value
        holds = [float(one.rule.result(values) is Outcome.FIRED) for one in self._card.odds]
        return np.concatenate([held, np.array(holds, np.float64)])

    def apply(self, event: Event) -> None:
        """Takes the event into what is counted."""
        if self._engine:
            self._engine.apply(event)

    def learn(self, label: Label) -> None:
        """Takes the truth about an earlier event."""
        if self._engine:
            self._engine.learn(label)
