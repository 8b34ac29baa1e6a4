"""Runs as people look at them."""

from __future__ import annotations

from typing import Any

import msgspec

from vedette.act.approvals import Approval
from vedette.act.playbooks.playbook import Playbook
from vedette.act.playbooks.stored import request_of
from vedette.act.playbooks.world import Request
from vedette.core.execute import Run, State, StepRecord

GOING = frozenset({"queued", "running", "waiting"})
"""States in which more may happen by itself."""


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run as people look at it."""

    id: str
    playbook: str
    version: int
    alert_id: str
    case_id: str
    requester: str
    state: str
    """`queued`, `running`, `waiting` (for an approval), `completed`, `incomplete` (steps that may fail did), `denied`,
    `expired`, `failed`, `cancelled`, `stuck`."""
    error: str
    created_time: int
    approval: Approval | None
    """The one it waits for; of several, that with the earliest deadline."""
    approvals: tuple[Approval, ...] = ()
    """All that it waits for: parallel branches each ask for their own."""
    trigger: dict[str, Any] = {}
    """What started it; empty: a person, for its alert."""
    overdue: str = ""
    """The step at which it was to be heard of and was not; empty: all is well."""
    steps: tuple[StepRecord, ...] = ()
    """Recorded attempts, waits left out; empty in a list."""


class RunDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was started with, beside what became of it."""

    view: RunView
    playbook: Playbook
    """As it was when the run began."""
    request: Request
    doing: frozenset[str]
    """Names of the steps that are taken just now, in all branches."""


def make_view(
    row: Any, run: Run | None, asked: tuple[Approval, ...], late: str, steps: tuple[StepRecord, ...]
) -> RunView:
    """A kept run with what its executor and its approvals say."""
    request = request_of(row)
    state = _state(run, waiting=bool(asked))
    waiting = asked if state == "waiting" else ()
    return RunView(
        id=row.id,
        playbook=row.playbook,
        version=row.version,
        alert_id=row.alert_id,
        case_id=request.case_id,
        requester=request.requester,
        state=state,
        error=_error(run),
        created_time=row.created_time,
        approval=waiting[0] if waiting else None,
        approvals=waiting,
        trigger=request.trigger,
        overdue=late if state in ("queued", "running", "waiting", "stuck") else "",
        steps=steps,
    )


def _error(run: Run | None) -> str:
    if run is None or run.error:
        return run.error if run else ""
    return "; ".join(run.result.get("failed", ())) if isinstance(run.result, dict) else ""


def _state(run: Run | None, *, waiting: bool) -> str:
    if run is None:
        return "queued"
    if run.state is State.SUCCEEDED and isinstance(run.result, dict):
        return str(run.result.get("state", run.state))
    return "waiting" if run.state is State.RUNNING and waiting else str(run.state)
