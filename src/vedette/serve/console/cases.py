"""The queue of cases, and one case: what happened, what was done, what is to be decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from vedette.act.cases import NOBODY, Case, CaseFilter, CaseState, Evidence, Phase, next_states
from vedette.act.grouping import Alert
from vedette.act.timeline import Entry
from vedette.core.errors import DataError, NotFoundError
from vedette.core.event import Entity
from vedette.core.signal import Level
from vedette.judge.decisions.register import Filters
from vedette.serve.console.choices import PAGED, Facet, Names, Query, address, facet
from vedette.serve.console.page import show
from vedette.serve.console.runs import shown_run
from vedette.serve.filters import CaseQuery
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, act, look

router = APIRouter()

PATH = "/cases"
SIZE = 50
OPEN: Query = tuple(("state", state.value) for state in (CaseState.NEW, CaseState.IN_PROGRESS, CaseState.ON_HOLD))
MAX_ALERTS = 50
MAX_ENTITIES = 12
MAX_RUNS = 10
MAX_DECISIONS = 1_000
MONEY_TYPES = ("key", "card", "customer", "user", "account", "device")
"""Entities whose decisions are the case's money; a merchant's whole turnover is not."""

KINDS = {
    "": "Everything",
    "notes": "Notes",
    "work": "Work",
    "response": "Response",
}
_RESPONSE = {"run_started", "step_finished", "approval_requested", "approval_settled", "run_finished", "evidence_added"}

REFUSALS = {
    "approvals.approver.involved": (
        "You may not decide this",
        "Whoever asked, or wrote the rule or the playbook, may not approve. Ask somebody else.",
    ),
    "approvals.hash.changed": ("It has changed since you looked", "Look at it again, then decide."),
    "approvals.deadline.passed": ("Too late", "The deadline has passed, and the run has ended without it."),
    "approvals.decision.taken": ("Somebody has decided already", "Their decision stands."),
}

Reader = Annotated[Visitor, look("cases", "read")]
Worker = Annotated[Visitor, act("cases", "write")]


@router.get(PATH, response_model=None)
def list_cases(request: Request, visitor: Reader, platform: Served, wanted: CaseQuery, after: str = "") -> Response:
    """The queue; without a question, what is open."""
    query = request.query_params.multi_items()
    if not query:
        query = list(OPEN)
        wanted = CaseFilter(state=(CaseState.NEW, CaseState.IN_PROGRESS, CaseState.ON_HOLD))
    tenant, names = visitor.tenant, Names(platform, visitor.tenant)
    page = platform.cases.page(tenant, wanted, after=after, limit=SIZE)
    asked = sorted(pair for pair in query if pair[0] not in {*PAGED, "view"})
    views: list[tuple[str, Query]] = [
        ("Open", OPEN),
        ("Mine", (*OPEN, ("owner", visitor.principal.id))),
        ("Nobody's", (*OPEN, ("owner", NOBODY))),
        ("Closed", (("state", "resolved"), ("state", "closed"))),
        ("All", ()),
    ]
    context: dict[str, Any] = {
        "cases": page.cases,
        "facets": _facets(query, platform.cases.counts(tenant, wanted), names, visitor),
        "views": [(label, address(PATH, [*view, ("view", "all")]), sorted(view) == asked) for label, view in views],
        "names": names,
        "query": query,
        "text": wanted.text,
        "waiting": {run.case_id for run in platform.responder.find(tenant, limit=200) if run.approval},
        "first_url": address(PATH, query, drop=PAGED) if after else "",
        "next_url": address(PATH, query, after=page.next) if page.next else "",
    }
    return show(request, visitor, "cases.html", fragment="queue", **context)


def _facets(query: Query, counts: dict[str, dict[str, int]], names: Names, visitor: Visitor) -> list[Facet]:
    def person(value: str) -> str:
        return (
            "nobody" if value == NOBODY else f"{names(value)} (you)" if value == visitor.principal.id else names(value)
        )

    levels = [level.value for level in reversed(Level)]
    states, phases = [each.value for each in CaseState], [each.value for each in Phase]
    return [
        facet(PATH, query, "state", counts["state"], label="State", kind="state", order=states),
        facet(PATH, query, "phase", counts["phase"], label="Phase", order=phases, name_of=_plain),
        facet(PATH, query, "level", counts["level"], label="Level", kind="level", order=levels),
        facet(PATH, query, "owner", counts["owner"], label="Owner", name_of=person),
    ]


@router.post(PATH, response_model=None)
def open_case(
    visitor: Worker, platform: Served, title: Annotated[str, Form()], level: Annotated[Level, Form()] = Level.MEDIUM
) -> Response:
    """Opens a case by itself."""
    me = visitor.principal.id
    case = platform.cases.open(visitor.tenant, title.strip(), operator=me, level=level)
    platform.cases.set_owner(visitor.tenant, case.id, me, operator=me)
    return _back(case.id)


@router.get(f"{PATH}/{{case_id}}", response_model=None)
def show_case(
    *,
    request: Request,
    visitor: Reader,
    platform: Served,
    case_id: str,
    kind: str = "",
    refused: str = "",
    checked: str = "",
) -> Response:
    """One case."""
    tenant, now = visitor.tenant, platform.clock.now()
    case = platform.cases.get(tenant, case_id)
    names = Names(platform, tenant)
    alerts = _alerts(platform, tenant, case)
    runs = [shown_run(platform, tenant, run.id, names) for run in _runs(platform, visitor, case)]
    evidence = platform.cases.evidence(tenant, case_id)
    context: dict[str, Any] = {
        "case": case,
        "alerts": alerts,
        "more_alerts": len(case.alerts) - len(alerts),
        "entities": [(each, platform.alerts.risk(tenant, each, now)) for each in _entities(alerts)],
        "entries": [each for each in platform.cases.timeline(tenant, case_id) if _shown(each.body, kind)],
        "kinds": [
            (label, address(f"{PATH}/{case_id}", [("kind", name)] if name else []), name == kind)
            for name, label in KINDS.items()
        ],
        "evidence": evidence,
        "checked": _check(platform, evidence, checked),
        "tasks": platform.cases.tasks(tenant, case_id),
        "runs": runs,
        "asked": [run.view.approval for run in runs if run.view.approval],
        "money": _money(platform, visitor, alerts),
        "next_states": next_states(case.state),
        "phases": list(Phase),
        "names": names,
        "entry_text": entry_text,
        "refusal": _refusal(refused),
    }
    return show(request, visitor, "case.html", **context)


def _runs(platform: Served, visitor: Visitor, case: Case) -> Sequence[Any]:
    if not case.alerts or not visitor.may("playbooks", "read"):
        return ()
    return platform.responder.find(visitor.tenant, alerts=case.alerts, limit=MAX_RUNS)


def _alerts(platform: Served, tenant: str, case: Case) -> list[Alert]:
    found: list[Alert] = []
    for alert_id in case.alerts[-MAX_ALERTS:]:
        try:
            found.append(platform.alerts.get(tenant, alert_id))
        except NotFoundError:
            continue
    return found


def _entities(alerts: Sequence[Alert]) -> list[Entity]:
    """What the alerts are about first, then what they name, most often named first."""
    counts = Counter(entity for alert in alerts for entity in alert.entities)
    leads = {alert.entity for alert in alerts}
    return sorted(counts, key=lambda each: (each not in leads, -counts[each], each))[:MAX_ENTITIES]


def _money(platform: Served, visitor: Visitor, alerts: Sequence[Alert]) -> list[dict[str, Any]]:
    """Decisions on the entities that the alerts are about, since the first of them: by currency and answer."""
    leads = {alert.entity for alert in alerts if alert.entity and alert.entity.type in MONEY_TYPES}
    if not leads or not visitor.may("decisions", "read"):
        return []
    since = min(alert.first_time for alert in alerts)
    rows = {
        row.event_id: row
        for entity in sorted(leads)[:MAX_ENTITIES]
        for row in platform.register.find(visitor.tenant, Filters(entity=entity, since=since), limit=MAX_DECISIONS)
    }
    sums: dict[tuple[str, str], list[int]] = {}
    for row in rows.values():
        held = sums.setdefault((row.currency, row.action.value), [0, 0])
        held[0] += 1
        held[1] += row.amount_minor or 0
    return [
        {"currency": currency, "action": action, "count": count, "amount": amount if currency else None}
        for (currency, action), (count, amount) in sorted(sums.items())
    ]


def _shown(body: Any, kind: str) -> bool:
    tag = str(type(body).__struct_config__.tag)
    if kind == "notes":
        return tag == "noted"
    if kind == "response":
        return tag in _RESPONSE
    return kind != "work" or tag not in _RESPONSE


def entry_text(entry: Entry, names: Names) -> str:
    """One line of a timeline as words; what people and strangers wrote is shown beside it."""
    body = msgspec.to_builtins(entry.body)
    words = {name: _plain(str(value)) for name, value in body.items()}
    kind = body["kind"]
    if kind == "step_finished" and not body["ok"]:
        kind = "step_failed"
    elif kind == "owner_changed" and not body["after"]:
        kind = "owner_left"
    elif kind == "approval_settled" and not body["by"]:
        kind = "approval_ended"
    people = {name: names(body[name]) for name in ("by", "after") if kind in _OF_PEOPLE and name in body}
    who = "the playbook" if entry.operator.startswith("run_") else names(entry.operator)
    return SAID[kind].format_map(words | people | {"who": who, "digest": str(body.get("digest", ""))[:12]})


SAID = {
    "opened": "{who} opened the case",
    "alert_linked": "{who} added the alert",
    "state_changed": "{who}: {before} to {after}",
    "phase_changed": "{who}: {before} to {after}",
    "owner_changed": "{who} gave it to {after}",
    "owner_left": "{who} gave it back",
    "evidence_added": "{who} kept evidence: {what}, {digest}",
    "task_added": "{who} added a task: {title}",
    "task_done": "{who} finished a task",
    "noted": "{who} noted",
    "run_started": "{playbook} version {version} was started",
    "step_finished": "{who} did: {action}",
    "step_failed": "{who} failed at: {action}",
    "approval_requested": "{who} asked for an approval",
    "approval_settled": "{by} {decision} it",
    "approval_ended": "the approval {decision}",
    "run_finished": "{who} ended: {state}",
}
"""Kind of an entry -> its words; a test holds it against the kinds that there are."""
_OF_PEOPLE = frozenset({"owner_changed", "approval_settled"})


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _check(platform: Served, evidence: Sequence[Evidence], digest: str) -> dict[str, Any] | None:
    """A second look at one artefact, asked for by its digest."""
    found = next((each for each in evidence if each.digest == digest), None)
    if found is None:
        return None
    try:
        return {"digest": digest, "found": platform.evidence.check(found.reference, digest)}
    except NotFoundError:
        return {"digest": digest, "found": None}


def _refusal(code: str) -> dict[str, str] | None:
    if not code:
        return None
    message, hint = REFUSALS.get(code, ("It was refused", "Look at the run again."))
    return {"message": message, "hint": hint, "code": code if code in REFUSALS else ""}


# Forms


@router.post(f"{PATH}/{{case_id}}/notes", response_model=None)
def add_note(visitor: Worker, platform: Served, case_id: str, text: Annotated[str, Form()]) -> Response:
    """Adds a note."""
    platform.cases.note(visitor.tenant, case_id, text, operator=visitor.principal.id)
    return _back(case_id, "timeline")


@router.post(f"{PATH}/{{case_id}}/tasks", response_model=None)
def add_task(visitor: Worker, platform: Served, case_id: str, title: Annotated[str, Form()]) -> Response:
    """Adds something to do."""
    platform.cases.add_task(visitor.tenant, case_id, title.strip(), operator=visitor.principal.id)
    return _back(case_id, "tasks")


@router.post(f"{PATH}/{{case_id}}/tasks/{{task_id}}/done", response_model=None)
def finish_task(visitor: Worker, platform: Served, case_id: str, task_id: str) -> Response:
    """Marks it done."""
    platform.cases.finish_task(visitor.tenant, case_id, task_id, operator=visitor.principal.id)
    return _back(case_id, "tasks")


@router.post(f"{PATH}/{{case_id}}/change", response_model=None)
def change_case(
    *,
    visitor: Worker,
    platform: Served,
    case_id: str,
    state: Annotated[CaseState | None, Form()] = None,
    phase: Annotated[Phase | None, Form()] = None,
    owner: Annotated[str | None, Form()] = None,
) -> Response:
    """Moves the case on, to another phase, or to another person."""
    tenant, me = visitor.tenant, visitor.principal.id
    if owner is not None and owner not in {"", "me"}:
        raise DataError("cases.owner.invalid", "a case is taken or given back", hint="`me`, or empty")
    if owner is not None:
        platform.cases.set_owner(tenant, case_id, me if owner else "", operator=me)
    if phase is not None:
        platform.cases.set_phase(tenant, case_id, phase, operator=me)
    if state is not None:
        platform.cases.set_state(tenant, case_id, state, operator=me)
    return _back(case_id)


def _back(case_id: str, place: str = "") -> Response:
    return RedirectResponse(f"{PATH}/{quote(case_id, safe='')}{f'#{place}' if place else ''}", 303)
