"""Remembered answers within one bound for all of a matcher's memories together."""

from __future__ import annotations

from typing import Any

ENTRY_COST = 160
"""Bytes charged for an entry besides its text: hash slot, key object, answer."""

ENTRIES = 16_384
"""Most entries of one memory. Emptying takes time in step with them, about 2 ms for this many."""


class Memo(dict[Any, Any]):
    """A dictionary that counts what it holds; see `Budget`."""

    __slots__ = ("spent",)

    def __init__(self) -> None:
        super().__init__()
        self.spent = 0


class Budget:
    """Empties the fullest memory once all that share it hold more than `limit` bytes.

    The fullest, because that is the one whose values do not come again: a field full of identifiers must not push the
    others out. One at a time, because emptying all would stall an event.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0
        self.emptied = 0
        """How often a memory was emptied; a number that grows quickly means the limit is too low."""
        self._memories: list[Memo] = []

    def add(self, memory: Memo) -> None:
        """Puts a memory under this budget; whoever stores in it says so with `spend`."""
        self._memories.append(memory)

    def spend(self, memory: Memo, size: int) -> None:
        """Counts an entry about to be stored in a memory with `size` bytes of text."""
        cost = size + ENTRY_COST
        if len(memory) >= ENTRIES:
            self._empty(memory)
        while self.spent and self.spent + cost > self.limit:
            self._empty(max(self._memories, key=lambda each: each.spent))
        self.spent += cost
        memory.spent += cost

    def _empty(self, memory: Memo) -> None:
        memory.clear()
        self.spent -= memory.spent
        memory.spent = 0
        self.emptied += 1
