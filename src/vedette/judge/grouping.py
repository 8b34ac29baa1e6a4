"""How the signals of a rule become alerts: what a rule may say about it. The law itself is `act.grouping`."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Missing(StrEnum):
    """What a signal that lacks a part of its dedup key does."""

    GROUP = "group"
    """Joins the others of its rule and window that lack it too: no flood, and the alert says what is missing."""
    SEPARATE = "separate"
    """Makes an alert of its own."""


class Grouping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the signals of a rule are grouped. The default suits most rules."""

    window_s: int = msgspec.field(default=3_600, name="window")
    """Width of the window of event time, seconds, at least 1."""
    by: tuple[str, ...] = ("entity",)
    """Parts of the key beside the rule: `entity`, `source` or `why.<field>`."""
    entity: str = ""
    """Type of the entity the alert is about; empty: the first of `ENTITY_ORDER` that the signal names."""
    missing: Missing = Missing.GROUP
    title: str = ""
    """Text with `${title}`, `${entity}`, `${source}` or `${why.<field>}`; empty: the signal's title."""


class Suppression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """After an alert, further ones of the same key are counted and not raised, for some event time."""

    span_s: int = msgspec.field(name="for")
    """How long, seconds of event time, at least 1."""
    by: tuple[str, ...] = ("entity",)
    """Parts of the key beside the rule, as in `Grouping`. What lacks a part is never suppressed."""
