"""Filters of lists as query parameters, the same for the API and the console."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from fastapi import Depends, Query

from vedette.act.cases import CaseFilter, CaseState, Phase
from vedette.act.grouping import AlertState
from vedette.act.queue import MAX_TEXT, Age, AlertFilter
from vedette.core.decision import Action
from vedette.core.errors import DataError
from vedette.core.event import Entity
from vedette.core.signal import Level
from vedette.judge.decisions.register import Filters
from vedette.sense.times import TimeFormat, parse_time

MAX_CHOICES = 50
"""Most values of one facet in a request."""

_Some = Annotated[list[str] | None, Query(max_length=MAX_CHOICES)]


def _alerts(
    *,
    state: Annotated[list[AlertState] | None, Query()] = None,
    level: Annotated[list[Level] | None, Query()] = None,
    rule: _Some = None,
    source: _Some = None,
    entity_type: _Some = None,
    tag: _Some = None,
    assignee: Annotated[list[str] | None, Query(max_length=MAX_CHOICES, description="`nobody` for none.")] = None,
    age: Age | None = None,
    q: Annotated[str, Query(max_length=MAX_TEXT, description="Words in title, rule id or entities.")] = "",
    entity: Annotated[str, Query(max_length=1_000, description="`type:id`.")] = "",
) -> AlertFilter:
    return AlertFilter(
        state=tuple(state or ()),
        level=tuple(level or ()),
        rule=tuple(rule or ()),
        source=tuple(source or ()),
        entity_type=tuple(entity_type or ()),
        tag=tuple(tag or ()),
        assignee=tuple(assignee or ()),
        age=age,
        text=q.strip(),
        entity=to_entity(entity) if entity else None,
    )


AlertQuery = Annotated[AlertFilter, Depends(_alerts)]
"""Which alerts, from the query; values of one parameter are alternatives."""


def _cases(
    *,
    state: Annotated[list[CaseState] | None, Query()] = None,
    phase: Annotated[list[Phase] | None, Query()] = None,
    level: Annotated[list[Level] | None, Query()] = None,
    owner: Annotated[list[str] | None, Query(max_length=MAX_CHOICES, description="`nobody` for none.")] = None,
    q: Annotated[str, Query(max_length=MAX_TEXT, description="Words in the title, or an id.")] = "",
) -> CaseFilter:
    return CaseFilter(
        state=tuple(state or ()),
        phase=tuple(phase or ()),
        level=tuple(level or ()),
        owner=tuple(owner or ()),
        text=q.strip(),
    )


CaseQuery = Annotated[CaseFilter, Depends(_cases)]
"""Which cases, from the query."""


def to_entity(text: str) -> Entity:
    """An entity written `type:id`.

    Raises:
        DataError: `request.entity.invalid`.
    """
    kind, _, name = text.partition(":")
    if not kind or not name:
        raise DataError("request.entity.invalid", "an entity is written `type:id`", hint="such as `key:vk_17`")
    return Entity(kind, name)


class Moment(NamedTuple):
    """The last entry of a page: its event time, and its place where times are equal."""

    time: int
    place: int


After = Annotated[str, Query(max_length=64, description="`next` of the page before.")]


def moment_of(after: str) -> Moment | None:
    """Where a list goes on; None for its beginning.

    Raises:
        DataError: `request.cursor.invalid`.
    """
    if not after:
        return None
    time, _, place = after.partition(".")
    try:
        moment = Moment(int(time), int(place))
    except ValueError:
        moment = Moment(1 << 63, 0)
    if not all(-(1 << 63) <= number < 1 << 63 for number in moment):
        raise DataError("request.cursor.invalid", "this is no `next` of a list", at="$query.after")
    return moment


def _decisions(
    *,
    action: Annotated[list[Action] | None, Query()] = None,
    since: Annotated[str, Query(max_length=64, description="Event time from, ISO 8601 or microseconds.")] = "",
    until: Annotated[str, Query(max_length=64, description="Event time to, not included.")] = "",
    entity: Annotated[str, Query(max_length=1_000, description="`type:id`.")] = "",
    reason: Annotated[
        str, Query(max_length=200, description="`rule.<id>`, `model.<feature>`, `fallback.<part>`.")
    ] = "",
    fallback: Annotated[bool | None, Query(description="Answered by policy, or not.")] = None,
    risk: Annotated[int | None, Query(ge=0, le=99, description="Risk score at least.")] = None,
    amount: Annotated[int | None, Query(ge=0, lt=1 << 63, description="Minor units at least.")] = None,
    currency: Annotated[str, Query(max_length=3)] = "",
) -> Filters:
    return Filters(
        actions=tuple(action or ()),
        since=to_time(since, "since"),
        until=to_time(until, "until"),
        entity=to_entity(entity) if entity else None,
        reason=reason,
        fallback=fallback,
        risk_at_least=risk,
        amount_at_least=amount,
        currency=currency,
    )


DecisionQuery = Annotated[Filters, Depends(_decisions)]
"""Which decisions, from the query; values of `action` are alternatives."""


def to_time(text: str, name: str) -> int | None:
    """Microseconds UTC from ISO 8601, in UTC where it says no zone, or from microseconds; None from nothing.

    Raises:
        DataError: `event.time.unparsable`.
    """
    if not text:
        return None
    try:
        return parse_time(text, TimeFormat.EPOCH_US if text.isdecimal() else TimeFormat.ISO)
    except DataError as error:
        raise DataError(error.code, error.message, hint=error.hint, at=f"$query.{name}") from error
