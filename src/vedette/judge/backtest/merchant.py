"""A backtest as a merchant may see it: its own payments and rules, no score, no estimate, no rule of the platform."""

from __future__ import annotations

import msgspec

from vedette.core.decision import Action
from vedette.judge.backtest.changes import Change
from vedette.judge.backtest.payments import Move, Report
from vedette.judge.backtest.tally import Counted
from vedette.judge.payment.rules import OWN, Note


class OwnExample(msgspec.Struct, frozen=True):
    """One payment."""

    event_id: str
    time: str
    amount_minor: int | None
    currency: str
    group: str
    rules: tuple[str, ...]
    """Ids of the merchant's rules that fire on it now."""


class OwnMove(msgspec.Struct, frozen=True):
    """Payments whose answer changes in one way."""

    before: Action
    after: Action
    counted: Counted
    examples: tuple[OwnExample, ...]


class OwnRule(msgspec.Struct, frozen=True):
    """One of the merchant's rules."""

    id: str
    action: Action
    text: str
    """Empty for a rule that is no more."""
    change: Change
    fired: Counted
    """Payments it fires on; of a rule that is no more, those it fired on."""
    decided: Counted
    """Of these, those that got its action."""


class OwnReport(msgspec.Struct, frozen=True, kw_only=True):
    """A backtest of a merchant's rules."""

    payments: int
    first: str
    last: str
    now: dict[str, Counted]
    """Action -> payments that would have got it, by what became of them."""
    before: dict[str, Counted]
    moves: tuple[OwnMove, ...]
    rules: tuple[OwnRule, ...]
    notes: tuple[Note, ...]


def own_report(report: Report) -> OwnReport:
    """What a merchant may see of a backtest over its payments."""
    rules = []
    for rule in report.rules:
        if rule.id.startswith(OWN):
            held = report.now.rules.get(rule.id) or report.before.rules[rule.id]
            name = rule.id.removeprefix(OWN)
            rules.append(OwnRule(name, rule.action, rule.text, rule.change, held.fired, held.decided))
    return OwnReport(
        payments=report.payments,
        first=report.first,
        last=report.last,
        now=report.now.actions,
        before=report.before.actions,
        moves=tuple(_move(move) for move in report.moves),
        rules=tuple(rules),
        notes=own_notes(report.notes),
    )


def own_notes(notes: tuple[Note, ...]) -> tuple[Note, ...]:
    """Notes on the merchant's rules, under the ids it gave them."""
    return tuple(
        Note(note.code, note.rule_id.removeprefix(OWN), note.message, note.span)
        for note in notes
        if note.rule_id.startswith(OWN)
    )


def _move(move: Move) -> OwnMove:
    examples = tuple(
        OwnExample(
            event_id=one.event_id,
            time=one.time,
            amount_minor=one.amount_minor,
            currency=one.currency,
            group=one.group,
            rules=tuple(name.removeprefix(OWN) for name in one.rules if name.startswith(OWN)),
        )
        for one in move.examples
    )
    return OwnMove(move.before, move.after, move.counted, examples)
