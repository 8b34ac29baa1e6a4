"""The shape of a source's fields: how often each is there, and of which type, window by window.

A field is dropped when at most a tenth of the lowest share it had in the windows of the last week is left, where that
share would have been `ENOUGH` records. It is there when it is neither absent nor null nor empty. A type is new when a
window holds it `ENOUGH` times and in a fifth of the field's values, and it was in fewer than one of a thousand before.

A window teaches what is usual only when the next one is as usual too: the one in which a change falls is half of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from vedette.sense.quality.days import Days

ENOUGH = 20
"""Records in which a change must show."""
KNOWN = 200
"""Values of a field that must be known before a type of it is new."""
WINDOWS = 12
"""Windows that must be known before a field can be dropped."""
PART = 5
"""A type is new from one in so many values on."""
RARE = 1_000
"""A type is known from one in so many values on."""
LEFT = 10
"""A field is dropped when less than one in so many is left of its share."""


_NAMES = {str: "text", int: "number", float: "number", bool: "truth", dict: "object", list: "list"}


def types_of(values: Sequence[object]) -> dict[str, int]:
    """How many JSON values are `text`, `number`, `truth`, `object` and `list`; null and empty text are not there."""
    found: dict[str, int] = {}
    for kind, count in Counter(map(type, values)).items():
        if name := _NAMES.get(kind):
            there = count - values.count("") if kind is str else count
            if there:
                found[name] = found.get(name, 0) + there
    return found


class Shape(msgspec.Struct):
    """What is known of one field."""

    types: dict[str, int] = {}
    """Type -> values of it, of all windows that were as usual."""
    shares: Days = msgspec.field(default_factory=Days)
    """Share of the records that have the field, by window."""
    now: dict[str, int] = {}
    """Type -> values of it in the window in hand."""
    held: tuple[int, float, dict[str, int]] | None = None
    """Start, share and types of the window before, which teaches when this one is as usual."""

    def take(self, values: Sequence[object]) -> None:
        """Takes the field of some records; None where it is absent."""
        for name, count in types_of(values).items():
            self.now[name] = self.now.get(name, 0) + count

    def fresh(self) -> str:
        """A type that the window in hand brings and that was not known; empty without one."""
        known, here = sum(self.types.values()), sum(self.now.values())
        if known < KNOWN:
            return ""
        return next(
            (
                name
                for name, count in sorted(self.now.items())
                if count >= ENOUGH and count * PART >= here and self.types.get(name, 0) * RARE < known
            ),
            "",
        )

    def dropped(self, records: int) -> bool:
        """True when the field has gone from a window of so many records."""
        wont = self.shares.low * records
        return self.shares.count >= WINDOWS and wont >= ENOUGH and sum(self.now.values()) * LEFT <= wont

    def learn(self, time: int, records: int) -> None:
        """Makes the window before part of what is usual, and holds the one in hand back."""
        if self.held:
            start, share, types = self.held
            for name, count in types.items():
                self.types[name] = self.types.get(name, 0) + count
            self.shares.take(start, share)
        self.held = time, sum(self.now.values()) / records, self.now

    def usual(self) -> str:
        """The type that most of its values had."""
        return max(self.types, key=lambda name: self.types[name], default="")
