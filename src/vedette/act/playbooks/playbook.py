"""The playbook as data: what a run is given at its start and keeps to its end, however the program changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec

from vedette.core.execute import Retry

FORMAT = 1
"""Version of this shape. The interpreter keeps reading every format that a pending run may hold."""


class InputType(StrEnum):
    """What an input may be."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    LIST = "list"
    """Of texts."""


class Input(msgspec.Struct, frozen=True, kw_only=True, rename={"source": "from"}):
    """A value the playbook needs."""

    type: InputType = InputType.TEXT
    source: str = ""
    """`${alert...}` or `${trigger...}`: where it is taken from when nobody gives it."""
    required: bool = True
    description: str = ""


class OnFailure(StrEnum):
    """What a step that has failed for good does to its run."""

    STOP = "stop"
    """Undo the finished steps that have a compensation, last first, and fail the run."""
    CONTINUE = "continue"
    """Record it and go on."""


class Compensation(msgspec.Struct, frozen=True, kw_only=True):
    """The action that undoes a step."""

    action: str
    arguments: dict[str, Any] = {}


class ActionStep(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="action"):
    """One action with its own idempotency key."""

    id: str
    action: str
    arguments: dict[str, Any] = {}
    retry: Retry = Retry()
    timeout_s: float = 60.0
    on_failure: OnFailure = OnFailure.STOP
    compensation: Compensation | None = None
    drastic: bool = False
    """Runs only under an approval; taken from the action when the playbook is loaded."""
    on_error: tuple[Step, ...] = ()
    """Taken when it has failed for good, before `on_failure` decides how the run goes on."""


class Escalation(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to tell when nobody has decided for a while."""

    after_s: float
    to: str
    """Channel of the notice."""


class ApprovalStep(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="approval"):
    """A person's decision about the actions it covers, bound to their exact arguments and to evidence."""

    id: str
    title: str
    covers: tuple[str, ...]
    """Ids of action steps that follow."""
    evidence: tuple[str, ...] = ()
    """Ids of finished steps whose results the decision is bound to."""
    deadline_s: float
    on_denied: tuple[Step, ...] = ()
    """Steps to take when it is denied or nobody decides in time; then the run ends."""
    escalate: Escalation | None = None
    valid_s: float = 0.0
    """For how long after the decision what it covers may begin; 0: `VALID_S`."""


class IfStep(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="if-condition"):
    """Takes one of two branches."""

    id: str
    condition: Any
    on_true: tuple[Step, ...] = ()
    on_false: tuple[Step, ...] = ()


class WhileStep(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="while-condition"):
    """Repeats its steps while the condition holds, at most `limit` times, then fails."""

    id: str
    condition: Any
    steps: tuple[Step, ...]
    limit: int
    delay_s: float = 0.0
    """Durable wait between two rounds, seconds."""


class ParallelStep(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="parallel"):
    """Takes every branch at the same time and goes on when all are over; one that fails lets the others finish."""

    id: str
    branches: tuple[tuple[Step, ...], ...]


class WaitStep(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="wait"):
    """Lets time pass, through restarts."""

    id: str
    delay_s: float


class PlaybookStep(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="playbook-action"):
    """Another playbook as a step. Its steps travel with the run, so a later version of it changes nothing here."""

    id: str
    playbook: str
    version: int
    given: dict[str, Any] = {}
    """Its inputs."""
    inputs: dict[str, Input] = {}
    secrets: tuple[str, ...] = ()
    owner: str = ""
    steps: tuple[Step, ...] = ()
    on_error: tuple[Step, ...] = ()


Step = ActionStep | ApprovalStep | IfStep | WhileStep | ParallelStep | WaitStep | PlaybookStep


class TriggerType(StrEnum):
    """What starts a playbook by itself. By hand works always."""

    ALERT = "alert"
    CASE = "case"
    SCHEDULE = "schedule"
    WEBHOOK = "webhook"


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """When a playbook starts by itself."""

    type: TriggerType
    rules: tuple[str, ...] = ()
    """Of an alert: ids of rules; empty: any."""
    levels: tuple[str, ...] = ()
    """Of an alert or a case; empty: any."""
    every_s: float = 0.0
    """Of a schedule: once in each such interval, which begin at its multiples since 1970."""
    scheme: str = ""
    """Of a webhook that another system signs: how (`hooks.HookScheme`); empty: it comes with one of our keys."""
    secret: str = ""
    """Of such a webhook: the name of the secret; each tenant has its own, `<name>.<tenant>`."""


class Playbook(msgspec.Struct, frozen=True, kw_only=True):
    """A versioned answer."""

    id: str
    version: int
    title: str
    owner: str
    description: str = ""
    inputs: dict[str, Input] = {}
    secrets: tuple[str, ...] = ()
    """Names only; values are resolved where they are used."""
    steps: tuple[Step, ...]
    format: int = FORMAT
    on_error: tuple[Step, ...] = ()
    """Taken when the run has failed and what could be undone is undone."""
    triggers: tuple[Trigger, ...] = ()
    caps: dict[str, int] = {}
    """Kind of thing, such as `user` -> most of them that one run may touch; `caps.DEFAULT` for the others."""

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical definition."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def to_definition(playbook: Playbook) -> dict[str, Any]:
    """Plain JSON of a playbook, as a run keeps it."""
    plain: dict[str, Any] = msgspec.to_builtins(playbook)
    return plain


def from_definition(definition: Any) -> Playbook:
    """The playbook that a run keeps."""
    return msgspec.convert(definition, Playbook)


def walk(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Every step, branches included, in the order they are written."""
    for step in steps:
        yield step
        for branch in branches(step):
            yield from walk(branch)


def branches(step: Step) -> tuple[tuple[Step, ...], ...]:
    """The step lists inside a step."""
    match step:
        case ActionStep():
            return (step.on_error,)
        case ApprovalStep():
            return (step.on_denied,)
        case IfStep():
            return (step.on_true, step.on_false)
        case WhileStep():
            return (step.steps,)
        case ParallelStep():
            return step.branches
        case PlaybookStep() | WaitStep():
            # The ids inside another playbook are its own.
            return ()


def owners(playbook: Playbook) -> set[str]:
    """Who owns it, and the playbooks inside it."""
    return {playbook.owner} | _owners(playbook.steps)


def _owners(steps: tuple[Step, ...]) -> set[str]:
    found = set()
    for step in walk(steps):
        if isinstance(step, PlaybookStep):
            found |= {step.owner, *_owners(step.steps)}
    return found


def is_drastic(steps: tuple[Step, ...]) -> bool:
    """Whether some step, at any depth, needs a person's approval."""
    return any(
        step.drastic if isinstance(step, ActionStep) else isinstance(step, PlaybookStep) and is_drastic(step.steps)
        for step in walk(steps)
    )
