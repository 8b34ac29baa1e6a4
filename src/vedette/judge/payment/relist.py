"""The same rules with other lists: what a rule set becomes when an item is added to a list that it names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from vedette.expr import nodes
from vedette.expr.nodes import Among, Node
from vedette.judge.payment.compiled import compile_node
from vedette.judge.payment.lists import (
    CARD_BLOCKLIST,
    DEVICE_BLOCKLIST,
    EMAIL_BLOCKLIST,
    IP_BLOCKLIST,
    ValueList,
    compared,
)
from vedette.judge.payment.rules import BUILTIN, PaymentRule, PaymentRules, parse_rule

BLOCKLISTS: Mapping[str, tuple[str, str]] = {
    CARD_BLOCKLIST: (f"{BUILTIN}card_blocklist", f"block if :card_fingerprint: in @{CARD_BLOCKLIST}"),
    EMAIL_BLOCKLIST: (f"{BUILTIN}email_blocklist", f"block if :email: in @{EMAIL_BLOCKLIST}"),
    DEVICE_BLOCKLIST: (f"{BUILTIN}device_blocklist", f"block if ::device:: in @{DEVICE_BLOCKLIST}"),
    IP_BLOCKLIST: (f"{BUILTIN}ip_address_blocklist", f"block if :ip_address: in @{IP_BLOCKLIST}"),
}
"""Default list -> id and text of the rule that every set of payment rules has while the list holds something."""
_REASONS = {
    CARD_BLOCKLIST: "a payment with this card was fraud",
    EMAIL_BLOCKLIST: "a payment with this e-mail address was fraud",
    DEVICE_BLOCKLIST: "this device was blocked",
    IP_BLOCKLIST: "this address was blocked",
}


def relist(rules: PaymentRules, kept: Mapping[str, ValueList], *, blocklists: bool = True) -> PaymentRules:
    """Rules whose lists hold the kept items beside their own; the same set when that changes nothing.

    Costs a few milliseconds for each 10,000 items, so it is done when a list changes, not for each payment.

    Args:
        rules: As they were loaded.
        kept: Alias -> items that were added since.
        blocklists: Whether the default block lists block.
    """
    changed = [_with(rule, kept) for rule in rules.rules]
    added = [*_builtin(kept)] if blocklists else []
    if not added and all(one is other for one, other in zip(changed, rules.rules, strict=True)):
        return rules
    return PaymentRules([*changed, *added], builtin=False, levels=rules.levels, tested=False)


def _builtin(kept: Mapping[str, ValueList]) -> Iterator[PaymentRule]:
    for alias, (name, text) in BLOCKLISTS.items():
        if alias in kept and kept[alias].items:
            yield parse_rule(text, id=name, owner="vedette", reason=_REASONS[alias], lists=kept)


def _with(rule: PaymentRule, kept: Mapping[str, ValueList]) -> PaymentRule:
    node = _replaced(rule.node, kept)
    return rule if node is rule.node else dataclasses.replace(rule, node=node, evaluate=compile_node(node))


def _replaced(node: Node, kept: Mapping[str, ValueList]) -> Node:
    if isinstance(node, Among):
        found = kept.get(node.list_name)
        items = tuple(dict.fromkeys((*node.items, *compared(found)))) if found else node.items
        return node if items == node.items else dataclasses.replace(node, items=items)
    below = tuple(_replaced(child, kept) for child in nodes.children(node))
    if all(one is other for one, other in zip(below, nodes.children(node), strict=True)):
        return node
    match node:
        case nodes.And() | nodes.Or():
            return dataclasses.replace(node, children=below)
        case nodes.Not() | nodes.Known():
            return dataclasses.replace(node, child=below[0])
        case _:
            return node
