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
    BOOLEAN = "boolean"


class Input(msgspec.Struct, frozen=True, kw_only=True, rename={"source": "from"}):
    """A value the playbook needs."""

    type: InputType = InputType.TEXT
    source: str = ""
    """`${alert...}`: where it is taken from when nobody gives it."""
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


Step = ActionStep | ApprovalStep | IfStep | WhileStep


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
        case ApprovalStep():
            return (step.on_denied,)
        case IfStep():
            return (step.on_true, step.on_false)
        case WhileStep():
            return (step.steps,)
        case _:
            return ()
