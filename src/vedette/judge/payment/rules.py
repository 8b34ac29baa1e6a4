"""Rules and rule sets: what each says about one event, and which answer wins."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from enum import StrEnum

from vedette.core.decision import Action, RuleResult
from vedette.core.errors import DefinitionError, Problems, Span, VedetteError
from vedette.expr import nodes
from vedette.expr.nodes import Field, Node, Space
from vedette.expr.printer import to_text
from vedette.expr.truth import Truth
from vedette.judge.payment.attributes import ATTRIBUTES, Attribute, Kind, Phase
from vedette.judge.payment.compiled import Evaluator, Values, compile_node, key_of
from vedette.judge.payment.lists import ValueList
from vedette.judge.payment.lowering import lower
from vedette.judge.payment.problems import Origin

MAX_RULES = 200
"""Most rules of one set; a set's work on one event is bounded by this times the nodes of a rule."""
MAX_TESTS = 100
"""Most tests of one rule."""
MAX_RISK_SCORE = 99


class Outcome(StrEnum):
    """What one rule said about one event."""

    FIRED = "fired"
    QUIET = "quiet"
    UNKNOWN = "unknown"
    """A missing value decided it; the rule does not fire."""


_OUTCOMES = {Truth.FALSE: Outcome.QUIET, Truth.UNKNOWN: Outcome.UNKNOWN, Truth.TRUE: Outcome.FIRED}


@dataclass(frozen=True, slots=True)
class RuleTest:
    """One example that a rule carries with it."""

    given: Values
    """Values as the rule names them: `{":amount_in_usd:": 600}`. What is left out is missing."""
    expect: Outcome | bool
    """What the rule says; true and false ask only whether it fires."""

    def passes(self, said: Outcome) -> bool:
        """Whether that is what was expected."""
        return said is self.expect if isinstance(self.expect, Outcome) else (said is Outcome.FIRED) is self.expect


@dataclass(frozen=True, slots=True)
class Note:
    """Something allowed that its author should look at; not an error."""

    code: str
    rule_id: str
    message: str
    span: Span


@dataclass(frozen=True, slots=True)
class PaymentRule:
    """One typed rule, ready to run."""

    id: str
    action: Action
    text: str
    node: Node
    """The condition, three-valued; `Known` round it is the language's law that unknown does not fire."""
    attributes: frozenset[Attribute]
    evaluate: Evaluator = attribute(compare=False, repr=False)
    owner: str = ""
    reason: str = ""
    """What it found, in plain words for the payer's merchant; empty: the rule's own text is shown."""
    tests: tuple[RuleTest, ...] = ()
    span: Span = attribute(default=nodes.NOWHERE, compare=False)
    notes: tuple[Note, ...] = ()

    @property
    def version(self) -> str:
        """Content hash: the same for the same action and condition, however they are spaced."""
        return hashlib.sha256(f"{self.action} {to_text(self.node)}".encode()).hexdigest()

    @property
    def phase(self) -> Phase:
        """After authorisation when it uses a value known only then."""
        return Phase.AFTER if any(used.phase is Phase.AFTER for used in self.attributes) else Phase.BEFORE

    @property
    def needs_score(self) -> bool:
        """True when it cannot be judged before the model has answered."""
        return any(used.scored for used in self.attributes)

    @property
    def fields(self) -> frozenset[Field]:
        """Everything it reads."""
        return frozenset(_fields(self.node))

    def result(self, values: Values) -> Outcome:
        """What the rule says. Values by their text in the language; missing ones are left out or None."""
        return _OUTCOMES[self.evaluate(values)]

    def failures(self) -> Iterator[VedetteError]:
        """Runs the rule's own tests and gives an error for each that fails: `payment.test.failed`."""
        for place, test in enumerate(self.tests):
            said = self.result(test.given)
            if not test.passes(said):
                yield DefinitionError(
                    "payment.test.failed",
                    f"test {place + 1} of rule `{self.id}` expects {str(test.expect).lower()}, the rule is {said}",
                    hint="run `vedette explain` on the rule and the test's values",
                    span=self.span,
                )


def _fields(node: Node) -> Iterator[Field]:
    for child in nodes.children(node):
        yield from _fields(child)
    yield from nodes.fields(node)


def rule_id(text: str) -> str:
    """The id of a rule that has none: `rule_` and the first 12 hex digits of SHA-256 of its text, blanks squeezed.

    It stays the same when lines move, and changes when the rule does.
    """
    return "rule_" + hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:12]


def parse_rule(
    text: str,
    *,
    id: str = "",  # noqa: A002 - the field's name
    owner: str = "",
    reason: str = "",
    tests: Sequence[RuleTest] = (),
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
    lists: Mapping[str, ValueList] | None = None,
    origin: Origin = Origin(),  # noqa: B008 - a frozen value
) -> PaymentRule:
    """Parses, types and compiles one rule.

    Args:
        text: `{action} if {condition}`.
        id: Its id; by default made from the text by `rule_id`.
        owner: Who answers for it.
        reason: What it found, in plain words.
        tests: Its own tests; they are checked for names here and run by `PaymentRule.failures`.
        attributes: The names it may use: the built-in table, with a model's features added by `with_features`.
        lists: Lists it may name with `@`.
        origin: Where the text stands in its file.

    Raises:
        RuleError: The one thing wrong with it, or `Problems` with all of them; codes in docs/rules.md.
    """
    lowered = lower(text, attributes=attributes, lists=lists, origin=origin)
    name = id or rule_id(text)
    return PaymentRule(
        id=name,
        action=lowered.action,
        text=text,
        node=lowered.node,
        attributes=lowered.attributes,
        evaluate=compile_node(lowered.node),
        owner=owner,
        reason=reason,
        tests=tuple(tests),
        span=origin.span(1, 1, 1, 1),
        notes=tuple(Note(code, name, message, span) for code, message, span in lowered.notes),
    )


def parse_condition(
    text: str,
    *,
    id: str,  # noqa: A002 - the field's name
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
    lists: Mapping[str, ValueList] | None = None,
    origin: Origin = Origin(),  # noqa: B008 - a frozen value
) -> PaymentRule:
    """A condition that leads to nothing by itself, typed as that of a rule. Raises as `parse_rule`."""
    before = f"{Action.REVIEW} if "
    place = dataclasses.replace(origin, col=origin.col - len(before))
    return parse_rule(before + text, id=id, attributes=attributes, lists=lists, origin=place)


@dataclass(frozen=True, slots=True)
class RiskLevels:
    """Where `:risk_level:` changes, in risk scores 0..99.

    Raises:
        DefinitionError: `payment.levels.order` unless 0 < elevated < highest <= 99.
    """

    elevated: int = 65
    highest: int = 75

    def __post_init__(self) -> None:
        if not 0 < self.elevated < self.highest <= MAX_RISK_SCORE:
            raise DefinitionError(
                "payment.levels.order", "risk levels need 0 < elevated < highest <= 99", at="$.risk_levels"
            )

    def level(self, risk_score: int | None) -> str:
        """The level of a risk score; `not_assessed` without one."""
        if risk_score is None:
            return "not_assessed"
        return "highest" if risk_score >= self.highest else "elevated" if risk_score >= self.elevated else "normal"


BUILTIN = "builtin."
"""Before the ids of rules that are not the author's; they do not count towards `MAX_RULES`."""
OWN = "own."
"""Before the ids of merchants' own rules; of those `merchants.MAX_RULES` counts."""
HIGHEST_RISK = f"{BUILTIN}highest_risk"
"""Id of the rule that every set has: without it the score alone would decide nothing."""


def _builtin() -> PaymentRule:
    return parse_rule("block if :risk_level: = 'highest'", id=HIGHEST_RISK, owner="vedette")


class PaymentRules:
    """A set of rules with one answer.

    Classes are asked in this order, and the first that has a fired rule gives the answer: allow, block, then allow and
    block of the rules that wait for the issuer's checks, then review. A challenge never ends the search: it is the
    answer only when no other class fires. Rules of one class have no order.

    Args:
        rules: At most `MAX_RULES`, ids distinct.
        builtin: Whether the set also blocks the highest risk level.
        levels: Where risk levels change.
        tested: Whether the rules' own tests must pass; only a tester, which runs them one by one, says no.

    Raises:
        Problems: `payment.rules.duplicate_id`, `payment.rules.too_many`, `payment.test.failed`.
    """

    def __init__(
        self,
        rules: Iterable[PaymentRule] = (),
        *,
        builtin: bool = True,
        levels: RiskLevels = RiskLevels(),
        tested: bool = True,
    ) -> None:
        self.levels = levels
        self.merchants: Mapping[str, PaymentRules] = {}
        """Merchant -> the set that its payments are judged by, where that is another one than this."""
        self.rules: tuple[PaymentRule, ...] = (*rules, *([_builtin()] if builtin else []))
        problems = [*self._duplicates(), *(failure for rule in self.rules if tested for failure in rule.failures())]
        own = sum(not rule.id.startswith((BUILTIN, OWN)) for rule in self.rules)
        if own > MAX_RULES:
            message = f"a set has at most {MAX_RULES} rules, this one {own}"
            problems.append(DefinitionError("payment.rules.too_many", message, hint="merge rules by lists"))
        if problems:
            raise Problems(problems)
        self.fields: frozenset[Field] = frozenset(field for rule in self.rules for field in rule.fields)
        self.version: str = self._version()
        self._runs = tuple(
            (rule, rule.evaluate, tuple(RuleResult(rule.id, rule.action, _OUTCOMES[truth].value) for truth in Truth))
            for rule in self.rules
        )

    @property
    def state(self) -> tuple[str, ...]:
        """Versions of the set and of those of merchants: while it stays, every payment is judged as before."""
        return (self.version, *(f"{name} {own.version}" for name, own in self.merchants.items()))

    def of_merchant(self, merchant: object) -> PaymentRules:
        """The set that a merchant's payments are judged by."""
        return self.merchants.get(merchant, self) if isinstance(merchant, str) else self

    def with_merchants(self, merchants: Mapping[str, PaymentRules]) -> PaymentRules:
        """The same set, with sets for the payments of some merchants; those have none of their own."""
        other = copy.copy(self)
        other.merchants = merchants
        return other

    def _duplicates(self) -> Iterator[VedetteError]:
        seen: dict[str, PaymentRule] = {}
        for rule in self.rules:
            first = seen.setdefault(rule.id, rule)
            if first is not rule:
                yield DefinitionError(
                    "payment.rules.duplicate_id",
                    f"rule `{rule.id}` is there twice, first at {first.span}",
                    hint="ids are distinct; a rule without an id is named by its text",
                    span=rule.span,
                )

    def _version(self) -> str:
        rules = [
            [rule.id, rule.action.value, rule.phase.value, to_text(rule.node), *([rule.reason] if rule.reason else [])]
            for rule in self.rules
        ]
        content = [[self.levels.elevated, self.levels.highest], rules]
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()

    def results(self, values: Values) -> tuple[tuple[RuleResult, ...], list[PaymentRule]]:
        """What every rule says, in the set's order, and the rules that fired."""
        said = []
        fired = []
        for rule, evaluate, results in self._runs:
            truth = evaluate(values)
            said.append(results[truth])
            if truth is Truth.TRUE:
                fired.append(rule)
        return tuple(said), fired

    def check(self, provided: Collection[str]) -> tuple[Note, ...]:
        """What an author should look at: notes of the rules, and names that nothing provides.

        Args:
            provided: Texts of the fields that events or features give, such as `:amount_in_usd:`.
        """
        absent = (
            Note("payment.note.not_provided", rule.id, _absent(field), field.span)
            for rule in self.rules
            for field in sorted(rule.fields, key=key_of)
            if field.space is Space.ATTRIBUTE and key_of(field) not in provided
        )
        return (*(note for rule in self.rules for note in rule.notes), *absent)


def _absent(field: Field) -> str:
    builtin = ATTRIBUTES.get(field.name)
    always = "false" if builtin and builtin.kind is Kind.BOOLEAN else "missing"
    return f"nothing provides `{key_of(field)}`, so it is always {always}"


_STEPS: tuple[tuple[Action, Callable[[PaymentRule], bool]], ...] = (
    (Action.ALLOW, lambda rule: rule.phase is Phase.BEFORE),
    (Action.BLOCK, lambda rule: rule.phase is Phase.BEFORE),
    (Action.ALLOW, lambda rule: rule.phase is Phase.AFTER),
    (Action.BLOCK, lambda rule: rule.phase is Phase.AFTER),
    (Action.REVIEW, lambda _rule: True),
    (Action.CHALLENGE, lambda _rule: True),
)


def answer(fired: Sequence[PaymentRule]) -> Action | None:
    """The action that fired rules lead to; None when none fired."""
    for action, in_phase in _STEPS:
        if any(rule.action is action and in_phase(rule) for rule in fired):
            return action
    return None
