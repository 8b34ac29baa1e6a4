"""What a run would do, without doing it: steps in order, filled arguments, approvals, and what actions would touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vedette.act.actions import ActionCall, Actions
from vedette.act.grouping import Alert
from vedette.act.playbooks.caps import check_cap
from vedette.act.playbooks.conditions import decide
from vedette.act.playbooks.inputs import alert_scope, bind_inputs
from vedette.act.playbooks.playbook import (
    ActionStep,
    ApprovalStep,
    IfStep,
    ParallelStep,
    Playbook,
    PlaybookStep,
    Step,
    WaitStep,
    WhileStep,
    walk,
)
from vedette.act.playbooks.references import Unknown, fill, references
from vedette.act.playbooks.stored import run_identity
from vedette.core.errors import VedetteError


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a plan."""

    id: str
    type: str
    depth: int = 0
    branch: str = ""
    """`on_true`, `on_false`, `on_denied`, `on_error`, `steps` or the number of a branch, for a step inside another."""
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
    delay_s: float = 0.0
    """Of a wait."""
    touches: dict[str, tuple[str, ...]] = {}
    """Kind -> the things that the action would touch, as far as its arguments are known."""
    preview: dict[str, Any] | None = None
    """What the action would touch; None when it offers no look ahead."""
    problem: str = ""
    """Code of what would make the step fail as things are."""


def make_plan(
    playbook: Playbook, *, tenant: str, run_id: str, requester: str, alert: Mapping[str, Any],
    inputs: Mapping[str, Any], actions: Actions, trigger: Mapping[str, Any] | None = None,
) -> list[PlannedStep]:  # fmt: skip
    """The plan of a run that is not started. A step over its cap has the problem that would stop the run."""
    scope = {
        "inputs": inputs,
        "alert": alert,
        "trigger": trigger or {},
        "error": Unknown("error"),
        "run": {"id": run_id, "tenant": tenant, "requester": requester},
        "secrets": {name: name for name in playbook.secrets},
        "steps": {step.id: Unknown(f"steps.{step.id}") for step in walk(playbook.steps)},
    }
    approvals = {
        name: step.id for step in walk(playbook.steps) if isinstance(step, ApprovalStep) for name in step.covers
    }
    planner = _Planner(scope, approvals, actions, tenant, run_id)
    planner.caps = playbook.caps
    return planner.steps(playbook.steps, 0, "") + planner.steps(playbook.on_error, 1, "on_error")


def plan_for(
    alert: Alert | None, playbook: Playbook, *, tenant: str, requester: str, given: Mapping[str, Any], actions: Actions
) -> list[PlannedStep]:
    """The plan of the one run that answers an alert; None: of a run that answers none.

    Raises:
        DataError: As `bind_inputs`: the inputs can be had neither from the alert nor from what is given.
    """
    scope = alert_scope(alert) if alert else {}
    return make_plan(
        playbook,
        tenant=tenant,
        run_id=run_identity(tenant, alert.id if alert else "", playbook),
        requester=requester,
        alert=scope,
        inputs=bind_inputs(playbook.inputs, {"alert": scope, "trigger": {}}, given),
        actions=actions,
    )


class Radius(msgspec.Struct, frozen=True):
    """The blast radius of a plan: everything that any way through it would touch, as far as it is known by now."""

    touches: dict[str, list[str]]
    """Kind -> things."""
    problem: str = ""
    """`playbook.cap.exceeded` when that is more than a run may touch: it would be stopped on its way."""


def radius(steps: Sequence[PlannedStep], caps: Mapping[str, int]) -> Radius:
    """What a plan would touch, all in all."""
    found: dict[str, dict[str, None]] = {}
    for step in steps:
        for kind, things in step.touches.items():
            found.setdefault(kind, {}).update(dict.fromkeys(things))
    listed = {kind: list(things) for kind, things in found.items()}
    try:
        check_cap(listed, caps)
    except VedetteError as error:
        return Radius(listed, error.code)
    return Radius(listed)


class _Planner:
    def __init__(
        self, scope: Mapping[str, Any], approvals: Mapping[str, str], actions: Actions, tenant: str, run_id: str
    ) -> None:
        self._scope = scope
        self._approvals = approvals
        self._actions = actions
        self._tenant = tenant
        self._run_id = run_id
        self.caps: Mapping[str, int] = {}

    def steps(self, steps: tuple[Step, ...], depth: int, branch: str) -> list[PlannedStep]:
        lines: list[PlannedStep] = []
        for step in steps:
            place: dict[str, Any] = {"id": step.id, "depth": depth, "branch": branch}
            match step:
                case ActionStep():
                    lines.append(self._action(step, place))
                    lines += self.steps(step.on_error, depth + 1, "on_error")
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
                case ParallelStep():
                    lines.append(PlannedStep(**place, type="parallel"))
                    for number, inside in enumerate(step.branches, 1):
                        lines += self.steps(inside, depth + 1, str(number))
                case WaitStep():
                    lines.append(PlannedStep(**place, type="wait", delay_s=step.delay_s))
                case PlaybookStep():
                    lines += self._nested(step, place)
        return lines

    def _nested(self, step: PlaybookStep, place: dict[str, Any]) -> list[PlannedStep]:
        known: dict[str, Any] = {"type": "playbook-action", "text": f"{step.playbook} version {step.version}"}
        try:
            given = fill(step.given, self._scope)
            late = any(path.startswith("steps.") for path in references(step.given))
            # What only the run will know stays open; its type is checked then.
            inputs = given if late else bind_inputs(step.inputs, self._scope, given)
        except VedetteError as error:
            return [PlannedStep(**place, **known, arguments=step.given, problem=error.code)]
        scope = {**self._scope, "inputs": inputs, "secrets": {name: name for name in step.secrets}}
        scope["steps"] = {each.id: Unknown(f"steps.{each.id}") for each in walk(step.steps)}
        asked = {name: each.id for each in walk(step.steps) if isinstance(each, ApprovalStep) for name in each.covers}
        inside = _Planner(scope, asked, self._actions, self._tenant, self._run_id)
        inside.caps = self.caps
        lines = inside.steps(step.steps, place["depth"] + 1, "steps")
        lines = [msgspec.structs.replace(line, id=f"{step.id}/{line.id}") for line in lines]
        return [PlannedStep(**place, **known, arguments=given), *lines]

    def _action(self, step: ActionStep, place: dict[str, Any]) -> PlannedStep:
        signature = self._actions.signatures.get(step.action)
        text = signature.text if signature else ""
        needs = self._approvals.get(step.id, "")
        known: dict[str, Any] = {"type": "action", "action": step.action, "text": text, "needs_approval": needs}
        try:
            arguments = fill(step.arguments, self._scope)
        except VedetteError as error:
            return PlannedStep(**place, **known, arguments=step.arguments, problem=error.code)
        late = any(path.startswith("steps.") for path in references(step.arguments))
        known["touches"] = {} if late else self._actions.touches(step.action, arguments)
        try:
            check_cap(known["touches"], self.caps)
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
