"""All the questions about one field, answered together for a value and remembered."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from vedette.expr import nodes
from vedette.expr.matcher.formula import Atom, Kind
from vedette.expr.matcher.literals import Literals
from vedette.expr.matcher.memo import Budget
from vedette.expr.matcher.regexes import Regexes
from vedette.expr.nodes import Literal
from vedette.expr.reference import compare, time_part_holds
from vedette.expr.truth import Truth
from vedette.expr.values import MISSING, elements, fold, number_of, text_of, time_of

REMEMBERED_CHARS = 4_096
"""Longest text whose answer is remembered; longer ones are rarely seen twice."""

_Numbered = Sequence[tuple[int, Atom]]


class Index:
    """The true atoms of a field (or of keywords, over any value) for a value.

    Args:
        atoms: Every atom whose only subject is this field, with its number.
        budget: Bound of the memory.
    """

    def __init__(self, atoms: _Numbered, budget: Budget) -> None:
        holds = [(number, atom.subject) for number, atom in atoms if atom.kind is Kind.HOLDS]
        texts = [(number, node) for number, node in holds if isinstance(node, nodes.Text | nodes.Keyword)]
        self._folded = Literals((number, node.match, node.value) for number, node in texts if not node.cased)
        self._cased = Literals((number, node.match, node.value) for number, node in texts if node.cased)
        self._has_cased = any(node.cased for _, node in texts)
        patterns = [
            (number, node.pattern, node.flags)
            for number, node in holds
            if isinstance(node, nodes.Regex | nodes.KeywordRegex)
        ]
        self._regexes = Regexes(patterns) if patterns else None
        self._networks = [
            (number, ipaddress.ip_network(node.network, strict=False))
            for number, node in holds
            if isinstance(node, nodes.Cidr)
        ]
        self._times = [(number, node) for number, node in holds if isinstance(node, nodes.TimePart)]
        self._members = [(number, _Members(node)) for number, node in holds if isinstance(node, nodes.Among)]
        self._compares = [
            (number, atom.kind, atom.subject) for number, atom in atoms if isinstance(atom.subject, nodes.Compare)
        ]
        # Only comparisons and lists tell the text `1` from the number 1.
        self._typed = bool(self._members or self._compares)
        self._exists = tuple(number for number, atom in atoms if atom.kind is Kind.EXISTS)
        self._present = tuple(number for number, atom in atoms if atom.kind in (Kind.EXISTS, Kind.PRESENT))
        self._budget = budget
        self._memory = budget.memory()

    def atoms(self, value: object) -> Iterable[int]:
        """Numbers of the atoms that are true for a value; None is null, `MISSING` is absent."""
        if type(value) is str:
            known = self._memory.get(value)
            return self._remember(value, value) if known is None else known
        if value is None:
            return self._exists
        if value is MISSING:
            return ()
        if isinstance(value, list | tuple | dict):
            return self._find(value)
        key = (type(value), value) if self._typed else text_of(value)
        known = self._memory.get(key)
        return self._remember(key, value) if known is None else known

    def _remember(self, key: Any, value: object) -> tuple[int, ...]:
        found = self._find(value)
        size = len(value) if isinstance(value, str) else 0
        if size <= REMEMBERED_CHARS:
            self._budget.spend(size)
            self._memory[key] = found
        return found

    def _find(self, value: object) -> tuple[int, ...]:
        found = set(self._present)
        for item in elements(value):
            self._find_single(item, found)
        for number, kind, node in self._compares:
            answer = compare(node, *(_side(side, value) for side in (node.left, node.right)))
            if answer is (Truth.TRUE if kind is Kind.HOLDS else Truth.FALSE):
                found.add(number)
        return tuple(found)

    def _find_single(self, value: object, found: set[int]) -> None:
        text = value if isinstance(value, str) else text_of(value)
        self._folded.search(fold(text), found)
        if self._has_cased:
            self._cased.search(text, found)
        if self._regexes:
            self._regexes.search(text, found)
        if self._networks:
            self._find_networks(text, found)
        if self._times:
            time = time_of(text)
            found.update(number for number, node in self._times if time_part_holds(node, time))
        for number, members in self._members:
            if members.holds(value):
                found.add(number)

    def _find_networks(self, text: str, found: set[int]) -> None:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return
        found.update(number for number, network in self._networks if address in network)


def _side(side: nodes.Operand, value: object) -> object:
    return side.value if isinstance(side, Literal) else value


class _Members:
    """A list's items as sets, so that its length does not matter."""

    def __init__(self, node: nodes.Among) -> None:
        texts = [item for item in node.items if isinstance(item, str)]
        self._cased = node.cased
        self._texts = {text if node.cased else fold(text) for text in texts}
        self._numbers = {item for item in node.items if not isinstance(item, str)}
        self._spelt = {number for text in texts if (number := number_of(text)) is not None}

    def holds(self, value: object) -> bool:
        """Whether a single value equals one of the items, as `Comparison.EQ` compares them."""
        number = number_of(value)
        if isinstance(value, str | bool):
            text = text_of(value)
            return (text if self._cased else fold(text)) in self._texts or (
                number is not None and number in self._numbers
            )
        return number is not None and (number in self._numbers or number in self._spelt)
