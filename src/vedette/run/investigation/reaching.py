"""What a compromised key could reach, what it did reach, and what breaks when it is ended.

What it *could* reach follows from the policy: its scopes or roles, the routes they open, the merchants it is bound to,
the other accounts it may act for. What it *did* is read from the audit log, which holds every request that was allowed
or refused, from the events that name it, and from the payments made with it. A key of another system, such as a cloud's
access key, has rights that only that system knows: what it did is all that is told.

What breaks is what it did of late: who uses those routes now is who will be refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from vedette.act.playbooks.playbook import Playbook
from vedette.core.clock import DAY
from vedette.core.errors import NotFoundError
from vedette.core.event import Entity, Event
from vedette.judge.decisions.register import Filters, Row
from vedette.prove.access import POLICY, Kind, Level, Principal, permit
from vedette.prove.access.policy import format_scopes
from vedette.prove.audit import AuditRecord, Outcome
from vedette.prove.trail import acts_of
from vedette.run.parts import Parts
from vedette.sense.sources import Source

RECENT = 7 * DAY
"""What was done since then is taken to be needed, microseconds."""
MAX_EVENTS = 500
"""Newest events that are read for what was done."""
MAX_PAYMENTS = 1_000
MAX_SHOWN = 50
"""Longest list of an answer, the most frequent first."""
KEY, APP, PERSON = "key", "app", "user"
"""Types of the entities that may be ours."""


class Route(NamedTuple):
    """A route of the API, and what it asks for."""

    method: str
    path: str
    resource: str
    verb: str
    by_account: bool = False
    """Also for who is bound to merchants, for theirs."""


class Lent(msgspec.Struct, frozen=True):
    """Another account that it may act for."""

    account: str
    scopes: str
    merchants: tuple[str, ...]
    """Empty: all of them."""
    expires: int


class Could(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy lets it do."""

    kind: Kind
    name: str
    state: str
    """`active`, or how it ended: `revoked`, `expired`, `disabled`."""
    mode: str
    """`test` or `live`; empty for a person, who sees both."""
    holds: tuple[str, ...]
    """Scopes such as `charges:write`; of a person, roles."""
    merchants: tuple[str, ...]
    """That it is bound to; empty: all of the tenant."""
    routes: tuple[Route, ...]
    accounts: tuple[Lent, ...] = ()


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done, and how often."""

    name: str
    count: int
    refused: int = 0
    first: int
    last: int


class Paid(msgspec.Struct, frozen=True, kw_only=True):
    """Payments of one merchant in one currency."""

    merchant: str
    currency: str
    payments: int
    amount_minor: int
    last: int


class Did(msgspec.Struct, frozen=True, kw_only=True):
    """What it did, the most frequent first."""

    requests: int
    """Of the audit log, refused ones too."""
    since: int
    """How far back the audit log was read, microseconds UTC; 0: to its beginning."""
    actions: tuple[Used, ...]
    """`resource.verb`."""
    origins: tuple[Used, ...]
    """Addresses that it came from."""
    targets: tuple[Used, ...]
    """Ids that were acted on."""
    events: int
    """That name it, in all sources."""
    sources: dict[str, int]
    operations: tuple[Used, ...]
    """Of its newest events: what was called, by source."""
    near: tuple[Used, ...]
    """Entities that stand in those events, such as accounts and addresses."""
    payments: tuple[Paid, ...]


class Breaks(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is refused from then on."""

    what: str
    count: int
    """Times in the last seven days."""
    last: int


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """How it is ended."""

    route: str = ""
    """Of the API; empty: another system has it."""
    playbooks: tuple[str, ...] = ()
    """That take such a thing: each shows its plan and its blast radius before it is started."""


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    entity: str
    could: Could | None
    """None: its rights are another system's."""
    did: Did
    unused: tuple[str, ...]
    """`resource.verb` that it could use and was not seen to: they can go first."""
    breaks: tuple[Breaks, ...]
    instead: tuple[str, ...]
    """Other keys that may do all that this one did of late."""
    ends: Ends


class _Own(NamedTuple):
    principal: Principal
    name: str
    state: str
    ends: str


def read_reach(
    parts: Parts, tenant: str, entity: Entity, routes: Iterable[Route], playbooks: Mapping[str, Playbook]
) -> Reach:
    """What an entity could reach and did reach.

    Args:
        parts: Where.
        tenant: Whose.
        entity: A key, an app or a person of ours, or anything that events name.
        routes: All routes of the API.
        playbooks: Those that can be started.

    Raises:
        NotFoundError: `entities.entity.unknown`: it is none of ours, and nothing is known of it.
    """
    own = _own(parts, tenant, entity)
    acts = acts_of(parts.log, tenant, entity.id) if own else None
    did = _did(parts, tenant, entity, acts.records if acts else [], acts.since if acts else 0)
    if own is None and not did.events and not did.payments:
        raise NotFoundError("entities.entity.unknown", "nothing is known of such an entity", at=entity.key[:64])
    could = _could(parts, own, routes) if own else None
    since = parts.clock.now() - RECENT
    recent = [each for each in (acts.records if acts else []) if each.time >= since]
    allowed = [each for each in recent if each.outcome is not Outcome.DENIED and _pair(each.action) in POLICY]
    granted = {f"{route.resource}.{route.verb}" for route in could.routes} if could else set[str]()
    taking = tuple(name for name, book in sorted(playbooks.items()) if _takes(book, entity.type))
    return Reach(
        entity=entity.key,
        could=could,
        did=did,
        unused=tuple(sorted(granted - {each.name for each in did.actions})),
        breaks=_breaks(allowed, () if recent else did.operations, did.payments, since),
        instead=_instead(parts, own.principal, {each.action for each in allowed}) if own else (),
        ends=Ends(route=own.ends if own else "", playbooks=taking),
    )


def operation(event: Event, sources: Mapping[str, Source]) -> str:
    """What an event says was called, by its source's map; empty where it does not say."""
    source = sources.get(event.source)
    read = source.ocsf.get("api.operation") if source else None
    named: object = read(event.data) if read else None
    return named if isinstance(named, str) else ""


def may(principal: Principal, route: Route) -> bool:
    """Whether the policy lets a principal use a route, as a request would be asked."""
    account = min(principal.accounts, default=None) if route.by_account else None
    return not permit(principal, route.resource, route.verb, account=account)


def is_ours(parts: Parts, tenant: str, entity: Entity) -> bool:
    """Whether it is an API key or an app of the tenant, used or not."""
    return entity.type in {KEY, APP} and _own(parts, tenant, entity) is not None


def _own(parts: Parts, tenant: str, entity: Entity) -> _Own | None:
    access, now = parts.access, parts.clock.now()
    if entity.type == KEY:
        for key in access.keys(tenant):
            if key.id == entity.id:
                over = "expired" if key.expires is not None and key.expires <= now else "active"
                made = Principal(tenant, key.id, Kind.KEY, scopes=key.scopes, mode=key.mode, accounts=key.accounts)
                return _Own(made, key.name, "revoked" if key.revoked is not None else over, f"DELETE /v1/keys/{key.id}")
    if entity.type in {KEY, APP}:
        for app in access.apps.list(tenant):
            if app.id == entity.id:
                made = Principal(tenant, app.id, Kind.APP, scopes=app.scopes, mode=app.mode)
                state = "active" if app.disabled is None else "disabled"
                return _Own(made, app.name, state, f"DELETE /v1/apps/{app.id}")
    if entity.type == PERSON:
        for person in access.people.list(tenant):
            if person.id == entity.id:
                made = Principal(tenant, person.id, Kind.PERSON, roles=person.roles, accounts=person.accounts)
                state = "disabled" if person.disabled else "active"
                return _Own(made, person.name, state, f"DELETE /v1/people/{person.id}")
    return None


def _could(parts: Parts, own: _Own, routes: Iterable[Route]) -> Could:
    principal, now = own.principal, parts.clock.now()
    held = parts.access.connections.held(principal.tenant) if principal.kind is not Kind.PERSON else ()
    lent = [
        Lent(each.account, format_scopes(each.scopes), tuple(sorted(each.merchants)), each.expires)
        for each in held
        if each.holds(now) and each.mode is principal.mode
    ]
    scopes = [
        f"{name}:{level.name.lower()}" for name, level in sorted(principal.scopes.items()) if level is not Level.NONE
    ]
    return Could(
        kind=principal.kind,
        name=own.name,
        state=own.state,
        mode=principal.mode or "",
        holds=tuple(scopes or sorted(principal.roles)),
        merchants=tuple(sorted(principal.accounts)),
        routes=tuple(route for route in routes if may(principal, route)),
        accounts=tuple(lent),
    )


def _did(parts: Parts, tenant: str, entity: Entity, acts: Sequence[AuditRecord], since: int) -> Did:
    seen = parts.sightings.seen(tenant, entity)
    page = parts.sightings.timeline(tenant, entity, limit=MAX_EVENTS)
    events = parts.sightings.events(parts.log, tenant, entity, page)
    called = [(f"{event.source} {operation(event, parts.sources)}".strip(), event) for event in events]
    rows = parts.register.find(tenant, Filters(entity=entity), limit=MAX_PAYMENTS)
    return Did(
        requests=len(acts),
        since=since,
        actions=_used((each.action, each.time, each.outcome is Outcome.DENIED) for each in acts),
        origins=_used((each.origin, each.time, each.outcome is Outcome.DENIED) for each in acts if each.origin),
        targets=_used((each.target, each.time, each.outcome is Outcome.DENIED) for each in acts if each.target),
        events=seen.count,
        sources=seen.sources,
        operations=_used((name, event.event_time, _failed(event, parts.sources)) for name, event in called),
        near=_used(
            (other.key, event.event_time, _failed(event, parts.sources))
            for event in events
            for other in set(event.entities) - {entity}
        ),
        payments=_paid(rows),
    )


def _failed(event: Event, sources: Mapping[str, Source]) -> bool:
    source = sources.get(event.source)
    read = source.ocsf.get("api.response.error") if source else None
    return bool(read and isinstance(read(event.data), str))


def _used(done: Iterable[tuple[str, int, bool]]) -> tuple[Used, ...]:
    """Counts (name, time, refused), the most frequent first."""
    held: dict[str, list[int]] = {}
    for name, time, refused in done:
        count, no, first, last = held.get(name, (0, 0, time, time))
        held[name] = [count + 1, no + refused, min(first, time), max(last, time)]
    found = [
        Used(name=name, count=n, refused=no, first=first, last=last) for name, (n, no, first, last) in held.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.count, each.name))[:MAX_SHOWN])


def _paid(rows: Sequence[Row]) -> tuple[Paid, ...]:
    count, amount, last = Counter[tuple[str, str]](), Counter[tuple[str, str]](), dict[tuple[str, str], int]()
    for row in rows:
        if row.amount_minor is not None:
            here = row.merchant, row.currency
            count[here] += 1
            amount[here] += row.amount_minor
            last[here] = max(last.get(here, 0), row.time)
    ordered = sorted(count, key=lambda here: (-count[here], here))[:MAX_SHOWN]
    return tuple(
        Paid(merchant=here[0], currency=here[1], payments=count[here], amount_minor=amount[here], last=last[here])
        for here in ordered
    )


def _breaks(
    allowed: Sequence[AuditRecord], operations: Sequence[Used], payments: Sequence[Paid], since: int
) -> tuple[Breaks, ...]:
    """What was done of late: requests by what they ask for, calls elsewhere, and the merchants that were paid."""
    asked = _used((each.action, each.time, False) for each in allowed)
    called = [each for each in operations if each.last >= since and each.count > each.refused]
    paid = [each for each in payments if each.last >= since]
    return (
        *(Breaks(what=each.name, count=each.count, last=each.last) for each in (*asked, *called)),
        *(Breaks(what=f"payments of {each.merchant}", count=each.payments, last=each.last) for each in paid),
    )


def _instead(parts: Parts, principal: Principal, needed: set[str]) -> tuple[str, ...]:
    """Ids of the tenant's other live keys that reach as many merchants and all that was needed."""
    now = parts.clock.now()
    found = []
    for key in parts.access.keys(principal.tenant) if needed and principal.kind is Kind.KEY else ():
        live = key.revoked is None and (key.expires is None or key.expires > now)
        wide = not key.accounts or (principal.accounts and principal.accounts <= key.accounts)
        if key.id == principal.id or key.mode is not principal.mode or not live or not wide:
            continue
        made = Principal(key.tenant, key.id, Kind.KEY, scopes=key.scopes, mode=key.mode)
        if all(not permit(made, *_pair(action)) for action in needed):
            found.append(key.id)
    return tuple(found[:MAX_SHOWN])


def _pair(action: str) -> tuple[str, str]:
    resource, _, verb = action.partition(".")
    return resource, verb


def _takes(playbook: Playbook, kind: str) -> bool:
    return any(f"alert.entities.{kind}" in each.source for each in playbook.inputs.values())
