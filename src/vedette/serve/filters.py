"""Filters of lists as query parameters, the same for the API and the console."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query

from vedette.act.cases import CaseFilter, CaseState, Phase
from vedette.act.grouping import AlertState
from vedette.act.queue import MAX_TEXT, Age, AlertFilter
from vedette.core.errors import DataError
from vedette.core.event import Entity
from vedette.core.signal import Level

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
