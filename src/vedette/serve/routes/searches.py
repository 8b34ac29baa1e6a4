"""Questions to stored events: asked, saved by name, and kept in cases as steps that colleagues ask again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from fastapi import APIRouter, Response

from vedette.prove.access import Principal
from vedette.run.investigation.questions import Kind, Question, Scalar, ask
from vedette.run.investigation.searches import Search, Searches, filled
from vedette.run.investigation.steps import Steps
from vedette.run.platform import Platform
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import JsonBody, convert, reads, reply

router = APIRouter(prefix="/v1", tags=["searches"])

Asker = Annotated[Caller, allow("query", "read")]
Keeper = Annotated[Caller, allow("query", "write")]

_QUESTION = {"kind": "value", "text": "198.51.100.7", "days": 7}
_SEARCH = {"name": "address", "title": "Where an address was seen", "question": _QUESTION, "shared": True}


class SearchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question to save; its owner is the caller."""

    name: str
    question: Question
    title: str = ""
    shared: bool = False


class RunRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Values for a saved search: of SQL its parameters, else `text`; of all `days`."""

    parameters: Mapping[str, Scalar] = {}


class StepRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question to keep in a case, or a saved search by name with its values."""

    question: Question | None = None
    search: str = ""
    parameters: Mapping[str, Scalar] = {}


def question_of(platform: Platform, principal: Principal, wanted: StepRequest) -> Question:
    """The question that is meant.

    Raises:
        NotFoundError: `searches.search.unknown`.
    """
    if wanted.question is not None:
        return wanted.question
    return filled(Searches(platform).get(principal.tenant, wanted.search, principal.id), wanted.parameters)


@router.post("/questions", openapi_extra=reads(Question, _QUESTION))
def ask_question(caller: Asker, body: JsonBody, platform: Served) -> Response:
    """Rows of one question over the tenant's events, with the versions of the tables that were read."""
    wanted: Question = convert(body, Question)
    return reply(ask(platform.store, caller.tenant, wanted, now=platform.clock.now()))


@router.get("/searches")
def list_searches(caller: Asker, platform: Served) -> Response:
    """The saved searches that the caller may see: their own, and the shared ones."""
    return reply({"data": Searches(platform).all(caller.tenant, caller.principal.id), "has_more": False})


@router.post("/searches", status_code=201, openapi_extra=reads(SearchRequest, _SEARCH))
def save_search(caller: Keeper, body: JsonBody, platform: Served) -> Response:
    """Saves a question by name, for the caller or for all; again replaces the caller's own."""
    wanted: SearchRequest = convert(body, SearchRequest)
    made = Search(**{name: getattr(wanted, name) for name in wanted.__struct_fields__}, owner=caller.principal.id)
    return reply(Searches(platform).save(caller.tenant, made), 201)


@router.delete("/searches/{search}", status_code=204)
def delete_search(caller: Keeper, search: str, platform: Served) -> Response:
    """Forgets a search: one of the caller's own, or a shared one."""
    Searches(platform).delete(caller.tenant, search, caller.principal.id)
    return Response(status_code=204)


@router.post("/searches/{search}/runs", openapi_extra=reads(RunRequest, {"parameters": {}}))
def run_search(caller: Asker, search: str, body: JsonBody, platform: Served) -> Response:
    """Asks a saved search with these values; those left out are its own."""
    wanted: RunRequest = convert(body, RunRequest)
    question = filled(Searches(platform).get(caller.tenant, search, caller.principal.id), wanted.parameters)
    return reply(ask(platform.store, caller.tenant, question, now=platform.clock.now()))


@router.get("/cases/{case_id}/steps")
def list_steps(caller: Annotated[Caller, allow("cases", "read")], case_id: str, platform: Served) -> Response:
    """The steps of a case: each question, the versions of the tables, and the hash of its rows."""
    return reply({"data": Steps(platform, platform.store).all(caller.tenant, case_id), "has_more": False})


@router.post(
    "/cases/{case_id}/steps",
    status_code=201,
    openapi_extra=reads(StepRequest, {"question": {"kind": Kind.SQL, "text": "select 1 as one"}}),
)
def take_step(caller: Keeper, case_id: str, body: JsonBody, platform: Served) -> Response:
    """Asks a question and keeps it in the case with its rows as evidence."""
    wanted: StepRequest = convert(body, StepRequest)
    question = question_of(platform, caller.principal, wanted)
    name = "" if wanted.question is not None else wanted.search
    steps = Steps(platform, platform.store)
    return reply(steps.take(caller.tenant, case_id, question, operator=caller.principal.id, search=name), 201)


@router.post("/cases/{case_id}/steps/{step_id}/runs")
def run_step(caller: Keeper, case_id: str, step_id: str, platform: Served) -> Response:
    """Asks a step again: of the tables as they were, and as they are; the case notes what came of it."""
    again, rows = Steps(platform, platform.store).again(caller.tenant, case_id, step_id, operator=caller.principal.id)
    return reply({"again": again, "answer": rows})
