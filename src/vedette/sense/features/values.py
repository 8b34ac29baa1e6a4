"""From an event's data to what the kernel takes: whole numbers, ids, conditions. One law for events and tables."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vedette.expr.nodes import Comparison
from vedette.sense.features.definition import FeatureSet, Field, Measure, Where
from vedette.sense.features.kernel import MISSING

MAX_SCALED = 1 << 50
"""Largest absolute scaled value; 4,096 of them fit a 64-bit sum. A larger one counts as missing."""
NOTHING = int(MISSING)

_COMPARE: dict[Comparison, Callable[[Any, Any], bool]] = {
    Comparison.EQ: operator.eq,
    Comparison.NE: operator.ne,
    Comparison.LT: operator.lt,
    Comparison.LE: operator.le,
    Comparison.GT: operator.gt,
    Comparison.GE: operator.ge,
}


def read_path(data: Mapping[str, Any], path: str) -> Any:
    """The value at a path; None when it is absent. A key that holds the whole dotted name goes first."""
    value = data.get(path)
    if value is not None or "." not in path:
        return value
    here: Any = data
    for part in path.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here


def to_scaled(value: object, scale: int) -> int:
    """A number in whole parts, half to even; `NOTHING` for what is no finite number of bearable size.

    Example:
        >>> to_scaled(57.16, 100), to_scaled("57.16", 100), to_scaled(57, 100), to_scaled(True, 100) == NOTHING
        (5716, 5716, 5700, True)
    """
    if type(value) is float and -MAX_SCALED < value < MAX_SCALED:
        scaled = round(value * scale)
        return scaled if -MAX_SCALED <= scaled <= MAX_SCALED else NOTHING
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return NOTHING
    if type(value) is int:
        scaled = value * scale
    elif isinstance(value, float) and math.isfinite(value):
        scaled = round(value * scale)
    else:
        return NOTHING
    return scaled if -MAX_SCALED <= scaled <= MAX_SCALED else NOTHING


def to_key(value: object) -> str | None:
    """An entity's id as text; None for what names nobody. `596`, `596.0` and `"596"` are the same id."""
    if type(value) is int:
        return str(value)
    if isinstance(value, str):
        return value or None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return None


def to_field(data: Mapping[str, Any], field: Field) -> int | str | None:
    """A field's value: scaled, or text; `NOTHING` or None when missing."""
    value = read_path(data, field.path)
    return to_scaled(value, field.scale) if field.scale else to_key(value)


def meets(value: int | str | None, where: Where) -> bool:
    """Whether a field's value meets a condition; a missing one meets none."""
    if value is None or value == NOTHING:
        return False
    return _COMPARE[where.op](value, where.value)


def to_measure(values: Sequence[int | str | None], measure: Measure) -> int:
    """What one event adds to a measure; `NOTHING` when it has no part in it."""
    if not all(meets(values[where.field], where) for where in measure.where):
        return NOTHING
    return 1 if measure.field < 0 else int(values[measure.field])  # type: ignore[arg-type]


def to_fraud(value: object) -> int | None:
    """1 fraud, 0 genuine, None no label, from the source's own truth field."""
    if isinstance(value, str):
        return {"1": 1, "0": 0, "true": 1, "false": 0}.get(value.lower())
    return int(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def paths(features: FeatureSet) -> tuple[str, ...]:
    """Every path of the data that the features read, each once."""
    wanted = [features.event_id, features.event_time, *(view.key for view in features.views)]
    wanted += [*(field.path for field in features.fields), features.label.path]
    return tuple(dict.fromkeys(path for path in wanted if path))
