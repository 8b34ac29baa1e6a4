"""Correlation types that are ours: how a document spells them. Other engines refuse the type, and so the document.

- `first_seen`: `learn` (a quarter of the timespan); condition: `field`.
- `rare_value`: `population` (20 groups); condition: `field`, bounds on per cent of groups.
- `deviation`: `baseline` (14 timespans), `learn` (half of them), `least` (1); condition: bounds on spreads, `field` to
  count its values and not events.
- `beaconing`: `jitter` (35 %), `burst` (2s), `spread` (5 % of sources); `group-by`: the source, then the place;
  condition: bounds on beats.
- `risk`: `half-life` (1d); `group-by`: types of entities; condition: bounds on points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vedette.core.clock import MICROS, seconds_of
from vedette.core.errors import DefinitionError
from vedette.expr.values import number_of
from vedette.judge.correlation.definition import Condition, Kind, Knobs

_KEYS: Mapping[Kind, tuple[str, ...]] = {
    Kind.FIRST_SEEN: ("learn",),
    Kind.RARE_VALUE: ("population",),
    Kind.DEVIATION: ("baseline", "learn", "least"),
    Kind.BEACONING: ("jitter", "burst", "spread"),
    Kind.RISK: ("half-life",),
}
_TIMES = frozenset({"learn", "burst", "half-life"})
_COMMON = frozenset({"type", "rules", "group-by", "timespan", "aliases", "generate", "condition"})
MAX_BASELINE = 100


def plain(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The section as one that Sigma's parser knows: what is ours left out, the same rules, groups and times."""
    kept = {name: value for name, value in raw.items() if name in _COMMON}
    return {**kept, "rules": kept.get("rules", ["every"]), "type": "event_count", "condition": {"gte": 1}}


def to_knobs(raw: Mapping[str, Any], kind: Kind, span: int) -> Knobs:
    """What a section of one of our types says; of Sigma's own types nothing.

    Args:
        raw: The section.
        kind: Its type.
        span: Its timespan, microseconds.

    Raises:
        DefinitionError: `sigma.correlation.invalid`.
    """
    if not kind.ours:
        return Knobs()
    keys = _KEYS[kind]
    for name in raw:
        if name not in _COMMON and name not in keys:
            hint = f"of `{kind}`: {', '.join(keys)}"
            raise DefinitionError("sigma.correlation.invalid", f"unknown key `{name}`", hint=hint)
    found = {name.replace("-", "_"): _value(name, raw[name]) for name in keys if name in raw}
    baseline = int(found.get("baseline", Knobs().baseline))
    if kind is Kind.FIRST_SEEN:
        found.setdefault("learn", span // 4)
    if kind is Kind.DEVIATION:
        found.setdefault("learn", span * (baseline // 2))
    if not 1 <= baseline <= MAX_BASELINE:
        raise DefinitionError("sigma.correlation.invalid", f"`baseline` is 1 to {MAX_BASELINE} timespans")
    if found.get("learn", 0) > span * (baseline if kind is Kind.DEVIATION else 1):
        raise DefinitionError("sigma.correlation.unreachable", "`learn` is longer than it looks back")
    return msgspec.convert(found, Knobs)


def _value(name: str, value: object) -> int | float:
    if name in _TIMES:
        seconds = seconds_of(value)
        if not seconds:
            raise DefinitionError("sigma.correlation.invalid", f"`{name}` is no timespan such as `10m`")
        return seconds * MICROS
    number = number_of(value)
    whole = name not in {"jitter", "spread"}
    if number is None or number < 0 or (whole and number != int(number)):
        raise DefinitionError("sigma.correlation.invalid", f"`{name}` is no number that it can be")
    return int(number) if whole else number


def check_ours(kind: Kind, condition: Condition, wanted: Sequence[str]) -> None:
    """Refuses a condition that says too little or what the type does not know.

    Raises:
        DefinitionError: `sigma.correlation.invalid`.
    """
    if kind in {Kind.FIRST_SEEN, Kind.RARE_VALUE} and not wanted:
        raise DefinitionError("sigma.correlation.invalid", "`field` is needed")
    if kind is Kind.BEACONING and wanted:
        raise DefinitionError("sigma.correlation.invalid", "`beaconing` counts beats and no `field`")
    if bool(condition.bounds) is (kind is Kind.FIRST_SEEN):
        says = "takes no bound" if condition.bounds else "states no bound"
        raise DefinitionError("sigma.correlation.invalid", f"`condition` {says}")
