"""Explain: why a rule fired or did not, clause by clause with the values it read, and why a decision is what it is.

Everything is recomputed by the reference evaluator from the record or the event, never from what an engine remembered;
so what is shown is what the rule means. A clause is true, false or unknown; unknown comes from a missing value.

Example:
    >>> from vedette.judge.payment.rules import parse_rule
    >>> rule = parse_rule("block if :amount_in_usd: > 500 and not :card_country: = 'US'", id="large")
    >>> shown = explain_payment_rule(rule, {":amount_in_usd:": 600.0})
    >>> shown.result, [(clause.text, clause.result) for clause in shown.clause.children]
    ('unknown', [(':amount_in_usd: > 500', 'true'), ('not :card_country: = "US"', 'unknown')])
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import msgspec

from vedette.core.decision import Action, Decision, Reason
from vedette.core.event import Event
from vedette.expr import nodes, reference
from vedette.expr.nearest import Change, changes
from vedette.expr.nodes import Node
from vedette.expr.printer import field_text, to_text
from vedette.expr.truth import Truth
from vedette.expr.values import MISSING, Reader, leaves, reader
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.rebuild import decider_of, event_of
from vedette.judge.payment.compiled import Values, reader_of
from vedette.judge.payment.rules import Outcome, PaymentRule, PaymentRules, answer
from vedette.judge.sigma.rules import Rule
from vedette.prove.dlp import scrub

MAX_SHOWN = 200
"""Longest text of a value that is shown, in characters."""

_RESULTS = {Truth.TRUE: "fired", Truth.FALSE: "quiet", Truth.UNKNOWN: "unknown"}


class Read(msgspec.Struct, frozen=True):
    """One value that a clause read."""

    field: str
    value: Any
    """None when it is missing or null."""
    missing: bool
    """True when the event has no such field."""


class Clause(msgspec.Struct, frozen=True):
    """One part of a rule, with its answer."""

    text: str
    result: str
    """`true`, `false` or `unknown`."""
    values: tuple[Read, ...] = ()
    children: tuple[Clause, ...] = ()
    place: str = ""
    """Where it is written: `file:line:col`; empty for what no person wrote."""
    kind: str = ""
    """How the children make the answer: `all`, `any`, `not` or `known`; empty for a clause without children."""


class Lack(msgspec.Struct, frozen=True):
    """What kept a rule from firing: of all that would have to be different, the least."""

    values: tuple[Read, ...]
    """What was read; empty where every value of the event was."""
    wanted: tuple[str, ...]
    """Clauses of which any would have done; under a `not` with that word."""
    place: str = ""
    """Where the first of them is written."""


class RuleExplanation(msgspec.Struct, frozen=True):
    """One rule on one event; of a correlation, one of its groups."""

    id: str
    title: str
    """A Sigma rule's title, a payment rule's text."""
    outcome: str
    """What it leads to: an action, or a level."""
    result: str
    """`fired`, `quiet` or `unknown` (a missing value decided it; it does not fire)."""
    clause: Clause
    lacks: tuple[Lack, ...] = ()
    """Of a rule that did not fire: together they would have made it fire. Empty when nothing could."""
    event_id: str = ""
    """Of the event, where several were looked at; of a group, its last."""


class DecisionExplanation(msgspec.Struct, frozen=True):
    """One decision."""

    event_id: str
    action: str
    because: str
    """One sentence: which rule, policy or default gave the action."""
    score: float | None
    risk_score: int | None
    risk_level: str
    fallback: str | None
    reasons: tuple[Reason, ...]
    rules: tuple[RuleExplanation, ...]
    """Those that fired first."""
    features: dict[str, float | None]


def explain_node(node: Node, read: Reader, values: Collection[object] = ()) -> tuple[str, Clause, tuple[Lack, ...]]:
    """`fired`, `quiet` or `unknown`, the tree of clauses, and what is lacking. Nothing is cut short.

    Args:
        node: The condition.
        read: Gives the value of a field.
        values: Every scalar of the event, for keyword clauses.
    """
    traced = reference.trace(node, read, values)
    return _RESULTS[traced.truth], _clause(traced), tuple(map(_lack, changes(traced) or ()))


def explain_payment_rule(rule: PaymentRule, values: Values) -> RuleExplanation:
    """A payment rule on values by name."""
    result, clause, lacks = explain_node(rule.node, reader_of(values))
    return RuleExplanation(rule.id, rule.text, rule.action.value, result, clause, lacks)


def explain_on_event(rule: PaymentRule, event: Event, decider: Decider) -> RuleExplanation:
    """A payment rule on an event alone: features and score are missing, because nothing was decided."""
    nothing = Decision(event_id=event.id, tenant=event.tenant, action=Action.ALLOW, score=None, risk_score=None)
    return explain_payment_rule(rule, decider.values(event, nothing))


def explain_data(node: Node, data: dict[str, Any]) -> tuple[str, Clause, tuple[Lack, ...]]:
    """A condition over an event's own fields, such as that of a Sigma rule."""
    return explain_node(node, reader(data), tuple(leaves(data)))


def explain_rule(rule: Rule, source: str, data: dict[str, Any]) -> RuleExplanation:
    """A Sigma rule on an event of a source that it reads."""
    return RuleExplanation(rule.id, rule.title, rule.level.value, *explain_data(rule.nodes[source], data))


def explain_decision(record: Decision, rules: PaymentRules) -> DecisionExplanation:
    """A recorded decision, from its record and the rules it was made with.

    Raises:
        ConflictError: `decision.rebuild.rules` when these are other rules.
    """
    decider = decider_of(msgspec.structs.replace(record, model=None), model=None, rules=rules)
    values = decider.values(event_of(record), record)
    shown = [explain_payment_rule(rule, values) for rule in rules.rules]
    order = [Outcome.FIRED.value, Outcome.UNKNOWN.value, Outcome.QUIET.value]
    return DecisionExplanation(
        event_id=record.event_id,
        action=record.action.value,
        because=_because(record, rules),
        score=record.score,
        risk_score=record.risk_score,
        risk_level=rules.levels.level(record.risk_score),
        fallback=record.fallback,
        reasons=record.reasons,
        rules=tuple(sorted(shown, key=lambda rule: order.index(rule.result))),
        features=record.features,
    )


def _because(record: Decision, rules: PaymentRules) -> str:
    said = {result.id: result.result for result in record.rules}
    fired = [rule for rule in rules.rules if said.get(rule.id) == Outcome.FIRED]
    decided = answer(fired)
    if decided == record.action:
        names = ", ".join(f"`{rule.id}`" for rule in fired if rule.action is decided)
        others = sorted({rule.action.value for rule in fired if rule.action is not decided})
        over = f", which goes before {' and '.join(others)}" if others else ""
        return f"{decided} rule {names} fired{over}"
    if record.fallback:
        part = record.fallback.removeprefix("fallback.")
        return f"{part} did not answer in time and no allow or block rule fired: policy fail {record.policy}"
    return "no rule fired, so the payment is allowed"


_KINDS: dict[type[Node], str] = {nodes.And: "all", nodes.Or: "any", nodes.Not: "not", nodes.Known: "known"}


def _clause(traced: reference.Clause) -> Clause:
    span = traced.node.span
    return Clause(
        text=scrub(to_text(traced.node)),
        result=traced.truth.name.lower(),
        values=_read(traced),
        children=tuple(_clause(child) for child in traced.children),
        place=str(span) if span.path else "",
        kind=_KINDS.get(type(traced.node), "") if traced.children else "",
    )


def _read(traced: reference.Clause) -> tuple[Read, ...]:
    return tuple(
        Read(field_text(field), None if value is MISSING else _shown(value), value is MISSING)
        for field, value in traced.values
    )


def _lack(change: Change) -> Lack:
    first = change.clauses[0]
    word = "" if change.wanted is Truth.TRUE else "not "
    texts = tuple(word + scrub(to_text(one.node)) for one in change.clauses)
    return Lack(_read(first), texts, str(first.node.span) if first.node.span.path else "")


def _shown(value: object) -> Any:
    if isinstance(value, str):
        return scrub(value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}…")
    if isinstance(value, int | float | None):
        return value
    return _shown(str(value))


def to_lines(rule: RuleExplanation) -> Iterator[str]:
    """The explanation as text, one clause a line: `+` true, `-` false, `?` unknown."""
    yield f"{rule.id} ({rule.outcome}): {rule.result}"
    yield from _lines(rule.clause, 1)
    for lack in rule.lacks:
        yield f"  lacks: {' or '.join(lack.wanted)}{_bracketed(lack.values)}"


_SIGNS = {"true": "+", "false": "-", "unknown": "?"}


def _lines(clause: Clause, depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}{_SIGNS[clause.result]} {clause.text}{_bracketed(clause.values)}"
    for child in clause.children:
        yield from _lines(child, depth + 1)


def _bracketed(values: Iterable[Read]) -> str:
    read = ", ".join(f"{one.field} is {'missing' if one.missing else repr(one.value)}" for one in values)
    return f"   [{read}]" if read else ""
