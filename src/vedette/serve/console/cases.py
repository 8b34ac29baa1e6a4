"""The queue of cases, and one case: what happened, what was done, what is to be decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Form, Request, Response

from vedette.act.cases import NOBODY, Case, CaseFilter, CaseState, Evidence, Phase, next_phases, next_states
from vedette.act.grouping import Alert
from vedette.act.timeline import Entry
from vedette.core.errors import DataError, NotFoundError
from vedette.core.event import Entity
from vedette.core.signal import Level
from vedette.run.cases.casefile import affected, alerts_of
from vedette.serve.console.case_work import PATH, Worker, back, work_of
from vedette.serve.console.choices import PAGED, Facet, Names, Query, address, facet
from vedette.serve.console.page import show
from vedette.serve.console.runs import shown_run
from vedette.serve.filters import CaseQuery
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, look

router = APIRouter()

SIZE = 50
OPEN: Query = tuple(("state", state.value) for state in (CaseState.NEW, CaseState.IN_PROGRESS, CaseState.ON_HOLD))
MAX_ALERTS = 50
MAX_ENTITIES = 12
MAX_RUNS = 10

KINDS = {
    "": "Everything",
    "notes": "Notes",
    "work": "Work",
    "response": "Response",
}
_RESPONSE = {
    *("run_started", "step_finished", "approval_requested", "approval_settled", "run_finished"),
    *("evidence_added", "custody_changed", "preservation_waived"),
}

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


@router.get(PATH, response_model=None)
def list_cases(request: Request, visitor: Reader, platform: Served, wanted: CaseQuery, after: str = "") -> Response:
    """The queue; without a question, what is open."""
    query = request.query_params.multi_items()
    if not query:
        query = list(OPEN)
        wanted = CaseFilter(state=(CaseState.NEW, CaseState.IN_PROGRESS, CaseState.ON_HOLD))
    tenant, names = visitor.tenant, Names(platform, visitor.tenant)
    page = platform.cases.page(tenant, wanted, after=after, limit=SIZE, reader=visitor.principal.id)
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
        "facets": _facets(query, platform.cases.counts(tenant, wanted, reader=visitor.principal.id), names, visitor),
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
    return back(case.id)


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
    alerts = alerts_of(platform, tenant, case.alerts[-MAX_ALERTS:])
    runs = [shown_run(platform, tenant, run.id, names) for run in _runs(platform, visitor, case)]
    evidence = platform.cases.evidence(tenant, case_id)
    entries = platform.cases.timeline(tenant, case_id, reader=visitor.principal.id)
    context: dict[str, Any] = {
        "case": case,
        "alerts": alerts,
        "more_alerts": len(case.alerts) - len(alerts),
        "entities": [(each, platform.alerts.risk(tenant, each, now)) for each in _entities(alerts)],
        "entries": [each for each in entries if _shown(each.body, kind)],
        "kinds": [
            (label, address(f"{PATH}/{case_id}", [("kind", name)] if name else []), name == kind)
            for name, label in KINDS.items()
        ],
        "evidence": evidence,
        "checked": _check(platform, evidence, checked),
        "runs": runs,
        "asked": [run.view.approval for run in runs if run.view.approval],
        "next_states": next_states(case.state),
        "next_phases": next_phases(case.phase),
        "money": affected(platform, tenant, alerts) if visitor.may("decisions", "read") else [],
        **work_of(platform, visitor, case),
        "names": names,
        "entry_text": entry_text,
        "refusal": _refusal(refused),
    }
    return show(request, visitor, "case.html", **context)


def _runs(platform: Served, visitor: Visitor, case: Case) -> Sequence[Any]:
    if not case.alerts or not visitor.may("playbooks", "read"):
        return ()
    return platform.responder.find(visitor.tenant, alerts=case.alerts, limit=MAX_RUNS)


def _entities(alerts: Sequence[Alert]) -> list[Entity]:
    """What the alerts are about first, then what they name, most often named first."""
    counts = Counter(entity for alert in alerts for entity in alert.entities)
    leads = {alert.entity for alert in alerts}
    return sorted(counts, key=lambda each: (each not in leads, -counts[each], each))[:MAX_ENTITIES]


def _shown(body: Any, kind: str) -> bool:
    tag = str(type(body).__struct_config__.tag)
    if kind == "notes":
        return tag in {"noted", "withheld"}
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
    elif kind == "clock_warned" and body["overdue"]:
        kind = "clock_late"
    elif kind == "alert_linked" and body["why"]:
        kind = "alert_joined"
    people = {name: names(body[name]) for name in ("by", "after", "person") if kind in _OF_PEOPLE and name in body}
    who = "the playbook" if entry.operator.startswith("run_") else names(entry.operator)
    return SAID[kind].format_map(words | people | {"who": who, "digest": str(body.get("digest", ""))[:12]})


SAID = {
    "opened": "{who} opened the case",
    "alert_linked": "{who} added the alert",
    "alert_joined": "an alert joined by {why}:",
    "state_changed": "{who}: {before} to {after}",
    "phase_changed": "{who}: {before} to {after}",
    "owner_changed": "{who} gave it to {after}",
    "owner_left": "{who} gave it back",
    "evidence_added": "{who} kept evidence: {what}, {digest}",
    "task_added": "{who} added a task: {title}",
    "task_done": "{who} finished a task",
    "noted": "{who} noted",
    "withheld": "{who} wrote something privileged",
    "task_reminded": "a task is due: {title}",
    "role_given": "{who} made {person} {role} of the case",
    "role_taken": "{who} took the role of {role} from {person}",
    "hypothesis_added": "{who} supposes: {title}",
    "hypothesis_weighed": "{who} weighed evidence {speaks} it: {confidence} % sure",
    "hypothesis_settled": "{who}: the hypothesis is {state}",
    "observable_added": "{who} added {type} {value}",
    "clock_started": "{who} started the clock of {notice}",
    "clock_moved": "{who}: {notice} is {state}",
    "clock_warned": "the deadline of {notice} is near",
    "clock_late": "the deadline of {notice} is over",
    "custody_changed": "evidence {act} to {to} by {who}",
    "preservation_waived": "{who} lets containment go before evidence",
    "review_written": "{who} wrote of the review: what was {part}",
    "change_linked": "{who} linked what changed: {what} {reference}",
    "run_started": "{playbook} version {version} was started",
    "step_finished": "{who} did: {action}",
    "step_failed": "{who} failed at: {action}",
    "approval_requested": "{who} asked for an approval",
    "approval_settled": "{by} {decision} it",
    "approval_ended": "the approval {decision}",
    "run_finished": "{who} ended: {state}",
}
"""Kind of an entry -> its words; a test holds it against the kinds that there are."""
_OF_PEOPLE = frozenset({"owner_changed", "approval_settled", "role_given", "role_taken"})


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
def add_note(
    visitor: Worker,
    platform: Served,
    case_id: str,
    text: Annotated[str, Form()],
    privileged: Annotated[bool, Form()] = False,  # noqa: FBT002 - a box of a form
) -> Response:
    """Adds a note."""
    platform.cases.note(visitor.tenant, case_id, text, operator=visitor.principal.id, privileged=privileged)
    return back(case_id, "timeline")


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
    return back(case_id)
