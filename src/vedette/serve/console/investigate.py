"""Questions to stored events: asked, saved, kept in a case as steps, asked again; and hunts."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from vedette.core.errors import VedetteError
from vedette.core.event import Entity
from vedette.prove.dlp import scrub
from vedette.run.investigation.hunts import Hunts, HuntState, SavedHunt
from vedette.run.investigation.questions import MAX_ROWS, Kind, Question, ask
from vedette.run.investigation.searches import Search, Searches
from vedette.run.investigation.steps import Steps
from vedette.run.platform import Platform
from vedette.serve.console.case_work import Reader, Worker, back
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, act, look

router = APIRouter()

PATH, HUNTS = "/investigate", "/hunts"
SHOWN = 200
"""Rows of a page."""
MAX_CELL = 200
OPEN_CASES = 50

Asks = Annotated[Visitor, look("query", "read")]
Keeper = Annotated[Visitor, act("query", "write")]
Text = Annotated[str, Form()]


@router.get(PATH)
def show_questions(
    *,
    request: Request,
    visitor: Asks,
    platform: Served,
    kind: Kind = Kind.VALUE,
    q: Annotated[str, Query(max_length=20_000)] = "",
    days: Annotated[int, Query(ge=0, le=400)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 1_000,
) -> HTMLResponse:
    """Asks a question; without one, what is saved."""
    answer, problem, started = None, None, q.strip()
    if started:
        try:
            question = Question(kind=kind, text=started, days=days, limit=limit)
            answer = ask(platform.store, visitor.tenant, question, now=platform.clock.now())
        except VedetteError as error:
            problem = {"code": error.code, "message": scrub(error.message), "hint": scrub(error.hint)}
    rows = answer.rows[:SHOWN] if answer else ()
    saved = Searches(platform).all(visitor.tenant, visitor.principal.id)
    return show(
        request,
        visitor,
        "investigate.html",
        kinds=[(each.value, each.value) for each in Kind],
        kind=kind.value,
        q=q,
        days=days,
        limit=limit,
        answer=answer,
        problem=problem,
        rows=[[_cell(kind, name, row.get(name)) for name in answer.columns] for row in rows] if answer else [],
        shown=SHOWN,
        searches=[(one, _address(one.question)) for one in saved],
        cases=_cases(platform, visitor),
    )


@router.post(f"{PATH}/searches", response_model=None)
def save_search(
    *,
    visitor: Keeper,
    platform: Served,
    name: Text,
    kind: Annotated[Kind, Form()],
    q: Text,
    title: Text = "",
    days: Annotated[int, Form()] = 0,
    limit: Annotated[int, Form()] = 1_000,
    shared: Annotated[bool, Form()] = False,
) -> Response:
    """Saves a question by name."""
    question = Question(kind=kind, text=q.strip(), days=days, limit=limit)
    me = visitor.principal.id
    search = Search(name=name.strip(), question=question, title=title.strip(), owner=me, shared=shared)
    Searches(platform).save(visitor.tenant, search)
    return RedirectResponse(f"{_address(question)}#searches", 303)


@router.post(f"{PATH}/searches/{{search}}/delete", response_model=None)
def delete_search(visitor: Keeper, platform: Served, search: str) -> Response:
    """Forgets a search: one of the visitor's own, or a shared one."""
    Searches(platform).delete(visitor.tenant, search, visitor.principal.id)
    return RedirectResponse(f"{PATH}#searches", 303)


@router.post(f"{PATH}/steps", response_model=None)
def take_step(
    *,
    visitor: Keeper,
    platform: Served,
    case: Text,
    kind: Annotated[Kind, Form()],
    q: Text,
    since: Annotated[int, Form()] = 0,
    until: Annotated[int, Form()] = 0,
    limit: Annotated[int, Form()] = 1_000,
) -> Response:
    """Keeps a question and its rows in a case."""
    question = Question(kind=kind, text=q.strip(), since=since, until=until, limit=limit)
    steps = Steps(platform, platform.store)
    steps.take(visitor.tenant, case.strip(), question, operator=visitor.principal.id)
    return back(case.strip(), "steps")


@router.post("/cases/{case_id}/steps/{step_id}/again", response_model=None)
def run_step(visitor: Keeper, platform: Served, case_id: str, step_id: str) -> Response:
    """Asks a step again; what came of it is the newest note of the case."""
    steps = Steps(platform, platform.store)
    steps.again(visitor.tenant, case_id, step_id, operator=visitor.principal.id)
    return back(case_id, "timeline")


@router.get(HUNTS)
def show_hunts(request: Request, visitor: Reader, platform: Served) -> HTMLResponse:
    """All hunts."""
    hunts = Hunts(platform, platform.store)
    found = [_told(hunts, visitor.tenant, one) for one in hunts.all(visitor.tenant)]
    return show(request, visitor, "hunts.html", hunts=found)


@router.post(HUNTS, response_model=None)
def save_hunt(
    *, visitor: Keeper, platform: Served, name: Text, hypothesis: Text, sql: Text, techniques: Text = ""
) -> Response:
    """Saves a hunt."""
    hunt = SavedHunt(
        name=name.strip(),
        hypothesis=hypothesis.strip(),
        sql=sql.strip().rstrip(";"),
        techniques=tuple(techniques.replace(",", " ").split()),
        author=visitor.principal.id,
    )
    Hunts(platform, platform.store).save(visitor.tenant, hunt)
    return _to_hunt(hunt.name)


@router.get(f"{HUNTS}/{{hunt}}")
def show_hunt(request: Request, visitor: Reader, platform: Served, hunt: str) -> HTMLResponse:
    """One hunt."""
    hunts = Hunts(platform, platform.store)
    told = _told(hunts, visitor.tenant, hunts.get(visitor.tenant, hunt))
    states = [(each.value, each.value) for each in HuntState]
    return show(request, visitor, "hunt.html", **told, states=states, base=f"{HUNTS}/{quote(hunt, safe='')}")


@router.post(f"{HUNTS}/{{hunt}}/run", response_model=None)
def run_hunt(visitor: Keeper, platform: Served, hunt: str) -> Response:
    """Runs a hunt."""
    Hunts(platform, platform.store).run(visitor.tenant, hunt, operator=visitor.principal.id)
    return _to_hunt(hunt)


@router.post(f"{HUNTS}/{{hunt}}/change", response_model=None)
def change_hunt(
    *,
    visitor: Worker,
    platform: Served,
    hunt: str,
    state: Annotated[HuntState, Form()],
    found: Text = "",
    case: Text = "",
    rule: Text = "",
) -> Response:
    """Says what became of a hunt."""
    hunts = Hunts(platform, platform.store)
    links = {"case": case.strip(), "rule": rule.strip()}
    hunts.change(visitor.tenant, hunt, state=state, found=found, operator=visitor.principal.id, **links)
    return _to_hunt(hunt)


def _to_hunt(name: str) -> Response:
    return RedirectResponse(f"{HUNTS}/{quote(name, safe='')}", 303)


def _told(hunts: Hunts, tenant: str, hunt: SavedHunt) -> dict[str, Any]:
    runs = hunts.runs(tenant, hunt.name)
    return {"hunt": hunt, "standing": hunts.standing(tenant, hunt.name), "runs": runs[::-1]}


def _cases(platform: Platform, visitor: Visitor) -> list[tuple[str, str]]:
    """Cases that a step can be kept in: the newest."""
    if not visitor.may("query", "write"):
        return []
    found = platform.cases.find(visitor.tenant, limit=OPEN_CASES)
    return [(case.id, case.title) for case in found if case.state != "closed"]


def _address(question: Question) -> str:
    named = {"kind": question.kind.value, "q": question.text, "days": question.days, "limit": question.limit}
    return f"{PATH}?{urlencode(named)}"


def _cell(kind: Kind, name: str, value: Any) -> tuple[str, Any]:
    """(how to show it, what): entities and times lead on, values can be looked for."""
    if name == "entity" and kind is Kind.GRAPH and isinstance(value, str) and ":" in value:
        return "entity", Entity(*value.split(":", 1))
    if name == "entities" and isinstance(value, list):
        return "entities", [Entity(*each.split(":", 1)) for each in value[:6] if isinstance(each, str) and ":" in each]
    if name.endswith("_time") and isinstance(value, int):
        return "time", value
    if isinstance(value, int | float) or value is None:
        return "number", value
    text = value if isinstance(value, str) else str(value)
    if len(text) > MAX_CELL:
        return "long", text[:MAX_CELL]
    return "value", text
