"""What an entity's newest events tell: a line for each, and who else is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

from vedette.core.event import Entity, Event
from vedette.core.money import EXPONENTS
from vedette.judge.decisions.register import to_amount
from vedette.run.investigation.reaching import operation
from vedette.run.platform import Platform
from vedette.sense.sightings import LABEL_SOURCE, Cursor
from vedette.sense.sources import Source
from vedette.serve.console.format import entity_url, money

NEIGHBOURS = 24
"""Most entities of a graph beside the one it is about."""
LINKS = 60
"""Most links of a graph."""
WITHIN = 100
"""Events that a graph looks at: bounded, so that a hub costs what any entity costs."""
_NAMES = ("type", "eventType", "eventName", "event_type", "name", "action", "syscall", "request", "msg", "message")
_FIELDS = 3
_LONGEST = 160


def gist(event: Event, sources: Mapping[str, Source]) -> str:
    """A line about an event: what was done, and how much money it is about."""
    data = event.data
    if event.source == LABEL_SOURCE:
        return f"label: {'fraud' if data.get('fraud') else 'genuine'} by {data.get('kind', 'somebody')}"
    done = operation(event, sources)
    if not done:
        done = next((text for name in _NAMES if isinstance(text := data.get(name), str) and text), "")
    amount, currency = to_amount(event.source, data)
    if amount is not None and currency in EXPONENTS:
        done = f"{done or 'payment'} of {money(amount, currency)}"
    if not done:
        plain = ((name, value) for name, value in data.items() if isinstance(value, str | int | float))
        done = ", ".join(f"{name} {value}" for name, value in list(plain)[:_FIELDS])
    return done if len(done) <= _LONGEST else f"{done[:_LONGEST]}…"


def recent_events(
    platform: Platform, tenant: str, entity: Entity, *, since: int | None = None, until: int | None = None
) -> list[Event]:
    """The entity's newest events of [since, until), event times in microseconds UTC."""
    before = None if until is None else Cursor(until, 0)
    page = platform.sightings.timeline(tenant, entity, since=since, before=before, limit=WITHIN)
    return platform.sightings.events(platform.log, tenant, entity, page)


def to_graph(platform: Platform, tenant: str, entity: Entity, events: Iterable[Event]) -> dict[str, Any]:
    """Entities that stand in the same events, the most frequent ones, and how often they meet."""
    together: Counter[Entity] = Counter()
    pairs: Counter[tuple[Entity, Entity]] = Counter()
    for event in events:
        others = sorted(set(event.entities) - {entity})
        together.update(others)
        pairs.update(combinations(others, 2))
    shown = [each for each, _ in sorted(together.items(), key=lambda item: (-item[1], item[0]))[:NEIGHBOURS]]
    now = platform.clock.now()

    def node(each: Entity) -> dict[str, Any]:
        return {
            "id": each.key,
            "label": f"{each.type} {each.id}",
            "kind": each.type,
            "risk": platform.alerts.risk(tenant, each, now),
            "url": entity_url(each),
        }

    links = [((entity, each), together[each]) for each in shown]
    among = sorted(
        ((pair, times) for pair, times in pairs.items() if pair[0] in shown and pair[1] in shown and times > 1),
        key=lambda item: (-item[1], item[0]),
    )
    edges = [
        {"from": one.key, "to": other.key, "weight": times}
        for (one, other), times in [*links, *among[: LINKS - len(links)]]
    ]
    return {"nodes": [{**node(entity), "root": True}, *map(node, shown)] if shown else [], "edges": edges}
