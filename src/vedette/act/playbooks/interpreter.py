"""Carries a playbook out, durably.

The order of steps follows from the definition, the inputs and recorded outcomes alone, so that a restart under newer
code walks the same way. Every effect is inside a recorded step: an action, the request of an approval, the reading of a
decision, the first and the last line of the timeline. What a body writes is keyed by run and step, because an
interrupted body runs again. A branch of `parallel` is a run of its own on the executor, with the same walk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from vedette.act.actions import ActionCall, ActionResult
from vedette.act.approvals import Approval, ApprovalState
from vedette.act.grouping import Alert
from vedette.act.playbooks.asking import Asking, check_approved, check_fresh
from vedette.act.playbooks.conditions import decide
from vedette.act.playbooks.inputs import bind_inputs
from vedette.act.playbooks.playbook import (
    ActionStep,
    ApprovalStep,
    IfStep,
    OnFailure,
    ParallelStep,
    Playbook,
    PlaybookStep,
    Step,
    WaitStep,
    WhileStep,
    from_definition,
    walk,
)
from vedette.act.playbooks.recorder import Recorder
from vedette.act.playbooks.references import fill
from vedette.act.playbooks.world import (
    BRANCH,
    KIND,
    OWN,
    Approved,
    BranchCall,
    BranchEnd,
    Ending,
    Frame,
    Request,
    Undo,
    World,
)
from vedette.act.timeline import Entry, RunFinished, RunStarted, StepFinished
from vedette.core.errors import PermanentError, VedetteError
from vedette.core.execute import Branch, Interpreter, Json, Outcome, Retry, Steps
from vedette.core.signal import Signal

YEAR_S = 366 * 86_400.0
"""For a run that waits for its branches, which answer for themselves."""


_SHAPES = (Playbook, Request, BranchCall, BranchEnd, Outcome, Approval, ActionResult, Alert, Signal, Entry)
"""What threads of runs read."""


def _know_shapes() -> None:
    """Has msgspec look at these types now, on one thread.

    It looks when a type is first used, without a lock: two runs that begin at the same moment would do so together,
    and the process dies of a segmentation fault (msgspec 0.20, found by killing runs that are then recovered at once).
    """
    for shape in _SHAPES:
        msgspec.json.Decoder(shape)


def make_interpreters(world: World) -> dict[str, Interpreter]:
    """Kind of run -> its interpreter: the walk through a playbook, and through one branch of it."""
    _know_shapes()

    def interpret(steps: Steps, definition: Json, inputs: Json) -> Json:
        book, request = from_definition(definition), msgspec.convert(inputs, Request)
        hands = Recorder(world, steps, request, run_id=steps.run_id, branch="", caps=book.caps)
        frame = Frame(inputs=request.inputs, secrets=book.secrets)
        # A dot keeps these apart from the ids of steps.
        hands.write("run.start", RunStarted(steps.run_id, book.id, book.version))
        taken = _Walk(hands, book.steps, frame)
        ending = taken.run(book.steps)
        if ending and ending.state == "failed":
            taken.undo()
            taken.handle(ending, book.on_error)
        state = ending.state if ending else "incomplete" if frame.failed else "completed"
        hands.write("run.end", RunFinished(steps.run_id, state))
        hands.over()
        if ending and ending.state == "failed":
            text = f"step `{ending.step}` failed with {ending.code}: {ending.message}"
            raise PermanentError("playbook.run.failed", text)
        return {"state": state, "steps": frame.results, "failed": frame.failed}

    def interpret_branch(steps: Steps, _definition: Json, inputs: Json) -> Json:
        call = msgspec.convert(inputs, BranchCall)
        hands = Recorder(world, steps, call.request, run_id=call.run_id, branch=call.frame.branch, caps=dict(call.caps))
        ending = _Walk(hands, call.steps, call.frame).run(call.steps)
        hands.over()
        return msgspec.to_builtins(BranchEnd(ending=ending, frame=call.frame))

    return {KIND: interpret, BRANCH: interpret_branch}


def _preserve(world: World, request: Request, action: str) -> None:
    """Evidence first: what takes the scene apart needs something kept in the case, or a waiver by name.

    Raises:
        ConflictError: `containment.evidence.missing`.
    """
    signature = world.actions.signatures.get(action)
    if signature and signature.contains and request.case_id:
        world.preservation.require(request.tenant, request.case_id, action)


class _Walk:
    """A way through some steps: of a playbook, of one inside it, or of a branch."""

    def __init__(self, hands: Recorder, steps: tuple[Step, ...], frame: Frame) -> None:
        self._hands = hands
        self._world = hands.world
        self._steps = steps
        self._frame = frame
        request = hands.request
        self._scope: dict[str, Any] = {
            "inputs": frame.inputs,
            "alert": request.alert,
            "trigger": request.trigger,
            "run": {"id": hands.run_id, "tenant": request.tenant, "requester": request.requester},
            "secrets": {name: name for name in frame.secrets},
            "steps": frame.results,
            "error": frame.error,
        }

    def run(self, steps: tuple[Step, ...]) -> Ending | None:
        """Takes steps one after the other."""
        for step in steps:
            ending = self._one(step)
            if ending:
                return ending
        return None

    def _one(self, step: Step) -> Ending | None:
        ending = None
        match step:
            case ActionStep():
                ending = self._action(step)
            case ApprovalStep():
                ending = self._approval(step)
            case IfStep():
                ending = self._if(step)
            case WhileStep():
                ending = self._while(step)
            case ParallelStep():
                ending = self._parallel(step)
            case WaitStep():
                self._rest(step, step.delay_s)
            case PlaybookStep():
                ending = self._playbook(step)
        return ending

    def _if(self, step: IfStep) -> Ending | None:
        try:
            branch = step.on_true if decide(step.condition, self._scope) else step.on_false
        except VedetteError as error:
            return self._end(step.id, error.code, error.message)
        return self.run(branch)

    def _rest(self, step: Step, seconds: float) -> None:
        self._hands.pulse(self._name(step), seconds)
        self._hands.steps.sleep(seconds)

    def _name(self, step: Step) -> str:
        return f"{self._frame.prefix}{step.id}{self._frame.round}"

    def _end(self, step: str, code: str, message: str) -> Ending:
        return Ending("failed", f"{self._frame.prefix}{step}", code, message)

    def _while(self, step: WhileStep) -> Ending | None:
        frame = self._frame
        for number in range(step.limit + 1):
            try:
                again = decide(step.condition, self._scope)
            except VedetteError as error:
                return self._end(step.id, error.code, error.message)
            if not again:
                return None
            if number == step.limit:
                return self._end(step.id, "playbook.while.limit", f"still true after {step.limit} rounds")
            if number:
                self._rest(step, step.delay_s)
            outer, frame.round = frame.round, f"{frame.round}#{number + 1}"
            ending = self.run(step.steps)
            frame.round = outer
            if ending:
                return ending
        return None

    def _parallel(self, step: ParallelStep) -> Ending | None:
        hands, frame = self._hands, self._frame
        branches = []
        for number, steps in enumerate(step.branches, 1):
            name = f"{self._name(step)}.{number}"
            place = f"{frame.branch}/{name}" if frame.branch else name
            # A copy of its own, without what was done before: that is undone here if need be.
            inside = msgspec.structs.replace(frame, branch=place, done=[], failed=[])
            call = BranchCall(run_id=hands.run_id, request=hands.request, caps=hands.caps, frame=inside, steps=steps)
            branches.append(Branch(name, BRANCH, None, msgspec.to_builtins(call)))
            hands.pulse("begin", OWN.max_delay_s, branch=place)
        hands.pulse(self._name(step), YEAR_S)
        ends = [msgspec.convert(each, BranchEnd) for each in hands.steps.parallel(branches)]
        for each in ends:
            frame.results.update(each.frame.results)
            frame.approved.update(each.frame.approved)
            frame.done += each.frame.done
            frame.failed += each.frame.failed
        endings = [each.ending for each in ends if each.ending]
        return min(endings, key=lambda ending: ending.state != "failed", default=None)

    def _playbook(self, step: PlaybookStep) -> Ending | None:
        """Another playbook's steps in place of this one, with inputs and results of their own."""
        outer = self._frame
        try:
            request = self._hands.request
            scope = {"alert": request.alert, "trigger": request.trigger}
            inputs = bind_inputs(step.inputs, scope, fill(step.given, self._scope))
        except VedetteError as error:
            return self._end(step.id, error.code, error.message)
        frame = Frame(
            prefix=f"{self._name(step)}/",
            branch=outer.branch,
            inputs=inputs,
            secrets=step.secrets,
            done=outer.done,
            failed=outer.failed,
            results={},
            approved={},
        )
        inside = _Walk(self._hands, step.steps, frame)
        ending = inside.run(step.steps)
        if ending and ending.state == "failed":
            inside.handle(ending, step.on_error)
        outer.results[step.id] = {"ok": ending is None, **frame.results}
        return ending

    def _action(self, step: ActionStep) -> Ending | None:
        frame, name = self._frame, self._name(step)
        outcome = self._perform(step, name)
        if outcome.ok:
            frame.results[step.id] = {**outcome.value, "ok": True}
            self._note_undo(step, name)
            return None
        failed = StepFinished(self._hands.run_id, name, step.action, ok=False, code=outcome.code)
        self._hands.write(f"{name}.failed", failed)
        frame.results[step.id] = {"ok": False, "code": outcome.code}
        ending = Ending("failed", name, outcome.code, outcome.message)
        handled = self.handle(ending, step.on_error)
        if step.on_failure is OnFailure.CONTINUE:
            frame.failed.append(f"step `{name}` failed with {outcome.code}")
            return handled if handled and handled.state != "failed" else None
        return ending

    def _note_undo(self, step: ActionStep, name: str) -> None:
        if step.compensation is None:
            return
        try:
            arguments = fill(step.compensation.arguments, self._scope)
        except VedetteError as error:
            self._frame.failed.append(f"step `{name}` cannot be undone: {error.code}")
            return
        self._frame.done.append(Undo(name, step.compensation.action, arguments))

    def _perform(self, step: ActionStep, name: str) -> Outcome:
        carried = self._hands.request.carried
        if name in carried:
            return Outcome(ok=True, value=carried[name])
        approved: Approved | None = None
        try:
            arguments = fill(step.arguments, self._scope)
            if step.drastic:
                given = self._frame.approved.get(f"{self._frame.prefix}{step.id}")
                approved = check_approved(given, step.action, arguments)
        except VedetteError as error:
            # Follows from recorded values alone: nothing to record.
            return Outcome(ok=False, code=error.code, message=error.message)
        return self._call(name, step.action, arguments, retry=step.retry, timeout_s=step.timeout_s, approved=approved)

    def _call(
        self,
        name: str,
        action: str,
        arguments: Mapping[str, Any],
        *,
        retry: Retry = OWN,
        timeout_s: float = 60.0,
        approved: Approved | None = None,
    ) -> Outcome:
        hands, world = self._hands, self._world
        run_id, request = hands.run_id, hands.request

        def body() -> Json:
            touched = world.actions.touches(action, arguments)
            if approved and not world.caps.begun(request.tenant, run_id, touched):
                check_fresh(approved, world.clock.now())
                _preserve(world, request, action)
            world.caps.take(request.tenant, run_id, touched, hands.caps)
            call = ActionCall(
                tenant=request.tenant,
                run_id=run_id,
                step=name,
                key=f"{run_id}:{name}",
                operator=run_id,
                arguments=dict(arguments),
                alert_id=request.alert_id,
                case_id=request.case_id,
            )
            result = world.actions.perform(action, call)
            for kept in result.evidence:
                if request.case_id:
                    world.cases.add_evidence(
                        request.tenant,
                        request.case_id,
                        digest=kept.digest,
                        reference=kept.reference,
                        what=kept.what,
                        operator=run_id,
                    )
            hands.journal(name, StepFinished(run_id, name, action, ok=True, result=result.values))
            return result.values

        return hands.step(name, body, retry, timeout_s)

    def _approval(self, step: ApprovalStep) -> Ending | None:
        name, frame = self._name(step), self._frame
        if name in self._hands.request.carried:
            frame.results[step.id] = self._hands.request.carried[name]
            return None
        asking = Asking(self._hands, step, frame, self._scope)
        covered = {each.id: each for each in walk(self._steps) if isinstance(each, ActionStep)}
        try:
            asked = asking.ask(covered)
        except VedetteError as error:
            return self._end(step.id, error.code, error.message)
        decision = asking.decision(asked)
        if not decision.ok:
            return self._end(step.id, decision.code, decision.message)
        state = decision.value["state"]
        frame.results[step.id] = {"ok": state == ApprovalState.APPROVED, **decision.value}
        if state != ApprovalState.APPROVED:
            return self.run(step.on_denied) or Ending(state, name)
        if decision.value["hash"] != asked.hash:
            return self._end(step.id, "playbook.approval.changed", "the decision is about something else")
        frame.approved.update(asking.approved(asked, decision.value))
        return None

    def handle(self, ending: Ending, steps: tuple[Step, ...]) -> Ending | None:
        """Takes the steps that are there for an error; how they end is recorded and changes nothing."""
        if not steps:
            return None
        frame = self._frame
        frame.error.clear()
        frame.error.update(step=ending.step, code=ending.code, message=ending.message)
        found = self.run(steps)
        if found and found.state == "failed":
            frame.failed.append(f"step `{found.step}` failed with {found.code}")
        return found

    def undo(self) -> None:
        """Undoes what can be undone, last first. A compensation that fails is recorded and the others still run."""
        done, self._frame.done[:] = list(self._frame.done), []
        for each in reversed(done):
            name = f"{each.name}.compensate"
            outcome = self._call(name, each.action, each.arguments)
            if not outcome.ok:
                entry = StepFinished(self._hands.run_id, name, each.action, ok=False, code=outcome.code)
                self._hands.write(f"{name}.failed", entry)
