"""What the interpreter acts on, and what travels with a run and its branches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from vedette.act.actions import Actions
from vedette.act.approvals import Approvals
from vedette.act.cases import Cases, Preservation
from vedette.act.playbooks.caps import Caps
from vedette.act.playbooks.playbook import Step
from vedette.act.playbooks.pulses import Pulses
from vedette.core.clock import Clock
from vedette.core.execute import Retry

KIND = "playbook"
"""Kind of run on the executor."""
BRANCH = "playbook.branch"
"""Kind of a branch of such a run."""

OWN = Retry(attempts=5, delay_s=0.5)
"""For the interpreter's own writes; what they may meet is a busy database."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is about, fixed at its start."""

    tenant: str
    alert_id: str
    """Empty: the run answers no alert."""
    case_id: str
    requester: str
    authors: tuple[str, ...]
    alert: dict[str, Any]
    """The alert as it was at the start, as `${alert...}` reads it."""
    inputs: dict[str, Any]
    trigger: dict[str, Any] = {}
    """What started it: `type`, and what came with it, as `${trigger...}` reads it."""
    carried: dict[str, Any] = {}
    """Of a run that was begun again from a step: step -> what it had found in the run before. It is not done again."""


class Ending(msgspec.Struct, frozen=True):
    """Why a run ends before its last step."""

    state: str
    """`denied`, `expired` or `failed`."""
    step: str
    code: str = ""
    message: str = ""


class Undo(msgspec.Struct, frozen=True):
    """How to take back a step that is done."""

    name: str
    action: str
    arguments: dict[str, Any]


class Approved(msgspec.Struct, frozen=True):
    """What a person said yes to."""

    digest: str
    """Of the action and its arguments."""
    until: int = 0
    """Until when it may begin, microseconds UTC; 0: for ever."""


class Frame(msgspec.Struct, kw_only=True):
    """What steps can see, and what they have done so far. Goes into a branch as a copy and comes back from it."""

    prefix: str = ""
    """Before the names of steps: `<step>/` inside another playbook."""
    round: str = ""
    """After the names of steps: `#2` in the second round of a loop."""
    branch: str = ""
    """Empty in the run itself."""
    inputs: dict[str, Any] = {}
    secrets: tuple[str, ...] = ()
    results: dict[str, Any] = {}
    approved: dict[str, Approved] = {}
    done: list[Undo] = []
    """In the order in which they were done."""
    failed: list[str] = []
    error: dict[str, str] = {}


class BranchCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a branch is started with."""

    run_id: str
    """The run it belongs to: its steps have their keys from it."""
    request: Request
    caps: dict[str, int]
    frame: Frame
    steps: tuple[Step, ...]


class BranchEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What a branch gives back."""

    ending: Ending | None
    frame: Frame


def _silent(_step: str, _moment: str) -> None:
    """No probe."""


@dataclass(frozen=True, slots=True)
class World:
    """What the interpreter acts on."""

    actions: Actions
    approvals: Approvals
    cases: Cases
    clock: Clock
    caps: Caps
    pulses: Pulses
    preservation: Preservation
    """The law that evidence is kept before anything contains."""
    probe: Callable[[str, str], None] = _silent
    """Called around every recorded step with its name and `before`, `after` (its effect) or `recorded`."""
