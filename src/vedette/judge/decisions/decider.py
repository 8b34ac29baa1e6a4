"""The decider: one event in, one answer out, nothing written."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.core.clock import Clock
from vedette.core.decision import Action, Decision, ModelRef, Reason, to_risk_score
from vedette.core.errors import DefinitionError
from vedette.core.event import Event
from vedette.expr.nodes import Space
from vedette.judge.decisions.bindings import Read, readers
from vedette.judge.decisions.control import RELEASED, SCORES, in_control
from vedette.judge.decisions.parts import Features, PartStalled, Policy, Risks, Scorer, Vector, Worded
from vedette.judge.payment.attributes import ATTRIBUTES, RISKS
from vedette.judge.payment.rules import PaymentRule, PaymentRules, answer

MODEL_REASONS = 5
"""How many features a decision names, largest contribution first."""


class Trial(Protocol):
    """Another version beside the one that is live."""

    def settle(self, event: Event, live: Decision) -> Decision:
        """The answer that counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """What the model said about one event."""

    score: float
    """0..1."""
    inputs: Vector
    """The model's inputs, in its order."""
    contributions: Vector
    """Log odds each input adds."""


class Decider:
    """Features, then rules and model, then one action with its reasons.

    Costs what the feature fetch and the model cost, plus about a microsecond a rule. Not thread-safe: one writer; but
    `fall_back` may be called from any thread.

    Args:
        features: The engine; None leaves every feature missing.
        model: The scorer; None leaves the score missing. Its inputs must be features of the engine.
        rules: The rule set.
        clock: For the latency that is recorded.
        policy: What to do when a part stalls and no rule decides.
        features_version: SHA-256 of the feature definitions, for the record.
        covers: Whether an event has features and a score; rules alone decide on others.
        risks: What alerts say of entities; None leaves that missing.
        known: What `risks` said when a record was made that is decided again.
        control: Share of the payments that the score would block that is let through all the same, 0..1, so that what
            blocking is worth stays known.

    Raises:
        DefinitionError: `decision.model.features` when the model needs a feature that the engine has not.
    """

    def __init__(
        self,
        *,
        features: Features | None,
        model: Scorer | None,
        rules: PaymentRules,
        clock: Clock,
        policy: Policy = Policy.OPEN,
        features_version: str = "",
        covers: Callable[[Event], bool] = lambda _event: True,
        risks: Risks | None = None,
        known: Mapping[str, int] = MappingProxyType({}),
        control: float = 0.0,
    ) -> None:
        self.policy = policy
        self.clock = clock
        self.stage = "queue"
        """The part that is being waited for; read by others to name the one that stalls."""
        self._covers = covers
        self._risks = risks
        self._known = known
        self._control = control
        self.trial: Trial | None = None
        """Another version that decides beside this one; the answer of one of them counts."""
        self._take(features, model, rules, features_version)

    def _take(
        self, features: Features | None, model: Scorer | None, rules: PaymentRules, features_version: str
    ) -> None:
        self.features = features
        self.model = model
        self.rules = rules
        self._features_version = features_version
        self._names: tuple[str, ...] = features.names if features else ()
        self._pick = _picker(self._names, model.features) if model else None
        self._readers: dict[str, tuple[tuple[str, Read], ...]] = {}
        self._risky, self._used = _reads(rules, self._names)

    def with_rules(self, rules: PaymentRules) -> Decider:
        """The same parts with other rules; put in this one's place between two events."""
        other = copy.copy(self)
        other.rules = rules
        other._readers = {}  # noqa: SLF001 - a copy of itself
        other._risky, other._used = _reads(rules, self._names)  # noqa: SLF001 - as above
        return other

    def over(
        self,
        *,
        features: Features | None,
        model: Scorer | None,
        rules: PaymentRules,
        features_version: str,
        control: float = 0.0,
    ) -> Decider:
        """The same decider over other parts, without a trial."""
        other = copy.copy(self)
        other.trial = None
        other._control = control  # noqa: SLF001 - of this class
        other._take(features, model, rules, features_version)  # noqa: SLF001
        return other

    def scores(self, event: Event) -> bool:
        """Whether the features and the model are about this event."""
        return self._covers(event)

    def look(self, events: Sequence[Event]) -> list[dict[str, int]]:
        """Risks that rules read, of the entities of events of one tenant: one question for all of them."""
        if not self._risky or self._risks is None or not events:
            return [{} for _ in events]
        named = [{entity.type: entity for entity in reversed(event.entities)} for event in events]
        wanted = [{name: held[kind] for name, kind in self._risky if kind in held} for held in named]
        self.stage = "risks"
        found = self._risks.look(events[0].tenant, list({entity for held in wanted for entity in held.values()}))
        self.stage = "queue"
        if found is None:
            return [{} for _ in events]
        return [{name: found.get(entity, 0) for name, entity in held.items()} for held in wanted]

    def decide(self, event: Event, risks: Mapping[str, int] | None = None) -> Decision:
        """The answer for an event, from what the features hold before it. Changes nothing: `apply` the event after.

        Args:
            event: The event.
            risks: What `look` said of it; asked for here when left out.
        """
        started = self.clock.monotonic()
        vector: Vector | None = None
        assessment: Assessment | None = None
        fallback: str | None = None
        try:
            self.stage = "features"
            vector = self.features.fetch(event) if self.features and self.scores(event) else None
            self.stage = "model"
            assessment = self.assess(vector)
        except PartStalled as late:
            fallback = f"fallback.{late.part}"
        self.stage = "queue"
        known = self.look([event])[0] if risks is None else risks
        decision = self.answer(event, vector, assessment, fallback=fallback, risks=known)
        decision = msgspec.structs.replace(decision, latency_us=round((self.clock.monotonic() - started) * 1e6))
        return decision if self.trial is None else self.trial.settle(event, decision)

    def fall_back(self, event: Event, part: str) -> Decision:
        """The answer when `part` stalled before anything else answered: rules over the event alone, then the policy."""
        return self.answer(event, None, None, fallback=f"fallback.{part}")

    def assess(self, vector: Vector | None) -> Assessment | None:
        """What the model says of a vector in the engine's order; None without a model or a vector."""
        if self.model is None or vector is None:
            return None
        inputs = vector if self._pick is None else vector[self._pick]
        return Assessment(float(self.model.score(inputs)), inputs, self.model.contributions(inputs))

    def answer(
        self,
        event: Event,
        vector: Vector | None,
        assessment: Assessment | None,
        *,
        fallback: str | None = None,
        risks: Mapping[str, int] | None = None,
    ) -> Decision:
        """Rules, action and reasons from what the parts gave. A pure function of its arguments.

        Args:
            event: The event.
            vector: Features in the engine's order; None when there are none.
            assessment: From the model; None when there is none.
            fallback: Code of the part that stalled.
            risks: From `look`; those of the record when left out.
        """
        said = dict(self._known if risks is None else risks)
        held = None if vector is None else vector.tolist()
        score = assessment.score if assessment else None
        risk_score = None if score is None else to_risk_score(score)
        results, fired = self.rules.results(self._values(event, held, risk_score, said))
        action, reasons = self._action(fired, fallback), self._reasons(assessment, fired, fallback)
        propensity = self._control if action is Action.BLOCK and not fallback and _scored(fired) else 1.0
        propensity = propensity or 1.0
        if propensity < 1 and in_control(event, propensity):
            action, reasons = Action.ALLOW, (*reasons, RELEASED)
        return Decision(
            event_id=event.id,
            tenant=event.tenant,
            action=action,
            score=score,
            risk_score=risk_score,
            reasons=reasons,
            rules=results,
            model=ModelRef(self.model.id, self.model.sha256) if self.model else None,
            features={} if held is None else _by_name(self._names, held),
            risks=said,
            fallback=fallback,
            policy=self.policy.value if fallback else "",
            challenge=any(rule.action is Action.CHALLENGE for rule in fired),
            seq=event.seq,
            time=event.event_time,
            rules_version=self.rules.version,
            features_version=self._features_version,
            source=event.source,
            event=event.data,
            propensity=propensity,
        )

    def values(self, event: Event, decision: Decision) -> dict[str, object]:
        """What the rules read when a recorded decision was made, for `explain`."""
        held = [math.nan if (value := decision.features.get(name)) is None else value for name in self._names]
        return self._values(event, held if decision.features else None, decision.risk_score, decision.risks)

    def _values(
        self, event: Event, held: list[float] | None, risk_score: int | None, risks: Mapping[str, int]
    ) -> dict[str, object]:
        """What rules read. Features and risks win over fields of the same name: nobody sends us our own."""
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
            for key, place, cap in self._used:
                value = held[place]
                values[key] = min(value, cap) if value == value else None  # noqa: PLR0124 - false for not-a-number only
        for name, _ in self._risky:
            values[f":{name}:"] = risks.get(name)
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
        reasons += [
            Reason(f"rule.{rule.id}", rule.reason or f"rule {rule.id} fired: {rule.text}", 0.0) for rule in fired
        ]
        if fallback:
            part = fallback.removeprefix("fallback.")
            text = f"{part} did not answer in time; rules and the fail-{self.policy} policy decided"
            reasons.append(Reason(fallback, text, 0.0))
        return tuple(reasons)

    def _model_reasons(self, assessment: Assessment) -> list[Reason]:
        names: tuple[str, ...] = self.model.features if self.model else ()
        words = _words(self.model)
        weights = assessment.contributions
        largest = np.argsort(-np.abs(weights), kind="stable")[:MODEL_REASONS].tolist()
        return [
            Reason(
                f"model.{names[place]}",
                words.get(names[place]) or _feature_text(names[place], float(assessment.inputs[place]), weight),
                weight,
            )
            for place in largest
            if (weight := float(weights[place])) != 0.0
        ]


def _reads(
    rules: PaymentRules, names: Sequence[str]
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, int, float], ...]]:
    """Risks that rules read, with the type of their entity; features that they read, with place and largest value."""
    places = {name: place for place, name in enumerate(names)}
    attributes = [field for field in rules.fields if field.space is Space.ATTRIBUTE]
    risky = tuple((name, RISKS[name]) for name in sorted({field.name for field in attributes} & RISKS.keys()))
    used = tuple(
        (f":{field.name}:", places[field.name], _cap(field.name)) for field in attributes if field.name in places
    )
    return risky, used


def _cap(name: str) -> float:
    known = ATTRIBUTES.get(name)
    return float(known.cap) if known and known.cap else math.inf


def _scored(fired: Sequence[PaymentRule]) -> bool:
    """Whether every block rests on the score; what people named in a rule is never let through for an experiment."""
    blocks = [rule for rule in fired if rule.action is Action.BLOCK]
    return all(any(field.name in SCORES for field in rule.fields) for rule in blocks)


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


def _words(scorer: object) -> Mapping[str, str]:
    return scorer.words if isinstance(scorer, Worded) else {}


def _feature_text(name: str, value: float, weight: float) -> str:
    words = name.replace("_", " ")
    said = f"{words} is missing" if math.isnan(value) else f"{words} is {value:.6g}"
    return f"{said}, which {'raises' if weight > 0 else 'lowers'} the risk"


def _by_name(names: tuple[str, ...], held: list[float]) -> dict[str, float | None]:
    """Values by name, None where missing. JSON has no infinity, so a feature must not give one."""
    return {name: value if value == value else None for name, value in zip(names, held, strict=True)}  # noqa: PLR0124
