"""Group commit: calls that come at the same time share a transaction.

Whoever finds nobody at work takes every call that waits, does them as one, and wakes the others with their results; the
next call in line goes on with what came meanwhile. Nobody waits for a timer: alone, a call is done at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from vedette.core.errors import VedetteError

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


class _Turn(Generic[_Asked, _Answer]):
    __slots__ = ("answers", "asked", "awake", "error", "leads", "size")

    def __init__(self, asked: _Asked, size: int) -> None:
        self.asked = asked
        self.size = size
        self.leads = False
        self.answers: list[_Answer] = []
        """Its one answer, once that is committed."""
        self.error: VedetteError | None = None
        self.awake = threading.Lock()
        """Held until the call has its answer, or is to lead, or has to do its own."""
        self.awake.acquire()


class Group(Generic[_Asked, _Answer]):
    """Joins concurrent calls.

    Args:
        work: Does several calls in one transaction; one answer each, in order. A `VedetteError` is raised by all of
            them; after any other failure each does its own again.
        limit: Most of `size` in one transaction.
        lanes: How many transactions may be under way at once.
    """

    def __init__(self, work: Callable[[Sequence[_Asked]], Sequence[_Answer]], *, limit: int, lanes: int = 1) -> None:
        self._work = work
        self._limit = limit
        self._free = lanes
        self._lock = threading.Lock()
        self._waiting: deque[_Turn[_Asked, _Answer]] = deque()

    def do(self, asked: _Asked, size: int) -> _Answer:
        """One call, done with whoever else calls now."""
        turn: _Turn[_Asked, _Answer] = _Turn(asked, size)
        with self._lock:
            turn.leads = self._free > 0
            if turn.leads:
                self._free -= 1
            else:
                self._waiting.append(turn)
        if not turn.leads:
            turn.awake.acquire()
        if turn.leads:
            self._lead(turn)
        if turn.error is not None:
            raise turn.error
        return turn.answers[0] if turn.answers else self._work([asked])[0]

    def _lead(self, mine: _Turn[_Asked, _Answer]) -> None:
        turns = [mine, *self._company(mine.size)]
        try:
            for turn, answer in zip(turns, self._work([turn.asked for turn in turns]), strict=True):
                turn.answers.append(answer)
        except VedetteError as error:
            for turn in turns:
                turn.error = error
        finally:
            self._hand_over()
            for turn in turns[1:]:
                turn.awake.release()

    def _company(self, size: int) -> list[_Turn[_Asked, _Answer]]:
        turns: list[_Turn[_Asked, _Answer]] = []
        with self._lock:
            while self._waiting and size + self._waiting[0].size <= self._limit:
                turns.append(self._waiting.popleft())
                size += turns[-1].size
        return turns

    def _hand_over(self) -> None:
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            following = self._waiting.popleft()
        following.leads = True
        following.awake.release()
