"""An approval as a step: asked, escalated, awaited, and bound to what it was asked about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from vedette.act.actions import ActionCall
from vedette.act.approvals import Approval, ApprovalState, Covered, binding
from vedette.act.cases import Phase
from vedette.act.playbooks.caps import check_cap
from vedette.act.playbooks.playbook import ActionStep, ApprovalStep
from vedette.act.playbooks.recorder import Recorder
from vedette.act.playbooks.references import fill
from vedette.act.playbooks.world import Approved, Frame
from vedette.act.timeline import ApprovalRequested, ApprovalSettled
from vedette.core.clock import MICROS
from vedette.core.errors import DataError, VedetteError
from vedette.core.execute import Json, Outcome

MAX_WAKES = 100
"""After so many messages that decided nothing, a run waits for its deadline without listening."""

VALID_S = 86_400.0
"""For how long after a decision what it covers may begin, unless the playbook says otherwise: what was right to do
yesterday morning is asked about again."""


def topic(step: str) -> str:
    """Where a run listens for the bell of an approval step."""
    return f"approval:{step}"


def digest(action: str, arguments: Mapping[str, Any]) -> str:
    """What a decision about one action is bound to."""
    return hashlib.sha256(msgspec.json.encode([action, arguments], order="sorted")).hexdigest()


class Asking:
    """One approval step of a run.

    Args:
        hands: Of the run or branch.
        step: The definition.
        frame: What it can see.
        scope: The same, as references read it.
    """

    def __init__(self, hands: Recorder, step: ApprovalStep, frame: Frame, scope: Mapping[str, Any]) -> None:
        self._hands = hands
        self._world = hands.world
        self._step = step
        self._frame = frame
        self._scope = scope
        self._name = f"{frame.prefix}{step.id}{frame.round}"

    def ask(self, covered: Mapping[str, ActionStep]) -> Approval:
        """The request as the run would make it: times are filled in when it is stored.

        Raises:
            VedetteError: Arguments that are not there, of another type, or more than the caps allow.
        """
        step, request, frame = self._step, self._hands.request, self._frame
        names = [(name, covered[name].action, fill(covered[name].arguments, self._scope)) for name in step.covers]
        actions = tuple(Covered(f"{frame.prefix}{name}", action, arguments) for name, action, arguments in names)
        for each in actions:
            self._world.actions.check(each.action, each.arguments)
            check_cap(self._world.actions.touches(each.action, each.arguments), self._hands.caps)
        evidence = {name: frame.results.get(name) for name in step.evidence}
        run_id = self._hands.run_id
        return Approval(
            tenant=request.tenant,
            run_id=run_id,
            step=self._name,
            title=fill(step.title, self._scope),
            actions=actions,
            evidence=evidence,
            requester=request.requester,
            authors=request.authors,
            requested_time=0,
            deadline=round(step.deadline_s * MICROS),
            hash=binding(run_id, self._name, actions, evidence),
            listener=self._hands.steps.run_id if self._hands.branch else "",
        )

    def decision(self, asked: Approval) -> Outcome:
        """Stores the request, once, and waits for what becomes of it."""
        opened = self._hands.step(f"{self._name}.request", lambda: self._store(asked))
        return self._wait(deadline=opened.value["deadline"]) if opened.ok else opened

    def _store(self, asked: Approval) -> Json:
        now = self._world.clock.now()
        previews = tuple(msgspec.structs.replace(each, preview=self._preview(each)) for each in asked.actions)
        times = {"requested_time": now, "deadline": now + asked.deadline}
        stored = self._world.approvals.request(msgspec.structs.replace(asked, actions=previews, **times))
        requested = ApprovalRequested(stored.run_id, stored.step, stored.hash, stored.deadline)
        self._hands.journal(f"{stored.step}.request", requested)
        return {"deadline": stored.deadline, "hash": stored.hash}

    def _preview(self, covered: Covered) -> dict[str, Any] | None:
        run_id = self._hands.run_id
        call = ActionCall(
            tenant=self._hands.request.tenant,
            run_id=run_id,
            step=covered.step,
            key="",
            operator=run_id,
            arguments=covered.arguments,
        )
        try:
            return self._world.actions.preview(covered.action, call)
        except VedetteError as error:
            # A look ahead that fails is something to know, no reason not to ask.
            return {"problem": error.code}

    def _wait(self, *, deadline: int) -> Outcome:
        """Waits until there is a decision or the deadline has passed; the first reading that is not pending counts."""
        escalate, listening = self._step.escalate, self._step.escalate is not None
        told = deadline - round((self._step.deadline_s - (escalate.after_s if escalate else 0)) * MICROS)
        for wake in range(MAX_WAKES + 2):
            until = told if listening else deadline
            remaining = max(0, until - self._world.clock.now()) / MICROS + 0.001
            self._hands.pulse(f"{self._name}.wait", remaining)
            if wake < MAX_WAKES:
                self._hands.steps.wait(topic(self._name), timeout_s=remaining)
            else:
                self._hands.steps.sleep(remaining)
            late_from = told if listening else 0
            outcome = self._hands.step(f"{self._name}.settle", partial(self._settle, late_from))
            if not outcome.ok or outcome.value["state"] != ApprovalState.PENDING:
                return outcome
            if escalate and listening and outcome.value.get("late"):
                listening = False
                self._hands.step(f"{self._name}.escalate", partial(self._escalate, escalate.to))
        return outcome

    def _settle(self, told: int) -> Json:
        step, run_id = self._name, self._hands.run_id
        settled = self._world.approvals.settle(self._hands.request.tenant, run_id, step)
        if settled.state is not ApprovalState.PENDING:
            self._hands.journal(f"{step}.settle", ApprovalSettled(run_id, step, settled.state, settled.decided_by))
        if settled.state is ApprovalState.APPROVED:
            self._contain()
        value = {"state": settled.state, "by": settled.decided_by, "hash": settled.hash, "time": settled.decided_time}
        return value | ({"late": self._world.clock.now() >= told} if told else {})

    def _escalate(self, channel: str) -> Json:
        hands = self._hands
        self._world.approvals.escalate(hands.request.tenant, hands.run_id, self._name)
        text = f"Nobody decides: {fill(self._step.title, self._scope)} (run {hands.run_id})"
        call = ActionCall(
            tenant=hands.request.tenant,
            run_id=hands.run_id,
            step=f"{self._name}.escalate",
            key=f"{hands.run_id}:{self._name}.escalate",
            operator=hands.run_id,
            arguments={"text": text, "channel": channel},
        )
        return self._world.actions.perform("notify", call).values

    def _contain(self) -> None:
        """What a person approved is containment; a case that is further on stays there."""
        cases, request = self._world.cases, self._hands.request
        if request.case_id and cases.get(request.tenant, request.case_id).phase is Phase.ANALYSIS:
            cases.set_phase(request.tenant, request.case_id, Phase.CONTAINMENT, operator=self._hands.run_id)

    def approved(self, asked: Approval, settled: Mapping[str, Any]) -> dict[str, Approved]:
        """What may be done now: the names of steps with what their decision is bound to."""
        time = settled.get("time", 0)
        until = time + round((self._step.valid_s or VALID_S) * MICROS) if time else 0
        return {each.step: Approved(digest(each.action, each.arguments), until) for each in asked.actions}


def check_approved(approved: Approved | None, action: str, arguments: Mapping[str, Any]) -> Approved:
    """What a person said yes to, if it is this.

    Raises:
        DataError: `playbook.approval.missing`, `playbook.approval.changed`.
    """
    if approved is None or approved.digest != digest(action, arguments):
        code = "playbook.approval.changed" if approved else "playbook.approval.missing"
        raise DataError(code, f"`{action}` with these arguments has no approval")
    return approved


def check_fresh(approved: Approved, now: int) -> None:
    """Raises `playbook.approval.stale` when what was approved begins too late."""
    if approved.until and now > approved.until:
        raise DataError(
            "playbook.approval.stale", "it was approved too long ago", hint="run it again from the approval"
        )
