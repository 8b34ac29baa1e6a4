"""Groups: alerts that belong together though their full fingerprints differ; a storm becomes a few things to look at.

An alert is the signals of one full fingerprint: rule, key and window. A group is a partial one: what happened to one
entity, whatever rules saw it, or what one rule does everywhere. Which of the two is decided by how rare its rules are
in the window that is looked at: a rule that fires on half of all entities says nothing of any of them.

- **Rarity** of a rule is `log(1 + entities / entities it fired on) / log(1 + entities)`, 0..1; 1 for one that fired on
  a single entity.
- A rule **storms** when it makes at least `STORM` alerts about different entities in the window.
- Alerts about an entity on which a rule fired that does not storm, or at least `CHAIN` different ones, are one group.
  What storms and stands alone is folded into one group for each rule.
- People's merges go before all of that.
- **Score** is the sum over the group's rules of their points now, times rarity: a chain of rare rules leads, however
  many alerts a broken rule makes. A rule's further alerts count with the logarithm of their number.

A group has no state of its own. It is open while one of its alerts is, by the law of each alert: that one of them was
closed closes nothing else. Grouping changes no alert, so nothing is lost by it.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from vedette.act.alert_tables import ALERT
from vedette.act.grouping import Alert, AlertState
from vedette.act.risk import faded
from vedette.core.clock import DAY
from vedette.core.db import Connection, sa
from vedette.core.signal import Level

STORM = 25
"""Alerts of one rule about different entities from which on it storms."""
CHAIN = 4
"""So many different storming rules on one entity are a chain all the same."""
WINDOW = DAY
"""Alerts that changed in this time are looked at, microseconds."""
MAX_ALERTS = 20_000
"""Most alerts that are grouped at once: the riskiest open ones."""
MAX_GROUPS = 500
MAX_MEMBERS = 1_000


class Part(msgspec.Struct, frozen=True):
    """What grouping needs of an alert."""

    id: str
    rule_id: str
    entity: str
    """Key of what it is about; empty for nothing."""
    fades: int
    """When it has faded to one point, microseconds UTC."""
    severity_id: int
    first_time: int
    last_time: int
    title: str
    tags: tuple[str, ...] = ()
    merged: str = ""
    """Merge that people put it in."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts that belong together."""

    id: str
    kind: str
    """`entity`, `rule` or `merge`."""
    about: str
    """The entity, the rule, or the title that people gave."""
    title: str
    score: float
    level: Level
    alerts: tuple[str, ...]
    """Ids of the members, the riskiest first, at most `MAX_MEMBERS`."""
    count: int
    """All of them."""
    rules: tuple[str, ...]
    entities: int
    tags: tuple[str, ...]
    """ATT&CK tags in the order in which they were first seen."""
    first_time: int
    last_time: int


_LEVELS = {level.severity_id: level for level in Level}


def fetch_parts(connection: Connection, tenant: str, *, now: int, merged: Mapping[str, str]) -> list[Part]:
    """The riskiest open alerts that changed within the window."""
    open_states = [str(AlertState.NEW), str(AlertState.IN_PROGRESS)]
    query = (
        sa.select(ALERT.c.body, ALERT.c.fades)
        .where(ALERT.c.tenant == tenant, ALERT.c.updated_time > now - WINDOW, ALERT.c.state.in_(open_states))
        .order_by(ALERT.c.fades.desc(), ALERT.c.id.desc())
        .limit(MAX_ALERTS)
    )
    alerts = ((msgspec.json.decode(body, type=_Slim), fades) for body, fades in connection.execute(query))
    return [to_part(alert, fades, merged.get(alert.id, "")) for alert, fades in alerts]


class _Entity(msgspec.Struct):
    type: str
    id: str


class _Slim(msgspec.Struct):
    """What of a stored alert is read: a tenth of the time that the whole takes."""

    id: str
    rule_id: str
    title: str
    level: Level
    entity: _Entity | None
    first_time: int
    last_time: int
    tags: tuple[str, ...] = ()


def to_part(alert: Alert | _Slim, fades: int, merged: str = "") -> Part:
    """What grouping needs of an alert."""
    entity = f"{alert.entity.type}:{alert.entity.id}" if alert.entity else ""
    times = (alert.first_time, alert.last_time)
    return Part(
        alert.id, alert.rule_id, entity, fades, alert.level.severity_id, *times, alert.title, alert.tags, merged
    )


def group_parts(
    parts: Sequence[Part], now: int, titles: Mapping[str, str] | None = None, *, limit: int | None = None
) -> list[Group]:
    """Groups of alerts, the highest score first; of equal ones by id. Any order of the alerts gives the same.

    Args:
        parts: Open alerts.
        now: For their points, microseconds UTC.
        titles: Merge -> the title that people gave it.
        limit: Most groups; only those that are given are made whole.
    """
    spread: defaultdict[str, set[str]] = defaultdict(set)
    on_entity: defaultdict[str, set[str]] = defaultdict(set)
    for part in parts:
        spread[part.rule_id].add(part.entity)
        on_entity[part.entity].add(part.rule_id)
    storming = {rule for rule, entities in spread.items() if len(entities) >= STORM}
    every = max(1, len(on_entity))
    rarity = {rule: math.log1p(every / len(found)) / math.log1p(every) for rule, found in spread.items()}
    whole = {
        entity for entity, rules in on_entity.items() if entity and (rules - storming or len(rules & storming) >= CHAIN)
    }
    held: defaultdict[tuple[str, str], list[Part]] = defaultdict(list)
    for part in parts:
        if part.merged:
            held["merge", part.merged].append(part)
        elif part.entity in whole:
            held["entity", part.entity].append(part)
        else:
            held["rule", part.rule_id].append(part)
    points = {part.id: faded(part.fades, max(now, part.last_time)) for part in parts}
    scores = {each: _score(found, points, rarity) for each, found in held.items()}
    ranked = sorted(((-score, _id(*each), each) for each, score in scores.items()))[:limit]
    return [
        _group(group_id, each, -score, held[each], points, rarity, titles or {}) for score, group_id, each in ranked
    ]


def _id(kind: str, about: str) -> str:
    return "gr_" + hashlib.sha256(msgspec.json.encode([kind, about])).hexdigest()[:26]


def _score(parts: list[Part], points: Mapping[str, float], rarity: Mapping[str, float]) -> float:
    by_rule: defaultdict[str, list[float]] = defaultdict(list)
    for part in parts:
        by_rule[part.rule_id].append(points[part.id])
    each = (rarity[rule] * max(found) * (1 + math.log2(len(found)) / 4) for rule, found in sorted(by_rule.items()))
    return round(math.fsum(each), 3)


def _group(  # noqa: PLR0917 - the parts of a group
    group_id: str,
    key: tuple[str, str],
    score: float,
    parts: list[Part],
    points: Mapping[str, float],
    rarity: Mapping[str, float],
    titles: Mapping[str, str],
) -> Group:
    kind, about = key
    ordered = sorted(parts, key=lambda part: (-points[part.id] * rarity[part.rule_id], part.id))
    in_time = sorted(parts, key=lambda part: (part.first_time, part.id))
    lead = ordered[0]
    title = titles.get(about, about) if kind == "merge" else lead.title
    return Group(
        id=group_id,
        kind=kind,
        about=about,
        title=title,
        score=score,
        level=_LEVELS[max(part.severity_id for part in parts)],
        alerts=tuple(part.id for part in ordered[:MAX_MEMBERS]),
        count=len(parts),
        rules=tuple(dict.fromkeys(part.rule_id for part in ordered)),
        entities=len({part.entity for part in parts}),
        tags=tuple(dict.fromkeys(tag for part in in_time for tag in part.tags)),
        first_time=min(part.first_time for part in parts),
        last_time=max(part.last_time for part in parts),
    )


def similar(
    of: Iterable[str], held: Mapping[str, Iterable[str]], counts: Mapping[str, int], limit: int = 10
) -> list[tuple[str, float, tuple[str, ...]]]:
    """Alerts that share observables with one, the most telling first: (alert, score 0..1, what is shared).

    What few alerts name tells more: each observable weighs `1 / log2(1 + alerts that name it)`.

    Args:
        of: Observables of the alert.
        held: Alert -> its observables.
        counts: Observable -> alerts that name it.
        limit: Most answers.
    """
    mine = set(of)
    weights = {each: 1 / math.log2(1 + max(1, counts.get(each, 1))) for each in mine}
    total = math.fsum(weights.values()) or 1.0
    found = []
    for alert_id, observables in held.items():
        shared = sorted(mine & set(observables))
        if shared:
            found.append((alert_id, round(math.fsum(weights[each] for each in shared) / total, 4), tuple(shared)))
    return sorted(found, key=lambda one: (-one[1], one[0]))[:limit]
