"""From an event's data to what the kernel takes: whole numbers and ids. One law for events and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from vedette.sense.features.feature import FeatureSet, Field
from vedette.sense.features.filters import paths_of
from vedette.sense.features.layout import MISSING

MAX_SCALED = 1 << 46
"""Largest absolute scaled value, so that every sum of 16,384 values, and of products of their halves, fits 64 bits. A
larger one counts as missing."""
NOTHING = int(MISSING)
JOINT = "\x1f"
"""Between the parts of a composite key."""


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


def to_joint(data: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """The id that several paths name together; None when one of them names nobody."""
    parts = [to_key(read_path(data, path)) for path in keys]
    return None if None in parts else JOINT.join(parts)  # type: ignore[arg-type]


@lru_cache(maxsize=1 << 16)
def to_mark(text: str) -> int:
    """A text as 64 bits of its BLAKE2b hash: what tells the values of text fields apart.

    The same everywhere and always. Two of 16,384 different texts are taken for one with a chance of 10^-11.
    """
    mark = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True)
    return 0 if mark == NOTHING else mark


def to_field(data: Mapping[str, Any], field: Field) -> int:
    """A field's value, scaled, or the mark of its text; `NOTHING` when missing."""
    value = read_path(data, field.path)
    if field.scale:
        return to_scaled(value, field.scale)
    text = to_key(value)
    return NOTHING if text is None else to_mark(text)


def to_fraud(value: object) -> int | None:
    """1 fraud, 0 genuine, None no label, from the source's own truth field."""
    if isinstance(value, str):
        return {"1": 1, "0": 0, "true": 1, "false": 0}.get(value.lower())
    return int(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def paths(features: FeatureSet) -> tuple[str, ...]:
    """Every path of the data that the features read, each once."""
    wanted = [features.event_id, features.event_time, *(key for view in features.views for key in view.keys)]
    wanted += [*(field.path for field in features.fields), features.label.path]
    wanted += [path for condition in features.conditions for path in paths_of(condition)]
    return tuple(dict.fromkeys(path for path in wanted if path))
