"""What happened in a case: typed entries that are only ever added."""

from __future__ import annotations

from typing import Any

import msgspec


class Opened(msgspec.Struct, frozen=True, tag_field="kind", tag="opened"):
    """The case began."""

    title: str


class AlertLinked(msgspec.Struct, frozen=True, tag_field="kind", tag="alert_linked"):
    """An alert belongs to the case from now on."""

    alert_id: str


class StateChanged(msgspec.Struct, frozen=True, tag_field="kind", tag="state_changed"):
    """The case moved on, or was opened again."""

    before: str
    after: str


class OwnerChanged(msgspec.Struct, frozen=True, tag_field="kind", tag="owner_changed"):
    """Another person answers for the case; empty: nobody."""

    before: str
    after: str


class PhaseChanged(msgspec.Struct, frozen=True, tag_field="kind", tag="phase_changed"):
    """The response entered another phase."""

    before: str
    after: str


class EvidenceAdded(msgspec.Struct, frozen=True, tag_field="kind", tag="evidence_added"):
    """An artefact was kept; `digest` is the SHA-256 of its stored bytes."""

    digest: str
    reference: str
    what: str


class TaskAdded(msgspec.Struct, frozen=True, tag_field="kind", tag="task_added"):
    """Somebody is to do something."""

    task_id: str
    title: str


class TaskDone(msgspec.Struct, frozen=True, tag_field="kind", tag="task_done"):
    """It is done."""

    task_id: str


class Noted(msgspec.Struct, frozen=True, tag_field="kind", tag="noted"):
    """A person's own words."""

    text: str


class RunStarted(msgspec.Struct, frozen=True, tag_field="kind", tag="run_started"):
    """A playbook began to answer an alert of the case."""

    run_id: str
    playbook: str
    version: int


class StepFinished(msgspec.Struct, frozen=True, tag_field="kind", tag="step_finished"):
    """A step of a run has its outcome: done, or failed with `code`."""

    run_id: str
    step: str
    action: str
    ok: bool
    code: str = ""
    result: Any = None


class ApprovalRequested(msgspec.Struct, frozen=True, tag_field="kind", tag="approval_requested"):
    """A run waits for a person until `deadline` (microseconds UTC)."""

    run_id: str
    step: str
    hash: str
    deadline: int


class ApprovalSettled(msgspec.Struct, frozen=True, tag_field="kind", tag="approval_settled"):
    """The wait is over: `approved`, `denied` or `expired`."""

    run_id: str
    step: str
    decision: str
    by: str = ""


class RunFinished(msgspec.Struct, frozen=True, tag_field="kind", tag="run_finished"):
    """The run is over."""

    run_id: str
    state: str


Body = (
    Opened
    | AlertLinked
    | StateChanged
    | OwnerChanged
    | PhaseChanged
    | EvidenceAdded
    | TaskAdded
    | TaskDone
    | Noted
    | RunStarted
    | StepFinished
    | ApprovalRequested
    | ApprovalSettled
    | RunFinished
)


class Entry(msgspec.Struct, frozen=True):
    """One line of a timeline."""

    seq: int
    """From 1, without gaps in a case."""
    time: int
    """When it was written, microseconds UTC."""
    operator: str
    """The person or service acting."""
    body: Body
