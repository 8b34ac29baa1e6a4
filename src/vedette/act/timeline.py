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
    why: str = ""
    """What it has in common with the case's others, when it joined by itself; empty when somebody added it."""


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
    owner: str = ""
    due: int = 0
    """Microseconds UTC; 0: without a deadline."""


class TaskDone(msgspec.Struct, frozen=True, tag_field="kind", tag="task_done"):
    """It is done."""

    task_id: str


class Noted(msgspec.Struct, frozen=True, tag_field="kind", tag="noted"):
    """A person's own words."""

    text: str
    privileged: bool = False
    """For counsel: shown to who leads the case and to its lawyers, to nobody else."""


class Withheld(msgspec.Struct, frozen=True, tag_field="kind", tag="withheld"):
    """Stands where an entry is that the reader may not read. It is never stored."""


class TaskReminded(msgspec.Struct, frozen=True, tag_field="kind", tag="task_reminded"):
    """A task is due soon, or was not done in time."""

    task_id: str
    title: str
    owner: str
    overdue: bool


class RoleGiven(msgspec.Struct, frozen=True, tag_field="kind", tag="role_given"):
    """A person has a role in the case from now on."""

    person: str
    role: str


class RoleTaken(msgspec.Struct, frozen=True, tag_field="kind", tag="role_taken"):
    """A person has it no more."""

    person: str
    role: str


class HypothesisAdded(msgspec.Struct, frozen=True, tag_field="kind", tag="hypothesis_added"):
    """Something that may explain what happened."""

    hypothesis_id: str
    title: str


class HypothesisWeighed(msgspec.Struct, frozen=True, tag_field="kind", tag="hypothesis_weighed"):
    """Evidence speaks for or against one."""

    hypothesis_id: str
    speaks: str
    """`for` or `against`."""
    reference: str
    confidence: int


class HypothesisSettled(msgspec.Struct, frozen=True, tag_field="kind", tag="hypothesis_settled"):
    """It was confirmed or refuted; `root` is the first event of a confirmed cause."""

    hypothesis_id: str
    state: str
    root: str = ""


class ObservableAdded(msgspec.Struct, frozen=True, tag_field="kind", tag="observable_added"):
    """Something to look for elsewhere."""

    type: str
    value: str


class ClockStarted(msgspec.Struct, frozen=True, tag_field="kind", tag="clock_started"):
    """Somebody is to be told by a deadline."""

    notice: str
    due: int


class ClockMoved(msgspec.Struct, frozen=True, tag_field="kind", tag="clock_moved"):
    """The notice was drafted, approved, sent, or found not to be needed."""

    notice: str
    state: str
    reason: str = ""


class ClockWarned(msgspec.Struct, frozen=True, tag_field="kind", tag="clock_warned"):
    """The deadline of a notice is near, or over."""

    notice: str
    overdue: bool


class CustodyChanged(msgspec.Struct, frozen=True, tag_field="kind", tag="custody_changed"):
    """Evidence was handed over or exported."""

    act: str
    to: str


class PreservationWaived(msgspec.Struct, frozen=True, tag_field="kind", tag="preservation_waived"):
    """Containment may go first: somebody answers for the volatile evidence that is lost by it."""

    action: str
    """Empty: every containment of this case."""
    reason: str


class ReviewWritten(msgspec.Struct, frozen=True, tag_field="kind", tag="review_written"):
    """A part of the review after the incident was written."""

    part: str


class ChangeLinked(msgspec.Struct, frozen=True, tag_field="kind", tag="change_linked"):
    """What was changed so that it does not happen again, or why nothing was."""

    what: str
    reference: str


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
    | Withheld
    | TaskReminded
    | RoleGiven
    | RoleTaken
    | HypothesisAdded
    | HypothesisWeighed
    | HypothesisSettled
    | ObservableAdded
    | ClockStarted
    | ClockMoved
    | ClockWarned
    | CustodyChanged
    | PreservationWaived
    | ReviewWritten
    | ChangeLinked
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
