"""The steps of a run as people look at them: what each was given, what it found, and where the run stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from vedette.act.approvals import Approval, ApprovalState
from vedette.act.playbooks.carried import bare
from vedette.act.playbooks.playbook import (
    ActionStep,
    ApprovalStep,
    IfStep,
    ParallelStep,
    PlaybookStep,
    Step,
    WaitStep,
    WhileStep,
    branches,
)
from vedette.act.playbooks.references import Unknown, fill
from vedette.act.playbooks.views import GOING, RunDetail
from vedette.core.errors import VedetteError
from vedette.core.execute import Outcome, StepRecord
from vedette.prove.dlp import mask
from vedette.serve.console.choices import Names

_SAID = {
    ApprovalState.PENDING: "waiting",
    ApprovalState.APPROVED: "done",
    ApprovalState.DENIED: "denied",
    ApprovalState.EXPIRED: "expired",
    ApprovalState.WITHDRAWN: "skipped",
}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One step for people."""

    label: str
    state: str = ""
    """`done`, `carried`, `failed`, `waiting`, `running`, `next`, `skipped`, `denied`, `expired`; empty of what only
    holds other steps."""
    name: str = ""
    """As it is recorded: with the playbook around it before it, and the round of a loop after it."""
    depth: int = 0
    action: str = ""
    text: str = ""
    given: dict[str, Any] = {}
    """Its arguments; of a secret the name."""
    result: dict[str, Any] = {}
    code: str = ""
    time: int = 0


class _Place(msgspec.Struct, frozen=True):
    """Where a step stands."""

    step: Step
    prefix: str
    depth: int
    certain: bool
    """It is taken whatever is found on the way, unless the run ends."""


def step_lines(detail: RunDetail, asked: Mapping[str, Approval], names: Names) -> list[Line]:
    """Every step of a run in the order of its playbook; a step of a loop once for each round."""
    steps = _Steps(detail, asked, names)
    return [line for place in places(detail.playbook.steps) for line in steps.of(place)]


def places(steps: Sequence[Step], prefix: str = "", depth: int = 0, *, certain: bool = True) -> Iterator[_Place]:
    """Every step, branches and other playbooks included, in the order they are written."""
    for step in steps:
        yield _Place(step, prefix, depth, certain)
        inside = step.steps if isinstance(step, PlaybookStep) else ()
        yield from places(inside, f"{prefix}{step.id}/", depth + 1, certain=certain)
        for branch in branches(step):
            yield from places(branch, prefix, depth + 1, certain=certain and isinstance(step, ParallelStep))


class _Steps:
    def __init__(self, detail: RunDetail, asked: Mapping[str, Approval], names: Names) -> None:
        self._detail = detail
        self._names = names
        self._going = detail.view.state in GOING
        self._asked = _rounds(asked)
        self._records = _rounds(_by_step(detail.view.steps))
        self._carried = _rounds(detail.request.carried)
        self._results = self._found()

    def of(self, place: _Place) -> list[Line]:
        """One line, or one for each round."""
        step, name = place.step, f"{place.prefix}{place.step.id}"
        known: dict[str, Any] = {"label": _label(step), "depth": place.depth}
        if isinstance(step, ActionStep):
            known |= {"action": step.action, "given": self._given(step, place.prefix)}
        made = [_asked(each, self._names) | {"name": at} for at, each in self._asked.get(name, {}).items()]
        if not made:
            made = [_recorded(each) | {"name": at} for at, each in self._records.get(name, {}).items()]
        if not made:
            made = [{"state": "carried", "name": at, "result": _plain_values(each)}
                    for at, each in self._carried.get(name, {}).items()]  # fmt: skip
        made = made or [{"state": self._open(place, name), "name": name}]
        return [Line(**{**known, "text": _text(step)} | each) for each in made]

    def _open(self, place: _Place, name: str) -> str:
        """The state of a step of which nothing is recorded."""
        if any(name in (bare(each), bare(each).rpartition(".")[0]) for each in self._detail.doing):
            return "running"
        if not place.certain or not isinstance(place.step, ActionStep | ApprovalStep):
            return ""
        return "next" if self._going else "skipped"

    def _found(self) -> dict[str, Any]:
        """Step -> what it found, as references read it: of a loop the last round."""
        found: dict[str, Any] = {}
        for name, rounds in [*self._carried.items(), *self._records.items()]:
            last = list(rounds.values())[-1]
            values = _recorded(last)["result"] if isinstance(last, StepRecord) else _plain_values(last)
            found[name] = {"ok": True, **values}
        return found

    def _given(self, step: ActionStep, prefix: str) -> dict[str, Any]:
        request, view = self._detail.request, self._detail.view
        inside = {place.step.id for place in places(self._detail.playbook.steps) if place.prefix == prefix}
        scope = {
            "inputs": Unknown("inputs") if prefix else request.inputs,
            "alert": request.alert,
            "trigger": request.trigger,
            "run": {"id": view.id, "tenant": request.tenant, "requester": request.requester},
            "secrets": Unknown("secrets"),
            "steps": {name: self._results.get(f"{prefix}{name}", Unknown(f"steps.{name}")) for name in inside},
            "error": Unknown("error"),
        }
        try:
            filled: dict[str, Any] = mask(fill(step.arguments, scope))
        except VedetteError:
            return dict(step.arguments)
        return filled


def _rounds(of: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name without its rounds -> name as recorded -> what is there."""
    found: dict[str, dict[str, Any]] = {}
    for name, each in of.items():
        found.setdefault(bare(name), {})[name] = each
    return found


def _by_step(records: Sequence[StepRecord]) -> dict[str, StepRecord]:
    """Step -> its record; of one that failed before it began, the line that says so."""
    said = {each.name.removesuffix(".failed"): each for each in records if each.name.endswith(".failed")}
    return said | {each.name: each for each in records}


def _text(step: Step) -> str:
    match step:
        case ApprovalStep():
            return f"asks about {', '.join(step.covers)}"
        case WaitStep():
            return f"{step.delay_s:g} s"
        case WhileStep():
            return f"at most {step.limit} rounds"
        case PlaybookStep():
            return f"{step.playbook} version {step.version}"
    return ""


def _label(step: Step) -> str:
    match step:
        case ActionStep():
            label = step.action
        case IfStep() | WhileStep():
            label = f"{'if' if isinstance(step, IfStep) else 'while'}: {step.id}"
        case PlaybookStep():
            label = step.id
        case _:
            label = _WORDS[type(step)]
    return label.replace("_", " ")


_WORDS: dict[type, str] = {ApprovalStep: "approval", ParallelStep: "at the same time", WaitStep: "wait"}


def _asked(approval: Approval, names: Names) -> dict[str, Any]:
    by = f"{approval.state} by {names(approval.decided_by)}" if approval.decided_by else approval.title
    reason = f": {approval.reason}" if approval.reason else ""
    time = approval.decided_time or approval.requested_time
    return {"state": _SAID[approval.state], "text": f"{by}{reason}", "time": time}


def _recorded(record: StepRecord) -> dict[str, Any]:
    try:
        outcome = msgspec.convert(record.output, Outcome)
    except msgspec.ValidationError:
        return {"state": "done", "time": record.ended_time, "result": {}}
    # That a step has failed is a line of the timeline that was written well.
    failed = not outcome.ok or record.name.endswith(".failed")
    found = {"state": "failed" if failed else "done", "time": record.ended_time, "result": _plain_values(outcome.value)}
    return found | ({"code": outcome.code, "text": outcome.message} if outcome.code else {})


def _plain_values(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = mask(value) if isinstance(value, dict) else {}
    return found
