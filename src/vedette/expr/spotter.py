"""Patterns spotted in large texts, all in one pass over the bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import hyperscan


class Spotter:
    """Looks for patterns in bytes at some gigabytes a second; any thread may use it.

    Args:
        patterns: In Hyperscan's language, over bytes; `literal` makes one of a text.
        any_case: ASCII letters match in either case.
    """

    def __init__(self, patterns: Iterable[bytes], *, any_case: bool = False) -> None:
        expressions = sorted(set(patterns))
        case = hyperscan.HS_FLAG_CASELESS if any_case else 0
        self._every = _database(expressions, case)
        self._first = _database(expressions, case | hyperscan.HS_FLAG_SINGLEMATCH)
        self._scratches = threading.local()

    def ends(self, text: bytes) -> list[int]:
        """Where matches end, each pattern's in rising order."""
        return self._scan("every", self._every, text)

    def holds(self, text: bytes) -> bool:
        """Whether any pattern matches."""
        return bool(self._scan("first", self._first, text))

    def _scan(self, name: str, database: hyperscan.Database, text: bytes) -> list[int]:
        # A scratch serves one scan at a time, and scans let other threads run.
        scratch = getattr(self._scratches, name, None)
        if scratch is None:
            scratch = hyperscan.Scratch(database)
            setattr(self._scratches, name, scratch)
        ends: list[int] = []

        def found(_number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            ends.append(end)

        database.scan(text, match_event_handler=found, scratch=scratch)
        return ends


def literal(text: bytes) -> bytes:
    """The pattern that matches just this text."""
    return b"".join(b"\\x%02x" % byte for byte in text)


def _database(expressions: list[bytes], flags: int) -> hyperscan.Database:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(expressions=expressions, ids=list(range(len(expressions))), flags=[flags] * len(expressions))
    return database
