"""Which open alerts are of one incident, though different rules raised them about different things.

An alert **reaches** what it names and what the events behind it name. Two alerts are of one incident when they reach
the same thing and that thing is rare: a person, an address, a device, a card, a host, a cloud key. A merchant, an
account, a database or a program is where things happen, not who does them, and joins nothing; nor does what more than
`HUB` alerts about different things reach, such as the address of an office. From one alert to the next the incident
grows, at most `MAX_HOPS` times and to `MAX_ALERTS` alerts.

A person has one name here: letters count without their case, and the session of a cloud role stands for the person it
is named after (`arn:aws:sts::1:assumed-role/Admin/ada@x` is `ada@x`), as single sign-on names it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from vedette.act.grouping import Alert
from vedette.act.groups import MAX_GROUPS
from vedette.core.errors import NotFoundError
from vedette.core.event import Entity
from vedette.run.investigation.seeing import named, seen_again
from vedette.run.parts import Parts
from vedette.run.pipeline import decided

PLACES = frozenset({"merchant", "account", "database", "app", "domain", "terminal", "group", "issuer"})
"""Types of entities that join no alerts."""
HUB = 12
"""Alerts about more different things than these reach it: it joins none of them."""
MAX_HOPS = 6
MAX_ALERTS = 200
MAX_LOOKED = 300
"""Other alerts that are compared."""
MAX_SIGNALS = 50
"""Signals of an alert whose events are looked at."""
MAX_EVENTS = 20
"""Events of an alert that are looked at."""


def gather(parts: Parts, tenant: str, alert_ids: Sequence[str]) -> list[str]:
    """Open alerts of the same incident as some, in the order in which they were reached; those themselves first.

    Alerts that stand in a case already are of that case and lead nowhere.
    """
    open_ones = _open(parts, tenant, alert_ids)
    reached = reach(parts, tenant, open_ones)
    return join(list(alert_ids), reached, {alert.id: about(alert) for alert in open_ones})


def join(begin: Sequence[str], reached: Mapping[str, frozenset[str]], about: Mapping[str, str]) -> list[str]:
    """What hangs together with some alerts; pure.

    Args:
        begin: Alerts to begin with.
        reached: Alert -> what it reaches.
        about: Alert -> what it is about: a thing that alerts about more than `HUB` different ones reach joins none.
    """
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for alert in sorted(reached):
        for name in reached[alert]:
            holders[name].append(alert)
    joins = {name: held for name, held in holders.items() if len({about[one] for one in held}) <= HUB}
    found, edge = list(dict.fromkeys(begin)), list(begin)
    for _ in range(MAX_HOPS):
        near = [other for one in edge for name in sorted(reached.get(one, ())) for other in joins.get(name, ())]
        edge = [one for one in dict.fromkeys(near) if one not in set(found)]
        found += edge
        if not edge or len(found) >= MAX_ALERTS:
            break
    return found[: max(MAX_ALERTS, len(begin))]


def reach(parts: Parts, tenant: str, alerts: Sequence[Alert]) -> dict[str, frozenset[str]]:
    """Alert -> the names of what it and its events name, places left out."""
    return {alert.id: frozenset(map(to_name, _everything(parts, tenant, alert))) - {""} for alert in alerts}


def _everything(parts: Parts, tenant: str, alert: Alert) -> set[Entity]:
    signals = parts.alerts.signals(tenant, alert.id, limit=MAX_SIGNALS)
    wanted = {one: (*signal.entities, *alert.entities) for signal in signals for one in named(signal)}
    found = set(alert.entities)
    for one, entities in list(wanted.items())[:MAX_EVENTS]:
        event = seen_again(parts, tenant, one, entities)
        # Every payment of a shop is made with its key, the shop's own and a stranger's.
        paid = one.source == decided.SOURCE
        found |= {each for each in event.entities if not paid or each.type != "key"} if event else set()
    return found


def to_name(entity: Entity) -> str:
    """How a thing is called when alerts are compared; empty for a place."""
    if entity.type in PLACES:
        return ""
    if entity.type != "user":
        return f"{entity.type}:{entity.id}"
    _, _, session = entity.id.partition(":assumed-role/")
    who = session.rpartition("/")[2] if "@" in session else entity.id
    return f"user:{who.casefold()}"


def _open(parts: Parts, tenant: str, alert_ids: Iterable[str]) -> list[Alert]:
    """The alerts themselves, and the open ones that are in no case: those of the groups of the highest score."""
    wanted = list(dict.fromkeys(alert_ids))
    ranked = (one for group in parts.merging.groups(tenant, limit=MAX_GROUPS) for one in group.alerts)
    others = (one for one in ranked if one not in wanted and parts.cases.of_alert(tenant, one) is None)
    found: list[Alert] = []
    for alert_id in [*wanted, *islice(others, MAX_LOOKED)]:
        try:
            found.append(parts.alerts.get(tenant, alert_id))
        except NotFoundError:
            continue
    return found


def about(alert: Alert) -> str:
    """What an alert is about, by a name; the alert itself where it names nothing."""
    return alert.entity.key if alert.entity else alert.id
