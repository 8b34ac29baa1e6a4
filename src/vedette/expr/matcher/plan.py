"""What a partition needs to run, as plain data: built once, kept on disk with the rules, loaded in milliseconds.

Questions that a value of one field answers by its text are atoms, numbered within the partition; formulas hold their
numbers. Other questions are asks. Nothing in a plan can run.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Ask(msgspec.Struct, array_like=True, frozen=True):
    """A question about the row of an event that is no atom, or its negation."""

    op: str
    """A `TextMatch`, or one of `regex`, `cidr`, `holds`, `fails`."""
    place: int
    """Of the field in the row; `KEYWORD` for every value of the event."""
    text: str = ""
    """What is compared: cased text, glob, pattern, network."""
    more: str = ""
    """`cased` for texts, flags for patterns."""
    positive: bool = True
    node: Any = None
    """The encoded node of `holds` and `fails`, which the reference evaluates."""
    guard: list[int] = []
    """Atoms of which one is true whenever the question's answer is yes; none when no literal tells."""


KEYWORD = -1
NONE = -1
"""Number of an atom that nobody asks for."""


class Group(msgspec.Struct, array_like=True, frozen=True):
    """`all` or `any` of atoms that are true, atoms that are not, asks and further groups."""

    every: bool
    true: list[int]
    false: list[int]
    asks: list[Ask]
    groups: list[Group]


class Needle(msgspec.Struct, array_like=True):
    """A literal, and the atoms that are true when it stands in a text: anywhere, at its start, at its end."""

    text: str
    anywhere: int = NONE
    starts: int = NONE
    ends: int = NONE


class Watch(msgspec.Struct, array_like=True):
    """What to look for in one field, and which rules it brings up. All texts are folded."""

    equal: dict[str, int]
    """Whole text -> atom."""
    needles: list[Needle]
    present: int
    """Atom of any value but null."""
    exists: int
    """Atom of any value, null too."""
    brings: dict[int, list[int]]
    """Atom -> slots of the rules to look at when it is true."""
    tests: list[tuple[Ask, int]]
    """Asks that no literal tells of, and the rule each brings up."""


class Column(msgspec.Struct, array_like=True):
    """A field of a partition's row."""

    name: str
    space: str
    existing: bool
    """Absent and null differ, because some rule asks whether the field exists."""
    watch: Watch


class Part(msgspec.Struct, array_like=True):
    """A partition. A slot is a rule's place in it."""

    fixed: list[int]
    """Numbers of the rules that are always true here."""
    rules: list[int]
    """Slot -> number of the rule; rising."""
    groups: list[Group]
    """Slot -> when the rule is true."""
    free: list[int]
    """Slots without a witness, which are always looked at."""
    columns: list[Column]
    keywords: Watch | None
    """What to look for in every value of the event."""
    screened: bool
    """All that brings rules up there are literals that a `Screen` can rule out."""
    swept: bool
    """And it is looked for in every event."""
    whole: bool
    """Some rule reads every value of the event, so equal rows may have different answers."""


class Plan(msgspec.Struct, array_like=True):
    """A matcher."""

    routing: list[str]
    """Names of the fields that route events."""
    pinned: list[list[str]]
    """Routing field -> the folded values that some rule demands."""
    sweep: list[str]
    """What keywords look for in every event, whatever its classes; a `Sweep` rules them out."""
    parts: list[tuple[list[str], msgspec.Raw]]
    """Classes of the routing fields, and the partition of the rules that demand just these."""
