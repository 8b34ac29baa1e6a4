"""What if: the smallest change of one or two inputs, or of the amount, that changes what a decision says.

A tree model is constant between its cut points, so the search goes over cut points and nothing else. For one or two
features the trees are folded over the values that stay: what is left is a small grid of raw scores, exact because leaf
values are multiples of 2^-40. Rules add the numbers they compare with as cut points. Whatever is found is decided again
by the real model and the real rules before it is told.

A change costs the share of a feature's cut points that it passes: free of units, 0 to 1, added up for two features.
Features that follow from the amount move with it, computed again from their definitions; counts stay whole, and a count
over an hour never falls below that over ten minutes. What is already known of a payer (labels) is not to be changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations, pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.core.decision import Action, Decision, to_risk_score
from vedette.core.event import Event
from vedette.expr import nodes
from vedette.judge.decisions.bindings import binding_of
from vedette.judge.decisions.decider import Assessment, Decider
from vedette.judge.decisions.parts import Reasoning
from vedette.judge.decisions.rebuild import decider_of, event_of
from vedette.judge.models.calibration import Calibration
from vedette.judge.models.folding import fold
from vedette.judge.models.model import Model
from vedette.judge.payment.rules import PaymentRules
from vedette.sense.features.definition import LABELLED, Aggregation, Feature, FeatureSet, View

BUDGET_S = 0.3
MAX_AMOUNTS = 600
"""Most amounts that are looked at, nearest first."""
AMOUNT = "amount"

_ACTIONS = tuple(Action)
_RISKS = 100
_WHOLE = frozenset(
    (
        Aggregation.COUNT,
        Aggregation.HOUR,
        Aggregation.WEEKDAY,
        Aggregation.WEEKEND,
        Aggregation.NIGHT,
    )
)
_ADDING = frozenset((Aggregation.COUNT, Aggregation.SUM))
_LARGEST = {Aggregation.HOUR: 23.0, Aggregation.WEEKDAY: 6.0, Aggregation.WEEKEND: 1.0, Aggregation.NIGHT: 1.0}

Floats = npt.NDArray[np.float64]


class Change(msgspec.Struct, frozen=True):
    """One input, as it was and as it would have to be."""

    name: str
    """Name of a feature, or `amount`."""
    before: float
    after: float
    """The nearest value that does it; for the amount, minor units."""
    whole: bool
    """Counts and amounts are whole numbers."""


class WhatIf(msgspec.Struct, frozen=True):
    """Changes that together give another action."""

    changes: tuple[Change, ...]
    action: Action
    score: float | None
    risk_score: int | None
    cost: float
    """Share of the cut points that is passed, added up over the changes."""


class Search(msgspec.Struct, frozen=True):
    """What was found."""

    found: tuple[WhatIf, ...]
    """At most one for each input alone, and the cheapest pair when it costs less; cheapest first."""
    complete: bool
    """False when the time was up before every pair was looked at: a smaller change may exist."""
    pairs: int
    """Pairs that were looked at."""
    all_pairs: int


@dataclass(slots=True)
class _Input:
    """A feature that may change."""

    name: str
    place: int
    """In the model's inputs."""
    at: int
    """In the record's vector."""
    value: float
    cuts: Floats
    """Every value at which the model or a rule changes its mind, rising."""
    ruled: bool
    """Whether a rule reads it."""
    whole: bool
    low: float
    high: float
    family: tuple[Any, ...]
    window: int


def find_whatif(
    record: Decision,
    *,
    model: Model | None,
    rules: PaymentRules,
    monotonic: Callable[[], float],
    budget_s: float = BUDGET_S,
) -> Search:
    """Searches for milder answers; for an allowed payment, for stricter ones.

    Args:
        record: From the log.
        model: The one it was made with; None when it was made without.
        rules: The set it was made with.
        monotonic: Seconds, for the budget.
        budget_s: When to stop looking at pairs. Inputs by themselves are always looked at.

    Raises:
        ConflictError: `decision.rebuild.model`, `decision.rebuild.rules`.
        DataError: `decision.rebuild.record`.
    """
    decider = decider_of(record, model=model, rules=rules)
    decider.reasoning = Reasoning.NEVER
    if record.fallback is not None:
        return Search((), complete=True, pairs=0, all_pairs=0)
    search = _Searching(record, decider, model if decider.model else None, rules)
    found = [each for each in (search.amount(), *search.singles()) if each]
    best = min((each.cost for each in found), default=math.inf)
    # The time is for pairs: what comes before is bounded, and the first search of a process compiles the fold.
    deadline = monotonic() + budget_s
    pair, seen, total = search.pairs(best, lambda: monotonic() > deadline)
    found += [pair] if pair else []
    ordered = tuple(sorted(found, key=lambda each: (each.cost, len(each.changes))))
    return Search(ordered, complete=seen == total, pairs=seen, all_pairs=total)


class _Searching:
    """One record's search."""

    def __init__(self, record: Decision, decider: Decider, model: Model | None, rules: PaymentRules) -> None:
        self._record = record
        self._decider = decider
        self._model = model
        self._event = event_of(record)
        self._vector = decider.features.fetch(self._event) if decider.features else None
        self._names = tuple(record.features)
        now = _ACTIONS.index(record.action)
        self._wanted = np.array([place < now if now else place > 0 for place in range(len(_ACTIONS))])
        self._literals = literals(rules)
        self._inputs = self._all_inputs()
        self._raw = model.raw(self._model_vector) if model and self._inputs else 0.0
        self._table: npt.NDArray[np.int64] | None = None
        self._bounds = _bounds(model.calibration) if model else np.zeros(0)

    # What may change

    def _all_inputs(self) -> list[_Input]:
        model, vector = self._model, self._vector
        if model is None or vector is None:
            return []
        amount = amount_field(model.feature_set, self._record)
        found = []
        for view, feature in _features(model.feature_set):
            place, at = model.features.index(feature.name), self._names.index(feature.name)
            value = float(vector[at])
            own = feature.aggregation is Aggregation.VALUE and feature.measure and feature.measure.field == amount
            if math.isnan(value) or feature.aggregation in LABELLED or own:
                continue
            numbers = self._literals.get(feature.name, ())
            cuts = np.unique(np.concatenate([_cuts(model)[place], np.array(numbers, np.float64)]))
            if len(cuts):
                low, high = self._range(view, feature, value)
                found.append(
                    _Input(
                        name=feature.name,
                        place=place,
                        at=at,
                        value=value,
                        cuts=cuts,
                        ruled=bool(numbers),
                        whole=feature.aggregation in _WHOLE,
                        low=low,
                        high=high,
                        family=_family(view, feature),
                        window=feature.window,
                    )
                )
        return found

    def _range(self, view: View, feature: Feature, value: float) -> tuple[float, float]:
        """What the feature could have been while all else stays: sums over longer windows hold those over shorter."""
        low, high = min(0.0, value), _LARGEST.get(feature.aggregation, math.inf)
        if feature.aggregation is Aggregation.COUNT and feature.include_current:
            low = min(1.0, value)
        if feature.aggregation in _ADDING:
            for other in view.features:
                held = self._record.features.get(other.name)
                if (
                    other.window != feature.window
                    and _family(view, other) == _family(view, feature)
                    and held is not None
                ):
                    low, high = (max(low, held), high) if other.window < feature.window else (low, min(high, held))
        return min(low, value), max(high, value)

    # One input

    def singles(self) -> Iterator[WhatIf | None]:
        """The nearest value of each input that changes the action."""
        for each in self._inputs:
            yield self._cheapest(each, None, math.inf)

    def amount(self) -> WhatIf | None:
        """The nearest amount that changes the action."""
        now = minor_of(self._record)
        if now is None:
            return None
        moves = AmountMoves.of(self._model.feature_set if self._model else None, self._record)
        amounts = self._amounts(moves, now)
        if not len(amounts):
            return None
        here = int(np.searchsorted(amounts, now))
        ranks = np.abs(np.arange(len(amounts)) + (amounts > now) - here)
        for place in np.argsort(np.abs(amounts - now), kind="stable")[:MAX_AMOUNTS].tolist():
            minor = int(amounts[place])
            data, vector = moves.moved(self._record.event, self._names, self._vector, minor)
            event = msgspec.structs.replace(self._event, data=data)
            change = Change(AMOUNT, float(now), float(minor), whole=True)
            cost = float(max(1, ranks[place]) / (len(amounts) + 1))
            if found := self._decided((change,), event, vector, cost):
                return found
        return None

    def _amounts(self, moves: AmountMoves, now: int) -> npt.NDArray[np.int64]:
        """Every amount next to a cut point of what follows from it, and of the rules; `now` is not among them."""
        found: set[int] = set()
        for name, text in self._literals.items():
            if name.startswith("amount_in_"):
                found |= {round(number * moves.per_major) + step for number in text for step in (-1, 0, 1)}
        if self._model:
            for name, cuts in zip(self._model.features, _cuts(self._model), strict=True):
                found |= moves.amounts(name, [*cuts.tolist(), *self._literals.get(name, ())])
        found.discard(now)
        return np.array(sorted(minor for minor in found if 0 < minor < 1 << 53), np.int64)

    # Two inputs

    def pairs(self, best: float, late: Callable[[], bool]) -> tuple[WhatIf | None, int, int]:
        """The cheapest pair of inputs below `best`; how many pairs were looked at, of how many."""
        gains = {each.name: self._gain(each) for each in self._inputs}
        pairs = sorted(combinations(self._inputs, 2), key=lambda pair: -(gains[pair[0].name] + gains[pair[1].name]))
        found = None
        for seen, (one, other) in enumerate(pairs):
            if late():
                return found, seen, len(pairs)
            if better := self._cheapest(one, other, best):
                found, best = better, better.cost
        return found, len(pairs), len(pairs)

    def _gain(self, one: _Input) -> float:
        """How far the input alone can move the score the way that is wanted."""
        _, raws = self._folded(one, None)
        here = self._raw
        return float(here - raws.min() if self._record.action is not Action.ALLOW else raws.max() - here)

    @cached_property
    def _model_vector(self) -> Floats:
        """What the model read, in its order."""
        assert self._model is not None  # noqa: S101 - there are inputs only where there is a model
        assert self._vector is not None  # noqa: S101 - as above
        return self._vector[[self._names.index(name) for name in self._model.features]]

    def _folded(self, one: _Input, other: _Input | None) -> tuple[tuple[Floats, Floats], Floats]:
        assert self._model is not None  # noqa: S101 - as above
        extra = [each.cuts if each.ruled else np.zeros(0) for each in (one, other) if each]
        extra += [np.zeros(0)] * (2 - len(extra))
        first, second, raws = fold(
            self._model.trees, self._model_vector, one.place, other.place if other else -1, extra[0], extra[1]
        )
        return (first, second), raws

    def _cheapest(self, one: _Input, other: _Input | None, best: float) -> WhatIf | None:
        """The cheapest change of the inputs that costs less than `best` and changes the action."""
        (first, second), raws = self._folded(one, other)
        moved = np.ones(raws.shape, np.bool_)
        if not (one.ruled or (other is not None and other.ruled)):
            moved = self._wanted[self._by_risk()[np.searchsorted(self._bounds, raws, side="right")]]
            if not moved.any():
                return None
        values, costs = zip(*(_cells(each, cuts) for each, cuts in ((one, first), (other, second))), strict=True)
        cost = costs[0][:, None] + costs[1][None, :]
        if other is not None and one.family == other.family and one.family[0] in _ADDING:
            shorter, longer = (values[0][:, None], values[1][None, :])
            cost = np.where(shorter <= longer if one.window < other.window else shorter >= longer, cost, np.inf)
        moved = moved & (cost < min(best, np.inf))
        moved &= (cost > 0) if other is None else (costs[0][:, None] > 0) & (costs[1][None, :] > 0)
        places = np.flatnonzero(moved)
        for place in places[np.argsort(cost.ravel()[places], kind="stable")].tolist():
            at = np.unravel_index(place, cost.shape)
            changes = tuple(
                Change(each.name, each.value, float(value[spot]), each.whole)
                for each, value, spot in zip((one, other), values, at, strict=True)
                if each
            )
            assert self._vector is not None  # noqa: S101 - as above
            vector = self._vector.copy()
            for each, change in zip((one, other), changes, strict=False):
                if each:
                    vector[each.at] = change.after
            if found := self._decided(changes, self._event, vector, float(cost.ravel()[place])):
                return found
        return None

    # Deciding

    def _by_risk(self) -> npt.NDArray[np.int64]:
        """Action for each risk score, all else as it was: for inputs that no rule reads."""
        if self._table is None:
            nothing = np.zeros(0)
            said = [
                self._decider.answer(self._event, self._vector, Assessment((risk + 0.5) / _RISKS, nothing, nothing))
                for risk in range(_RISKS)
            ]
            self._table = np.array([_ACTIONS.index(each.action) for each in said])
        return self._table

    def _decided(self, changes: tuple[Change, ...], event: Event, vector: Floats | None, cost: float) -> WhatIf | None:
        """What the real model and rules say of the changed inputs, when that is what is wanted."""
        said = self._decider.answer(event, vector, self._decider.assess(vector))
        if not self._wanted[_ACTIONS.index(said.action)]:
            return None
        return WhatIf(changes, said.action, said.score, said.risk_score, cost)


def _features(definitions: FeatureSet) -> Iterator[tuple[View, Feature]]:
    for view in definitions.views:
        for feature in view.features:
            yield view, feature


def _family(view: View, feature: Feature) -> tuple[Any, ...]:
    """Features of one family differ in their window only."""
    return feature.aggregation, view.name, feature.measure, feature.include_current


def _cells(each: _Input | None, cuts: Floats) -> tuple[Floats, Floats]:
    """For each span between cuts, the value in it that is nearest to the present one, and what going there costs."""
    if each is None:
        return np.zeros(1), np.zeros(1)
    lows, highs = np.concatenate([[-np.inf], cuts]), np.concatenate([cuts, [np.inf]])
    if each.whole:
        above, below = np.floor(lows) + 1, np.floor(highs)
    else:
        above, below = np.nextafter(lows, np.inf), highs
    here = (lows < each.value) & (each.value <= highs)
    values = np.where(here, each.value, np.where(highs < each.value, below, above))
    values = np.where(
        here, values, np.where(highs < each.value, np.minimum(values, each.high), np.maximum(values, each.low))
    )
    costs = np.abs(np.searchsorted(each.cuts, values) - np.searchsorted(each.cuts, each.value)) / (len(each.cuts) + 1)
    fits = (values > lows) & (values <= highs) & (values >= each.low) & (values <= each.high) & np.isfinite(values)
    return values, np.where(fits | here, costs, np.inf)


@lru_cache(maxsize=8)
def _cuts_by_sha(model: _Hashed) -> tuple[Floats, ...]:
    trees = model.model.trees
    order = np.argsort(trees.feature, kind="stable")
    features, thresholds = trees.feature[order], trees.threshold[order]
    borders = np.searchsorted(features, np.arange(len(model.model.features) + 1))
    return tuple(np.unique(thresholds[a:b]) for a, b in pairwise(borders))


@dataclass(frozen=True, slots=True)
class _Hashed:
    """A model by its hash, as a key of what is computed once from it."""

    sha256: str
    model: Model

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and other.sha256 == self.sha256


def _cuts(model: Model) -> tuple[Floats, ...]:
    """Cut points of each input."""
    return _cuts_by_sha(_Hashed(model.sha256, model))


@lru_cache(maxsize=8)
def _bounds(calibration: Calibration) -> Floats:
    """Smallest raw score of each risk score from 1 on; infinite where it is never reached."""
    found = []
    for risk in range(1, _RISKS):
        low, high = -64.0, 64.0
        if to_risk_score(calibration.score(high)) < risk:
            found.append(math.inf)
            continue
        while (middle := (low + high) / 2) not in {low, high}:
            low, high = (low, middle) if to_risk_score(calibration.score(middle)) >= risk else (middle, high)
        found.append(high)
    return np.array(found)


def literals(rules: PaymentRules) -> dict[str, tuple[float, ...]]:
    """Name of an attribute -> the values where a rule that compares it with a number may change its mind."""
    found: dict[str, set[float]] = {}

    def note(field: object, number: object) -> None:
        if isinstance(field, nodes.Field) and isinstance(number, int | float) and not isinstance(number, bool):
            found.setdefault(field.name, set()).update((float(number), math.nextafter(number, -math.inf)))

    def walk(node: nodes.Node) -> None:
        if isinstance(node, nodes.Compare):
            left, right = node.left, node.right
            note(left, right.value if isinstance(right, nodes.Literal) else None)
            note(right, left.value if isinstance(left, nodes.Literal) else None)
        if isinstance(node, nodes.Among):
            for item in node.items:
                note(node.value, item)
        for child in nodes.children(node):
            walk(child)

    for rule in rules.rules:
        walk(rule.node)
    return {name: tuple(sorted(values)) for name, values in found.items()}


# The amount and what follows from it


def minor_of(record: Decision) -> int | None:
    """The amount in minor units; None for an event that has none."""
    minor = record.event.get("amount_minor")
    if isinstance(minor, int) and not isinstance(minor, bool):
        return minor
    path = _amount_path(record)
    major = record.event.get(path) if path else None
    return round(major * 100) if isinstance(major, int | float) and not isinstance(major, bool) else None


def _amount_path(record: Decision) -> str:
    """Field with the amount in major units."""
    attributes = binding_of(record.source).attributes
    return next((path for name, path in attributes.items() if name.startswith("amount_in_")), "")


def amount_field(definitions: FeatureSet, record: Decision) -> int:
    """Place of the field that is the amount; -1 when no feature reads it."""
    paths = {"amount_minor", _amount_path(record)} - {""}
    return next((place for place, field in enumerate(definitions.fields) if field.path in paths), -1)


@dataclass(frozen=True, slots=True)
class AmountMoves:
    """How features follow from the amount of the event itself."""

    now: int
    """Minor units."""
    per_major: int
    path: str
    """Field of major units that moves along; empty when there is none."""
    slopes: Mapping[str, tuple[float, float]]
    """Feature -> (total without this amount, divisor), in minor units: its value is (total + amount) / divisor."""

    @classmethod
    def of(cls, definitions: FeatureSet | None, record: Decision) -> AmountMoves:
        """From the definitions and the record. Minor units are those of the field that the features read."""
        now, path = minor_of(record) or 0, _amount_path(record)
        place = amount_field(definitions, record) if definitions else -1
        base = cls(now, 100, path, {})
        if definitions is None or place < 0:
            return base
        scale = definitions.fields[place].scale
        slopes: dict[str, tuple[float, float]] = {}
        for view, feature in _features(definitions):
            held = record.features.get(feature.name)
            if feature.aggregation is Aggregation.RATIO and slopes.get(feature.of[0]) == (0.0, float(scale)):
                # Of the amount itself to something that does not move with it.
                divisor = record.features.get(feature.of[1])
                if held is not None and divisor and feature.of[1] not in slopes:
                    slopes[feature.name] = (0.0, scale * divisor)
                continue
            reads = feature.measure is not None and feature.measure.field == place
            if held is None or not reads or (feature.measure and feature.measure.where):
                continue
            if feature.aggregation is Aggregation.VALUE:
                slopes[feature.name] = (0.0, float(scale))
            elif feature.include_current and feature.aggregation in {Aggregation.SUM, Aggregation.MEAN}:
                count = 1.0 if feature.aggregation is Aggregation.SUM else _count_beside(view, feature, record)
                if count:
                    slopes[feature.name] = (round(held * count * scale) - now, count * scale)
        return replace(base, slopes=slopes)

    def amounts(self, name: str, cuts: list[float]) -> set[int]:
        """Amounts on both sides of each cut of a feature."""
        if name not in self.slopes:
            return set()
        total, divisor = self.slopes[name]
        borders = (math.floor(cut * divisor - total) for cut in cuts if math.isfinite(cut))
        return {border + step for border in borders for step in (0, 1)}

    def moved(
        self, data: Mapping[str, Any], names: tuple[str, ...], vector: Floats | None, minor: int
    ) -> tuple[dict[str, Any], Floats | None]:
        """The event's data and the features with another amount."""
        changed = dict(data)
        if "amount_minor" in data:
            changed["amount_minor"] = minor
        if self.path and self.path in data:
            changed[self.path] = minor / self.per_major
        if vector is None:
            return changed, None
        moved = vector.copy()
        for name, (total, divisor) in self.slopes.items():
            moved[names.index(name)] = (total + minor) / divisor
        return changed, moved


def _count_beside(view: View, feature: Feature, record: Decision) -> float:
    """How many events a mean is over: from a count over the same window; 0 when none tells."""
    for other in view.features:
        held = record.features.get(other.name)
        plain = other.measure is None or (other.measure.field < 0 and not other.measure.where)
        if other.aggregation is Aggregation.COUNT and other.window == feature.window and plain and held is not None:
            return held + (0 if other.include_current else 1)
    return 0.0
