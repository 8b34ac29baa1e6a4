"""What a run would do, without doing it: steps in order, filled arguments, approvals, and what actions would touch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from vedette.act.actions import ActionCall, Actions
from vedette.act.playbooks.conditions import decide
from vedette.act.playbooks.playbook import (
    ActionStep,
    ApprovalStep,
    IfStep,
    Playbook,
    Step,
    WhileStep,
    walk,
)
from vedette.act.playbooks.references import Unknown, fill, references
from vedette.core.errors import VedetteError


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a plan."""

    id: str
    type: str
    depth: int = 0
    branch: str = ""
    """`on_true`, `on_false`, `on_denied` or `steps` for a step inside another."""
    action: str = ""
    text: str = ""
    arguments: dict[str, Any] = {}
    """Filled; `${steps...}` where only the run will know."""
    needs_approval: str = ""
    """Id of the approval that must be given first."""
    covers: tuple[str, ...] = ()
    deadline_s: float = 0.0
    condition: Any = None
    holds: bool | None = None
    """Whether the condition holds; None when only the run will know."""
    preview: dict[str, Any] | None = None
    """What the action would touch; None when it offers no look ahead."""
    problem: str = ""
    """Code of what would make the step fail as things are."""


def make_plan(
    playbook: Playbook, *, tenant: str, run_id: str, requester: str, alert: Mapping[str, Any],
    inputs: Mapping[str, Any], actions: Actions,
) -> list[PlannedStep]:  # fmt: skip
    """The plan of a run that is not started."""
    scope = {
        "inputs": inputs,
        "alert": alert,
        "run": {"id": run_id, "tenant": tenant, "requester": requester},
        "secrets": {name: name for name in playbook.secrets},
        "steps": {step.id: Unknown(f"steps.{step.id}") for step in walk(playbook.steps)},
    }
    approvals = {
        name: step.id for step in walk(playbook.steps) if isinstance(step, ApprovalStep) for name in step.covers
    }
    return _Planner(scope, approvals, actions, tenant, run_id).steps(playbook.steps, 0, "")


class _Planner:
    def __init__(
        self, scope: Mapping[str, Any], approvals: Mapping[str, str], actions: Actions, tenant: str, run_id: str
    ) -> None:
        self._scope = scope
        self._approvals = approvals
        self._actions = actions
        self._tenant = tenant
        self._run_id = run_id

    def steps(self, steps: tuple[Step, ...], depth: int, branch: str) -> list[PlannedStep]:
        lines: list[PlannedStep] = []
        for step in steps:
            place: dict[str, Any] = {"id": step.id, "depth": depth, "branch": branch}
            match step:
                case ActionStep():
                    lines.append(self._action(step, place))
                case ApprovalStep():
                    text = self._fill(step.title)
                    deadline: dict[str, Any] = {"covers": step.covers, "deadline_s": step.deadline_s}
                    lines.append(PlannedStep(**place, type="approval", text=text, **deadline))
                    lines += self.steps(step.on_denied, depth + 1, "on_denied")
                case IfStep():
                    holds = self._holds(step.condition)
                    lines.append(PlannedStep(**place, type="if-condition", condition=step.condition, holds=holds))
                    lines += self.steps(step.on_true, depth + 1, "on_true")
                    lines += self.steps(step.on_false, depth + 1, "on_false")
                case WhileStep():
                    holds = self._holds(step.condition)
                    lines.append(PlannedStep(**place, type="while-condition", condition=step.condition, holds=holds))
                    lines += self.steps(step.steps, depth + 1, "steps")
        return lines

    def _action(self, step: ActionStep, place: dict[str, Any]) -> PlannedStep:
        text = self._actions.signatures[step.action].text
        needs = self._approvals.get(step.id, "")
        known: dict[str, Any] = {"type": "action", "action": step.action, "text": text, "needs_approval": needs}
        try:
            arguments = fill(step.arguments, self._scope)
        except VedetteError as error:
            return PlannedStep(**place, **known, arguments=step.arguments, problem=error.code)
        late = any(path.startswith("steps.") for path in references(step.arguments))
        try:
            preview = None if late else self._actions.preview(step.action, self._call(step.id, arguments))
        except VedetteError as error:
            return PlannedStep(**place, **known, arguments=arguments, problem=error.code)
        return PlannedStep(**place, **known, arguments=arguments, preview=preview)

    def _call(self, step: str, arguments: dict[str, Any]) -> ActionCall:
        run_id = self._run_id
        return ActionCall(tenant=self._tenant, run_id=run_id, step=step, key="", operator=run_id, arguments=arguments)

    def _fill(self, text: str) -> str:
        try:
            return str(fill(text, self._scope))
        except VedetteError:
            return text

    def _holds(self, condition: Any) -> bool | None:
        try:
            return decide(condition, self._scope)
        except VedetteError:
            return None
