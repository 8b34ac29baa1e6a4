"""Requests of a door, worked on in one thread: read, decided and answered there, a group at a time.

Nothing is handed from thread to thread while all goes well, so no request waits for another thread's turn at the
interpreter. When more comes than can be decided on, who is due is answered by policy between two groups.
When a group takes longer than it ever should, a second thread reads on: it answers by policy whoever is due, and what
it read is decided once the first goes on.
"""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from vedette.core.errors import TransientError
from vedette.judge.decisions.service import MAX_GROUP, MAX_WAITING, DecisionService, Pending
from vedette.serve.door.door import DRAIN_S
from vedette.serve.door.wire import LEAVING, Ask, Reader, Told, frame
from vedette.serve.errors import Reply
from vedette.serve.hot import Hot
from vedette.serve.lane import write_reply

READ_BYTES = 256 * 1024
ENOUGH = 4
"""Requests that begin a group at once: what a group costs beside its requests is shared by then."""
LINGER_S = 0.002
"""The longest that a request waits for others, counted from when it came to the door. Who came is read meanwhile."""
QUIET_S = 0.008
"""So long after the last group began, nobody waits for others."""
LATE_S = 0.016
"""Longer than this no group takes while all goes well, however many requests wait."""
LOOK_S = 0.002
"""How often the second thread looks who is due."""

LOST = (OSError, msgspec.MsgspecError)
"""The door is gone, or talks nonsense."""
Held = tuple[DecisionService, Pending]


class Relay:
    """Requests of one door and their answers.

    Args:
        plug: Where the door is; a socket that waits.
        routes: What answers, by path.
        connections: The server's: who has to end before it does.
    """

    def __init__(self, plug: socket.socket, routes: Mapping[str, Hot], connections: set[Any]) -> None:
        self._plug, self._routes, self._connections = plug, routes, connections
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(Ask)
        self._reading = threading.Lock()
        """Held by the thread that reads."""
        self._waiting: list[Held] = []
        self._working: list[Held] = []
        self._telling = threading.Lock()
        self._told: list[Told] = []
        self._open = 0
        """Requests without an answer."""
        self._since = 0.0
        """Since when the first thread works on a group; 0 while it waits for one."""
        self._begun = 0.0
        """When the last group began."""
        self._ended = False
        self._tasks: set[asyncio.Task[None]] = set()
        connections.add(self)
        for work in (self._work, self._relieve):
            threading.Thread(target=work, name=f"door{work.__name__}", daemon=True).start()

    # The first thread

    def _work(self) -> None:
        try:
            with suppress(*LOST):  # what the door asked is recorded, and told to nobody
                while self._read():
                    self._answer()
                    self._since = 0.0
                self._drain()
        finally:
            self._end()

    def _read(self) -> bool:
        """Takes what has come, and waits for it if need be; False at the end."""
        with self._reading:
            data = b"" if self._waiting and not _comes(self._plug, 0) else self._plug.recv(READ_BYTES)
            self._since = time.monotonic()
            self._take(data)
            while data and (left := self._left()) > 0:
                if _comes(self._plug, left):
                    data = self._plug.recv(READ_BYTES)
                    self._take(data)
            return bool(data or self._waiting)

    def _left(self) -> float:
        """Seconds for which what waits may wait for others still."""
        if not 0 < len(self._waiting) < ENOUGH:
            return 0.0
        service, pending = self._waiting[0]
        came = pending.due - service.budget
        return min(came + LINGER_S, self._begun + QUIET_S) - time.monotonic()

    def _take(self, data: bytes) -> None:
        for ask in self._reader.take(data):
            self._ask(ask)

    def _ask(self, ask: Ask) -> None:
        with self._telling:
            self._open += 1
        route = self._routes.get(ask.path)
        if route is None or not route.takes(ask.call.authorization):
            self._tell(ask.number, b"")
            return
        tell = partial(self._reply, ask)
        if not route.begin(ask.call, tell, partial(self._hold, ask.came)):
            self._loop.call_soon_threadsafe(self._start, route, ask, tell)

    def _hold(self, came: float, service: DecisionService, pending: Pending) -> None:
        """Keeps a request for the next group."""
        if len(self._waiting) >= MAX_WAITING:
            raise TransientError("decision.queue.full", "too much waits", retry_after=1.0)
        pending.due = came + service.budget
        self._waiting.append((service, pending))

    def _answer(self) -> None:
        """Decides on who has waited longest, and on others of the same service with it, and answers."""
        self._give_up()
        with self._reading:
            self._working, self._waiting = _group(self._waiting)
        if self._working:
            self._begun = time.monotonic()
            self._working[0][0].work([pending for _, pending in self._working])
        self._working = []
        self._send()

    def _give_up(self) -> None:
        """Answers by policy who is due."""
        now = time.monotonic()
        for service, pending in [*self._working, *self._waiting]:
            if pending.due < now:
                service.give_up(pending)
        self._send()

    def _drain(self) -> None:
        """Waits for answers that are still made elsewhere."""
        until = time.monotonic() + DRAIN_S
        while self._open and time.monotonic() < until:
            time.sleep(LOOK_S)

    def _end(self) -> None:
        self._ended = True
        with self._telling:
            self._plug.close()
        with suppress(RuntimeError):  # the loop has ended before
            self._loop.call_soon_threadsafe(self._connections.discard, self)

    # Requests that are not decided on at once: answered by the event loop

    def _start(self, route: Hot, ask: Ask, tell: Callable[[Reply], None]) -> None:
        task = self._loop.create_task(self._answer_later(route, ask, tell))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_later(self, route: Hot, ask: Ask, tell: Callable[[Reply], None]) -> None:
        tell(await route.answer(ask.call))
        await self._loop.run_in_executor(None, self._send_safely)

    # Answers, from any thread

    def _reply(self, ask: Ask, reply: Reply) -> None:
        self._tell(ask.number, write_reply(reply, close=ask.close))

    def _tell(self, number: int, answer: bytes) -> None:
        with self._telling:
            self._told.append(Told(number, answer))

    def _send(self) -> None:
        with self._telling:
            told, self._told = self._told, []
            self._open -= len(told)
            if told:
                self._plug.sendall(frame(told))

    def _send_safely(self) -> None:
        with suppress(OSError):  # the door is gone
            self._send()

    def shutdown(self) -> None:
        """Asks the door to send no more; this ends after the last answer."""
        with suppress(OSError), self._telling:
            self._plug.sendall(frame([Told(LEAVING, b"")]))

    # The second thread

    def _relieve(self) -> None:
        while not self._ended:
            time.sleep(LATE_S / 2)
            since = self._since
            while since and self._since == since and time.monotonic() - since > LATE_S and not self._ended:
                with suppress(*LOST):
                    self._look(since)

    def _look(self, since: float) -> None:
        """Reads what comes, and answers by policy who is due."""
        if _comes(self._plug, LOOK_S) and self._reading.acquire(timeout=LOOK_S):
            try:
                if self._since == since:
                    data = self._plug.recv(READ_BYTES, socket.MSG_DONTWAIT)
                    self._take(data)
                    if not data:
                        time.sleep(LOOK_S)
            finally:
                self._reading.release()
        self._give_up()


def _group(waiting: Sequence[Held]) -> tuple[list[Held], list[Held]]:
    """The first and those that are decided on with it, and the others."""
    together = [held for held in waiting if held[0] is waiting[0][0]][:MAX_GROUP]
    taken = set(map(id, together))
    return together, [held for held in waiting if id(held) not in taken]


def _comes(plug: socket.socket, seconds: float) -> bool:
    """Whether there is something to read, now or within that time, which is rounded up to a millisecond."""
    poll = select.poll()  # `select` takes no number of a file above 1,023
    poll.register(plug, select.POLLIN)
    return bool(poll.poll(1000 * seconds))
