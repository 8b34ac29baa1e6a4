"""What stands behind an alert: its rule as people wrote it, and the rule's answer on the event, recomputed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from vedette.core.event import Event
from vedette.core.signal import Signal
from vedette.judge.explain import Clause, explain_data
from vedette.judge.sigma.rules import Rule
from vedette.judge.sigma.text import RuleText, read_text
from vedette.run.detecting import Detection


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One signal, explained as far as its rule and its event are still at hand."""

    signal: Signal
    event: Event | None
    """None while it is not stored yet, and when it is kept no more."""
    rule: Rule | None
    """None when the rule is not loaded any more."""
    result: str = ""
    """`fired`, `quiet` or `unknown`; empty without rule or event."""
    clause: Clause | None = None
    changed: bool = False
    """The rule is not the version that fired: the clauses are those of today's."""


def explain_signal(
    signal: Signal, rules: Mapping[str, Rule], find: Callable[[str, str, str, int], Event | None]
) -> Finding:
    """The clauses of the signal's rule with the values they read.

    Args:
        signal: Which.
        rules: The loaded rules by id.
        find: (tenant, source, event id, event time) -> the stored event.
    """
    rule = rules.get(signal.rule_id)
    event = find(signal.tenant, signal.source, signal.event_id, signal.event_time)
    changed = rule is not None and rule.version != signal.rule_version
    node = rule.nodes.get(signal.source) if rule else None
    if node is None or event is None:
        return Finding(signal=signal, event=event, rule=rule, changed=changed)
    result, clause = explain_data(node, event.data)
    return Finding(signal=signal, event=event, rule=rule, result=result, clause=clause, changed=changed)


def text_of(detection: Detection | None, rule: Rule | None) -> RuleText | None:
    """What people wrote in the rule; None when its file is not at hand."""
    return read_text(detection.paths, rule.path, rule.id) if detection and rule else None
