"""A rule set made ready for one engine of features: every distinct condition once, then one kernel call for all rules.

Comparisons of features with numbers are made in the kernel, on the vector itself. Texts are looked up: one dictionary a
field says which of its conditions hold, however many lists name it. What is left is asked of the compiled nodes. The
answers are always those of `PaymentRules.results`. What follows from them alone (which rules fired, which action that
is, what is said of it) is remembered, bounded.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN202, PLR0917
# mypy: allow-untyped-defs
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from vedette.core.decision import Action, Reason, RuleResult
from vedette.expr import nodes
from vedette.expr.nodes import Comparison, Field, Literal, Node
from vedette.expr.truth import Truth
from vedette.expr.values import fold, text_of
from vedette.judge.payment.compiled import Evaluator, Values, compile_node, key_of
from vedette.judge.payment.rules import PaymentRule, PaymentRules, answer

Vector = npt.NDArray[np.float64]

MAX_REMEMBERED = 4_096
"""Sets of answers, and texts of a field, that are remembered; then they are forgotten all at once."""
EXACT = 1 << 53
"""Whole numbers up to this are themselves as floats."""

EQ, NE, LT, LE, GT, GE = range(6)
_OPS = dict(zip(Comparison, range(6), strict=True))
AND, OR, NOT, KNOWN, ATOM = range(5)
"""Steps of a program in postfix order; And and Or take so many answers off, Atom puts one on."""
UNKNOWN, TRUE = int(Truth.UNKNOWN), int(Truth.TRUE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a set of answers leads to."""

    results: tuple[RuleResult, ...]
    fired: tuple[PaymentRule, ...]
    action: Action | None
    reasons: tuple[Reason, ...]
    challenge: bool


def to_verdict(results: tuple[RuleResult, ...], fired: list[PaymentRule]) -> Verdict:
    """From what each rule said."""
    told = (Reason(f"rule.{rule.id}", rule.reason or f"rule {rule.id} fired: {rule.text}", 0.0) for rule in fired)
    challenge = any(rule.action is Action.CHALLENGE for rule in fired)
    return Verdict(results, tuple(fired), answer(fired), tuple(told), challenge)


@dataclass(slots=True)
class _Texts:
    """Conditions on one field that a dictionary answers."""

    key: str
    cased: bool
    atoms: list[int] = field(default_factory=list)
    usual: list[int] = field(default_factory=list)
    """What each says of a text that it does not name."""
    named: dict[str, list[int]] = field(default_factory=dict)
    """Text -> places in `atoms` of those that name it."""
    asked: list[Evaluator] = field(default_factory=list)
    """The same conditions, for values that are no texts."""
    places: Any = None
    known: dict[str | bool | None, Any] = field(default_factory=dict)

    def add(self, atom: int, node: Node, texts: frozenset[str], *, otherwise: Truth) -> None:
        for text in texts:
            self.named.setdefault(text, []).append(len(self.atoms))
        self.atoms.append(atom)
        self.usual.append(int(otherwise))
        self.asked.append(compile_node(node))

    def answers(self, value: object) -> Any:
        """What its conditions say of a value."""
        if type(value) is not str and type(value) is not bool and value is not None:
            return self._ask(value)
        found = self.known.get(value)
        if found is None:
            if len(self.known) >= MAX_REMEMBERED:
                self.known.clear()
            found = self.known[value] = self._answers(value)
        return found

    def _ask(self, value: object) -> Any:
        return np.array([evaluate({self.key: value}) for evaluate in self.asked], np.int8)

    def _answers(self, value: object) -> Any:
        if value is None:
            return np.full(len(self.atoms), UNKNOWN, np.int8)
        if not isinstance(value, str):
            return self._ask(value)
        answers = np.array(self.usual, np.int8)
        for place in self.named.get(value if self.cased else fold(value), ()):
            answers[place] = 2 - answers[place]
        return answers


class Ruling:
    """A rule set over vectors of one engine. Safe to ask from several threads.

    Args:
        rules: The set.
        places: Field as rules write it (`:customer_count_1h:`) -> its place in the vectors, and the largest value that
            rules see of it.
    """

    def __init__(self, rules: PaymentRules, places: Mapping[str, tuple[int, float]]) -> None:
        self._rules = rules
        self._places = places
        self._atoms: dict[Node, int] = {}
        self._compared: list[tuple[int, int, int, float, float]] = []
        self._numbers: dict[str, int] = {}
        self._missing: list[tuple[int, str]] = []
        self._texts: dict[tuple[str, bool], _Texts] = {}
        self._asked: list[tuple[int, Evaluator]] = []
        self._known: dict[bytes, Verdict] = {}
        program: list[tuple[int, int]] = []
        ends = []
        for rule in rules.rules:
            self._write(rule.node, program)
            ends.append(len(program))
        for group in self._texts.values():
            group.places = np.array(group.atoms, np.intp)
        self._program = np.array(program, np.int32).reshape(-1, 2)
        self._ends = np.array(ends, np.int32)
        shape = [("atom", "i4"), ("place", "i4"), ("op", "i4"), ("number", "f8"), ("cap", "f8")]
        self._table = np.array(self._compared, shape)
        self._blank = np.zeros(len(self._atoms), np.int8)
        self._number_keys = tuple(self._numbers)
        self.reads = frozenset(key for key in places if any(key_of(one) == key for one in self._fields()))
        """Keys of features that are asked for by name: `values` must hold them."""
        self._said = tuple(
            tuple(RuleResult(rule.id, rule.action, said) for said in ("quiet", "unknown", "fired"))
            for rule in rules.rules
        )

    # Writing the program

    def _fields(self) -> list[Field]:
        asked = {atom for atom, _ in self._asked}
        return [field for node, atom in self._atoms.items() if atom in asked for field in _fields_of(node)]

    def _write(self, node: Node, program: list[tuple[int, int]]) -> None:
        match node:
            case nodes.And() | nodes.Or() if node.children:
                for child in node.children:
                    self._write(child, program)
                program.append((AND if isinstance(node, nodes.And) else OR, len(node.children)))
            case nodes.Not():
                self._write(node.child, program)
                program.append((NOT, 1))
            case nodes.Known():
                self._write(node.child, program)
                program.append((KNOWN, 1))
            case _:
                program.append((ATOM, self._atom(node)))

    def _atom(self, node: Node) -> int:
        found = self._atoms.get(node)
        if found is None:
            found = self._atoms[node] = len(self._atoms)
            if not (self._compare(node, found) or self._look_up(node, found)):
                self._ask(node, found)
        return found

    def _compare(self, node: Node, atom: int) -> bool:
        """A comparison with a number, for the kernel."""
        if not isinstance(node, nodes.Compare) or not isinstance(node.left, Field):
            return False
        value = node.right.value if isinstance(node.right, Literal) else None
        if isinstance(value, bool | str | None) or abs(value) > EXACT or value != value:  # noqa: PLR0124
            return False
        key = key_of(node.left)
        place, cap = self._places.get(key, (-1, math.inf))
        if place < 0:
            place = ~self._numbers.setdefault(key, len(self._numbers))
        self._compared.append((atom, place, _OPS[node.op], float(value), cap))
        return True

    def _look_up(self, node: Node, atom: int) -> bool:
        """A condition that names the texts for which it holds, for the dictionaries."""
        match node:
            case nodes.Compare(left=Field() as named, right=Literal(value=str() | bool() as value)):
                if node.op not in {Comparison.EQ, Comparison.NE}:
                    return False
                texts, otherwise = {text_of(value)}, Truth.FALSE if node.op is Comparison.EQ else Truth.TRUE
            case nodes.Among(value=Field() as named) if all(isinstance(item, str) for item in node.items):
                texts, otherwise = set(map(text_of, node.items)), Truth.FALSE
            case _:
                return False
        key = key_of(named)
        if key in self._places:
            return False
        group = self._texts.setdefault((key, node.cased), _Texts(key, node.cased))
        folded = frozenset(text if node.cased else fold(text) for text in texts)
        group.add(atom, node, folded, otherwise=otherwise)
        return True

    def _ask(self, node: Node, atom: int) -> None:
        if isinstance(node, nodes.IsNull) and key_of(node.field) not in self._places:
            self._missing.append((atom, key_of(node.field)))
        else:
            self._asked.append((atom, compile_node(node)))

    # Judging

    def judge(self, vector: Vector, values: Values) -> Verdict | None:
        """What the rules say; None where a value is of a type that only `PaymentRules.results` knows.

        Args:
            vector: Features, NaN where missing.
            values: Everything else that rules read, and the features of `reads`; what is missing is left out or None.
        """
        get = values.get
        numbers = []
        for key in self._number_keys:
            value = get(key)
            if value is None:
                value = np.nan
            elif not (type(value) is float and value == value) and not (  # noqa: PLR0124
                type(value) is int and -EXACT < value < EXACT
            ):
                return None
            numbers.append(value)
        truths = self._blank.copy()
        for group in self._texts.values():
            truths[group.places] = group.answers(get(group.key))
        for atom, key in self._missing:
            truths[atom] = 2 if get(key) is None else 0
        for atom, evaluate in self._asked:
            truths[atom] = evaluate(values)
        out = np.empty(len(self._ends), np.int8)
        _run(self._table, self._program, self._ends, vector, np.array(numbers, np.float64), truths, out)
        said = out.tobytes()
        found = self._known.get(said)
        if found is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            found = self._known[said] = self._verdict(out)
        return found

    def _verdict(self, out: Any) -> Verdict:
        truths = out.tolist()
        results = tuple(said[truth] for said, truth in zip(self._said, truths, strict=True))
        fired = [rule for rule, truth in zip(self._rules.rules, truths, strict=True) if truth == Truth.TRUE]
        return to_verdict(results, fired)


def _fields_of(node: Node) -> list[Field]:
    return [*nodes.fields(node), *(field for child in nodes.children(node) for field in _fields_of(child))]


@njit(cache=True)
def _compares(value, op, number):
    """A comparison's answer: 0 false, 1 unknown, 2 true."""
    if np.isnan(value):
        return 1
    if op == EQ:
        holds = value == number
    elif op == NE:
        holds = value != number
    elif op == LT:
        holds = value < number
    elif op == LE:
        holds = value <= number
    elif op == GT:
        holds = value > number
    else:
        holds = value >= number
    return 2 if holds else 0


@njit(cache=True)
def _run(table, program, ends, vector, numbers, truths, out):
    """Answers of all rules from those of their conditions."""
    for place in range(table.shape[0]):
        row = table[place]
        value = vector[row.place] if row.place >= 0 else numbers[~row.place]
        # Not `min`: a missing value stays one.
        truths[row.atom] = _compares(min(value, row.cap), row.op, row.number)
    stack = np.empty(program.shape[0] + 1, np.int8)
    step = 0
    for rule in range(ends.shape[0]):
        top = 0
        while step < ends[rule]:
            code, count = program[step, 0], program[step, 1]
            if code == ATOM:
                stack[top] = truths[count]
                top += 1
            elif code == NOT:
                stack[top - 1] = 2 - stack[top - 1]
            elif code == KNOWN:
                stack[top - 1] = TRUE if stack[top - 1] == TRUE else 0
            else:
                top -= count
                best = stack[top]
                for other in range(top + 1, top + count):
                    best = min(best, stack[other]) if code == AND else max(best, stack[other])
                stack[top] = best
                top += 1
            step += 1
        out[rule] = stack[0]
