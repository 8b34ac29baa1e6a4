"""The decider: one event in, one answer out, nothing written."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
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
from vedette.judge.decisions.parts import (
    Features,
    PartStalled,
    Policy,
    Reasoning,
    Risks,
    Scorer,
    Together,
    Vector,
    Worded,
)
from vedette.judge.decisions.ruling import Ruling, Verdict, to_verdict
from vedette.judge.decisions.top import largest
from vedette.judge.payment.attributes import ATTRIBUTES, RISKS
from vedette.judge.payment.rules import PaymentRule, PaymentRules
from vedette.judge.payment.velocity import backing

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
    contributions: Vector | None = None
    """Log odds each input adds; None until somebody asks."""


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
        policies: Merchant -> its own policy; the merchant is field `merchant` of the event.
        reasoning: For which decisions the model's reasons are recorded.
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
        policies: Mapping[str, Policy] = MappingProxyType({}),
        reasoning: Reasoning = Reasoning.ALWAYS,
        features_version: str = "",
        covers: Callable[[Event], bool] = lambda _event: True,
        risks: Risks | None = None,
        known: Mapping[str, int] = MappingProxyType({}),
        control: float = 0.0,
    ) -> None:
        self.policy = policy
        self.policies = policies
        self.reasoning = reasoning
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
        self._together = _together(model)
        self._model = ModelRef(model.id, model.sha256) if model else None
        self._spoken = _words(model)
        self._read(rules)

    def _read(self, rules: PaymentRules, known: Mapping[str, Decider] = MappingProxyType({})) -> None:
        self._readers: dict[str, _Bound] = {}
        self._risky, self._used = _reads(rules, self._names)
        self._ruling: Ruling | None = None
        self._asked: tuple[tuple[str, int, float], ...] = ()
        self._merchants: dict[str, Decider] = {}
        """Those of merchants with rules of their own: they judge the payments of theirs, and never see another."""
        self._merchants = {name: self._of(own, known.get(name)) for name, own in rules.merchants.items()}

    def _of(self, own: PaymentRules, known: Decider | None) -> Decider:
        """The same parts with the set of one merchant; the one that is there already, while that is the same set."""
        if known is not None and known.rules.version == own.version:
            return known
        other = copy.copy(self)
        other.trial = None
        other.rules = own
        other._read(own)  # noqa: SLF001 - a copy of itself
        return other

    def warm(self) -> None:
        """Makes the rules ready for many events, and compiles what answers them, so that no event waits for it."""
        ruling = Ruling(self.rules, {key: (place, cap) for key, place, cap in self._used})
        ruling.judge(np.full(len(self._names), math.nan), {})
        largest(np.zeros(1), MODEL_REASONS)
        self._asked = tuple(used for used in self._used if used[0] in ruling.reads)
        self._ruling = ruling
        for own in self._merchants.values():
            if own._ruling is None:  # noqa: SLF001 - of this class
                own.warm()

    def with_rules(self, rules: PaymentRules) -> Decider:
        """The same parts with other rules, as ready as these; put in this one's place between two events."""
        other = copy.copy(self)
        other.rules = rules
        other._read(rules, self._merchants)  # noqa: SLF001 - a copy of itself
        if self._ruling is not None:
            other.warm()
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
        if self._ruling is not None:
            other.warm()
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
        known = risks
        try:
            self.stage = "features"
            vector = self.features.fetch(event) if self.features and self.scores(event) else None
            self.stage = "model"
            assessment = self.assess(vector)
            known = self.look([event])[0] if risks is None else risks
            decision = self._answer(event, vector, assessment, risks=known, started=started)
        except PartStalled as late:
            known = self.look([event])[0] if known is None else known
            decision = self._answer(event, vector, None, fallback=f"fallback.{late.part}", risks=known, started=started)
        finally:
            self.stage = "queue"
        return decision if self.trial is None else self.trial.settle(event, decision)

    def decide_many(
        self,
        events: Sequence[Event],
        risks: Sequence[Mapping[str, int]],
        taken: Callable[[Event], None],
        given: Sequence[Decision | None] = (),
    ) -> list[Decision]:
        """What `decide` answers for each in turn, asking the model once for all where it can be asked so.

        Args:
            events: In order.
            risks: What `look` said of each.
            taken: Called for each event once the features were read for it: lets them know it before the next.
            given: For each the answer that its caller has already, which stays; None, or none at all, for the others.
        """
        had = given or [None] * len(events)
        model = self._together
        if len(events) < 2 or self.trial is not None or model is None:  # noqa: PLR2004
            each = zip(events, risks, had, strict=True)
            return [self._taken(event, known, taken, answer) for event, known, answer in each]
        started = self.clock.monotonic()
        vectors = [self._fetch(event, taken, wanted=answer is None) for event, answer in zip(events, had, strict=True)]
        self.stage = "model"
        scored = iter(self._assess_all(model, [vector for vector in vectors if isinstance(vector, np.ndarray)]))
        self.stage = "queue"
        found = []
        for event, vector, known, answer in zip(events, vectors, risks, had, strict=True):
            if answer is not None:
                found.append(msgspec.structs.replace(answer, seq=event.seq))
            elif isinstance(vector, PartStalled):
                late = f"fallback.{vector.part}"
                found.append(self._answer(event, None, None, fallback=late, risks=known, started=started))
            else:
                assessed = None if vector is None else next(scored)
                found.append(self._answer(event, vector, assessed, risks=known, started=started))
        return found

    def _taken(
        self, event: Event, risks: Mapping[str, int], taken: Callable[[Event], None], given: Decision | None
    ) -> Decision:
        decision = self.decide(event, risks) if given is None else msgspec.structs.replace(given, seq=event.seq)
        taken(event)
        return decision

    def _fetch(self, event: Event, taken: Callable[[Event], None], *, wanted: bool) -> Vector | PartStalled | None:
        """The features of an event that is to be scored, before it is taken."""
        self.stage = "features"
        try:
            vector = self.features.fetch(event) if wanted and self.features and self.scores(event) else None
        except PartStalled as late:
            return late
        finally:
            taken(event)
        return vector

    def _assess_all(self, model: Together, vectors: Sequence[Vector]) -> list[Assessment]:
        if not vectors:
            return []
        inputs = np.array(vectors)
        if self._pick is not None:
            inputs = np.ascontiguousarray(inputs[:, self._pick])
        if self.reasoning is Reasoning.ALWAYS:
            scores, weights = model.scored(inputs)
            return [Assessment(*each) for each in zip(scores.tolist(), inputs, weights, strict=True)]
        return [Assessment(*each) for each in zip(model.scores(inputs).tolist(), inputs, strict=True)]

    def fall_back(self, event: Event, part: str) -> Decision:
        """The answer when `part` stalled before anything else answered: rules over the event alone, then the policy."""
        return self.answer(event, None, None, fallback=f"fallback.{part}")

    def assess(self, vector: Vector | None) -> Assessment | None:
        """What the model says of a vector in the engine's order; None without a model or a vector."""
        if self.model is None or vector is None:
            return None
        inputs = vector if self._pick is None else vector[self._pick]
        return Assessment(float(self.model.score(inputs)), inputs)

    def contributions(self, assessment: Assessment) -> Vector:
        """Log odds each input adds."""
        if assessment.contributions is not None:
            return assessment.contributions
        assert self.model is not None  # noqa: S101 - it made the assessment
        return self.model.contributions(assessment.inputs)

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
        said = self._known if risks is None else risks
        return self._answer(event, vector, assessment, fallback=fallback, risks=said)

    def _answer(
        self,
        event: Event,
        vector: Vector | None,
        assessment: Assessment | None,
        *,
        risks: Mapping[str, int],
        fallback: str | None = None,
        started: float | None = None,
    ) -> Decision:
        if self._merchants and (own := self._own(event)) is not None:
            return own._answer(event, vector, assessment, risks=risks, fallback=fallback, started=started)  # noqa: SLF001
        score = assessment.score if assessment else None
        risk_score = None if score is None else to_risk_score(score)
        held = None if vector is None else vector.tolist()
        verdict = self._judge(event, vector, held, risk_score, risks)
        policy = self._policy_of(event) if fallback else None
        action = _action(verdict.action, policy)
        reasons = self._reasons(assessment, action, verdict, fallback, policy)
        propensity = self._control if action is Action.BLOCK and not fallback and _scored(verdict.fired) else 1.0
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
            rules=verdict.results,
            model=self._model,
            features={} if held is None else _by_name(self._names, held),
            risks=dict(risks),
            fallback=fallback,
            policy=policy.value if policy else "",
            reasoning=self.reasoning.value,
            challenge=verdict.challenge,
            seq=event.seq,
            time=event.event_time,
            rules_version=self.rules.version,
            features_version=self._features_version,
            latency_us=0 if started is None else round((self.clock.monotonic() - started) * 1e6),
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
        values = self._others(event, risk_score, risks, whole=True)
        if held is not None:
            for key, place, cap in self._used:
                value = held[place]
                values[key] = min(value, cap) if value == value else None  # noqa: PLR0124 - false for not-a-number only
        return values

    def _others(
        self, event: Event, risk_score: int | None, risks: Mapping[str, int], *, whole: bool
    ) -> dict[str, object]:
        """What rules read beside features; `whole`: fields of the data that bear a feature's name too."""
        bound = self._readers.get(event.source)
        if bound is None:
            bound = self._readers[event.source] = _bind(event.source, self.rules, {key for key, _, _ in self._used})
        data = event.data
        values: dict[str, object] = {}
        for key, read in bound.whole if whole else bound.beside:
            found = read(data)
            if found is not None:
                values[key] = found
        for name, _ in self._risky:
            values[f":{name}:"] = risks.get(name)
        values[":risk_level:"] = self.rules.levels.level(risk_score)
        values[":risk_score:"] = risk_score
        return values

    def _judge(
        self,
        event: Event,
        vector: Vector | None,
        held: list[float] | None,
        risk_score: int | None,
        risks: Mapping[str, int],
    ) -> Verdict:
        """What the rules say: by the ready set when there is one and nothing is amiss, else one by one."""
        if self._ruling is not None and held is not None and vector is not None:
            values = self._others(event, risk_score, risks, whole=False)
            for key, place, cap in self._asked:
                value = held[place]
                values[key] = min(value, cap) if value == value else None  # noqa: PLR0124 - false for not-a-number only
            found = self._ruling.judge(vector, values)
            if found is not None:
                return found
        results, fired = self.rules.results(self._values(event, held, risk_score, risks))
        return to_verdict(results, fired)

    def _own(self, event: Event) -> Decider | None:
        merchant = event.data.get("merchant")
        return self._merchants.get(merchant) if isinstance(merchant, str) else None

    def _policy_of(self, event: Event) -> Policy:
        merchant = event.data.get("merchant") if self.policies else None
        return self.policies.get(merchant, self.policy) if isinstance(merchant, str) else self.policy

    def _reasons(
        self,
        assessment: Assessment | None,
        action: Action,
        verdict: Verdict,
        fallback: str | None,
        policy: Policy | None,
    ) -> tuple[Reason, ...]:
        wanted = self.reasoning is Reasoning.ALWAYS or (
            self.reasoning is Reasoning.FLAGGED and action is not Action.ALLOW
        )
        reasons = self._model_reasons(assessment) if assessment and wanted else ()
        if not fallback:
            return (*reasons, *verdict.reasons)
        part = fallback.removeprefix("fallback.")
        text = f"{part} did not answer in time; rules and the fail-{policy} policy decided"
        return (*reasons, *verdict.reasons, Reason(fallback, text, 0.0))

    def _model_reasons(self, assessment: Assessment) -> list[Reason]:
        names: tuple[str, ...] = self.model.features if self.model else ()
        weights, inputs = self.contributions(assessment), assessment.inputs
        reasons = []
        for place in largest(weights, MODEL_REASONS).tolist():
            name, weight = names[place], float(weights[place])
            if weight != 0.0:
                text = self._spoken.get(name) or _feature_text(name, float(inputs[place]), weight)
                reasons.append(Reason(f"model.{name}", text, weight))
        return reasons


@dataclass(frozen=True, slots=True)
class _Bound:
    """Readers of one source's data."""

    whole: tuple[tuple[str, Read], ...]
    beside: tuple[tuple[str, Read], ...]
    """Without those whose value a feature gives."""


def _bind(source: str, rules: PaymentRules, features: Collection[str]) -> _Bound:
    whole = readers(source, rules.fields)
    return _Bound(whole, tuple((key, read) for key, read in whole if key not in features))


def _action(decided: Action | None, policy: Policy | None) -> Action:
    """What the rules lead to, and where they leave it open the policy of a merchant whose answer lacks a part."""
    if policy is Policy.CLOSED and decided in {None, Action.CHALLENGE, Action.REVIEW}:
        return Action.BLOCK
    if policy is Policy.REVIEW and decided in {None, Action.CHALLENGE}:
        return Action.REVIEW
    return decided or Action.ALLOW


def _reads(
    rules: PaymentRules, names: Sequence[str]
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, int, float], ...]]:
    """Risks that rules read, with the type of their entity; features that they read, with place and largest value."""
    places = {name: place for place, name in enumerate(names)}
    attributes = {field.name for field in rules.fields if field.space is Space.ATTRIBUTE}
    risky = tuple((name, RISKS[name]) for name in sorted(attributes & RISKS.keys()))
    given = {name: name if name in places else backing(name) for name in sorted(attributes)}
    used = tuple((f":{name}:", places[feature], _cap(name)) for name, feature in given.items() if feature in places)
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


def _together(scorer: object) -> Together | None:
    return scorer if isinstance(scorer, Together) else None


def _words(scorer: object) -> Mapping[str, str]:
    return scorer.words if isinstance(scorer, Worded) else {}


def _feature_text(name: str, value: float, weight: float) -> str:
    words = name.replace("_", " ")
    said = f"{words} is missing" if math.isnan(value) else f"{words} is {value:.6g}"
    return f"{said}, which {'raises' if weight > 0 else 'lowers'} the risk"


def _by_name(names: tuple[str, ...], held: list[float]) -> dict[str, float | None]:
    """Values by name, None where missing. JSON has no infinity, so a feature must not give one."""
    return {name: value if value == value else None for name, value in zip(names, held, strict=True)}  # noqa: PLR0124
