"""Identifiers: time-ordered, unguessable enough for objects, never for secrets."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from vedette.core.clock import Clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_CHARS = 10
_RANDOM_CHARS = 16
_RANDOM_BITS = 5 * _RANDOM_CHARS


def _base32(value: int, width: int) -> str:
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(5 * (width - 1), -1, -5))


class Ids:
    """Makes ids such as `ch_01jd...`: a prefix, 50 bits of milliseconds, 80 random bits, in lower-case base 32.

    Ids of one process sort by the millisecond they were made in. The order of ids says nothing about truth labels.

    Args:
        clock: Where the milliseconds come from.
        bits: Gives that many random bits; the operating system's generator by default, a seeded one in tests.
    """

    def __init__(self, clock: Clock, bits: Callable[[int], int] = secrets.randbits) -> None:
        self._clock = clock
        self._bits = bits

    def new(self, prefix: str) -> str:
        """A fresh id, `prefix_` and 26 characters."""
        millis = self._clock.now() // 1_000
        return f"{prefix}_{_base32(millis, _TIME_CHARS)}{_base32(self._bits(_RANDOM_BITS), _RANDOM_CHARS)}"
