"""The parts a decision is made of, as ports: whoever wires the product says which engine and model stand behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vedette.core.errors import TransientError
from vedette.core.event import Entity, Event
from vedette.core.label import Label

Vector = npt.NDArray[np.float64]


class Policy(StrEnum):
    """What a merchant wants when a part does not answer in time and no rule decides."""

    OPEN = "open"
    """Let the payment through."""
    CLOSED = "closed"
    """Block it."""
    REVIEW = "review"
    """Let it through, and have a person look."""


class Reasoning(StrEnum):
    """For which decisions the model's reasons are recorded. They can be computed from any record later."""

    ALWAYS = "always"
    FLAGGED = "flagged"
    """For every answer but `allow`."""
    NEVER = "never"


class Features(Protocol):
    """What the decider needs of a feature engine."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of every vector."""

    def fetch(self, event: Event) -> Vector:
        """Values as of the event, NaN where missing."""

    def apply(self, event: Event) -> None:
        """Takes the event into the state; after its fetch, in log order."""

    def learn(self, label: Label) -> None:
        """Takes the truth about an earlier event."""


class Scorer(Protocol):
    """What the decider needs of a model."""

    @property
    def id(self) -> str:
        """The model's name."""

    @property
    def sha256(self) -> str:
        """Hash of what it computes with."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of its inputs, in order."""

    def score(self, vector: Vector) -> float:
        """Calibrated probability of fraud, 0..1."""

    def contributions(self, vector: Vector) -> Vector:
        """Log odds that each feature adds."""


@runtime_checkable
class Together(Protocol):
    """A scorer that answers for several vectors at once, with the bits that each would have alone."""

    def scores(self, vectors: Vector) -> Vector:
        """`score` of each row."""

    def scored(self, vectors: Vector) -> tuple[Vector, Vector]:
        """`scores`, and `contributions` of each row."""


@runtime_checkable
class Worded(Protocol):
    """A scorer that says in plain words what its inputs mean."""

    @property
    def words(self) -> Mapping[str, str]:
        """Input -> what a reason says of it."""


class Card(Scorer, Worded, Protocol):
    """A scorer that needs no training: it adds inputs of its own to those that are counted."""

    def over(self, features: Features | None, source: str) -> Features:
        """The features with its own inputs beside them."""


class Lane(Protocol):
    """What a recorder needs of a decision point."""

    @property
    def name(self) -> str:
        """Its name, which is the source of its events."""

    @property
    def card(self) -> Card | None:
        """Scores in place of a model."""

    def covers(self, event: Event) -> bool:
        """Whether an event is one of the point."""


class Risks(Protocol):
    """What the decider needs of the alerts."""

    def look(self, tenant: str, entities: Sequence[Entity]) -> Mapping[Entity, int] | None:
        """Risk of entities now, 0..99; one that is left out has no alerts. None when that cannot be told in time."""


class PartStalled(TransientError):
    """A part missed its share of the deadline.

    Args:
        part: `features`, `model`, `log`, `queue`.
    """

    def __init__(self, part: str) -> None:
        super().__init__("decision.part.stalled", f"`{part}` did not answer in time")
        self.part = part
