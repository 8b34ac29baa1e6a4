"""Event loops for threads that have none: kept between calls, because making one costs more than a decision."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Loops:
    """Runs coroutines for worker threads, each in a loop that no other thread uses meanwhile."""

    def __init__(self) -> None:
        self._idle: list[asyncio.AbstractEventLoop] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine gives; called from a thread without a running loop."""
        try:
            loop = self._idle.pop()
        except IndexError:
            loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(work)
        finally:
            self._idle.append(loop)

    def close(self) -> None:
        """Closes the loops, which nobody may use any more."""
        while self._idle:
            loop = self._idle.pop()
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
