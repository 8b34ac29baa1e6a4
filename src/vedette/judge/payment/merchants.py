"""Merchants' own payment rules: the same language over what a merchant's own payments carry, for its payments only.

A merchant's set is the platform's rules followed by its own, so in each class of actions the platform's are asked
first. It judges the payments of that merchant and no others: a rule never runs on a payment that is not its author's.
It reads what a payment itself carries and its level of risk. It reads no score, no count over the platform's payments,
no risk from alerts, and no list but its own: each would tell, by backtests, of payments that are others'.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from vedette.core.errors import DefinitionError, Problems, VedetteError
from vedette.expr.nodes import Among, Node, Space, children
from vedette.judge.payment.attributes import ATTRIBUTES, Attribute, Kind
from vedette.judge.payment.compiled import key_of
from vedette.judge.payment.files import read_rules
from vedette.judge.payment.lists import ValueList, to_lists
from vedette.judge.payment.problems import RuleError
from vedette.judge.payment.rules import BUILTIN, OWN, PaymentRule, PaymentRules

MAX_RULES = 50
"""Most rules of one merchant: what a payment of it may cost beside the platform's rules."""
MAX_MERCHANTS = 1_000
"""Most merchants of a tenant that have rules of their own; their sets are all held ready."""
MAX_ID = 100
"""Longest name of a merchant."""
_MEASURED = ("amount_in_", "distance_between_")
"""Numbers that a payment carries; every other number of the table is counted over payments, or scored."""


def may_read(attribute: Attribute) -> bool:
    """Whether a merchant's rule may name it."""
    return attribute.kind is not Kind.NUMBER or attribute.name.startswith(_MEASURED)


READABLE: Mapping[str, Attribute] = {name: known for name, known in ATTRIBUTES.items() if may_read(known)}
"""The attributes that a merchant's rules may name."""


def check_name(merchant: str) -> None:
    """Refuses what is no name of a merchant.

    Raises:
        DefinitionError: `payment.merchant.invalid`.
    """
    if not 0 < len(merchant) <= MAX_ID or not merchant.isprintable() or "/" in merchant:
        raise DefinitionError("payment.merchant.invalid", f"a merchant's name has 1 to {MAX_ID} characters, and no `/`")


def read_own(merchant: str, text: str, lists: Any = ()) -> PaymentRules:
    """A merchant's rules and lists, checked, with the rules' own tests run.

    Args:
        merchant: Whose they are; it becomes their owner.
        text: As a rule file: YAML, or one rule a line. Empty: none.
        lists: As decoded from JSON: `[{alias, item_type, items}]`.

    Raises:
        Problems, DefinitionError: As `read_rules` and `to_lists`; `payment.merchant.attribute`,
            `payment.merchant.too_many`, `payment.merchant.invalid`.
    """
    check_name(merchant)
    held = to_lists(list(lists))
    found = read_rules(text, path="rules", lists=held, attributes=ATTRIBUTES)
    own = [rule for rule in found.rules if not rule.id.startswith(BUILTIN)]
    problems: list[VedetteError] = [problem for rule in own for problem in _foreign(rule, held)]
    if len(own) > MAX_RULES:
        problems.append(
            DefinitionError("payment.merchant.too_many", f"a merchant has at most {MAX_RULES} rules, not {len(own)}")
        )
    if problems:
        raise Problems(problems)
    return PaymentRules((_owned(rule, merchant) for rule in own), builtin=False, tested=False)


def join(platform: PaymentRules, own: PaymentRules) -> PaymentRules:
    """The set that a merchant's payments are judged by: the platform's rules, then its own."""
    rules = [*platform.rules, *own.rules]
    return PaymentRules(rules, builtin=False, levels=platform.levels, tested=False) if own.rules else platform


def own_of(rules: PaymentRules) -> list[PaymentRule]:
    """The merchant's rules of a joined set."""
    return [rule for rule in rules.rules if rule.id.startswith(OWN)]


def lists_of(lists: Mapping[str, ValueList]) -> list[dict[str, Any]]:
    """Lists as `read_own` takes them."""
    return [{"alias": one.alias, "item_type": one.item_type.value, "items": list(one.items)} for one in lists.values()]


def _owned(rule: PaymentRule, merchant: str) -> PaymentRule:
    notes = tuple(dataclasses.replace(note, rule_id=f"{OWN}{note.rule_id}") for note in rule.notes)
    return dataclasses.replace(rule, id=f"{OWN}{rule.id}", owner=merchant, notes=notes)


def _foreign(rule: PaymentRule, lists: Collection[str]) -> Iterator[RuleError]:
    for field in sorted(rule.fields, key=key_of):
        if field.space is Space.ATTRIBUTE and field.name not in READABLE:
            message = f"`{key_of(field)}` is the platform's: it is counted or scored over payments of others too"
            hint = "a merchant's rules read what its payments carry, and `:risk_level:`"
            yield RuleError("payment.merchant.attribute", message, hint=hint, span=field.span)
    for name in sorted(_named(rule.node) - set(lists)):
        message = f"`@{name}` is the platform's list: what is in it was learned from payments of others"
        yield RuleError("payment.merchant.list", message, hint="name a list of your own", span=rule.span)


def _named(node: Node) -> set[str]:
    """Names of the lists that a condition asks."""
    own = {node.list_name} if isinstance(node, Among) and node.list_name else set()
    return own.union(*(_named(child) for child in children(node)))
