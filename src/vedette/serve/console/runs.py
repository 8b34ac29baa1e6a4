"""Runs of playbooks: all of them with their errors, and one with each step, what it was given and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from vedette.act.playbooks.views import GOING, RunDetail, RunView
from vedette.prove.dlp import mask
from vedette.serve.console.choices import Names, address
from vedette.serve.console.page import show
from vedette.serve.console.run_steps import Line, places, step_lines
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, act, look

router = APIRouter()

PATH = "/runs"
NEWEST = 1_000
"""The newest runs are counted and listed; older ones are found over their alert, their case or the API."""
SIZE = 50
WRONG = frozenset({"failed", "incomplete", "stuck", "expired"})
"""States that somebody has to look at."""
VIEWS = {
    "": "All",
    "going": "Going on",
    "waiting": "Waiting for a person",
    "wrong": "Went wrong",
    "overdue": "Not heard of",
}

Reader = Annotated[Visitor, look("playbooks", "read")]
Starter = Annotated[Visitor, act("playbooks", "run")]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One run for people."""

    detail: RunDetail
    steps: list[Line]
    live: bool
    """More may happen: the page asks again."""

    @property
    def view(self) -> RunView:
        """The run."""
        return self.detail.view

    @property
    def brief(self) -> list[Line]:
        """The steps for the page of a case: what happened, and what surely comes."""
        return [line for line in self.steps if line.state]


def shown_run(platform: Served, tenant: str, run_id: str, names: Names) -> Shown:
    """A run with its steps.

    Raises:
        NotFoundError: `playbook.run.unknown`.
    """
    detail = platform.responder.detail(tenant, run_id)
    asked = {each.step: each for each in platform.approvals.find(tenant, run_id=run_id, limit=500)}
    return Shown(detail=detail, steps=step_lines(detail, asked, names), live=detail.view.state in GOING)


def run_page(run_id: str, refused: str = "") -> Response:
    """The way to the page of a run."""
    query = [("refused", refused)] if refused else []
    return RedirectResponse(address(f"{PATH}/{quote(run_id, safe='')}", query), 303)


@router.get(PATH, response_model=None)
def list_runs(
    *,
    request: Request,
    visitor: Reader,
    platform: Served,
    view: str = "",
    playbook: Annotated[str, Query(max_length=64)] = "",
    start: Annotated[int, Query(ge=0, le=NEWEST)] = 0,
) -> Response:
    """Every run with its error, the newest first, and what triggers could not start."""
    tenant = visitor.tenant
    newest = platform.responder.find(tenant, playbook=playbook, limit=NEWEST)
    chosen = view if view in VIEWS else ""
    found = [run for run in newest if _fits(run, chosen)]
    kept = [("view", chosen), ("playbook", playbook)]
    query = [pair for pair in kept if pair[1]]
    more = start + SIZE < len(found)
    return show(
        request,
        visitor,
        "runs.html",
        runs=found[start : start + SIZE],
        total=len(found),
        tabs=_tabs(newest, playbook),
        current=address(PATH, query),
        playbook=playbook,
        playbooks=sorted(platform.playbooks),
        view=chosen,
        next_url=address(PATH, query, start=str(start + SIZE)) if more else "",
        first_url=address(PATH, query) if start else "",
        unstarted=sorted(platform.meters.failures("trigger").items()),
        names=Names(platform, tenant),
    )


def _tabs(runs: Sequence[RunView], playbook: str) -> list[tuple[str, str, int]]:
    """Label, address and count of each view."""
    kept = [("playbook", playbook)] if playbook else []
    return [
        (label, address(PATH, kept, view=name) if name else address(PATH, kept), sum(_fits(run, name) for run in runs))
        for name, label in VIEWS.items()
    ]


def _fits(run: RunView, view: str) -> bool:
    match view:
        case "going":
            return run.state in GOING
        case "waiting":
            return run.state == "waiting"
        case "wrong":
            return run.state in WRONG
        case "overdue":
            return bool(run.overdue)
    return True


@router.get(f"{PATH}/{{run_id}}", response_model=None)
def show_run(
    *, request: Request, visitor: Reader, platform: Served, run_id: str, was: str = "", full: bool = False,
    refused: str = "",
) -> Response:  # fmt: skip
    """One run; asked for by a page that shows it, only its panel."""
    names = Names(platform, visitor.tenant)
    found = shown_run(platform, visitor.tenant, run_id, names)
    if "hx-request" in request.headers:
        # What a page says beside the panel changes too: it is loaded again when the run is over, or asks for something.
        if found.view.state != was and (not found.live or found.view.approval):
            return Response("", 200, {"hx-refresh": "true"})
        return show(request, visitor, "run.html", shown=found, names=names, full=full)
    detail = found.detail
    alert_id, case_id = detail.view.alert_id, detail.view.case_id
    return show(
        request,
        visitor,
        "run_page.html",
        shown=found,
        names=names,
        inputs=mask(detail.request.inputs),
        trigger=mask(detail.request.trigger),
        touched=platform.world.caps.radius(visitor.tenant, run_id),
        again=[f"{place.prefix}{place.step.id}" for place in places(detail.playbook.steps)],
        first=_first_wrong(found.steps),
        alert=platform.alerts.get(visitor.tenant, alert_id) if alert_id and visitor.may("alerts", "read") else None,
        case_id=case_id if visitor.may("cases", "read") else "",
        refused=refused[:80],
    )


def _first_wrong(steps: Sequence[Line]) -> str:
    """Where a run is most likely begun again: at the first step that did not go well."""
    return next((line.name.partition("#")[0] for line in steps if line.state in {"failed", "denied", "expired"}), "")


@router.post(f"{PATH}/{{run_id}}/cancel", response_model=None)
def cancel(visitor: Starter, platform: Served, run_id: str) -> Response:
    """Stops a run before its next step."""
    platform.responder.cancel(visitor.tenant, run_id)
    return run_page(run_id)


@router.post(f"{PATH}/{{run_id}}/resume", response_model=None)
def resume(visitor: Starter, platform: Served, run_id: str) -> Response:
    """Lets a cancelled or stuck run go on."""
    platform.responder.resume(visitor.tenant, run_id)
    return run_page(run_id)


@router.post(f"{PATH}/{{run_id}}/again", response_model=None)
def again(visitor: Starter, platform: Served, run_id: str, step: Annotated[str, Form(max_length=500)]) -> Response:
    """Begins a run that is over again from a step."""
    fresh = platform.responder.rerun(visitor.tenant, run_id, step=step, requester=visitor.principal.id)
    return run_page(fresh.id)
