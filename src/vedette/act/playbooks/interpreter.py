"""Carries a playbook out, durably.

The order of steps follows from the definition, the inputs and recorded outcomes alone, so that a restart under newer
code walks the same way. Every effect is inside a recorded step: an action, the request of an approval, the reading of a
decision, the first and the last line of the timeline. What a body writes is keyed by run and step, because an
interrupted body runs again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from vedette.act.actions import ActionCall, Actions
from vedette.act.approvals import Approval, Approvals, ApprovalState, Covered, binding
from vedette.act.cases import Cases, Phase
from vedette.act.playbooks.conditions import decide
from vedette.act.playbooks.playbook import (
    ActionStep,
    ApprovalStep,
    IfStep,
    OnFailure,
    Playbook,
    Step,
    WhileStep,
    from_definition,
    walk,
)
from vedette.act.playbooks.references import fill
from vedette.act.timeline import ApprovalRequested, ApprovalSettled, Body, RunFinished, RunStarted, StepFinished
from vedette.core.clock import MICROS, Clock
from vedette.core.errors import DataError, PermanentError, VedetteError
from vedette.core.execute import Interpreter, Json, Outcome, Retry, Steps

KIND = "playbook"
"""Kind of run on the executor."""

MAX_WAKES = 100
"""After so many messages that decided nothing, a run waits for its deadline without listening."""

OWN = Retry(attempts=5, delay_s=0.5)
"""For the interpreter's own writes; what they may meet is a busy database."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is about, fixed at its start."""

    tenant: str
    alert_id: str
    case_id: str
    requester: str
    authors: tuple[str, ...]
    alert: dict[str, Any]
    """The alert as it was at the start, as `${alert...}` reads it."""
    inputs: dict[str, Any]


class Ending(msgspec.Struct, frozen=True):
    """Why a run ends before its last step."""

    state: str
    """`denied`, `expired` or `failed`."""
    step: str
    code: str = ""
    message: str = ""


def _silent(_step: str, _moment: str) -> None:
    """No probe."""


@dataclass(frozen=True, slots=True)
class World:
    """What the interpreter acts on."""

    actions: Actions
    approvals: Approvals
    cases: Cases
    clock: Clock
    probe: Callable[[str, str], None] = _silent
    """Called around every recorded step with its name and `before`, `after` (its effect) or `recorded`."""


def make_interpreter(world: World) -> Interpreter:
    """The interpreter to register under `KIND`."""

    def interpret(steps: Steps, definition: Json, inputs: Json) -> Json:
        return _Walk(world, steps, from_definition(definition), msgspec.convert(inputs, Request)).go()

    return interpret


class _Walk:
    def __init__(self, world: World, steps: Steps, playbook: Playbook, request: Request) -> None:
        self._world = world
        self._steps = steps
        self._playbook = playbook
        self._request = request
        self._round = ""
        self._done: list[tuple[str, ActionStep]] = []
        self._failed: list[str] = []
        self._approved: dict[str, str] = {}
        self._results: dict[str, Any] = {}
        self._scope: dict[str, Any] = {
            "inputs": request.inputs,
            "alert": request.alert,
            "run": {"id": steps.run_id, "tenant": request.tenant, "requester": request.requester},
            "secrets": {name: name for name in playbook.secrets},
            "steps": self._results,
        }

    def go(self) -> Json:
        book = self._playbook
        # A dot keeps these apart from the ids of steps.
        self._write("run.start", RunStarted(self._steps.run_id, book.id, book.version))
        ending = self._run(book.steps)
        state = ending.state if ending else "incomplete" if self._failed else "completed"
        self._write("run.end", RunFinished(self._steps.run_id, state))
        if ending and ending.state == "failed":
            raise PermanentError(
                "playbook.run.failed", f"step `{ending.step}` failed with {ending.code}: {ending.message}"
            )
        return {"state": state, "steps": self._results, "failed": self._failed}

    def _run(self, steps: tuple[Step, ...]) -> Ending | None:
        for step in steps:
            ending = self._one(step)
            if ending:
                return ending
        return None

    def _one(self, step: Step) -> Ending | None:
        match step:
            case ActionStep():
                return self._action(step)
            case ApprovalStep():
                return self._approval(step)
            case IfStep():
                try:
                    branch = step.on_true if decide(step.condition, self._scope) else step.on_false
                except VedetteError as error:
                    return self._fail(step.id, error.code, error.message)
                return self._run(branch)
            case WhileStep():
                return self._while(step)

    def _while(self, step: WhileStep) -> Ending | None:
        for number in range(step.limit + 1):
            try:
                again = decide(step.condition, self._scope)
            except VedetteError as error:
                return self._fail(step.id, error.code, error.message)
            if not again:
                return None
            if number == step.limit:
                return self._fail(step.id, "playbook.while.limit", f"still true after {step.limit} rounds")
            if number:
                self._steps.sleep(step.delay_s)
            outer, self._round = self._round, f"{self._round}#{number + 1}"
            ending = self._run(step.steps)
            self._round = outer
            if ending:
                return ending
        return None

    def _action(self, step: ActionStep) -> Ending | None:
        name = f"{step.id}{self._round}"
        outcome = self._perform(step, name)
        if outcome.ok:
            self._results[step.id] = {**outcome.value, "ok": True}
            self._done.append((name, step))
            return None
        failed = StepFinished(self._steps.run_id, name, step.action, ok=False, code=outcome.code)
        self._write(f"{name}.failed", failed)
        self._results[step.id] = {"ok": False, "code": outcome.code}
        if step.on_failure is OnFailure.CONTINUE:
            self._failed.append(f"step `{name}` failed with {outcome.code}")
            return None
        return self._fail(name, outcome.code, outcome.message)

    def _perform(self, step: ActionStep, name: str) -> Outcome:
        try:
            arguments = fill(step.arguments, self._scope)
            if step.drastic:
                self._check_approved(step, arguments)
        except VedetteError as error:
            # Follows from recorded values alone: nothing to record.
            return Outcome(ok=False, code=error.code, message=error.message)
        return self._call(name, step.action, arguments, step.retry, step.timeout_s)

    def _check_approved(self, step: ActionStep, arguments: dict[str, Any]) -> None:
        if self._approved.get(step.id) != _digest(step.action, arguments):
            code = "playbook.approval.changed" if step.id in self._approved else "playbook.approval.missing"
            raise DataError(code, f"`{step.action}` with these arguments has no approval")

    def _call(
        self, name: str, action: str, arguments: dict[str, Any], retry: Retry = OWN, timeout_s: float = 60.0
    ) -> Outcome:
        run_id, request = self._steps.run_id, self._request
        key = f"{run_id}:{name}"

        def body() -> Json:
            call = ActionCall(
                tenant=request.tenant,
                run_id=run_id,
                step=name,
                key=key,
                operator=run_id,
                arguments=arguments,
                alert_id=request.alert_id,
                case_id=request.case_id,
            )
            result = self._world.actions.perform(action, call)
            for kept in result.evidence:
                self._world.cases.add_evidence(
                    request.tenant,
                    request.case_id,
                    digest=kept.digest,
                    reference=kept.reference,
                    what=kept.what,
                    operator=run_id,
                )
            self._journal(name, StepFinished(run_id, name, action, ok=True, result=result.values))
            return result.values

        return self._step(name, body, retry, timeout_s)

    def _approval(self, step: ApprovalStep) -> Ending | None:
        try:
            asked = self._ask(step)
        except VedetteError as error:
            return self._fail(step.id, error.code, error.message)
        opened = self._step(f"{step.id}.request", lambda: self._request_approval(asked))
        if not opened.ok:
            return self._fail(step.id, opened.code, opened.message)
        decision = self._await(step.id, deadline=opened.value["deadline"])
        if not decision.ok:
            return self._fail(step.id, decision.code, decision.message)
        state = decision.value["state"]
        self._results[step.id] = {"ok": state == ApprovalState.APPROVED, **decision.value}
        if state != ApprovalState.APPROVED:
            return self._run(step.on_denied) or Ending(state, step.id)
        if decision.value["hash"] != asked.hash:
            return self._fail(step.id, "playbook.approval.changed", "the decision is about something else")
        self._approved |= {each.step: _digest(each.action, each.arguments) for each in asked.actions}
        return None

    def _ask(self, step: ApprovalStep) -> Approval:
        found = {each.id: each for each in walk(self._playbook.steps) if isinstance(each, ActionStep)}
        actions = tuple(
            Covered(name, found[name].action, fill(found[name].arguments, self._scope)) for name in step.covers
        )
        for each in actions:
            self._world.actions.check(each.action, each.arguments)
        evidence = {name: self._results.get(name) for name in step.evidence}
        return Approval(
            tenant=self._request.tenant,
            run_id=self._steps.run_id,
            step=step.id,
            title=fill(step.title, self._scope),
            actions=actions,
            evidence=evidence,
            requester=self._request.requester,
            authors=self._request.authors,
            requested_time=0,
            deadline=round(step.deadline_s * MICROS),
            hash=binding(self._steps.run_id, step.id, actions, evidence),
        )

    def _request_approval(self, asked: Approval) -> Json:
        now = self._world.clock.now()
        previews = tuple(msgspec.structs.replace(each, preview=self._preview(each)) for each in asked.actions)
        times = {"requested_time": now, "deadline": now + asked.deadline}
        stored = self._world.approvals.request(msgspec.structs.replace(asked, actions=previews, **times))
        requested = ApprovalRequested(stored.run_id, stored.step, stored.hash, stored.deadline)
        self._journal(f"{stored.step}.request", requested)
        return {"deadline": stored.deadline, "hash": stored.hash}

    def _preview(self, covered: Covered) -> dict[str, Any] | None:
        call = ActionCall(
            tenant=self._request.tenant,
            run_id=self._steps.run_id,
            step=covered.step,
            key="",
            operator=self._steps.run_id,
            arguments=covered.arguments,
        )
        try:
            return self._world.actions.preview(covered.action, call)
        except VedetteError as error:
            # A look ahead that fails is something to know, no reason not to ask.
            return {"problem": error.code}

    def _await(self, step: str, *, deadline: int) -> Outcome:
        """Waits until there is a decision or the deadline has passed; the first reading that is not pending counts."""
        for wake in range(MAX_WAKES + 1):
            remaining = max(0, deadline - self._world.clock.now()) / MICROS + 0.001
            if wake < MAX_WAKES:
                self._steps.wait(topic(step), timeout_s=remaining)
            else:
                self._steps.sleep(remaining)
            outcome = self._step(f"{step}.settle", lambda: self._settle(step))
            if not outcome.ok or outcome.value["state"] != ApprovalState.PENDING:
                return outcome
        return outcome

    def _settle(self, step: str) -> Json:
        settled = self._world.approvals.settle(self._request.tenant, self._steps.run_id, step)
        if settled.state is not ApprovalState.PENDING:
            entry = ApprovalSettled(settled.run_id, step, settled.state, settled.decided_by)
            self._journal(f"{step}.settle", entry)
        if settled.state is ApprovalState.APPROVED:
            self._contain()
        return {"state": settled.state, "by": settled.decided_by, "hash": settled.hash}

    def _contain(self) -> None:
        """What a person approved is containment; a case that is further on stays there."""
        cases, request = self._world.cases, self._request
        if request.case_id and cases.get(request.tenant, request.case_id).phase is Phase.ANALYSIS:
            cases.set_phase(request.tenant, request.case_id, Phase.CONTAINMENT, operator=self._steps.run_id)

    def _fail(self, step: str, code: str, message: str) -> Ending:
        """Undoes what can be undone, last first. A compensation that fails is recorded and the others still run."""
        for done, action in reversed(self._done):
            undo = action.compensation
            if undo is None:
                continue
            name = f"{done}.compensate"
            try:
                outcome = self._call(name, undo.action, fill(undo.arguments, self._scope))
            except VedetteError as error:
                outcome = Outcome(ok=False, code=error.code)
            if not outcome.ok:
                entry = StepFinished(self._steps.run_id, name, undo.action, ok=False, code=outcome.code)
                self._write(f"{name}.failed", entry)
        self._done.clear()
        return Ending("failed", step, code, message)

    def _write(self, name: str, body: Body) -> None:
        """A recorded step that only writes a line of the timeline."""
        outcome = self._step(name, lambda: self._journal(name, body))
        if not outcome.ok:
            raise PermanentError(outcome.code, outcome.message)

    def _step(self, name: str, body: Callable[[], Json], retry: Retry = OWN, timeout_s: float = 0.0) -> Outcome:
        def probed() -> Json:
            self._world.probe(name, "before")
            value = body()
            self._world.probe(name, "after")
            return value

        outcome = self._steps.step(name, probed, retry=retry, timeout_s=timeout_s)
        self._world.probe(name, "recorded")
        return outcome

    def _journal(self, name: str, body: Body) -> None:
        request, run_id = self._request, self._steps.run_id
        if request.case_id:
            self._world.cases.record(request.tenant, request.case_id, body, operator=run_id, key=f"{run_id}:{name}")


def topic(step: str) -> str:
    """Where a run listens for the bell of an approval step."""
    return f"approval:{step}"


def _digest(action: str, arguments: dict[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode([action, arguments], order="sorted")).hexdigest()
