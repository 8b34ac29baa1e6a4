"""Requests that come while others are worked on are worked on together: what each costs alone, they share."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from vedette.core.errors import TransientError, VedetteError

MOST = 64
"""Most requests that are worked on together: bounds how long the first of them waits for the last."""
MAX_WAITING = 2_000
"""Requests that may wait; further ones are told to come again."""
PATIENCE_S = 0.1
"""Those at work may take so long before what waits goes on without them."""
THREADS = 4
LINGER_S = 0.004
"""How long a group waits for company, where there was some: two together cost little more than one alone."""

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


@dataclass(slots=True, eq=False)
class _Turn(Generic[_Asked, _Answer]):
    """One request on its way."""

    asked: _Asked
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[_Answer]


class Line(Generic[_Asked, _Answer]):
    """Joins concurrent requests of event loops in a thread.

    Args:
        work: Answers several, in order; a `VedetteError` may stand in the place of an answer. When it raises, each of
            them is tried alone, and what that raises is its answer.
        name: Of its threads.
    """

    def __init__(self, work: Callable[[Sequence[_Asked]], Sequence[_Answer | VedetteError]], name: str) -> None:
        self._work = work
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._waiting: deque[_Turn[_Asked, _Answer]] = deque()
        self._busy = 0
        """How many groups are worked on: one, while each ends in time."""
        self._since = 0.0
        """When the last group began."""
        self._company = False
        """Whether somebody else came at the same time lately."""

    async def do(self, asked: _Asked) -> _Answer:
        """The answer to one request.

        Raises:
            TransientError: `limits.load.shed` when too many wait.
        """
        loop = asyncio.get_running_loop()
        turn: _Turn[_Asked, _Answer] = _Turn(asked, loop, loop.create_future())
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                raise TransientError("limits.load.shed", "too much waits", retry_after=1.0)
            self._waiting.append(turn)
            idle, since = self._busy == 0, self._since
            self._busy += idle
            first = len(self._waiting) == 1
        if idle:
            self._go_on()
        elif first:
            loop.call_later(PATIENCE_S, self._grow_impatient, since)
        return await turn.future

    def _grow_impatient(self, since: float) -> None:
        """Goes on without those who were at work when somebody began to wait, and still are."""
        with self._lock:
            late = bool(self._waiting) and self._since == since and self._busy < THREADS
            self._busy += late
        if late:
            self._go_on()

    def _go_on(self) -> None:
        """Begins with what waits, in a thread."""
        turns: list[_Turn[_Asked, _Answer]] = []
        self._threads.submit(self._take, turns).add_done_callback(partial(self._end, turns, self._next))

    def _take(self, turns: list[_Turn[_Asked, _Answer]]) -> Sequence[_Answer | VedetteError]:
        """Works on what waits, and on what comes in the moment after where there was company."""
        if self._company:
            time.sleep(LINGER_S)
        with self._lock:
            turns += [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            self._since = time.monotonic()
            self._company = len(turns) > 1
        return self._work([turn.asked for turn in turns]) if turns else []

    def _next(self) -> None:
        with self._lock:
            left = bool(self._waiting)
            self._company |= left
            self._busy -= not left
        if left:
            self._go_on()

    def _end(
        self,
        turns: Sequence[_Turn[_Asked, _Answer]],
        then: Callable[[], None],
        job: Future[Sequence[_Answer | VedetteError]],
    ) -> None:
        error = job.exception()
        if error is not None and len(turns) > 1:
            for turn in turns:
                alone = self._threads.submit(self._work, [turn.asked])
                alone.add_done_callback(partial(self._end, [turn], lambda: None))
        else:
            answers = [error] if error is not None else job.result()
            told = list(zip(turns, answers, strict=True))
            for loop in {turn.loop for turn in turns}:
                # A caller may have left, and closed its loop behind it: nobody waits there.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(_tell, [one for one in told if one[0].loop is loop])
        then()


def _tell(told: Sequence[tuple[_Turn[Any, Any], Any]]) -> None:
    for turn, answer in told:
        if turn.future.done():
            continue  # the caller is gone
        if isinstance(answer, BaseException):
            turn.future.set_exception(answer)
        else:
            turn.future.set_result(answer)
