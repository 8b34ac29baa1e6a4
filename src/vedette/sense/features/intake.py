"""From an event to the entities it names and the whole numbers their measures take: one reading for every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from vedette.core.event import Event
from vedette.sense.features.feature import FeatureSet, Measure
from vedette.sense.features.filters import Condition
from vedette.sense.features.state import Plan
from vedette.sense.features.values import JOINT, NOTHING, read_path, to_field, to_key

TIME_LIMIT = 1 << 53
"""Event times beyond this, in either direction, are treated as unusable: the year 2255 in microseconds, and the largest
whole number that every store and language holds exactly."""

_TIME, _BLIND, _ONE, _ZERO, _FIELDS = range(5)
"""Places in what `Intake.values_of` gives; behind the fields stand those that a condition filters."""


class Intake:
    """Reads events for one feature set.

    Args:
        features: Definitions.
        plan: Compiled from them.
    """

    def __init__(self, features: FeatureSet, plan: Plan) -> None:
        self._ahead = features.ahead
        self._fields = features.fields
        self._conditions = [Condition(node) for node in features.conditions]
        self._paths = tuple(dict.fromkeys(path for view in features.views for path in view.keys))
        self._keys = [[self._paths.index(path) for path in view.keys] for view in features.views]
        self._filtered = list(
            dict.fromkeys(
                (_FIELDS + one.field if one.field >= 0 else _ONE, features.conditions.index(one.where))
                for view in features.views
                for one in view.measures
                if one.where is not None
            )
        )
        self._measures = [[self._place(features, one) for one in view.measures] for view in features.views]
        self._row = self._picked(features, plan)

    def _place(self, features: FeatureSet, measure: Measure) -> int:
        """Where `values_of` has a measure."""
        place = _FIELDS + measure.field if measure.field >= 0 else _ONE
        if measure.where is None:
            return place
        filtered = self._filtered.index((place, features.conditions.index(measure.where)))
        return _FIELDS + len(self._fields) + filtered

    def _picked(self, features: FeatureSet, plan: Plan) -> Callable[[Sequence[int]], tuple[int, ...]]:
        """Puts a row of the kernel together from values and, behind them, the entities of the views."""
        first = _FIELDS + len(self._fields) + len(self._filtered)
        places = [_TIME, _BLIND]
        for number, (view, mine) in enumerate(zip(features.views, self._measures, strict=True)):
            places += [first + number, *mine, *[_ZERO] * (plan.measures - len(view.measures))]
        return itemgetter(*places)

    def row_of(self, values: list[int], entities: Sequence[int]) -> tuple[int, ...]:
        """The kernel's input row: what `values_of` gave, and each view's entity."""
        return self._row([*values, *entities])

    def values_of(self, event: Event) -> list[int]:
        """Time, whether it is unusable or too far ahead, and what measures are made of; see `_TIME`."""
        time, blind = self._time_of(event)
        data = event.data
        values = [time, blind, 1, 0, *[to_field(data, field) for field in self._fields]]
        if self._filtered:
            met = [condition.holds(data) for condition in self._conditions]
            values += [values[place] if met[condition] else NOTHING for place, condition in self._filtered]
        return values

    def keys_of(self, data: Mapping[str, Any]) -> list[str | None]:
        """The id that each view names; None for nobody."""
        parts = [to_key(read_path(data, path)) for path in self._paths]
        return [parts[mine[0]] if len(mine) == 1 else _joint([parts[one] for one in mine]) for mine in self._keys]

    def _time_of(self, event: Event) -> tuple[int, bool]:
        """The event's time, and whether it is unusable or too far ahead."""
        time, ingested = event.event_time, event.ingest_time
        usable = -TIME_LIMIT < time < TIME_LIMIT
        ahead = ingested and time > ingested + self._ahead
        return (time if usable else 0), bool(ahead) or not usable

    def measures_of(self, values: Sequence[int], view: int) -> list[int]:
        """What the event adds to each measure of the view at a place."""
        return [values[place] for place in self._measures[view]]


def _joint(parts: list[str | None]) -> str | None:
    """The id that several parts name together; None when one of them names nobody."""
    return None if None in parts or not parts else JOINT.join(parts)  # type: ignore[arg-type]
