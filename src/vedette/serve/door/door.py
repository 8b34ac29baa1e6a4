"""The door's process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

from vedette.serve.door.plain import Asked, is_begun, read_request
from vedette.serve.door.wire import CLIENT, FRAMES, LEAVING, Ask, Reader, Told, frame

READ_BYTES = 64 * 1024
"""Read at a time: a longer request is not plain. Fits into the buffer of a socket of the machine."""
BACKLOG = 2_048
"""Connections that may wait to be accepted."""
KEEP_ALIVE_S = 75
"""A client that asks nothing for so long is let go."""
LOOK_S, BEAT_S, LATER_S = 5.0, 0.1, 0.01
DRAIN_S = 10
"""Seconds that requests in hand have to end when a server or the door stops."""


class Door:
    """Everybody who is connected, and the worker.

    Args:
        worker: Address at which the worker takes frames and clients. It need not be there yet.
    """

    def __init__(self, worker: Path) -> None:
        self._worker = str(worker)
        self._loop = asyncio.get_running_loop()
        self.buffer = bytearray(READ_BYTES)
        """What is read from a client lies here until it is looked at, which is at once."""
        self.clients: set[Client] = set()
        self.closing = False
        self.empty = asyncio.Event()
        """Whether it is closing, and the last client has gone."""
        self._link: _Link | None = None

    @property
    def link(self) -> _Link:
        """To the worker that takes requests now, or will when it has started.

        Raises:
            OSError: Nobody will.
        """
        if self._link is None or self._link.gone:
            plug, link = self._plug(FRAMES), _Link(self)
            link.task = self._loop.create_task(self._loop.create_unix_connection(lambda: link, sock=plug))
            self._link = link
        return self._link

    def hand(self, client: socket.socket, read: bytes) -> None:
        """Hands a client over, with what was read from it.

        Raises:
            OSError: Nobody takes it.
        """
        with self._plug(CLIENT, client) as plug:
            plug.sendall(read)

    def _plug(self, purpose: bytes, *sockets: socket.socket) -> socket.socket:
        plug = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            plug.setblocking(False)
            plug.connect(self._worker)
            socket.send_fds(plug, [purpose], [each.fileno() for each in sockets])
        except OSError:
            plug.close()
            raise
        return plug

    def close(self) -> None:
        """Lets everybody go who waits for nothing; the others get their answer first."""
        self.closing = True
        for client in list(self.clients):
            client.leave()
        self.note_gone()

    def note_gone(self) -> None:
        """Somebody has gone."""
        if self.closing and not self.clients:
            self.empty.set()

    def sweep(self) -> None:
        """Lets those go who have been silent for long; who stopped within a request is the worker's."""
        now = self._loop.time()
        for client in list(self.clients):
            client.look(now)


class Client(asyncio.BufferedProtocol):
    """One connection; one request at a time.

    Args:
        door: Whose.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._origin = ""
        self._link: _Link | None = None
        """Where its request is; None while it asks nothing."""
        self._number = 0
        self._part = b""
        """The beginning of a request."""
        self._read = b""
        """The request in hand."""
        self._behind = b""
        """What came behind it."""
        self._close = False
        """Whether it goes after its answer."""
        self._going = False
        """Whether it goes to the worker."""
        self._clogged = False
        """Whether it does not take its answers."""
        self.since = self._loop.time()
        """When it asked last."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Is there."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._origin = str(peer[0]) if peer else ""
        self._door.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Is gone; nobody hears the answer to what it asked."""
        del exc
        self._door.clients.discard(self)
        self._door.note_gone()
        if self._link is not None:
            self._link.forget(self._number)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Where to read to."""
        del sizehint
        return self._door.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Takes what came."""
        data = bytes(memoryview(self._door.buffer)[:nbytes])
        if self._link is None:
            self._take(data)
        else:
            # Sent before the answer to the last one: kept in order. More than a little is not read from the socket.
            self._behind += data
            self._transport.pause_reading()

    def _take(self, data: bytes) -> None:
        data, self._part = self._part + data, b""
        asked = read_request(data, self._origin)
        if asked is None and is_begun(data, READ_BYTES):
            self._part, self.since = data, self._loop.time()
            return
        if asked is None:
            self._hand(data)
            return
        try:
            self._link = self._door.link
        except OSError:  # as when the worker had ended
            self._transport.abort()
            return
        self._read, self._close = data, asked.close
        self._number = self._link.ask(asked, self)

    def told(self, answer: bytes) -> None:
        """Takes the answer to the request in hand."""
        read, self._read, self._link, self.since = self._read, b"", None, self._loop.time()
        if not answer:
            self._hand(read + self._behind)
            return
        self._transport.write(answer)
        if self._close or self._door.closing:
            self._transport.close()
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Takes what came behind the last request, unless its answers are not taken or it is on its way."""
        if self._behind and not (self._clogged or self._going or self._link):
            behind, self._behind = self._behind, b""
            self._transport.resume_reading()
            self._take(behind)

    def _hand(self, data: bytes) -> None:
        """Hands this client over, when it has all of its last answer."""
        if self._transport.is_closing():
            return
        self._going = True
        self._transport.pause_reading()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(LATER_S, self._hand, data)
            return
        client = socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno()))
        with client, suppress(OSError):  # nobody there: it is cut off, as when the worker had ended
            self._door.hand(client, data)
        self._transport.abort()

    def pause_writing(self) -> None:
        """Does not take its answers: nothing more is read from it."""
        self._clogged = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Takes them again."""
        self._clogged = False
        if not (self._behind or self._going):
            self._transport.resume_reading()
        self._go_on()

    def look(self, now: float) -> None:
        """Is looked at every `LOOK_S`."""
        if self._part and now - self.since > LOOK_S:
            data, self._part = self._part, b""
            self._hand(data)
        elif now - self.since > KEEP_ALIVE_S:
            self.leave()

    def leave(self) -> None:
        """Goes, unless it waits for an answer; then after it."""
        if self._link is None:
            self._transport.close()

    def cut(self) -> None:
        """Goes at once: whoever would have answered is gone."""
        self._link = None
        self._transport.abort()


class _Link(asyncio.Protocol):
    """Frames to and from one worker.

    Args:
        door: Whose.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(Told)
        self._asks: list[Ask] = []
        self._asked: dict[int, Client] = {}
        self._count = 0
        self.gone = False
        """Whether it takes no more requests."""
        self.task: asyncio.Task[object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Is there, though perhaps nobody listens yet."""
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def ask(self, asked: Asked, client: Client) -> int:
        """Sends a request with those of the same moment; gives its number."""
        self._count += 1
        self._asked[self._count] = client
        self._asks.append(Ask(self._count, asked.path, asked.close, time.monotonic(), asked.call))
        if len(self._asks) == 1:
            self._loop.call_soon(self._send)
        return self._count

    def forget(self, number: int) -> None:
        """Nobody waits for that answer any more."""
        self._asked.pop(number, None)

    def _send(self) -> None:
        if self._asks and self._transport is not None:
            asks, self._asks = self._asks, []
            self._transport.write(frame(asks))

    def data_received(self, data: bytes) -> None:
        """Answers."""
        for told in self._reader.take(data):
            if told.number == LEAVING:
                self._send()
                self.gone = True
                if self._transport is not None:
                    self._transport.write_eof()
            elif (client := self._asked.pop(told.number, None)) is not None:
                client.told(told.answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker is gone, and with it the answers."""
        del exc
        self.gone = True
        for client in list(self._asked.values()):
            client.cut()
        self._asked.clear()


async def run_door(listener: socket.socket, worker: Path, alive: Callable[[], bool]) -> None:
    """Holds connections until SIGTERM or SIGINT.

    Args:
        listener: Where clients connect.
        worker: See `Door`.
        alive: Called ten times a second; the door closes when it says no.
    """
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    for kind in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(kind, end.set)
    door = Door(worker)
    # Taken over by every connection: an answer waits for nothing.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = await loop.create_server(lambda: Client(door), sock=listener, backlog=BACKLOG)
    look = loop.time()
    while alive() and not end.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(end.wait(), BEAT_S)
        if loop.time() - look > LOOK_S:
            look = loop.time()
            door.sweep()
    server.close()
    door.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(door.empty.wait(), DRAIN_S)
