"""Three-valued logic (Kleene 1952): conjunction is the minimum, disjunction the maximum."""

from __future__ import annotations

from enum import IntEnum


class Truth(IntEnum):
    """False < unknown < true, so that `min`, `max` and `2 - x` are and, or, not."""

    FALSE = 0
    UNKNOWN = 1
    TRUE = 2

    def negate(self) -> Truth:
        """Not: swaps true and false, keeps unknown."""
        return Truth(2 - self)


def truth(value: bool | None) -> Truth:  # noqa: FBT001 - this is what the function is about
    """True, false or None (unknown) as a `Truth`."""
    return Truth.UNKNOWN if value is None else Truth.TRUE if value else Truth.FALSE
