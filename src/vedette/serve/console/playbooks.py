"""Playbooks: what each does, what starts it, a plan that does nothing, and a start by hand with typed inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response

from vedette.act.playbooks.caps import DEFAULT
from vedette.act.playbooks.plan import radius
from vedette.act.playbooks.playbook import Input, InputType, Playbook, is_drastic
from vedette.act.playbooks.responder import Occasion
from vedette.core.errors import Problems, VedetteError
from vedette.serve.console.choices import Names
from vedette.serve.console.page import show
from vedette.serve.console.run_steps import places
from vedette.serve.console.runs import Reader, Starter, run_page
from vedette.serve.policy import Served
from vedette.serve.session import Visitor

router = APIRouter()

PATH = "/playbooks"
RECENT = 10
FIELD = "input."
"""Before the names of inputs in the form."""


@router.get(PATH, response_model=None)
def list_playbooks(request: Request, visitor: Reader, platform: Served) -> Response:
    """The playbooks that can be started, with what became of each lately."""
    runs = platform.responder.find(visitor.tenant, limit=1_000)
    last = {run.playbook: run for run in reversed(runs)}
    rows = [(book, is_drastic(book.steps), last.get(book.id)) for book in platform.playbooks.values()]
    return show(request, visitor, "playbooks.html", rows=rows)


@router.get(f"{PATH}/{{playbook}}", response_model=None)
def show_playbook(request: Request, visitor: Reader, platform: Served, playbook: str, alert: str = "") -> Response:
    """One playbook: its steps, its inputs, its runs, and the form that plans or starts it."""
    book = platform.playbook(playbook)
    return _page(request, visitor, platform, book, alert=alert, key=platform.ids.new("hand"))


async def _inputs(request: Request) -> dict[str, str]:
    """The inputs in the form; an empty field gives none."""
    form = await request.form()
    named = {name.removeprefix(FIELD): value for name, value in form.items() if name.startswith(FIELD)}
    return {name: value for name, value in named.items() if isinstance(value, str) and value.strip()}


@router.post(f"{PATH}/{{playbook}}/runs", response_model=None)
def start(
    *,
    request: Request,
    visitor: Starter,
    platform: Served,
    playbook: str,
    given: Annotated[dict[str, str], Depends(_inputs)],
    alert: Annotated[str, Form(max_length=64)] = "",
    key: Annotated[str, Form(max_length=64)] = "",
    dry: Annotated[bool, Form()] = False,
) -> Response:
    """Starts it, once for each key that the form came with; `dry` only shows the plan and what it would touch."""
    book, tenant, me = platform.playbook(playbook), visitor.tenant, visitor.principal.id
    alert = alert.strip()
    known: dict[str, Any] = {"alert": alert, "key": key, "given": given}
    try:
        if dry:
            plan = platform.plan(tenant, book, alert, requester=me, inputs=given)
            return _page(request, visitor, platform, book, plan=plan, blast=radius(plan, book.caps), **known)
        if alert:
            authors = platform.authors(tenant, platform.alerts.get(tenant, alert).rule_id)
            run = platform.responder.start(tenant, book, alert, requester=me, inputs=given, authors=authors)
        else:
            occasion = Occasion(key=f"hand:{key or platform.ids.new('hand')}", trigger={"type": "hand", "by": me})
            run = platform.responder.launch(tenant, book, occasion, requester=me, inputs=given)
    except Problems as problems:
        told = {each.at: each for each in problems.problems}
        return _page(request, visitor, platform, book, told=told, status=400, **known)
    return run_page(run.id)


def _page(
    request: Request,
    visitor: Visitor,
    platform: Served,
    book: Playbook,
    *,
    alert: str,
    key: str,
    given: Mapping[str, str] | None = None,
    told: Mapping[str, VedetteError] | None = None,
    status: int = 200,
    **planned: Any,
) -> Response:
    values = given or {}
    return show(
        request,
        visitor,
        "playbook.html",
        status=status,
        book=book,
        drastic=is_drastic(book.steps),
        steps=list(places(book.steps)),
        fields=[_field(name, spec, values.get(name, ""), told or {}) for name, spec in book.inputs.items()],
        problems=[each for each in (told or {}).values() if each.at not in book.inputs],
        cap=DEFAULT,
        alert=alert,
        key=key,
        runs=platform.responder.find(visitor.tenant, playbook=book.id, limit=RECENT),
        names=Names(platform, visitor.tenant),
        **{"plan": None, "blast": None, **planned},
    )


def _field(name: str, spec: Input, value: str, told: Mapping[str, VedetteError]) -> dict[str, Any]:
    """An input as a field of the form."""
    hint = spec.description
    if spec.source:
        hint = f"{hint} Left empty: taken from {spec.source.strip('${}')}.".strip()
    if spec.type is InputType.LIST:
        hint = f"{hint} Several, with commas between.".strip()
    yes_no = [("", "not given"), ("true", "yes"), ("false", "no")]
    return {
        "name": f"{FIELD}{name}",
        "label": name.replace("_", " "),
        "value": value,
        "kind": "number" if spec.type is InputType.INTEGER else "text",
        "options": yes_no if spec.type is InputType.BOOLEAN else None,
        "rows": 3 if spec.type is InputType.LIST else 0,
        "hint": hint,
        "required": spec.required and not spec.source,
        "error": f"{told[name].message}" if name in told else "",
    }
