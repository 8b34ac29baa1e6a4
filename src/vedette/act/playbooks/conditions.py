"""Conditions of a playbook: a small form in YAML that becomes expression nodes.

A comparison is a list of three, `["${alert.level}", "=", high]`; `all`, `any` and `not` join conditions; `exists`
names a path. Comparison with a value that is absent is unknown, and an unknown condition stops the run rather than
choosing a branch: ask with `exists` first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vedette.act.playbooks.references import REFERENCE, Unknown, lookup
from vedette.core.errors import DataError, DefinitionError
from vedette.expr.nodes import And, Compare, Comparison, Exists, Field, Literal, Node, Not, Operand, Or
from vedette.expr.reference import MISSING, evaluate
from vedette.expr.truth import Truth

MAX_DEPTH = 8
_TRIPLE = 3


def parse_condition(data: Any, depth: int = 0) -> Node:
    """The node of a condition.

    Raises:
        DefinitionError: `playbook.condition.invalid`.
    """
    if depth > MAX_DEPTH:
        raise _invalid(f"nested deeper than {MAX_DEPTH}")
    if isinstance(data, list) and len(data) == _TRIPLE:
        left, sign, right = data
        try:
            comparison = Comparison(sign)
        except ValueError:
            signs = ", ".join(Comparison)
            raise _invalid(f"unknown comparison `{sign!s:.20}`, known: {signs}") from None
        return Compare(_operand(left), comparison, _operand(right), cased=True)
    if isinstance(data, Mapping) and len(data) == 1:
        ((word, below),) = data.items()
        if word in ("all", "any") and isinstance(below, list) and below:
            children = tuple(parse_condition(each, depth + 1) for each in below)
            return And(children) if word == "all" else Or(children)
        if word == "not":
            return Not(parse_condition(below, depth + 1))
        if word == "exists" and isinstance(below, str) and (whole := REFERENCE.fullmatch(below)):
            return Exists(Field(whole[1]))
    raise _invalid('a condition is ["${path}", ">=", 3], or one of `all`, `any`, `not`, `exists`')


def decide(data: Any, scope: Mapping[str, Any]) -> bool:
    """Whether a condition holds.

    Raises:
        DataError: `playbook.condition.unknown`: it depends on a value that is absent.
    """

    def read(field: Field) -> object:
        try:
            found = lookup(scope, field.name)
        except DataError:
            return MISSING
        return MISSING if isinstance(found, Unknown) else found

    answer = evaluate(parse_condition(data), read)
    if answer is Truth.UNKNOWN:
        raise DataError(
            "playbook.condition.unknown",
            "the condition depends on a value that is absent",
            hint="ask with `exists` first",
        )
    return answer is Truth.TRUE


def _operand(value: Any) -> Operand:
    if isinstance(value, str):
        whole = REFERENCE.fullmatch(value)
        if whole:
            return Field(whole[1])
        if "${" in value:
            raise _invalid("a compared text is a reference or it holds none")
        return Literal(value)
    if isinstance(value, bool | int | float):
        return Literal(value)
    raise _invalid("compare with a text, a number or a truth value")


def _invalid(message: str) -> DefinitionError:
    return DefinitionError("playbook.condition.invalid", message)
