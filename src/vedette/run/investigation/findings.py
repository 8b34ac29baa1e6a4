"""What stands behind an alert: its rule as people wrote it, and the rule's answer on the event, recomputed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec

from vedette.core.clock import from_datetime
from vedette.core.event import Entity, Event
from vedette.core.signal import Signal
from vedette.judge.correlation.definition import Kind
from vedette.judge.correlation.explain import correlation_clause
from vedette.judge.explain import Clause, explain_data
from vedette.judge.sigma.rules import Rule


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One signal, explained as far as its rule and its event are still at hand."""

    signal: Signal
    event: Event | None
    """Of a correlation the last one; None while it is not stored yet, and when it is kept no more."""
    rule: Rule | None
    """None when the rule is not loaded any more, and of a correlation."""
    result: str = ""
    """`fired`, `quiet` or `unknown`; empty without rule or event."""
    clause: Clause | None = None
    changed: bool = False
    """The rule is not the version that fired: the clauses are those of today's."""


def explain_signal(
    signal: Signal,
    rules: Mapping[str, Rule],
    find: Callable[[str, str, str, int, Sequence[Entity]], Event | None],
) -> Finding:
    """The clauses of the signal's rule with the values they read; of a correlation, what its signal says.

    Args:
        signal: Which.
        rules: The loaded rules by id.
        find: (tenant, source, event id, event time, what it is about) -> the event.
    """
    rule = rules.get(signal.rule_id)
    event = find(signal.tenant, signal.source, signal.event_id, signal.event_time, signal.entities)
    if told := correlation_clause(signal):
        return Finding(signal=signal, event=event, rule=None, result="fired", clause=told)
    changed = rule is not None and rule.version != signal.rule_version
    node = rule.nodes.get(signal.source) if rule else None
    if node is None or event is None:
        return Finding(signal=signal, event=event, rule=rule, changed=changed)
    result, clause, _ = explain_data(node, event.data)
    return Finding(signal=signal, event=event, rule=rule, result=result, clause=clause, changed=changed)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """What a correlation counted, from the note it left in its signal."""

    by: dict[str, str]
    """Field -> value of the group."""
    kind: str
    """Of the correlation: `event_count`, `value_count`, `temporal` and the like."""
    amount: float
    condition: str
    span_s: int
    values: tuple[str, ...] = ()
    """What was counted, of a `value_count`."""
    events: tuple[Member, ...] = ()
    """What it was counted on, in order."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a group."""

    id: str
    rule: str
    source: str
    time: int
    """Event time, microseconds UTC."""


_KINDS = tuple(map(str, Kind))
_OWN = frozenset({*_KINDS, "condition", "timespan_s", "values", "events"})


def group_of(signal: Signal) -> Group | None:
    """What a correlation's signal noted; None for a signal of a rule on single events."""
    why = signal.why
    kind = next((name for name in _KINDS if name in why), "")
    events, amount = why.get("events"), why.get(kind)
    if not isinstance(events, list) or not isinstance(amount, int | float):
        return None
    try:
        members = tuple(_member(msgspec.convert(each, _Noted)) for each in events)
    except (msgspec.ValidationError, ValueError):
        return None
    return Group(
        by={name: str(value) for name, value in why.items() if name not in _OWN},
        kind=kind,
        amount=amount,
        condition=str(why.get("condition", "")),
        span_s=int(why.get("timespan_s", 0)),
        values=tuple(map(str, why.get("values", ()))),
        events=members,
    )


class _Noted(msgspec.Struct):
    id: str
    rule: str
    source: str
    time: str


def _member(noted: _Noted) -> Member:
    time = from_datetime(datetime.fromisoformat(noted.time))
    return Member(id=noted.id, rule=noted.rule, source=noted.source, time=time)
