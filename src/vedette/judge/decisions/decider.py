"""The decider: one event in, one answer out, nothing written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.core.clock import Clock
from vedette.core.decision import Action, Decision, ModelRef, Reason, RuleResult, to_risk_score
from vedette.core.errors import DefinitionError, TransientError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.expr.nodes import Space
from vedette.judge.decisions.bindings import Read, readers
from vedette.judge.payment.rules import Outcome, PaymentRule, PaymentRules, answer

Vector = npt.NDArray[np.float64]

MODEL_REASONS = 5
"""How many features a decision names, largest contribution first."""


class Policy(StrEnum):
    """What a merchant wants when a part does not answer in time and no rule decides."""

    OPEN = "open"
    """Let the payment through."""
    CLOSED = "closed"
    """Block it."""


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

    def assess(self, vector: Vector | None) -> Assessment | None:
        """What the model says of a vector in the engine's order; None without a model or a vector."""
        if self.model is None or vector is None:
            return None
        inputs = vector if self._pick is None else vector[self._pick]
        return Assessment(float(self.model.score(inputs)), inputs, self.model.contributions(inputs))

    def _values(self, event: Event, held: list[float] | None, risk_score: int | None) -> dict[str, object]:
        """What rules read. Features win over the event's fields of the same name: nobody sends us our own features."""
        bound = self._readers.get(event.source)
        if bound is None:
            bound = self._readers[event.source] = readers(event.source, self.rules.fields)
        data = event.data
        values: dict[str, object] = {}
        for key, read in bound:
            found = read(data)
            if found is not None:
                values[key] = found
        if held is not None:
            for key, place in self._used:
                value = held[place]
                values[key] = value if value == value else None  # noqa: PLR0124 - false for not-a-number only
        values[":risk_level:"] = self.rules.levels.level(risk_score)
        values[":risk_score:"] = risk_score
        return values

    def _action(self, fired: Sequence[PaymentRule], fallback: str | None) -> Action:
        decided = answer(fired)
        if fallback and self.policy is Policy.CLOSED and decided in {None, Action.CHALLENGE, Action.REVIEW}:
            return Action.BLOCK
        return decided or Action.ALLOW

    def _reasons(
        self, assessment: Assessment | None, fired: Sequence[PaymentRule], fallback: str | None
    ) -> tuple[Reason, ...]:
        reasons = self._model_reasons(assessment) if assessment else []
        reasons += [Reason(f"rule.{rule.id}", f"rule {rule.id} fired: {rule.text}", 0.0) for rule in fired]
        if fallback:
            part = fallback.removeprefix("fallback.")
            text = f"{part} did not answer in time; rules and the fail-{self.policy} policy decided"
            reasons.append(Reason(fallback, text, 0.0))
        return tuple(reasons)

    def _model_reasons(self, assessment: Assessment) -> list[Reason]:
        names: tuple[str, ...] = self.model.features if self.model else ()
        weights = assessment.contributions
        largest = np.argsort(-np.abs(weights), kind="stable")[:MODEL_REASONS].tolist()
        return [
            Reason(f"model.{names[place]}", _feature_text(names[place], float(assessment.inputs[place]), weight), weight)
            for place in largest
            if (weight := float(weights[place])) != 0.0
        ]


def _picker(held: tuple[str, ...], wanted: tuple[str, ...]) -> npt.NDArray[np.intp] | None:
    """Places of the model's inputs in the engine's vector; None when they are the same."""
    missing = [name for name in wanted if name not in held]
    if missing:
        raise DefinitionError(
            "decision.model.features",
            f"the model needs {len(missing)} features that are not computed, first `{missing[0]}`",
            hint="use the feature definitions that the model was trained with",
        )
    return None if held == wanted else np.array([held.index(name) for name in wanted], np.intp)


def _feature_text(name: str, value: float, weight: float) -> str:
    words = name.replace("_", " ")
    said = f"{words} is missing" if math.isnan(value) else f"{words} is {value:.6g}"
    return f"{said}, which {'raises' if weight > 0 else 'lowers'} the risk"


def _by_name(names: tuple[str, ...], held: list[float]) -> dict[str, float | None]:
    """Values by name, None where missing. JSON has no infinity, so a feature must not give one."""
    return {name: value if value == value else None for name, value in zip(names, held, strict=True)}  # noqa: PLR0124
