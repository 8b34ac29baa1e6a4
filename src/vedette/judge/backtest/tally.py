"""Counts and money of payments by action and by rule: the same for what was recorded and for what would have been."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from vedette.core.decision import Action, Decision
from vedette.judge.backtest.outcomes import Group, Past
from vedette.judge.decisions.register import to_amount

FIRED = "fired"


class Sum(msgspec.Struct, frozen=True):
    """Payments and their money."""

    payments: int = 0
    amounts: dict[str, int] = {}
    """Currency -> minor units. A payment without an amount adds nothing."""


class Counted(msgspec.Struct, frozen=True):
    """Payments by what became of them."""

    all: Sum = Sum()
    disputed: Sum = Sum()
    refunded: Sum = Sum()
    blocked: Sum = Sum()
    succeeded: Sum = Sum()


class RuleCounted(msgspec.Struct, frozen=True):
    """One rule."""

    action: Action
    fired: Counted
    """Payments it fired on."""
    decided: Counted
    """Of these, those that got its action."""
    overrides: Counted
    """Of an allow rule: payments it let through that another rule would have stopped or held."""


class Tally(msgspec.Struct, frozen=True):
    """Everything that is counted. Equal for a backtest and for what the same rules then did on the same payments."""

    payments: int
    actions: dict[str, Counted]
    rules: dict[str, RuleCounted]


class Said(NamedTuple):
    """What a rule set said of one payment."""

    action: Action
    fired: Sequence[tuple[str, Action]]
    """Id and action of each rule that fired."""


def said_by(record: Decision) -> Said:
    """What was recorded."""
    return Said(record.action, [(rule.id, rule.action) for rule in record.rules if rule.result == FIRED])


class Money(NamedTuple):
    """What a payment is about."""

    amount_minor: int
    currency: str


def money_of(record: Decision) -> Money | None:
    """Amount and currency; None for a payment that names none."""
    amount, currency = to_amount(record.source, record.event)
    return None if amount is None else Money(amount, currency)


class Counter:
    """Adds up payments by group and currency."""

    def __init__(self) -> None:
        self._payments: dict[Group, int] = defaultdict(int)
        self._amounts: dict[Group, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, group: Group, money: Money | None) -> None:
        """One payment."""
        self._payments[group] += 1
        if money:
            self._amounts[group][money.currency] += money.amount_minor

    def counted(self) -> Counted:
        """The sums so far."""
        sums = {group: Sum(self._payments[group], dict(sorted(self._amounts[group].items()))) for group in Group}
        amounts: dict[str, int] = defaultdict(int)
        for held in sums.values():
            for currency, minor in held.amounts.items():
                amounts[currency] += minor
        whole = Sum(sum(held.payments for held in sums.values()), dict(sorted(amounts.items())))
        return Counted(whole, **{group.value: held for group, held in sums.items()})


class _Rule:
    """One rule while it is counted."""

    def __init__(self, action: Action) -> None:
        self.action = action
        self.fired, self.decided, self.overrides = Counter(), Counter(), Counter()


class Teller:
    """Tallies what was said, payment by payment. Memory does not grow with payments."""

    def __init__(self, rules: Sequence[tuple[str, Action]] = ()) -> None:
        self._payments = 0
        self._actions: dict[Action, Counter] = {action: Counter() for action in Action}
        self._rules: dict[str, _Rule] = {name: _Rule(action) for name, action in rules}

    def know(self, rules: Sequence[tuple[str, Action]]) -> None:
        """Rules that were asked, whether they fire or not."""
        for name, action in rules:
            self._rules.setdefault(name, _Rule(action))

    def take(self, past: Past, said: Said, money: Money | None) -> None:
        """Counts one payment."""
        self._payments += 1
        self._actions[said.action].add(past.group, money)
        over = said.action is Action.ALLOW and any(action is not Action.ALLOW for _, action in said.fired)
        for name, action in said.fired:
            held = self._rules.get(name) or self._rules.setdefault(name, _Rule(action))
            held.fired.add(past.group, money)
            if action is said.action:
                held.decided.add(past.group, money)
                if over:
                    held.overrides.add(past.group, money)

    def tally(self) -> Tally:
        """The counts so far. Rules that never fired are there when they were named at the start."""
        rules = {
            name: RuleCounted(held.action, held.fired.counted(), held.decided.counted(), held.overrides.counted())
            for name, held in sorted(self._rules.items())
        }
        return Tally(self._payments, {action.value: held.counted() for action, held in self._actions.items()}, rules)
