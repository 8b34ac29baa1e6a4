"""The condition of a Sigma rule: words, brackets and selectors over named selections.

Our own, because pySigma's grammar takes the first letters of a name for an operator: it reads `notepad` as `not epad`
and, beside a selection `x`, `notx` as `not x`.
Source: Sigma specification 2.1, "Condition".
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence

from vedette.core.errors import DefinitionError
from vedette.expr import nodes
from vedette.expr.nodes import Node, Not

DEPTH = 64
"""Most brackets and `not` inside one another."""

Ask = Callable[[str], Node | None]
"""The expression of a selection by its name; None for one that a pipeline has emptied, which asks nothing."""

_TOKEN = re.compile(r"[()]|[^\s()]+")
_QUANTIFIERS: Mapping[str, type[nodes.And | nodes.Or]] = {"1": nodes.Or, "any": nodes.Or, "all": nodes.And}


def parse(text: str, names: Collection[str], ask: Ask) -> Node:
    """The expression that a condition stands for.

    Args:
        text: Such as `selection and not 1 of filter_*`. Words of the language in either case, names as they are.
        names: Of the selections. Selectors skip those that begin with `_` unless their pattern does too.
        ask: Gives the expression of one.

    Raises:
        DefinitionError: `sigma.condition.invalid`, `sigma.condition.unknown_selection`, `sigma.condition.empty`, and
            what `ask` raises.
    """
    if "|" in text:
        raise DefinitionError(
            "sigma.condition.invalid",
            "aggregations after `|` are no part of Sigma 2",
            hint="count with a correlation",
        )
    reading = _Reading(text, names, ask)
    found = reading.either(0)
    if reading.left:
        raise _invalid(text, f"`{reading.left[0]}` is out of place")
    if found is None:
        raise DefinitionError("sigma.condition.empty", "a pipeline left nothing of the condition")
    return found


def joined(kind: type[nodes.And | nodes.Or], parts: Sequence[Node]) -> Node:
    """The parts under one node, without groups inside groups of the same kind or repeats; one part stands alone."""
    flat: dict[Node, None] = {}
    for part in parts:
        flat.update(dict.fromkeys(part.children if isinstance(part, kind) else [part]))
    return next(iter(flat)) if len(flat) == 1 else kind(tuple(flat))


def _invalid(text: str, problem: str) -> DefinitionError:
    return DefinitionError("sigma.condition.invalid", f"the condition `{text}` cannot be read: {problem}")


class _Reading:
    """One pass over the tokens: `or` binds loosest, then `and`, then `not`."""

    def __init__(self, text: str, names: Collection[str], ask: Ask) -> None:
        self.left: list[str] = _TOKEN.findall(text)
        self._text = text
        self._names = names
        self._ask = ask

    def either(self, depth: int) -> Node | None:
        return self._chain("or", nodes.Or, self._both, depth)

    def _both(self, depth: int) -> Node | None:
        return self._chain("and", nodes.And, self._one, depth)

    def _chain(
        self, word: str, kind: type[nodes.And | nodes.Or], part: Callable[[int], Node | None], depth: int
    ) -> Node | None:
        parts = [part(depth)]
        while self._is(word):
            self._take()
            parts.append(part(depth))
        return self._joined(kind, parts)

    def _joined(self, kind: type[nodes.And | nodes.Or], parts: Sequence[Node | None]) -> Node | None:
        asked = [part for part in parts if part is not None]
        return joined(kind, asked) if asked else None

    def _one(self, depth: int) -> Node | None:
        if depth > DEPTH:
            raise _invalid(self._text, f"more than {DEPTH} levels")
        if self._is("not"):
            self._take()
            below = self._one(depth + 1)
            return None if below is None else Not(below)
        token = self._take()
        if token == "(":  # noqa: S105 - a bracket, no password
            found = self.either(depth + 1)
            if self._take() != ")":
                raise _invalid(self._text, "a bracket is not closed")
            return found
        if token.lower() in _QUANTIFIERS and self._is("of"):
            self._take()
            return self._selected(_QUANTIFIERS[token.lower()], self._take())
        return self._named(token)

    def _selected(self, kind: type[nodes.And | nodes.Or], pattern: str) -> Node | None:
        wanted = re.compile(".*" if pattern == "them" else ".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
        hidden = pattern.startswith("_")
        chosen = [name for name in self._names if wanted.fullmatch(name) and (hidden or not name.startswith("_"))]
        if not chosen:
            raise DefinitionError("sigma.condition.empty", f"`{pattern}` names no selection")
        return self._joined(kind, [self._ask(name) for name in chosen])

    def _named(self, token: str) -> Node | None:
        if token in self._names:
            return self._ask(token)
        if token in ("(", ")") or token.lower() in ("and", "or", "of"):
            raise _invalid(self._text, f"`{token}` is out of place")
        near = difflib.get_close_matches(token, self._names, 1)
        raise DefinitionError(
            "sigma.condition.unknown_selection",
            f"there is no selection `{token}`",
            hint=f"did you mean `{near[0]}`" if near else "",
        )

    def _is(self, word: str) -> bool:
        return bool(self.left) and self.left[0].lower() == word

    def _take(self) -> str:
        if not self.left:
            raise _invalid(self._text, "it ends too early")
        return self.left.pop(0)
