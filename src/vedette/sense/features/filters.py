"""Conditions of features: YAML to `expr` nodes, and their answers for one event or for a column of distinct values.

A condition is a mapping of declared fields to what they must be, all of which must hold:

    where:
      cvc: fail                            # equals
      amount: {">=": 100, "<": 5000}       # = != < <= > >=
      country: {in: [US, GB]}
      email: {endswith: "@example.com"}    # startswith, contains, glob, regex, cidr
      device: {exists: true}
      ip_country: {"!=": {field: country}}
      any: [{cvc: fail}, {amount: {">": 900}}]
      not: {country: US}

The meaning of each test is that of its `expr` node; texts are compared as written (case counts). A missing field makes
a test unknown, and an event counts only where the whole condition is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vedette.expr import nodes
from vedette.expr.nodes import And, Comparison, Exists, IsNull, Literal, Node, Not, Or, Text, TextMatch
from vedette.expr.patterns import regex_refusal
from vedette.expr.reference import evaluate
from vedette.expr.truth import Truth
from vedette.expr.values import lookup
from vedette.sense.features.feature import Field

MAX_ITEMS = 1_000
MAX_DEPTH = 8
REMEMBERED = 1 << 16
"""Answers kept for each test; all are dropped when there are more."""

_TEXT = {match.value: match for match in TextMatch if match is not TextMatch.EQUALS}
OPERATORS = (*Comparison, "in", *_TEXT, "regex", "cidr", "exists")

Wrong = Callable[..., None]
"""Notes a problem: code, message, place, hint."""


class WhereReader:
    """Lowers conditions to nodes, noting what is wrong with them.

    Args:
        fields: The declared ones.
        wrong: Where problems go.
    """

    def __init__(self, fields: Sequence[Field], wrong: Wrong) -> None:
        self._fields = {field.name: field for field in fields}
        self._wrong = wrong

    def read(self, data: object, at: str, depth: int = 0) -> Node:
        """The node of a mapping; true when it is empty."""
        if not isinstance(data, dict) or depth > MAX_DEPTH:
            self._wrong("definition.shape", "expected `field: {operator: value}`", at)
            return And(())
        found = [node for name, tests in data.items() for node in self._part(str(name), tests, f"{at}.{name}", depth)]
        return found[0] if len(found) == 1 else And(tuple(found))

    def _part(self, name: str, tests: Any, at: str, depth: int) -> Iterator[Node]:
        if name in ("any", "all") and name not in self._fields:
            items = tests if isinstance(tests, list) else [tests]
            below = tuple(self.read(item, f"{at}[{place}]", depth + 1) for place, item in enumerate(items))
            yield Or(below) if name == "any" else And(below)
        elif name == "not" and name not in self._fields:
            yield Not(self.read(tests, at, depth + 1))
        elif name not in self._fields:
            known = f"known: {', '.join(self._fields)}; any, all, not"
            self._wrong("field.unknown", f"no field `{name:.80}`", at, known)
        elif isinstance(tests, dict):
            for op, value in tests.items():
                yield from self._test(self._fields[name], str(op), value, at)
        else:
            yield from self._test(self._fields[name], Comparison.EQ, tests, at)

    def _test(self, field: Field, op: str, value: Any, at: str) -> Iterator[Node]:
        read = nodes.Field(field.path)
        ordered = op in ("<", "<=", ">", ">=")
        if op not in OPERATORS or (ordered and not field.scale):
            hint = "known: " + ", ".join(OPERATORS) + "; < <= > >= compare numbers"
            self._wrong("where.operator", f"`{op:.10}` cannot compare this field", at, hint)
        elif op in list(Comparison):
            right = self._operand(field, value, at)
            yield from [nodes.Compare(read, Comparison(op), right, cased=True)] if right else []
        elif op == "exists":
            yield Not(IsNull(read)) if value is True else IsNull(read)
        elif op == "in":
            items = value if isinstance(value, list) else []
            if not 1 <= len(items) <= MAX_ITEMS or not all(type(item) in (str, int, float) for item in items):
                self._wrong("where.value", f"`in` takes a list of 1..{MAX_ITEMS} texts or numbers", at)
            yield nodes.Among(read, tuple(items), cased=True)
        else:
            yield from self._of_text(read, op, value, at)

    def _operand(self, field: Field, value: Any, at: str) -> nodes.Operand | None:
        if isinstance(value, dict) and list(value) == ["field"]:
            if value["field"] in self._fields:
                return nodes.Field(self._fields[value["field"]].path)
            self._wrong("field.unknown", f"no field `{value['field']!s:.80}`", at, f"known: {', '.join(self._fields)}")
        elif type(value) in (int, float) or (not field.scale and isinstance(value, str | bool)):
            return Literal(value)
        else:
            self._wrong("where.value", f"`{value!s:.40}` is no {'number' if field.scale else 'text'}", at)
        return None

    def _of_text(self, read: nodes.Field, op: str, value: Any, at: str) -> Iterator[Node]:
        if not isinstance(value, str):
            self._wrong("where.value", f"`{op}` takes a text", at)
        elif op == "regex":
            if refused := regex_refusal(value):
                self._wrong("where.value", f"no pattern: {refused:.120}", at)
            yield nodes.Regex(read, value)
        elif op == "cidr":
            node = nodes.Cidr(read, value)
            try:
                evaluate(node, lambda _field: "127.0.0.1")
            except ValueError:
                self._wrong("where.value", f"`{value:.60}` is no network", at)
            yield node
        else:
            yield Text(read, _TEXT[op], value, cased=True)


class Condition:
    """A condition, ready to be asked of many events. Answers of a test are remembered by the value it saw.

    Args:
        node: From `WhereReader`.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        below = nodes.children(node)
        self._below = [Condition(child) for child in below]
        self._paths = [field.name for field in nodes.fields(node)]
        self._known: dict[object, Truth] = {}

    def holds(self, data: Mapping[str, Any]) -> bool:
        """Whether an event with these data meets it."""
        return self.truth(data) is Truth.TRUE

    def truth(self, data: Mapping[str, Any]) -> Truth:
        """True, false or unknown."""
        match self.node:
            case And():
                return min((below.truth(data) for below in self._below), default=Truth.TRUE)
            case Or():
                return max((below.truth(data) for below in self._below), default=Truth.FALSE)
            case Not():
                return self._below[0].truth(data).negate()
            case _:
                return self._test(data)

    def _test(self, data: Mapping[str, Any]) -> Truth:
        if len(self._paths) != 1 or isinstance(self.node, Exists):
            return evaluate(self.node, lambda field: lookup(data, field.name))
        path = self._paths[0]
        value = data.get(path)
        if value is None:
            value = lookup(data, path)
        key = value if type(value) in (str, int, float) else None
        if key is None:
            return evaluate(self.node, lambda _field: value)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[key] = evaluate(self.node, lambda _field: value)
        return found


def paths_of(node: Node) -> Iterator[str]:
    """Every path that a condition reads."""
    for one in nodes.walk(node):
        for field in nodes.fields(one):
            yield field.name
