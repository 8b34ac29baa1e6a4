"""Running the application: one process, one writer, an address that is told once it answers."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from vedette.core.errors import DataError
from vedette.run.platform import Platform
from vedette.run.supervision import give_sign
from vedette.serve.app import build_app, hot_routes
from vedette.serve.console.assets import check_assets
from vedette.serve.door.door import BACKLOG, DRAIN_S, KEEP_ALIVE_S
from vedette.serve.door.doorway import Doorway
from vedette.serve.hot import Hot
from vedette.serve.lane import lane_of

SWITCH_S = 0.0002


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a supervisor hands to a worker, as numbers of open files."""

    listen: int
    """The listening socket."""
    beat: int
    """Where signs of life are written."""
    door: int
    """Where the door comes: it holds the connections."""


def run_server(
    platform: Platform, *, host: str, port: int, tell: Callable[[str], None], inherited: Inherited | None = None
) -> None:
    """Serves until it is interrupted. Every tenant's state is loaded before the first request is taken.

    Args:
        platform: Wired, not yet running.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        tell: Hears `listening on http://...` when requests are answered.
        inherited: From a supervisor, in place of an address of its own.

    Raises:
        DataError: `serve.address.refused`.
        PermanentError: `console.assets.missing`, `console.assets.changed`.
    """
    check_assets()
    for tenant in platform.access.tenants():
        platform.desk.open(tenant)
    platform.access.warm()
    hot = hot_routes(platform)
    run_app(
        lambda taken: build_app(platform, listening=(host, taken), hot=hot),
        host=host,
        port=port,
        tell=tell,
        hot=hot,
        inherited=inherited,
        alive=lambda: platform.desk.alive,
    )


def run_app(
    build: Callable[[int], Any],
    *,
    host: str,
    port: int,
    tell: Callable[[str], None],
    hot: Sequence[Hot] = (),
    inherited: Inherited | None = None,
    alive: Callable[[], bool] = lambda: True,
) -> None:
    """Serves an application until it is interrupted.

    Args:
        build: Makes the application, given the port that was taken.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        tell: Hears `listening on http://...` when requests are answered.
        hot: What is answered in front of the application.
        inherited: From a supervisor, in place of an address of its own.
        alive: Asked ten times a second; while it says no, the supervisor hears nothing.

    Raises:
        DataError: `serve.address.refused`.
    """
    listener = socket.socket(fileno=inherited.listen) if inherited else listen(host, port)
    # Taken over by every connection. Without it head and body of an answer, written apart, wait 40 ms for each other.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        build(listener.getsockname()[1]),
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
        lifespan="on",
        http=lane_of(hot) if hot else H11Protocol,
    )
    address = f"http://{host}:{listener.getsockname()[1]}"
    # A thread waits this long for one that computes. Decisions wait less behind other work; changing hands costs more.
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        server = _Server(config, inherited, hot, alive, lambda: tell(f"listening on {address}"))
        server.run(sockets=[] if inherited else [listener])
    finally:
        sys.setswitchinterval(before)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        DataError: `serve.address.refused`.
    """
    try:
        return socket.create_server((host, port), backlog=BACKLOG, family=_family(host))
    except OSError as error:
        reason = (error.strerror or "cannot be listened on").partition(" (")[0].lower()
        hint = "name another with --host and --port; --port 0 takes a free one"
        raise DataError("serve.address.refused", reason, hint=hint, at=f"{host}:{port}") from error


class _Server(uvicorn.Server):
    """Ends by returning. The library's own raises the signal again, which would end the process before it is closed."""

    def __init__(
        self,
        config: uvicorn.Config,
        inherited: Inherited | None,
        hot: Sequence[Hot],
        alive: Callable[[], bool],
        listening: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._inherited, self._hot, self._alive, self._listening = inherited, hot, alive, listening
        self._doorway: Doorway | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tells that requests are answered, once everything that the application begins with has begun."""
        await super().startup(sockets=sockets)
        if self.started:
            if self._inherited:
                listener = socket.socket(fileno=self._inherited.door)
                self._doorway = Doorway(listener, self._hot, self._protocol, self.server_state.connections)
            self._listening()

    def _protocol(self) -> asyncio.Protocol:
        """What reads from a connection that the door hands over."""
        made: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return made(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes no more from the door, and answers what is in hand."""
        if self._doorway is not None:
            self._doorway.close()
        await super().shutdown(sockets=sockets)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: a sign of life for the supervisor, whose end ends this process too."""
        if self._inherited and self._alive() and not give_sign(self._inherited.beat):
            self.should_exit = True
        return bool(await super().on_tick(counter))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Asks the server to stop; a second interrupt does not wait for requests in hand."""
        del frame
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
