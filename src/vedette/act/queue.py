"""The queue of alerts: what is asked of it, a page of the answer, and how many alerts each further choice would leave.

The values of one facet are alternatives; facets narrow each other. A facet's counts are what the queue would show if
one of its values were chosen, so they heed every other facet and not their own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from vedette.act.alert_tables import ALERT, CELL, ENTITY, cut, entity_key
from vedette.act.grouping import Alert, AlertState
from vedette.core.clock import DAY, MICROS
from vedette.core.db import Connection, sa
from vedette.core.errors import DataError
from vedette.core.event import Entity
from vedette.core.signal import Level

MAX_PAGE = 1_000
HOUR = 3_600 * MICROS
MAX_TEXT = 200
MAX_TERMS = 8
MAX_NAMED = 5_000
"""Alerts of one entity up to which a page begins with them, rather than with the order of the queue."""
MAX_AGED = 50_000
"""Newest alerts among which ages are counted; of more, the counts are \"at least\"."""
NOBODY = "nobody"
"""How a filter names the alerts without an assignee, and those about no entity have this type."""


class Sort(StrEnum):
    """Order of the queue."""

    SEVERITY = "severity"
    """Gravest first, by what `attention.severity` makes of it; then by the risk of what it names; then the oldest."""
    RISK = "risk"
    """Most points now first; `risk.fades` says why a constant is enough."""
    NEWEST = "newest"
    """Last made first."""


class Age(StrEnum):
    """How long ago an alert was made, at most."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"

    @property
    def micros(self) -> int:
        """Its length."""
        return {Age.HOUR: 3_600 * MICROS, Age.DAY: DAY, Age.WEEK: 7 * DAY}[self]


class AlertFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts. Empty means all."""

    state: tuple[AlertState, ...] = ()
    level: tuple[Level, ...] = ()
    rule: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    entity_type: tuple[str, ...] = ()
    """Of what the alert is about; `nobody` when it names nothing."""
    tag: tuple[str, ...] = ()
    assignee: tuple[str, ...] = ()
    """Ids of people; `nobody` for the unassigned."""
    age: Age | None = None
    text: str = ""
    """Words that all stand in title, rule id or entities, in any case."""
    entity: Entity | None = None
    """Alerts whose signals name it."""


class AlertPage(msgspec.Struct, frozen=True):
    """One page of the queue."""

    alerts: list[Alert]
    next: str
    """What to give as `after` for the next page; empty on the last one."""


class Facets(msgspec.Struct, frozen=True):
    """Counts of the queue."""

    total: int
    """Alerts that the filter leaves."""
    counts: Mapping[str, Mapping[str, int]]
    """Facet -> value -> alerts that would be left with it."""


def fetch_page(
    connection: Connection, tenant: str, wanted: AlertFilter, *, sort: Sort, after: str, limit: int, now: int
) -> AlertPage:
    """One page, by the place of the last alert seen: a queue that moves repeats and skips nothing.

    Raises:
        DataError: `alerts.cursor.invalid`.
    """
    order = {Sort.SEVERITY: ALERT.c.urgency, Sort.RISK: ALERT.c.fades, Sort.NEWEST: ALERT.c.created_time}[sort]
    size = max(1, min(limit, MAX_PAGE))
    found: list[Any] = []
    named = _named_by(connection, tenant, wanted.entity)
    if named is not None:
        query = sa.select(order.label("place"), ALERT.c.id).where(*_everything(tenant, wanted, now, named))
        rows = connection.execute(query).all()
        place = _place(after) if after else None
        chosen = sorted(((row.place, row.id) for row in rows if not place or (row.place, row.id) < place), reverse=True)
        return _page(connection, tenant, chosen, size)
    # State by state: each walks its own index from the right end and stops when it has a page.
    for state in wanted.state or tuple(AlertState):
        one = msgspec.structs.replace(wanted, state=(state,))
        query = sa.select(order.label("place"), ALERT.c.id).where(*_everything(tenant, one, now))
        if after:
            query = query.where(sa.tuple_(order, ALERT.c.id) < sa.tuple_(*_place(after)))
        found += connection.execute(query.order_by(order.desc(), ALERT.c.id.desc()).limit(size + 1)).all()
    return _page(connection, tenant, sorted({(row.place, row.id) for row in found}, reverse=True), size)


def _page(connection: Connection, tenant: str, chosen: Sequence[tuple[int, str]], size: int) -> AlertPage:
    where = (ALERT.c.tenant == tenant) & ALERT.c.id.in_([name for _, name in chosen[:size]])
    bodies = {row.id: row.body for row in connection.execute(sa.select(ALERT.c.id, ALERT.c.body).where(where))}
    shown = [bodies[name] for _, name in chosen[:size] if name in bodies]
    cursor = f"{chosen[size - 1][0]}.{chosen[size - 1][1]}" if len(chosen) > size else ""
    return AlertPage([msgspec.json.decode(body, type=Alert) for body in shown], cursor)


def _named_by(connection: Connection, tenant: str, entity: Entity | None) -> list[str] | None:
    """Ids of the alerts that name an entity; None for no entity, and when they are too many to begin with."""
    if entity is None:
        return None
    found = list(connection.execute(alerts_of(tenant, entity).limit(MAX_NAMED + 1)).scalars())
    return found if len(found) <= MAX_NAMED else None


def fetch_facets(connection: Connection, tenant: str, wanted: AlertFilter, *, now: int) -> Facets:
    """Every count, of alerts that look alike to the facets together.

    Without words, entity and age the counts are those that the database keeps, whatever the number of alerts; ages are
    counted among those of the last week, the newest `MAX_AGED` of them. Else every alert that fits is walked over.
    """
    made = ALERT.c.created_time
    always = _always(tenant, wanted, _named_by(connection, tenant, wanted.entity))
    columns = [ALERT.c[name] for name in _COLUMNS.values()]
    ages = [sa.func.count().filter(made > now - age.micros) for age in Age]
    if len(always) > 1 or wanted.age or connection.dialect.name != "sqlite":
        query = sa.select(*columns, sa.func.count(), *ages).where(*always).group_by(*columns)
        return _count(connection.execute(query).all(), wanted)
    cells = [CELL.c[name] for name in _COLUMNS.values()]
    kept = sa.select(*cells, CELL.c.alerts).where(CELL.c.tenant == tenant, CELL.c.alerts > 0)
    held = {tuple(row[:-1]): [row[-1], 0, 0, 0] for row in connection.execute(kept)}
    recent = sa.select(*columns, made).where(*always, made > now - Age.WEEK.micros).order_by(made.desc())
    recent_rows = recent.limit(MAX_AGED).subquery()
    since = recent_rows.c.created_time
    young = [sa.func.count().filter(since > now - age.micros) for age in Age]
    alike = [recent_rows.c[name] for name in _COLUMNS.values()]
    for row in connection.execute(sa.select(*alike, *young).group_by(*alike)):
        held.setdefault(tuple(row[: len(alike)]), [0, 0, 0, 0])[1:] = row[len(alike) :]
    return _count([(*cell, *counts) for cell, counts in held.items()], wanted)


def count_since(connection: Connection, tenant: str, wanted: AlertFilter, *, now: int, since: int) -> int:
    """How many of these alerts were made after a time."""
    query = sa.select(sa.func.count()).where(*_everything(tenant, wanted, now), ALERT.c.created_time > since)
    return connection.execute(query).scalar_one()


def fetch_hours(connection: Connection, tenant: str, *, since: int, until: int) -> dict[tuple[int, Level], int]:
    """(Start of an hour, level) -> alerts made in it."""
    hour = ALERT.c.created_time - ALERT.c.created_time % HOUR
    within = (ALERT.c.tenant == tenant) & (ALERT.c.created_time >= since) & (ALERT.c.created_time < until)
    query = sa.select(hour, ALERT.c.severity_id, sa.func.count()).where(within).group_by(hour, ALERT.c.severity_id)
    rows = connection.execute(query).all()
    return {(start, Level(_LEVELS[severity])): count for start, severity, count in rows}


_COLUMNS = {
    "state": "state",
    "level": "severity_id",
    "rule": "rule_id",
    "source": "source",
    "entity_type": "entity_type",
    "assignee": "assignee",
    "tag": "tags",
}
"""Facet -> its column, in the order of the index."""

_CURSOR = re.compile(r"(-?[0-9]{1,18})\.([A-Za-z0-9_]{1,64})")


def _count(cells: Sequence[Any], wanted: AlertFilter) -> Facets:
    """Cells are rows of one value for each facet, how many alerts have them all, and how many are of each age."""
    size = len(_COLUMNS)
    place = size + (1 + list(Age).index(wanted.age) if wanted.age else 0)
    allowed = [_allowed(name, {cell[at] for cell in cells}, wanted) for at, name in enumerate(_COLUMNS)]
    tested = [at for at, values in enumerate(allowed) if values is not None]
    found: list[dict[Any, int]] = [{} for _ in _COLUMNS]
    ages = dict.fromkeys(map(str, Age), 0)
    total = 0
    for cell in cells:
        missed = [at for at in tested if cell[at] not in (allowed[at] or ())]
        if len(missed) > 1:
            continue
        # What fails one facet alone is what a choice in that facet would bring back.
        for at in missed or range(size):
            counts, value = found[at], cell[at]
            counts[value] = counts.get(value, 0) + cell[place]
        if not missed:
            total += cell[place]
            for at, age in enumerate(Age, size + 1):
                ages[age] += cell[at]
    named = {name: _named(name, counts) for name, counts in zip(_COLUMNS, found, strict=True)}
    return Facets(total, named | {"age": {age: count for age, count in ages.items() if count}})


def _allowed(name: str, held: set[Any], wanted: AlertFilter) -> set[Any] | None:
    """Which of the held values of a column a facet lets pass; None when it lets all of them."""
    chosen = frozenset(_chosen(wanted, name))
    return {value for value in held if not chosen.isdisjoint(_values(name, value))} if chosen else None


def _named(name: str, counts: Mapping[Any, int]) -> dict[str, int]:
    """Counts by the values as people name them, most first."""
    found: Counter[str] = Counter()
    for held, count in counts.items():
        for value in _values(name, held):
            found[value] += count
    return {value: count for value, count in found.most_common() if count}


_LEVELS = {level.severity_id: str(level) for level in Level}


def _values(name: str, held: Any) -> tuple[str, ...]:
    if name == "level":
        return (_LEVELS[held],)
    if name == "tag":
        return tuple(held.split())
    return (held or NOBODY,)


def _chosen(wanted: AlertFilter, name: str) -> list[str]:
    return [cut(str(value)) for value in getattr(wanted, name)]


def _always(tenant: str, wanted: AlertFilter, named: Sequence[str] | None = None) -> list[Any]:
    """The conditions that are no facets. `named`: the alerts of the entity, where they are known."""
    found: list[Any] = [ALERT.c.tenant == tenant]
    terms = wanted.text[:MAX_TEXT].casefold().replace("\x00", "").split()[:MAX_TERMS]
    found += [ALERT.c.words.contains(term, autoescape=True) for term in terms]
    if wanted.entity is not None:
        found.append(ALERT.c.id.in_(alerts_of(tenant, wanted.entity) if named is None else named))
    return found


def _everything(tenant: str, wanted: AlertFilter, now: int, named: Sequence[str] | None = None) -> list[Any]:
    found = _always(tenant, wanted, named)
    for name, column in _COLUMNS.items():
        values = _chosen(wanted, name)
        if values and name == "tag":
            spaced = sa.literal(" ") + ALERT.c.tags + sa.literal(" ")
            found.append(sa.or_(*(spaced.contains(f" {value} ", autoescape=True) for value in values)))
        elif values and name == "level":
            found.append(ALERT.c.severity_id.in_([level.severity_id for level in wanted.level]))
        elif values:
            found.append(ALERT.c[column].in_(["" if value == NOBODY else value for value in values]))
    if wanted.age:
        found.append(ALERT.c.created_time > now - wanted.age.micros)
    return found


def alerts_of(tenant: str, entity: Entity) -> sa.Select[Any]:
    """Ids of the alerts that name an entity."""
    return sa.select(ENTITY.c.alert_id).where(ENTITY.c.tenant == tenant, ENTITY.c.entity == entity_key(entity))


def _place(after: str) -> tuple[int, str]:
    place = _CURSOR.fullmatch(after)
    if place is None:
        raise DataError("alerts.cursor.invalid", "this is no place in the queue", hint="take `next` from a page")
    return int(place[1]), place[2]
