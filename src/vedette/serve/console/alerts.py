"""The queue of alerts, and one alert: what happened, why, and what to do about it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from vedette.act.attention import recipient, severity
from vedette.act.grouping import Alert, AlertState, Verdict
from vedette.act.playbooks.playbook import Playbook
from vedette.act.playbooks.responder import alert_scope, bind
from vedette.act.queue import NOBODY, Age, AlertFilter, Facets, Sort
from vedette.act.triage import UNDO_S, Changed, Turn
from vedette.core.clock import MICROS
from vedette.core.errors import DataError, Problems, VedetteError
from vedette.core.signal import Level
from vedette.run.investigation.findings import group_of
from vedette.run.pipeline.decided import SOURCE
from vedette.serve.console.alert_groups import beside
from vedette.serve.console.choices import PAGED, Facet, Names, Query, address, facet
from vedette.serve.console.format import span
from vedette.serve.console.page import show
from vedette.serve.filters import AlertQuery, to_entity
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, act, look

router = APIRouter()

PATH = "/alerts"
SIZE = 50
"""Alerts of one page."""
OPEN: Query = (("state", AlertState.NEW.value), ("state", AlertState.IN_PROGRESS.value))
"""What the queue shows when nothing is asked."""
MAX_RELATED = 8
MAX_RISKS = 12
MAX_SIGNALS = 100

Reader = Annotated[Visitor, look("alerts", "read")]
Worker = Annotated[Visitor, act("alerts", "write")]

CHANGES: dict[str, dict[str, Any]] = {
    "acknowledge": {"state": AlertState.IN_PROGRESS},
    "true_positive": {"state": AlertState.RESOLVED, "verdict": Verdict.TRUE_POSITIVE},
    "false_positive": {"state": AlertState.RESOLVED, "verdict": Verdict.FALSE_POSITIVE},
    "benign": {"state": AlertState.RESOLVED, "verdict": Verdict.BENIGN},
    "suppress": {"state": AlertState.SUPPRESSED},
    "reopen": {"state": AlertState.NEW},
    "release": {"assignee": ""},
}
"""What a button does."""
SAID = {
    "acknowledge": "taken by you",
    "true_positive": "resolved: true positive",
    "false_positive": "resolved: false positive",
    "benign": "resolved: benign",
    "suppress": "suppressed",
    "reopen": "opened again",
    "release": "given back",
}


# The queue


@router.get(PATH, response_model=None)
def list_alerts(
    *,
    request: Request,
    visitor: Reader,
    platform: Served,
    wanted: AlertQuery,
    sort: Sort = Sort.SEVERITY,
    after: Annotated[str, "place in the queue"] = "",
) -> Response:
    """The queue; without a question, what is open."""
    query = request.query_params.multi_items()
    if not query:
        query, wanted = list(OPEN), AlertFilter(state=(AlertState.NEW, AlertState.IN_PROGRESS))
    return _queue(request, visitor, platform, wanted=wanted, query=query, sort=sort, after=after)


def _queue(
    request: Request,
    visitor: Visitor,
    platform: Served,
    *,
    wanted: AlertFilter,
    query: Query,
    sort: Sort,
    after: str = "",
    **more: Any,
) -> HTMLResponse:
    tenant, now = visitor.tenant, platform.clock.now()
    # Before the page is read: what comes meanwhile is counted as new rather than missed.
    newest = platform.alerts.newest(tenant)
    page = platform.alerts.page(tenant, wanted, sort=sort, after=after, limit=SIZE, now=now)
    counts = platform.alerts.facets(tenant, wanted, now=now)
    names = Names(platform, tenant)
    shown: dict[str, Any] = {
        "alerts": page.alerts,
        "total": counts.total,
        "facets": _facets(query, counts, names, visitor, platform),
        "views": _views(query, visitor),
        "names": names,
        "query": query,
        "here_url": address(PATH, query),
        "fresh_url": address(f"{PATH}/fresh", query, drop=PAGED, since=str(newest)),
        "change_url": address(f"{PATH}/changes", query),
        "first_url": address(PATH, query, drop=PAGED) if after else "",
        "next_url": address(PATH, query, after=page.next) if page.next else "",
        "sorts": [(each.value, address(PATH, query, drop=PAGED, sort=each.value), each is sort) for each in Sort],
        "text": wanted.text,
        "about": wanted.entity,
        "no_entity_url": address(PATH, query, drop=["entity", *PAGED]),
        "undo": None,
        "undo_s": UNDO_S,
    }
    return show(request, visitor, "alerts.html", fragment="queue", **(shown | more))


def _facets(query: Query, counts: Facets, names: Names, visitor: Visitor, platform: Served) -> list[Facet]:
    of = counts.counts

    def rule(value: str) -> str:
        held = platform.rules.get(value) or platform.correlations.get(value)
        return held.title if held and held.title else value

    def person(value: str) -> str:
        return (
            "nobody" if value == NOBODY else f"{names(value)} (you)" if value == visitor.principal.id else names(value)
        )

    levels = [level.value for level in reversed(Level)]
    ages = [age.value for age in Age]
    return [
        facet(
            PATH, query, "state", of["state"], label="State", kind="state", order=[each.value for each in AlertState]
        ),
        facet(PATH, query, "level", of["level"], label="Level", kind="level", order=levels),
        facet(PATH, query, "age", of["age"], label="Made within", order=ages, single=True),
        facet(PATH, query, "assignee", of["assignee"], label="Assignee", name_of=person),
        facet(PATH, query, "rule", of["rule"], label="Rule", name_of=rule),
        facet(PATH, query, "source", of["source"], label="Source"),
        facet(PATH, query, "entity_type", of["entity_type"], label="Entity"),
        facet(PATH, query, "tag", of["tag"], label="ATT&CK and tags", kind="attack"),
    ]


def _views(query: Query, visitor: Visitor) -> list[tuple[str, str, bool]]:
    """Ready questions: label, address, and whether it is the one asked."""
    asked = sorted(pair for pair in query if pair[0] not in {*PAGED, "sort"})
    ready: list[tuple[str, Query]] = [
        ("Open", OPEN),
        ("Mine", (*OPEN, ("assignee", visitor.principal.id))),
        ("Nobody's", (*OPEN, ("assignee", NOBODY))),
        ("Resolved", (("state", "resolved"),)),
        ("All", ()),
    ]
    sort = [pair for pair in query if pair[0] == "sort"] or [("sort", Sort.SEVERITY.value)]
    return [(label, address(PATH, [*view, *sort]), sorted(view) == asked) for label, view in ready]


@router.get(f"{PATH}/fresh", response_model=None)
def count_fresh(request: Request, visitor: Reader, platform: Served, wanted: AlertQuery, since: int) -> Response:
    """How many alerts came since the page was made: a number to click, never a row that moves."""
    count = platform.alerts.count_since(visitor.tenant, wanted, now=platform.clock.now(), since=since)
    query = [pair for pair in request.query_params.multi_items() if pair[0] != "since"]
    url = address(PATH, query or [("sort", Sort.SEVERITY.value)])
    return show(
        request,
        visitor,
        "alerts_fresh.html",
        count=count,
        url=url,
        fresh_url=str(request.url.path) + "?" + request.url.query,
    )


@router.post(f"{PATH}/changes", response_model=None)
def change_alerts(
    *,
    request: Request,
    visitor: Worker,
    platform: Served,
    wanted: AlertQuery,
    do: Annotated[str, Form()],
    alert: Annotated[list[str] | None, Form()] = None,
    sort: Sort = Sort.SEVERITY,
    after: str = "",
    back: Annotated[str, Form()] = "",
) -> Response:
    """Changes the alerts that were picked, and shows the queue as it is then, with the way to take it back."""
    made = platform.triage.change(
        visitor.tenant, alert or [], operator=visitor.principal.id, origin=visitor.origin, **_change(do, visitor)
    )
    undo = _undo(made, do)
    if back:
        return _to_alert(request, visitor, platform, back, undo)
    query = request.query_params.multi_items()
    return _answer(request, visitor, platform, wanted=wanted, query=query, sort=sort, after=after, undo=undo)


@router.post(f"{PATH}/undo", response_model=None)
def undo_change(
    *,
    request: Request,
    visitor: Worker,
    platform: Served,
    change: Annotated[str, Form()],
    place: Annotated[str, Form()] = "",
) -> Response:
    """Takes a change back and shows the page that it was made on."""
    undone = platform.triage.undo(visitor.tenant, change, operator=visitor.principal.id, origin=visitor.origin)
    path, _, text = place.partition("?")
    said = {"text": f"{_alerts(len(undone.turns))} as before", "id": ""}
    if path.startswith(f"{PATH}/"):
        return _to_alert(request, visitor, platform, path.removeprefix(f"{PATH}/"), said)
    query = parse_qsl(text) or list(OPEN)
    wanted, sort, after = _read(query)
    return _answer(request, visitor, platform, wanted=wanted, query=query, sort=sort, after=after, undo=said)


def _read(query: Query) -> tuple[AlertFilter, Sort, str]:
    """The question that an address of the queue asks."""
    many: dict[str, list[str]] = {}
    for name, value in query:
        many.setdefault(name, []).append(value)
    one = {name: values[-1] for name, values in many.items()}
    texts: dict[str, Any] = {
        name: tuple(many.get(name, ())) for name in ("rule", "source", "entity_type", "tag", "assignee")
    }
    try:
        return (
            AlertFilter(
                state=tuple(map(AlertState, many.get("state", ()))),
                level=tuple(map(Level, many.get("level", ()))),
                **texts,
                entity=to_entity(one["entity"]) if one.get("entity") else None,
                age=Age(one["age"]) if one.get("age") else None,
                text=one.get("q", ""),
            ),
            Sort(one.get("sort", Sort.SEVERITY)),
            one.get("after", ""),
        )
    except ValueError as error:
        raise DataError("request.field.invalid", "this is no address of the queue") from error


def _answer(request: Request, visitor: Visitor, platform: Served, *, query: Query, **more: Any) -> Response:
    if "hx-request" not in request.headers:
        return RedirectResponse(address(PATH, query), 303)
    return _queue(request, visitor, platform, query=query, **more)


def _change(do: str, visitor: Visitor) -> dict[str, Any]:
    if do not in CHANGES:
        raise DataError("alerts.change.unknown", f"there is no action `{do[:40]}`")
    mine = {"assignee": visitor.principal.id} if do == "acknowledge" else {}
    return CHANGES[do] | mine


def _undo(made: Changed, do: str) -> dict[str, str]:
    if not made.id:
        return {"text": "Nothing to change", "id": ""}
    return {"text": f"{_alerts(len(made.turns))} {SAID[do]}", "id": made.id}


def _alerts(count: int) -> str:
    return f"{count} alert{'' if count == 1 else 's'}"


# One alert


@router.get(f"{PATH}/{{alert_id}}", response_model=None)
def show_alert(request: Request, visitor: Reader, platform: Served, alert_id: str) -> Response:
    """One alert."""
    return _alert(request, visitor, platform, alert_id)


def _to_alert(request: Request, visitor: Visitor, platform: Served, alert_id: str, undo: dict[str, str]) -> Response:
    if "hx-request" not in request.headers:
        return RedirectResponse(f"{PATH}/{alert_id}", 303)
    return _alert(request, visitor, platform, alert_id, undo=undo)


def _alert(
    request: Request, visitor: Visitor, platform: Served, alert_id: str, undo: dict[str, str] | None = None
) -> HTMLResponse:
    tenant, now = visitor.tenant, platform.clock.now()
    alert = platform.alerts.get(tenant, alert_id)
    signals = platform.alerts.signals(tenant, alert_id, limit=MAX_SIGNALS)
    lead = next((signal for signal in signals if signal.id == alert.lead), signals[0])
    entities = sorted(alert.entities, key=lambda each: each != alert.entity)[:MAX_RISKS]
    risks = [(entity, platform.alerts.risk(tenant, entity, now)) for entity in entities]
    case_id = platform.cases.of_alert(tenant, alert_id)
    related = platform.alerts.find(tenant, entity=alert.entity, limit=MAX_RELATED + 1) if alert.entity else []
    context: dict[str, Any] = {
        "alert": alert,
        "sentence": sentence(alert),
        "signals": signals,
        "finding": platform.finding(lead),
        "group": group_of(lead),
        "text": platform.rule_text(alert.rule_id),
        "risks": risks,
        "related": [other for other in related if other.id != alert.id][:MAX_RELATED],
        "history": [_line(turn) for turn in platform.triage.history(tenant, alert_id)],
        "case": platform.cases.get(tenant, case_id) if case_id else None,
        "runs": platform.responder.find(tenant, alerts=[alert_id]),
        "answers": _answers(platform, visitor, alert),
        "names": Names(platform, tenant),
        **beside(platform, tenant, alert_id),
        "severity": severity(alert, platform.attention, {each.key: found for each, found in risks}),
        "recipient": recipient(alert, platform.attention, now),
        "late": alert.state is AlertState.NEW and alert.age(now) > platform.attention.limit(alert.level),
        "undo": undo,
        "undo_s": UNDO_S,
        "here_url": f"{PATH}/{alert_id}",
        "change_url": f"{PATH}/changes",
        "more_entities": len(alert.entities) - len(entities),
    }
    return show(request, visitor, "alert.html", fragment="alert", **context)


def sentence(alert: Alert) -> str:
    """What happened, in one sentence without what strangers wrote."""
    count = alert.signal_count
    seen = "once" if count == 1 else f"{count:,} times within {span(max(MICROS, alert.last_time - alert.first_time))}"
    read = "decisions" if alert.source == SOURCE else f"events of {(alert.source or 'no source').replace('_', ' ')}"
    return f"The rule fired {seen} on {read}"


def _line(turn: Turn) -> dict[str, Any]:
    """A change as words."""
    before, after = turn.before, turn.after
    said: list[str] = []
    if before.state != after.state or before.verdict != after.verdict:
        verdict = f" as {after.verdict.replace('_', ' ')}" if after.verdict else ""
        said.append(f"{before.state.replace('_', ' ')} to {after.state.replace('_', ' ')}{verdict}")
    return {
        "time": turn.time,
        "operator": turn.operator,
        "text": ", ".join(said),
        "assignee": after.assignee if before.assignee != after.assignee else None,
    }


def _answers(platform: Served, visitor: Visitor, alert: Alert) -> list[dict[str, Any]]:
    """The playbooks whose inputs the alert fills, each with what it would do."""
    if not visitor.may("playbooks", "read"):
        return []
    scope = alert_scope(alert)
    found: list[dict[str, Any]] = []
    for playbook in platform.playbooks.values():
        try:
            bind(playbook, scope, {})
        except (VedetteError, Problems):
            continue
        found.append({"playbook": playbook, "plan": _plan(platform, visitor, playbook, alert.id)})
    return found


def _plan(platform: Served, visitor: Visitor, playbook: Playbook, alert_id: str) -> list[Any]:
    return platform.plan(visitor.tenant, playbook, alert_id, requester=visitor.principal.id, inputs={})


@router.get(f"{PATH}/{{alert_id}}/event", response_model=None)
def show_event(
    *,
    request: Request,
    visitor: Annotated[Visitor, look("events", "read")],
    platform: Served,
    alert_id: str,
    source: str,
    event_id: str,
    at: int,
) -> Response:
    """One event behind the alert as it was read, for a fold that is opened."""
    alert = platform.alerts.get(visitor.tenant, alert_id)
    event = platform.find_event(visitor.tenant, source, event_id, at, alert.entities)
    return show(request, visitor, "alert_event.html", event=event)


@router.post(f"{PATH}/{{alert_id}}/case", response_model=None)
def open_case(visitor: Annotated[Visitor, act("cases", "write")], platform: Served, alert_id: str) -> Response:
    """Opens the alert's case, or leads to the one it has."""
    tenant, operator = visitor.tenant, visitor.principal.id
    alert = platform.alerts.get(tenant, alert_id)
    case = platform.cases.open(tenant, alert.title, operator=operator, level=alert.level, alert_id=alert_id)
    if not case.owner:
        platform.cases.set_owner(tenant, case.id, operator, operator=operator)
    if alert.state is AlertState.NEW:
        platform.triage.change(
            tenant,
            [alert_id],
            operator=operator,
            state=AlertState.IN_PROGRESS,
            assignee=operator,
            origin=visitor.origin,
        )
    return RedirectResponse(f"/cases/{case.id}", 303)


@router.post(f"{PATH}/{{alert_id}}/link", response_model=None)
def link_case(
    visitor: Annotated[Visitor, act("cases", "write")], platform: Served, alert_id: str, case_id: Annotated[str, Form()]
) -> Response:
    """Puts the alert into a case that is there."""
    platform.alerts.get(visitor.tenant, alert_id)
    platform.cases.link_alert(visitor.tenant, case_id.strip(), alert_id, operator=visitor.principal.id)
    return RedirectResponse(f"/cases/{case_id.strip()}", 303)


@router.post(f"{PATH}/{{alert_id}}/runs", response_model=None)
def start_run(
    visitor: Annotated[Visitor, act("playbooks", "run")],
    platform: Served,
    alert_id: str,
    playbook: Annotated[str, Form()],
) -> Response:
    """Starts a playbook on the alert and leads to its case."""
    tenant = visitor.tenant
    alert = platform.alerts.get(tenant, alert_id)
    run = platform.responder.start(
        tenant,
        platform.playbook(playbook),
        alert_id,
        requester=visitor.principal.id,
        authors=platform.authors(tenant, alert.rule_id),
    )
    return RedirectResponse(f"/cases/{run.case_id}#{run.id}", 303)
