"""The backtest itself: past payments in, what the rules would have done with them out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from vedette.core.clock import DAY, Clock, to_iso
from vedette.core.decision import Action, Decision
from vedette.judge.backtest.changes import Change, change_of, versions_of
from vedette.judge.backtest.estimate import Curve, Estimate, estimate, learn_curve
from vedette.judge.backtest.outcomes import Past
from vedette.judge.backtest.tally import Counted, Counter, Money, Said, Tally, Teller, money_of, said_by
from vedette.judge.decisions.bindings import binding_of
from vedette.judge.decisions.decider import Assessment, Decider
from vedette.judge.decisions.parts import Policy
from vedette.judge.decisions.rebuild import Recorded, event_of
from vedette.judge.payment.attributes import RISKS
from vedette.judge.payment.rules import Note, PaymentRules
from vedette.judge.payment.velocity import backed

EXAMPLES = 5
"""Payments shown of each kind."""
_NOTHING = np.zeros(0)
_STOPS = (Action.BLOCK, Action.REVIEW, Action.CHALLENGE)


class Example(msgspec.Struct, frozen=True):
    """One payment."""

    event_id: str
    time: str
    amount_minor: int | None
    currency: str
    risk_score: int | None
    group: str
    rules: tuple[str, ...]
    """Ids of the rules that fire on it now."""


class Move(msgspec.Struct, frozen=True):
    """Payments whose answer changes in one way."""

    before: Action
    after: Action
    counted: Counted
    examples: tuple[Example, ...]


class RuleReport(msgspec.Struct, frozen=True):
    """What is said of one rule besides its counts."""

    id: str
    action: Action
    text: str
    """Empty for a rule that the new set has not."""
    change: Change
    estimate: Estimate | None
    """Of what it fires on; None for an allow rule, and where no payment has a score."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A backtest."""

    payments: int
    first: str
    """Event time of the first payment; empty without one."""
    last: str
    days: float
    """Length of the period, at least one."""
    now: Tally
    before: Tally
    moves: tuple[Move, ...]
    """Most payments first; empty when nothing changes."""
    rules: tuple[RuleReport, ...]
    stopped: Estimate | None
    """Of everything that the rules block."""
    stopped_before: Estimate | None
    known: int
    """Payments whose truth is known."""
    frauds: int
    notes: tuple[Note, ...] = ()
    """What an author should look at: names that nothing recorded, among others."""


class _Still(Clock):
    """Times come from the record."""

    def now(self) -> int:
        """None is asked for."""
        return 0

    def monotonic(self) -> float:
        """None is asked for."""
        return 0.0


class Judged:
    """A rule set over records.

    Args:
        rules: The set.
    """

    def __init__(self, rules: PaymentRules) -> None:
        self._rules = rules
        self._deciders: dict[tuple[tuple[str, ...], str, str], Decider] = {}

    def say(self, record: Decision) -> Said:
        """What the rules say of a recorded payment, with everything else as it was."""
        decider = self._decider(record)
        event = event_of(record)
        vector = Recorded(record).fetch(event) if record.features else None
        assessment = None if record.score is None else Assessment(record.score, _NOTHING, _NOTHING)
        return said_by(decider.answer(event, vector, assessment, fallback=record.fallback, risks=record.risks))

    def _decider(self, record: Decision) -> Decider:
        names, policy = tuple(record.features), record.policy or Policy.OPEN.value
        key = names, policy, record.source
        found = self._deciders.get(key)
        if found is None:
            features = Recorded(record) if names else None
            found = Decider(features=features, model=None, rules=self._rules, clock=_Still(), policy=Policy(policy))
            self._deciders[key] = found
        return found


def backtest(new: PaymentRules, past: Iterable[Past], *, old: PaymentRules | None = None) -> Report:
    """What a rule set would have done with past payments, beside another set.

    Args:
        new: The set.
        past: Payments, in any order; read once.
        old: To compare with; None: what was recorded.
    """
    run = _Run(new, old)
    for one in past:
        run.take(one)
    return run.report()


def live(past: Iterable[Past]) -> Report:
    """What was decided, counted as a backtest counts."""
    run = _Run(None, None)
    for one in past:
        run.take(one)
    return run.report()


@dataclass
class _Scored:
    """Scores and money of some payments."""

    scores: list[float] = field(default_factory=list)
    money: list[Money | None] = field(default_factory=list)

    def add(self, score: float | None, money: Money | None) -> None:
        if score is not None:
            self.scores.append(score)
            self.money.append(money)


@dataclass
class _Moved:
    counter: Counter = field(default_factory=Counter)
    count: int = 0
    examples: list[Example] = field(default_factory=list)


class _Run:
    """One run; memory grows by one number for each payment and rule that fires on it."""

    def __init__(self, new: PaymentRules | None, old: PaymentRules | None) -> None:
        self._new, self._old = new, old
        self._now = Judged(new) if new else None
        self._before = Judged(old) if old else None
        self._tell_now, self._tell_before = Teller(_named(new)), Teller(_named(old))
        self._moves: dict[tuple[Action, Action], _Moved] = {}
        self._all, self._stopped, self._stopped_before = _Scored(), _Scored(), _Scored()
        self._by_rule: dict[str, _Scored] = {}
        self._truth: tuple[list[float], list[bool]] = ([], [])
        self._known = self._frauds = 0
        self._versions: set[str] = set()
        self._provided: set[str] = {":risk_level:", ":risk_score:", *(f":{name}:" for name in RISKS)}
        self._shapes: set[tuple[str, ...]] = set()
        self._first, self._last = 1 << 62, -1

    def take(self, past: Past) -> None:
        record = past.record
        if self._before is None and record.rules_version not in self._versions:
            self._versions.add(record.rules_version)
            asked = [(rule.id, rule.action) for rule in record.rules]
            for teller in (self._tell_before, *(() if self._now else (self._tell_now,))):
                teller.know(asked)
        was = self._before.say(record) if self._before else said_by(record)
        now = self._now.say(record) if self._now else was
        money = money_of(record)
        self._tell_before.take(past, was, money)
        self._tell_now.take(past, now, money)
        self._first, self._last = min(self._first, record.time), max(self._last, record.time)
        if self._new:
            self._note_provided(record)
        if now.action is not was.action:
            self._move(past, was, now, money)
        self._all.add(record.score, money)
        if past.fraud is not None:
            self._known += 1
            self._frauds += past.fraud
            if record.score is not None:
                self._truth[0].append(record.score)
                self._truth[1].append(past.fraud)
        if now.action is Action.BLOCK:
            self._stopped.add(record.score, money)
        if was.action is Action.BLOCK:
            self._stopped_before.add(record.score, money)
        for name, _ in now.fired:
            self._by_rule.setdefault(name, _Scored()).add(record.score, money)

    def _note_provided(self, record: Decision) -> None:
        shape = (*record.event, *record.features)
        if shape in self._shapes:
            return
        self._shapes.add(shape)
        own = {path: name for name, path in binding_of(record.source).attributes.items()}
        self._provided |= {f":{name}:" for name in (*record.features, *record.event, *backed(record.features))}
        self._provided |= {f":{own[path]}:" for path in record.event if path in own}
        currency = record.event.get("currency")
        if isinstance(currency, str):
            self._provided.add(f":amount_in_{currency.lower()}:")

    def _move(self, past: Past, was: Said, now: Said, money: Money | None) -> None:
        held = self._moves.setdefault((was.action, now.action), _Moved())
        held.count += 1
        held.counter.add(past.group, money)
        if len(held.examples) < EXAMPLES:
            held.examples.append(_example(past, now, money))

    def report(self) -> Report:
        curve = learn_curve(*self._truth)
        genuine = float((1 - curve.at(np.asarray(self._all.scores, np.float64))).sum())
        now, before = self._tell_now.tally(), self._tell_before.tally()
        whole = self._last >= self._first

        def worth(held: _Scored) -> Estimate | None:
            return estimate(curve, held.scores, held.money, genuine=genuine)

        return Report(
            payments=now.payments,
            first=to_iso(self._first) if whole else "",
            last=to_iso(self._last) if whole else "",
            days=round(max(1.0, (self._last - self._first) / DAY), 2) if whole else 1.0,
            now=now,
            before=before,
            moves=tuple(self._moved()),
            rules=tuple(self._rules(curve, genuine, now, before)),
            stopped=worth(self._stopped),
            stopped_before=worth(self._stopped_before),
            known=self._known,
            frauds=self._frauds,
            notes=self._new.check(self._provided) if self._new else (),
        )

    def _moved(self) -> Iterator[Move]:
        ordered = sorted(self._moves.items(), key=lambda item: (-item[1].count, item[0]))
        for (before, after), held in ordered:
            yield Move(before, after, held.counter.counted(), tuple(held.examples))

    def _rules(self, curve: Curve, genuine: float, now: Tally, before: Tally) -> Iterator[RuleReport]:
        rules = {rule.id: rule for rule in self._new.rules} if self._new else {}
        mine, theirs = versions_of(self._new), versions_of(self._old)
        if self._old is None:
            theirs = dict.fromkeys(before.rules, "")
        for name in dict.fromkeys((*now.rules, *before.rules)):
            rule = rules.get(name)
            counted = now.rules.get(name) or before.rules[name]
            held = self._by_rule.get(name, _Scored())
            worth = estimate(curve, held.scores, held.money, genuine=genuine) if counted.action in _STOPS else None
            change = change_of(name, mine, theirs, known=self._old is not None) if self._new else Change.SAME
            yield RuleReport(name, counted.action, rule.text if rule else "", change, worth)


def _named(rules: PaymentRules | None) -> list[tuple[str, Action]]:
    return [(rule.id, rule.action) for rule in rules.rules] if rules else []


def _example(past: Past, now: Said, money: Money | None) -> Example:
    record = past.record
    return Example(
        event_id=record.event_id,
        time=to_iso(record.time),
        amount_minor=money.amount_minor if money else None,
        currency=money.currency if money else "",
        risk_score=record.risk_score,
        group=past.group.value,
        rules=tuple(name for name, _ in now.fired),
    )


def to_builtins(report: Report | Mapping[str, Any]) -> Any:
    """The report as plain values, for JSON."""
    return msgspec.to_builtins(report)
