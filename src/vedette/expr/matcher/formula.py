"""Three-valued expressions as two-valued formulas over atoms, with negation at the atoms only.

"This node is true" and "this node is false" are each a plain yes-or-no question. Asking only "is the rule true?" and
pushing the question down gives a formula of `All`, `Any` and literals over three kinds of atom: a predicate holds, a
field is present (neither absent nor null), a comparison is known to fail. No third value is left at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from vedette.core.errors import UnsupportedError
from vedette.expr import nodes
from vedette.expr.nodes import Field, Literal, Node
from vedette.expr.reference import among, compare
from vedette.expr.truth import Truth
from vedette.expr.values import fold


class Kind(StrEnum):
    """What an atom asks."""

    HOLDS = "holds"
    FAILS = "fails"
    """A comparison is false, which is not the same as not being true."""
    PRESENT = "present"
    """The field is neither absent nor null."""
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Atom:
    """One question about an event, asked at most once however many rules contain it."""

    kind: Kind
    subject: Node | Field


@dataclass(frozen=True, slots=True)
class Lit:
    """An atom, or its negation."""

    atom: int
    positive: bool = True


@dataclass(frozen=True, slots=True)
class All:
    """Every part."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """At least one part."""

    parts: tuple[Formula, ...]


Formula = Lit | All | Any | bool


class Atoms:
    """Numbers the atoms of many rules, equal ones once."""

    def __init__(self) -> None:
        self.all: list[Atom] = []
        self._numbers: dict[Atom, int] = {}

    def number(self, kind: Kind, subject: Node | Field) -> Lit:
        """The literal of an atom; texts that are compared folded are equal when their folds are."""
        atom = Atom(kind, _folded(subject))
        if atom not in self._numbers:
            self._numbers[atom] = len(self.all)
            self.all.append(atom)
        return Lit(self._numbers[atom])

    def formula(self, node: Node) -> Formula:
        """When the node is true.

        Raises:
            UnsupportedError: `matcher.node.unsupported`.
        """
        return self._ask(node, wanted=True)

    def _ask(self, node: Node, *, wanted: bool) -> Formula:  # noqa: PLR0911 - one return per node
        match node:
            case nodes.Constant(value=value):
                return value is wanted
            case nodes.And(children=children) | nodes.Or(children=children):
                join = all_of if isinstance(node, nodes.And) is wanted else any_of
                return join(self._ask(child, wanted=wanted) for child in children)
            case nodes.Not(child=child):
                return self._ask(child, wanted=not wanted)
            case nodes.Known(child=child):
                return self._ask(child, wanted=True) if wanted else negate(self._ask(child, wanted=True))
            case nodes.Exists(field=field):
                return _signed(self.number(Kind.EXISTS, field), positive=wanted)
            case nodes.IsNull(field=field):
                return _signed(self.number(Kind.PRESENT, field), positive=not wanted)
            case _:
                return self._predicate(node, wanted=wanted)

    def _predicate(self, node: Node, *, wanted: bool) -> Formula:
        match node:
            case nodes.Compare(left=Literal() as left, right=Literal() as right):
                return compare(node, left.value, right.value) is (Truth.TRUE if wanted else Truth.FALSE)
            case nodes.Among(value=Literal() as value):
                return among(node, value.value) is (Truth.TRUE if wanted else Truth.FALSE)
            case nodes.Compare():
                return self.number(Kind.HOLDS if wanted else Kind.FAILS, node)
            case nodes.Keyword() | nodes.KeywordRegex():
                return _signed(self.number(Kind.HOLDS, node), positive=wanted)
            case nodes.Text() | nodes.Regex() | nodes.Cidr() | nodes.TimePart() | nodes.Among() | nodes.FieldMatch():
                holds = self.number(Kind.HOLDS, node)
                if wanted:
                    return holds
                present = (self.number(Kind.PRESENT, field) for field in nodes.fields(node))
                return all_of([negate(holds), *present])
            case _:
                raise UnsupportedError("matcher.node.unsupported", f"the matcher cannot run `{type(node).__name__}`")


def _folded(subject: Node | Field) -> Node | Field:
    if isinstance(subject, nodes.Text | nodes.Keyword) and not subject.cased:
        return replace(subject, value=fold(subject.value))
    return subject


def _signed(literal: Lit, *, positive: bool) -> Lit:
    return literal if positive else Lit(literal.atom, positive=False)


def negate(formula: Formula) -> Formula:
    """The opposite, with negation pushed down to the literals."""
    match formula:
        case Lit(atom=atom, positive=positive):
            return Lit(atom, not positive)
        case All(parts=parts):
            return any_of(negate(part) for part in parts)
        case Any(parts=parts):
            return all_of(negate(part) for part in parts)
        case _:
            return not formula


def all_of(parts: Iterable[Formula]) -> Formula:
    """Conjunction, flattened; constants and repeats are taken out."""
    return _join(parts, All, neutral=True)


def any_of(parts: Iterable[Formula]) -> Formula:
    """Disjunction, flattened; constants and repeats are taken out."""
    return _join(parts, Any, neutral=False)


def _join(parts: Iterable[Formula], kind: type[All | Any], *, neutral: bool) -> Formula:
    flat: dict[Formula, None] = {}
    for part in parts:
        if isinstance(part, bool):
            if part is not neutral:
                return part
        elif isinstance(part, kind):
            flat.update(dict.fromkeys(part.parts))
        else:
            flat[part] = None
    if not flat:
        return neutral
    return next(iter(flat)) if len(flat) == 1 else kind(tuple(flat))


def substitute(formula: Formula, known: Callable[[int], bool | None]) -> Formula:
    """The formula once some atoms are known; None means not known."""
    match formula:
        case Lit(atom=atom, positive=positive):
            value = known(atom)
            return formula if value is None else value is positive
        case All(parts=parts):
            return all_of(substitute(part, known) for part in parts)
        case Any(parts=parts):
            return any_of(substitute(part, known) for part in parts)
        case _:
            return formula


def atoms_of(formula: Formula) -> set[int]:
    """Every atom that stands in the formula."""
    match formula:
        case Lit(atom=atom):
            return {atom}
        case All(parts=parts) | Any(parts=parts):
            return set().union(*(atoms_of(part) for part in parts))
        case _:
            return set()
