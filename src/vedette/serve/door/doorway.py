"""The worker's end: takes requests from the door, and the clients that it hands over."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

from vedette.serve.door.relay import Relay
from vedette.serve.door.wire import CLIENT, FRAMES
from vedette.serve.hot import Hot

READ_BYTES = 64 * 1024


class Doorway:
    """Listens to doors.

    Args:
        listener: Where doors come.
        routes: What answers the requests of frames.
        make_protocol: Of a client that is handed over.
        connections: The server's: each is asked to end when the server stops.
    """

    def __init__(
        self,
        listener: socket.socket,
        routes: Sequence[Hot],
        make_protocol: Callable[[], asyncio.Protocol],
        connections: set[Any],
    ) -> None:
        self._listener, self._make, self._connections = listener, make_protocol, connections
        self._routes = {route.path: route for route in routes}
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Takes no further door."""
        self._loop.remove_reader(self._listener)

    def _accept(self) -> None:
        try:
            plug, _ = self._listener.accept()
        except OSError:  # gone again
            return
        plug.setblocking(False)
        self._loop.add_reader(plug, self._greet, plug)

    def _greet(self, plug: socket.socket) -> None:
        """Reads what a door comes for."""
        self._loop.remove_reader(plug)
        try:
            purpose, sockets, *_ = socket.recv_fds(plug, 1, 1)
        except OSError:
            purpose, sockets = b"", []
        if purpose == FRAMES:
            plug.setblocking(True)
            Relay(plug, self._routes, self._connections)
        elif purpose == CLIENT and sockets:
            self._start(self._adopt(plug, socket.socket(fileno=sockets[0])))
        else:
            plug.close()

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _adopt(self, plug: socket.socket, client: socket.socket) -> None:
        """Goes on with a client as if it had connected here."""
        parts = []
        with plug:
            while part := await self._loop.sock_recv(plug, READ_BYTES):
                parts.append(part)
        client.setblocking(False)
        early = _Early()
        transport, _ = await self._loop.connect_accepted_socket(lambda: early, client)
        if transport.is_closing():
            return
        protocol = self._make()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(b"".join(parts) + early.data)
        if early.ended and not protocol.eof_received():
            transport.close()


class _Early(asyncio.Protocol):
    """Keeps what a client sends while the loop takes it over: uvloop reads before it says that it has it.

    What the door had read comes first.
    """

    def __init__(self) -> None:
        self.data, self.ended = b"", False

    def data_received(self, data: bytes) -> None:
        """Keeps it."""
        self.data += data

    def eof_received(self) -> bool:
        """Keeps the connection, which has answers to come."""
        self.ended = True
        return True
