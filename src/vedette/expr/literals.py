"""Many literal texts looked for in bytes at once, whatever their case, at more than a gigabyte a second."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

import hyperscan


class Literals:
    """A set of literals. Safe to share between threads, one scan at a time.

    Args:
        words: ASCII texts, each at least one character; found in any case.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._database.compile(
            expressions=[re.escape(word).encode() for word in words],
            ids=list(range(len(words))),
            elements=len(words),
            flags=[hyperscan.HS_FLAG_CASELESS] * len(words),
        )

    def find(self, data: bytes) -> list[tuple[int, int]]:
        """(index of the word, end of where it stands) for each occurrence, by the end."""
        found: list[tuple[int, int]] = []

        def take(word: int, _start: int, end: int, _flags: int, _context: object) -> None:
            found.append((word, end))

        if data:
            with self._lock:
                self._database.scan(data, match_event_handler=take)
        return found
