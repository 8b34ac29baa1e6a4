"""From an event to the entities it names and the whole numbers their measures take: one reading for every engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vedette.core.event import Event
from vedette.sense.features.feature import FeatureSet, Measure
from vedette.sense.features.filters import Condition
from vedette.sense.features.state import Plan
from vedette.sense.features.values import NOTHING, read_path, to_field, to_joint, to_key

TIME_LIMIT = 1 << 53
"""Event times beyond this, in either direction, are treated as unusable: the year 2255 in microseconds, and the largest
whole number that every store and language holds exactly."""


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
        self._views = [
            (
                view.keys,
                [self._reading(features, measure) for measure in view.measures],
                [0] * (plan.measures - len(view.measures)),
            )
            for view in features.views
        ]

    @staticmethod
    def _reading(features: FeatureSet, measure: Measure) -> tuple[int, int]:
        """Places of the measure's field and of its condition; -1 for none."""
        return measure.field, -1 if measure.where is None else features.conditions.index(measure.where)

    def time_of(self, event: Event) -> tuple[int, bool]:
        """The event's time, and whether it is unusable or too far ahead."""
        time, ingested = event.event_time, event.ingest_time
        usable = -TIME_LIMIT < time < TIME_LIMIT
        ahead = ingested and time > ingested + self._ahead
        return (time if usable else 0), bool(ahead) or not usable

    def views_of(self, data: Mapping[str, Any]) -> Iterator[tuple[str | None, list[int]]]:
        """For each view the id it names, None for nobody, and what the event adds to each measure."""
        values = [to_field(data, field) for field in self._fields]
        met = [condition.holds(data) for condition in self._conditions]
        for keys, measures, spare in self._views:
            joint = to_joint(data, keys) if len(keys) > 1 else None
            key = to_key(read_path(data, keys[0])) if len(keys) == 1 else joint
            yield (
                key,
                [
                    NOTHING if place >= 0 and not met[place] else values[field] if field >= 0 else 1
                    for field, place in measures
                ]
                + spare,
            )
