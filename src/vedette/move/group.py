"""Group commit: calls that come at the same time share a transaction.

Whoever finds nobody at work takes every call that waits, does them as one, and wakes the others with their results; the
next call in line goes on with what came meanwhile. Alone, a call is done at once. Where there was company, the next one
gives those who just got their answers a moment to call again: without it two halves of the callers would take turns.

Each who is woken wakes the next: threads woken all at once only queue for the interpreter, which costs twice the CPU.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Generic, TypeVar

from vedette.core.errors import VedetteError

LINGER_S, MAX_LINGER_S = 0.001, 0.010
"""How long a call waits for company that was there a moment ago, at least and at most: where a transaction takes long,
because the disk does, a quarter of that is well spent on having one less."""
_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


class _Turn(Generic[_Asked, _Answer]):
    __slots__ = ("answers", "asked", "awake", "error", "following", "leads", "size")

    def __init__(self, asked: _Asked, size: int) -> None:
        self.asked = asked
        self.size = size
        self.leads = False
        self.answers: list[_Answer] = []
        """Its one answer, once that is committed."""
        self.error: VedetteError | None = None
        self.following: _Turn[_Asked, _Answer] | None = None
        """Who is woken next."""
        self.awake = threading.Lock()
        """Held until the call has its answer, or is to lead, or has to do its own."""
        self.awake.acquire()

    def wait(self) -> None:
        """Until woken. Who is interrupted meanwhile still passes it on: others wait behind."""
        try:
            self.awake.acquire()
        except BaseException:
            self.wait()
            raise
        if self.following is not None:
            self.following.awake.release()


class Group(Generic[_Asked, _Answer]):
    """Joins concurrent calls.

    Args:
        work: Does several calls in one transaction; one answer each, in order. A `VedetteError` is raised by all of
            them; after any other failure each does its own again.
        limit: Most of `size` in one transaction.
    """

    def __init__(self, work: Callable[[Sequence[_Asked]], Sequence[_Answer]], *, limit: int) -> None:
        self._work = work
        self._limit = limit
        self._busy = False
        self._lock = threading.Lock()
        self._waiting: deque[_Turn[_Asked, _Answer]] = deque()
        self._answered = 0
        """How many the last transaction answered."""
        self._took = 0.0
        """How long it took, seconds."""
        self._wanted = 0
        """How many have to wait before `_enough` is set."""
        self._enough = threading.Event()

    def do(self, asked: _Asked, size: int) -> _Answer:
        """One call, done with whoever else calls now."""
        turn: _Turn[_Asked, _Answer] = _Turn(asked, size)
        with self._lock:
            turn.leads = not self._busy
            self._busy = True
            if not turn.leads:
                self._waiting.append(turn)
                if len(self._waiting) == self._wanted:
                    self._enough.set()
        try:
            if not turn.leads:
                turn.wait()
        finally:
            if turn.leads:
                self._lead(turn)
        if turn.error is not None:
            raise turn.error
        return turn.answers[0] if turn.answers else self._work([asked])[0]

    def _lead(self, mine: _Turn[_Asked, _Answer]) -> None:
        if self._answered > 1:
            self._linger()
        turns = [mine, *self._company(mine.size)]
        began = time.monotonic()
        try:
            for turn, answer in zip(turns, self._work([turn.asked for turn in turns]), strict=True):
                turn.answers.append(answer)
        except VedetteError as error:
            for turn in turns:
                turn.error = error
        finally:
            self._took = time.monotonic() - began
            # They before the next to lead: those that call again at once are then part of its transaction.
            for turn, following in pairwise(turns[1:]):
                turn.following = following
            for turn in turns[1:2]:
                turn.awake.release()
            self._hand_over(len(turns))

    def _company(self, size: int) -> list[_Turn[_Asked, _Answer]]:
        turns: list[_Turn[_Asked, _Answer]] = []
        with self._lock:
            while self._waiting and size + self._waiting[0].size <= self._limit:
                turns.append(self._waiting.popleft())
                size += turns[-1].size
        return turns

    def _linger(self) -> None:
        with self._lock:
            # One of those who are expected leads.
            self._wanted = len(self._waiting) + self._answered - 1
            self._enough.clear()
        self._enough.wait(min(max(LINGER_S, self._took / 4), MAX_LINGER_S))

    def _hand_over(self, answered: int) -> None:
        with self._lock:
            self._answered = answered
            if not self._waiting:
                self._busy = False
                return
            following = self._waiting.popleft()
        following.leads = True
        following.awake.release()
