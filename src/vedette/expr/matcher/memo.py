"""Remembered answers within one bound for all of a matcher's memories together."""

from __future__ import annotations

from typing import Any

ENTRY_COST = 160
"""Bytes charged for an entry besides its text: hash slot, key object, answer."""


class Budget:
    """Empties every memory that shares it once together they hold more than `limit` bytes.

    Emptying at once is simple and keeps the common case (a hit) a plain dictionary lookup; a warm matcher is filled
    again within a few thousand events.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0
        self.emptied = 0
        """How often everything was forgotten; a number that grows quickly means the limit is too low."""
        self._memories: list[dict[Any, Any]] = []

    def memory(self) -> dict[Any, Any]:
        """A new dictionary under this budget; whoever stores in it says so with `spend`."""
        made: dict[Any, Any] = {}
        self._memories.append(made)
        return made

    def spend(self, size: int) -> None:
        """Counts an entry about to be stored with `size` bytes of text."""
        self.spent += size + ENTRY_COST
        if self.spent > self.limit:
            for memory in self._memories:
                memory.clear()
            self.spent = size + ENTRY_COST
            self.emptied += 1
