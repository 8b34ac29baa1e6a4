"""The audit page: who did what, and whether what is recorded is still what was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse

from vedette.core.errors import ConflictError
from vedette.prove.audit import Outcome
from vedette.prove.evidence import FileAnchor
from vedette.prove.evidence.bundle import Choice, to_bundle
from vedette.prove.evidence.collect import from_log
from vedette.prove.trail import TrailFilter, read_trail
from vedette.run.platform import Platform
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, act, look

PAGE = 50
MAX_BUNDLE = 10_000
"""Newest records of a bundle that a browser fetches; `vedette audit bundle` exports any."""

router = APIRouter(tags=["console"], include_in_schema=False)

Reader = Annotated[Visitor, look("audit", "read")]


class Tree(msgspec.Struct, frozen=True):
    """The evidence tree as it stands."""

    size: int
    anchored: int
    """Records that a signed checkpoint covers."""
    note: str
    """The newest checkpoint, a C2SP note; empty before the first."""
    key: str
    """The verifier key that signed it."""

    @property
    def unanchored(self) -> int:
        """Records that the next checkpoint will cover."""
        return max(0, self.size - self.anchored)


@router.get("/audit")
def show_audit(
    *,
    request: Request,
    visitor: Reader,
    platform: Served,
    actor: Annotated[str, Query(max_length=100)] = "",
    action: Annotated[str, Query(max_length=100)] = "",
    outcome: str = "",
    before: Annotated[int | None, Query(ge=0, lt=1 << 62)] = None,
) -> HTMLResponse:
    """The trail, newest first, under the state of the evidence."""
    wanted = TrailFilter(actor=actor.strip(), action=action.strip(), outcome=_outcome(outcome))
    people = {person.id: person.name for person in platform.access.people.list(visitor.tenant)}
    return show(
        request,
        visitor,
        "audit.html",
        fragment="trail",
        wanted=wanted,
        page=read_trail(platform.log, visitor.tenant, wanted, before=before, limit=PAGE),
        first=before is None,
        names=people,
        outcomes=list(Outcome),
        tree=_tree(platform),
        run=platform.verifier.newest,
    )


@router.get("/audit/verification")
def show_verification(request: Request, visitor: Reader, platform: Served) -> HTMLResponse:
    """The panel of the evidence by itself, for a page that waits for the verifier."""
    return show(
        request, visitor, "audit_evidence.html", fragment="evidence", tree=_tree(platform), run=platform.verifier.newest
    )


@router.post("/audit/verify", response_model=None)
def verify(
    request: Request, visitor: Annotated[Visitor, act("audit", "read")], platform: Served
) -> HTMLResponse | RedirectResponse:
    """Starts the verifier; one that runs goes on."""
    try:
        platform.verifier.start(by=visitor.principal.id)
    except ConflictError:
        pass  # somebody else asked a moment ago: the page shows that run
    else:
        platform.audit.record(visitor.tenant, "audit.verify", actor=visitor.principal.id, origin=visitor.origin)
    if "hx-request" in request.headers:
        return show_verification(request, visitor, platform)
    return RedirectResponse("/audit#evidence", 303)


@router.get("/audit/bundle", response_model=None)
def download_bundle(visitor: Reader, platform: Served) -> Response:
    """The newest anchored records of the tenant with their proofs; the stand-alone verifier needs nothing else."""
    anchor = FileAnchor(platform.settings.anchor_folder)
    tree = _tree(platform)
    choice = Choice(tenant=visitor.tenant, first=max(0, tree.anchored - MAX_BUNDLE))
    parts: Iterator[bytes] = to_bundle(platform.state, anchor, choice, content=from_log(platform.log))
    # The first part now: what is wrong is told as a page, before an answer has begun.
    begin = next(parts, b"")
    platform.audit.record(visitor.tenant, "audit.bundle", actor=visitor.principal.id, origin=visitor.origin)
    return StreamingResponse(
        chain([begin], parts),
        media_type="application/octet-stream",
        headers={"content-disposition": 'attachment; filename="evidence.bundle"', "cache-control": "no-store"},
    )


def _tree(platform: Platform) -> Tree:
    note = FileAnchor(platform.settings.anchor_folder).last_note() or ""
    lines = note.splitlines()
    anchored = int(lines[1]) if len(lines) > 1 and lines[1].isdigit() else 0
    return Tree(platform.evidence.size(), anchored, note, platform.evidence.key)


def _outcome(text: str) -> Outcome | None:
    return Outcome(text) if text in set(Outcome) else None
