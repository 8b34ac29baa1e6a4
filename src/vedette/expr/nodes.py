"""The nodes. Adding one means: a dataclass here, its meaning in `reference`, its text in `printer`, a property test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as attribute
from enum import StrEnum

from vedette.core.errors import Span

NOWHERE = Span()
"""Span of nodes that no person wrote, such as those a log source adds."""


class Space(StrEnum):
    """Whose names a field uses."""

    DATA = "data"
    """The source's own field names; dots walk into objects unless the dotted name is itself a key."""
    OCSF = "ocsf"
    """OCSF paths, read through the source file's map."""
    ATTRIBUTE = "attribute"
    """Payment rule attributes such as `:amount_in_usd:`; features are attributes too."""
    METADATA = "metadata"
    """The merchant's own key-value pairs on a payment, such as `::basket id::`."""


class TextMatch(StrEnum):
    """How a text literal is compared."""

    EQUALS = "equals"
    STARTS = "startswith"
    ENDS = "endswith"
    CONTAINS = "contains"
    GLOB = "glob"
    """`*` any run of characters, `?` exactly one; both over line breaks too."""


class Comparison(StrEnum):
    """How two values are compared."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


class Part(StrEnum):
    """A part of a time, always in UTC."""

    MINUTE = "minute"
    """0 to 59."""
    HOUR = "hour"
    """0 to 23."""
    DAY = "day"
    """Of the month, 1 to 31."""
    WEEK = "week"
    """Of the year by ISO 8601, 1 to 53: the first is the one with the year's first Thursday."""
    MONTH = "month"
    """1 to 12."""
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Field:
    """A value read from the event. Names are case-sensitive."""

    name: str
    space: Space = Space.DATA
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A value written in the rule. Text, whole number, float or truth value."""

    value: str | int | float | bool
    span: Span = attribute(default=NOWHERE, compare=False)

    def __eq__(self, other: object) -> bool:
        """By value; a truth value is no number, although Python says that true equals one."""
        if not isinstance(other, Literal):
            return NotImplemented
        return isinstance(self.value, bool) is isinstance(other.value, bool) and self.value == other.value

    def __hash__(self) -> int:
        """Of the value."""
        return hash(self.value)


Operand = Field | Literal


@dataclass(frozen=True, slots=True)
class Constant:
    """Always true or always false."""

    value: bool
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class And:
    """Minimum of its children; true when it has none."""

    children: tuple[Node, ...]
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Or:
    """Maximum of its children; false when it has none."""

    children: tuple[Node, ...]
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    """Swaps true and false, keeps unknown."""

    child: Node
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Known:
    """True when the child is true, else false: how a language says that unknown counts as false."""

    child: Node
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Exists:
    """True when the field is in the event (null and empty count), else false; never unknown."""

    field: Field
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class IsNull:
    """True when the field is absent or null, else false; never unknown. The empty text is not null."""

    field: Field
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Text:
    """Compares the field's text. Unknown when absent or null; a list matches when any element does.

    Numbers and truth values are compared by their text (`1`, `true`). Without `cased`, both sides are folded by full
    Unicode case folding.
    """

    field: Field
    match: TextMatch
    value: str
    """For GLOB: `*` and `?` are wildcards, and a backslash takes the special meaning from `*`, `?` and itself."""
    cased: bool = False
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Regex:
    """True when RE2 finds the pattern anywhere in the field's text. Case-sensitive without the `i` flag."""

    field: Field
    pattern: str
    flags: str = ""
    """Any of `i` (ignore case), `m` (`^` and `$` at line ends), `s` (dot matches a line break)."""
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Cidr:
    """True when the field is an address inside the network; false when it is no address of that version."""

    field: Field
    network: str
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Keyword:
    """True when any value of the event, at any depth, matches; field names are not searched. Never unknown."""

    match: TextMatch
    value: str
    cased: bool = False
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class KeywordRegex:
    """True when RE2 finds the pattern in any value of the event, at any depth. Never unknown."""

    pattern: str
    flags: str = ""
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class FieldMatch:
    """Compares the texts of two fields. Unknown when either is absent or null."""

    field: Field
    match: TextMatch
    other: Field
    cased: bool = False
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Compare:
    """Compares two values. Unknown when either is absent or null, or when they cannot be compared.

    Two numbers (numeric text counts beside a number) compare as numbers; two texts by `=` and `!=` only, folded unless
    `cased`.
    """

    left: Operand
    op: Comparison
    right: Operand
    cased: bool = False
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class TimePart:
    """Compares one part of the time that the field spells (`values.time_of`), in UTC; false when it spells none.

    Unknown when absent or null; a list matches when any element does.
    """

    field: Field
    part: Part
    op: Comparison
    number: int
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Among:
    """True when the value equals one of the items; unknown when it is absent or null."""

    value: Operand
    items: tuple[str | int | float, ...] = ()
    list_name: str = ""
    """Name of a typed list kept outside the rule (`@alias`); its items are looked up when the rule set is loaded."""
    cased: bool = False
    span: Span = attribute(default=NOWHERE, compare=False)


Node = (
    Constant
    | And
    | Or
    | Not
    | Known
    | Exists
    | IsNull
    | Text
    | Regex
    | Cidr
    | Keyword
    | KeywordRegex
    | FieldMatch
    | Compare
    | TimePart
    | Among
)
"""Every node of the language; engines match on this closed set."""


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below; empty for predicates and constants."""
    match node:
        case And(children=below) | Or(children=below):
            return below
        case Not(child=child) | Known(child=child):
            return (child,)
        case _:
            return ()


def fields(node: Node) -> tuple[Field, ...]:
    """The fields that this node itself reads, not those of its children; keywords read every value and name none."""
    match node:
        case Exists() | IsNull() | Text() | Regex() | Cidr() | TimePart():
            return (node.field,)
        case FieldMatch(field=left, other=right):
            return (left, right)
        case Compare(left=left_operand, right=right_operand):
            return tuple(side for side in (left_operand, right_operand) if isinstance(side, Field))
        case Among(value=Field() as value):
            return (value,)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, parents first, in the order written."""
    yield node
    for child in children(node):
        yield from walk(child)
