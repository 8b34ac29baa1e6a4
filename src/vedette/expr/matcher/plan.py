"""What a partition needs to run, as plain data: built once, kept on disk with the rules, loaded in milliseconds.

Formulas here hold asks, which name a field by its place in the partition; nothing in a plan can run.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Ask(msgspec.Struct, array_like=True, frozen=True):
    """One question about the row of an event, or its negation."""

    op: str
    """A `TextMatch`, or one of `regex`, `cidr`, `present`, `exists`, `holds`, `fails`."""
    place: int
    """Of the field in the row; `KEYWORD` for every value of the event."""
    text: str = ""
    """What is compared: folded text, cased text, pattern, network."""
    more: str = ""
    """`cased` for texts, flags for patterns."""
    positive: bool = True
    node: Any = None
    """The encoded node of `holds` and `fails`, which the reference evaluates."""


KEYWORD = -1


class Group(msgspec.Struct, array_like=True, frozen=True):
    """`all` or `any` of asks and further groups."""

    every: bool
    asks: list[Ask]
    groups: list[Group]


class Needle(msgspec.Struct, array_like=True):
    """A literal, and the slots of the rules to look at when it stands in a text: anywhere, at its start, at its end."""

    text: str
    anywhere: list[int]
    starts: list[int]
    ends: list[int]


class Watch(msgspec.Struct, array_like=True):
    """What to look for in one field, and which rules it brings up. All texts are folded."""

    equal: dict[str, list[int]]
    needles: list[Needle]
    present: list[int]
    """Rules to look at whenever there is a value."""
    absent: list[int]
    """Rules to look at when the field is null, because they ask whether it exists."""
    tests: list[tuple[Ask, int]]
    """Questions without a literal, and the rule each brings up."""


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
    """All that is looked for there are literals that a `Screen` can rule out."""
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
