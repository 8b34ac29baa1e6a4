"""Game days: each rule's own test is fired, and the way from its alert to the answer is walked without doing anything.

What a machine can try is tried: the tests fire, the alert is made, playbooks that could answer it are planned with what
they would be given, their secrets are there, somebody may approve. What only people can do stays marked as theirs, line
by line of the runbook. So a game day finds the key that was never put in place before an attacker does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from vedette.act.grouping import Alert
from vedette.act.playbooks.plan import PlannedStep, plan_for
from vedette.act.playbooks.playbook import ApprovalStep, Playbook, TriggerType, owners, walk
from vedette.act.playbooks.triggers import fits
from vedette.core.errors import VedetteError
from vedette.judge.correlation.definition import Correlation
from vedette.judge.sigma.rules import Rule
from vedette.prove.access.policy import POLICY
from vedette.run.cases.playbooks import load_playbooks
from vedette.run.parts import Parts
from vedette.run.rules.rule_tests import RuleTests, Tested

APPROVE = ("playbooks", "approve")
"""What a person must be allowed to do to approve a run."""


class Mark(StrEnum):
    """What became of a step."""

    PASSED = "passed"
    FAILED = "failed"
    BY_HAND = "by_hand"
    """Only people can do it, so nothing was tried."""


class Step(msgspec.Struct, frozen=True):
    """One step between what happens and its answer."""

    name: str
    mark: Mark
    note: str = ""


class Drill(msgspec.Struct, frozen=True, kw_only=True):
    """What a game day found about one rule."""

    rule_id: str
    title: str
    owner: str
    """The team that answers for the rule; empty: nobody said."""
    about: tuple[str, ...] = ()
    """Entities of the alert that was answered."""
    playbooks: tuple[str, ...] = ()
    """Those that could answer it: started by it, or by hand with what it says."""
    steps: tuple[Step, ...] = ()

    @property
    def failed(self) -> tuple[Step, ...]:
        """The steps that would not have worked."""
        return tuple(step for step in self.steps if step.mark is Mark.FAILED)


@dataclass(frozen=True)
class Way:
    """What the answer of an alert needs here.

    Args:
        playbooks: By their ids.
        plan: What a run for an alert would do; raises where its inputs cannot be had from it.
        missing: The code of why a secret cannot be had; empty when it can.
        approvers: Names of the people who may approve runs.
    """

    playbooks: Mapping[str, Playbook]
    plan: Callable[[Playbook, Alert], list[PlannedStep]]
    missing: Callable[[str], str]
    approvers: frozenset[str]


def way_of(parts: Parts, tenant: str, person: str) -> Way:
    """The way of an installation, asked for by that person."""

    def plan(book: Playbook, alert: Alert) -> list[PlannedStep]:
        return plan_for(alert, book, tenant=tenant, requester=person, given={}, actions=parts.actions)

    def missing(secret: str) -> str:
        try:
            parts.secrets.resolve(secret)
        except VedetteError as error:
            return error.code
        return ""

    people = parts.access.people.list(tenant)
    may = frozenset(one.name for one in people if not one.disabled and one.roles & POLICY[APPROVE].roles)
    books = load_playbooks(parts.settings.home / "playbooks", parts.signatures)
    return Way(books, plan, missing, may - {person})


def hold(tests: RuleTests, way: Way) -> Iterator[Drill]:
    """Walks the way of every rule that carries tests. Starts no run and changes nothing."""
    for rule, tested, alert in tests.with_alerts():
        yield _drill(rule, tested, alert, way)


def _drill(rule: Rule | Correlation, tested: list[Tested], alert: Alert | None, way: Way) -> Drill:
    fired = [Step(f"test: {one.test}", Mark.FAILED if one.problem else Mark.PASSED, one.problem) for one in tested]
    found = Drill(rule_id=rule.id, title=rule.title, owner=rule.card.owner, steps=tuple(fired))
    if not rule.card.alert:
        quiet = Step("alert", Mark.PASSED, "adds to the risk of what it is about, and makes none")
        return msgspec.structs.replace(found, steps=(*fired, quiet))
    if alert is None:
        return msgspec.structs.replace(found, steps=(*fired, Step("alert", Mark.FAILED, "no test of it fires")))
    answers = {book.id: steps for book in way.playbooks.values() if (steps := list(_answer(book, alert, way)))}
    return msgspec.structs.replace(
        found,
        about=tuple(entity.key for entity in alert.entities),
        playbooks=tuple(answers),
        steps=(
            *fired,
            Step("alert", Mark.PASSED),
            *_runbook(rule),
            *(one for each in answers.values() for one in each),
        ),
    )


def _runbook(rule: Rule | Correlation) -> Iterator[Step]:
    lines = [line.strip() for line in rule.card.runbook.splitlines() if line.strip()]
    if not lines:
        yield Step("runbook", Mark.FAILED, "nobody wrote what to do when it fires")
    for number, line in enumerate(lines, 1):
        yield Step(f"runbook {number}", Mark.BY_HAND, line)


def _answer(book: Playbook, alert: Alert, way: Way) -> Iterator[Step]:
    """The steps of a playbook that could answer the alert; none when it is for others."""
    started = any(trigger.type is TriggerType.ALERT and fits(trigger, alert) for trigger in book.triggers)
    try:
        planned = way.plan(book, alert)
    except VedetteError as error:
        if started:
            yield Step(f"{book.id}: inputs", Mark.FAILED, f"{error.code}: {error.message}")
        return
    for secret in book.secrets:
        code = way.missing(secret)
        yield Step(f"{book.id}: secret {secret}", Mark.FAILED if code else Mark.PASSED, code)
    if any(isinstance(step, ApprovalStep) for step in walk(book.steps)):
        able = way.approvers - owners(book)
        note = "" if able else "nobody else here may approve it"
        yield Step(f"{book.id}: approval", Mark.PASSED if able else Mark.FAILED, note)
    for step in _gone(planned):
        yield Step(f"{book.id}: {step.id}", Mark.FAILED if step.problem else Mark.PASSED, step.problem or step.action)


def _gone(planned: Iterable[PlannedStep]) -> Iterator[PlannedStep]:
    """The steps of a plan without the branches that are known not to be taken."""
    closed: dict[int, set[str]] = {}
    """Depth -> branches there."""
    inside: int | None = None
    for step in planned:
        if inside is not None and step.depth > inside:
            continue
        inside = None
        closed = {depth: names for depth, names in closed.items() if depth <= step.depth}
        if step.branch in closed.get(step.depth, ()):
            inside = step.depth
            continue
        if step.holds is not None:
            closed[step.depth + 1] = {"on_false"} if step.holds else {"on_true", "steps"}
        yield step
