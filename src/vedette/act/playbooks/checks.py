"""What only the whole playbook tells: that references name something, that drastic actions are covered, the order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from vedette.act.actions import Signature
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
from vedette.act.playbooks.references import PATH, references

_ALERT = set("id rule_id title level severity_id source signal_count first_time last_time".split())
_RUN = {"id", "tenant", "requester"}
_ERROR = {"step", "code", "message"}


def check(
    playbook: Playbook, places: Mapping[str, str], report: Callable[..., None], signatures: Mapping[str, Signature]
) -> None:
    """Reports every problem.

    Args:
        playbook: Of the right shape.
        places: Step id -> its JSON path.
        report: Takes code, message, JSON path and `hint`.
        signatures: Known actions.
    """
    drastic = {name for name, signature in signatures.items() if signature.drastic}
    checking = _Check(playbook, places, report, drastic)
    checking.steps(playbook.steps, frozenset(), frozenset(), loop=False)
    checking.steps(playbook.on_error, frozenset(), frozenset(), loop=False)


def near(name: str, known: Iterable[str]) -> str:
    """Names like `name`, as a hint; empty when there are none."""
    found = get_close_matches(name, list(known), n=3)
    return f"near: {', '.join(found)}" if found else ""


class _Check:
    def __init__(
        self, playbook: Playbook, places: Mapping[str, str], report: Callable[..., None], drastic: set[str]
    ) -> None:
        self._drastic = drastic
        self._report = report
        self._book = playbook
        self._places = places
        self._actions = {
            step.id: step for step in walk((*playbook.steps, *playbook.on_error)) if isinstance(step, ActionStep)
        }

    def steps(
        self, steps: tuple[Step, ...], known: frozenset[str], covered: frozenset[str], *, loop: bool
    ) -> frozenset[str]:
        """Checks a list of steps; gives the ids whose results are there after it."""
        for number, step in enumerate(steps):
            path = self._places[step.id]
            match step:
                case ActionStep():
                    known = self._action(step, known, covered, path, loop=loop)
                case ApprovalStep():
                    self._approval(step, steps[number + 1 :], known, path, loop=loop)
                    self.steps(step.on_denied, known, covered, loop=loop)
                    covered |= frozenset(step.covers)
                    known |= {step.id}
                case IfStep():
                    self._references(step.condition, known, f"{path}.condition", loose=True)
                    branches = [self.steps(each, known, covered, loop=loop) for each in (step.on_true, step.on_false)]
                    known |= branches[0] & branches[1]
                case WhileStep():
                    inside = frozenset(each.id for each in walk(step.steps))
                    self._references(step.condition, known | inside, f"{path}.condition", loose=True)
                    self.steps(step.steps, known, covered, loop=True)
                case ParallelStep():
                    # Inside a branch nothing of the others is there yet; after all are over everything is.
                    inner = [self.steps(each, known, covered, loop=loop) for each in step.branches]
                    known = known.union(*inner)
                case PlaybookStep():
                    known |= self._nested(step, known, path, loop=loop)
                case WaitStep():
                    pass
        return known

    def _nested(self, step: PlaybookStep, known: frozenset[str], path: str, *, loop: bool) -> frozenset[str]:
        self._references(step.given, known, f"{path}.inputs")
        if loop and _asks(step.steps):
            self._report("approval.loop", "the playbook asks for an approval inside a loop", path)
        return frozenset({step.id})

    def _action(
        self, step: ActionStep, known: frozenset[str], covered: frozenset[str], path: str, *, loop: bool
    ) -> frozenset[str]:
        self._references(step.arguments, known, f"{path}.arguments")
        if step.compensation:
            self._references(step.compensation.arguments, known | {step.id}, f"{path}.compensation.arguments")
            self._undrastic(step.compensation.action, f"{path}.compensation.action")
        if step.drastic and step.id not in covered:
            hint = "put an approval before it that covers it"
            self._report("approval.missing", f"`{step.action}` runs only when approved", path, hint=hint)
        self.steps(step.on_error, known, covered, loop=loop)
        return known | {step.id}

    def _approval(
        self, step: ApprovalStep, rest: tuple[Step, ...], known: frozenset[str], path: str, *, loop: bool
    ) -> None:
        if loop:
            self._report("approval.loop", "an approval inside a loop would be asked once and used often", path)
        following = {each.id for each in walk(rest)}
        if not step.covers:
            self._report("approval.empty", "the approval covers nothing", f"{path}.covers")
        for name in step.covers:
            if name not in self._actions or name not in following:
                hint = near(name, following & set(self._actions))
                self._report("approval.covers", f"no action `{name}` follows", f"{path}.covers", hint=hint)
            else:
                # What a person approves must be fixed when they look at it.
                self._references(self._actions[name].arguments, known, f"{self._places[name]}.arguments")
        for name in step.evidence:
            if name not in known:
                self._report(
                    "reference.unknown", f"no finished step `{name}`", f"{path}.evidence", hint=near(name, known)
                )
        self._references(step.title, known, f"{path}.title")

    def _undrastic(self, action: str, path: str) -> None:
        if action in self._drastic:
            self._report("approval.missing", f"`{action}` cannot run as a compensation, without approval", path)

    def _references(self, value: Any, known: Iterable[str], path: str, *, loose: bool = False) -> None:
        for reference in references(value):
            problem = self._wrong(reference, set(known), loose=loose)
            if problem:
                self._report("reference.unknown", f"`{reference}` names nothing", path, hint=problem)

    def _wrong(self, reference: str, known: set[str], *, loose: bool) -> str:
        """Why a reference names nothing, as a hint; empty when it is right."""
        if not PATH.fullmatch(reference):
            return "write ${inputs.name}, ${alert.id}, ${steps.id.field}, ${run.id} or ${secrets.name}"
        root, name, *rest = reference.split(".", maxsplit=1 if reference.startswith("secrets.") else -1)
        if root == "steps":
            return self._wrong_step(name, rest, known, loose=loose)
        if root == "trigger":
            return ""
        if root == "alert" and name in ("entity", "entities"):
            return "" if len(rest) == 1 else f"such as ${{alert.{name}.id}}"
        names = {"inputs": set(self._book.inputs), "alert": _ALERT, "run": _RUN, "error": _ERROR}
        names["secrets"] = set(self._book.secrets)
        if root not in names:
            return near(root, [*names, "steps"]) or "start at inputs, alert, trigger, run, steps, error or secrets"
        return "" if name in names[root] and not rest else near(name, names[root]) or "nothing of that name"

    def _wrong_step(self, name: str, rest: list[str], known: set[str], *, loose: bool) -> str:
        ids = known | ({each.id for each in walk(self._book.steps)} if loose else set())
        if name in ids:
            return "" if rest else "name a field of the step's result, such as `ok`"
        if name in self._places:
            return "the step has not run by then, or not on every way"
        return near(name, ids) or "no such step"


def _asks(steps: tuple[Step, ...]) -> bool:
    """Whether steps ask for an approval, at any depth."""
    return any(
        isinstance(each, ApprovalStep) or (isinstance(each, PlaybookStep) and _asks(each.steps)) for each in walk(steps)
    )
