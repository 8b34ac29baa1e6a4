"""One HTTP/1.1 exchange with an address that is known already, within one deadline."""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CHUNK_BYTES = 16 * 1024


class Peer(NamedTuple):
    """Whom a connection is with. A connection serves no other name, whatever that resolves to."""

    host: str
    address: str
    port: int
    secure: bool


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, whatever its status."""

    status: int
    """100..599; a redirect is an answer like another."""
    headers: Mapping[str, str]
    """Names in lower case; of a repeated header, the values joined by commas."""
    body: bytes = field(repr=False)


class TooLargeError(Exception):
    """The answer is larger than it may be."""


class PackedError(Exception):
    """The answer is compressed."""


class _Timed(io.RawIOBase):
    """Reads a socket until a moment, however slowly the other side drips its bytes."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        super().__init__()
        self._sock = sock
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(left(self._until))
        return self._sock.recv_into(buffer)

    def makefile(self, *_: object) -> io.BufferedReader:
        """What `HTTPResponse` asks a socket for."""
        return io.BufferedReader(self)


def left(until: float) -> float:
    """Seconds until a moment of the monotonic clock.

    Raises:
        TimeoutError: It is over.
    """
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class Link:
    """A connection to one peer.

    Args:
        peer: Whom to.
        context: TLS settings.
        until: Moment of the monotonic clock by which it must stand.

    Raises:
        OSError: It does not stand; `TimeoutError` among them, and TLS errors.
    """

    def __init__(self, peer: Peer, context: ssl.SSLContext, until: float) -> None:
        self.peer = peer
        self.since = time.monotonic()
        sock = socket.create_connection((peer.address, peer.port), timeout=left(until))
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if peer.secure:
                sock.settimeout(left(until))
                sock = context.wrap_socket(sock, server_hostname=peer.host)
        except BaseException:
            sock.close()
            raise
        self._sock = sock
        self.kept = False
        """The other side is willing to take another request, and owes nothing of this one."""

    def is_quiet(self) -> bool:
        """True while the other side has neither closed nor said anything unasked."""
        return not select.select([self._sock], [], [], 0)[0]

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes, *, until: float, max_bytes: int
    ) -> Response:
        """Sends a request and reads the whole answer.

        Raises:
            ValueError: The request is not valid HTTP; nothing was sent.
            OSError: The connection broke; `TimeoutError` when the time was over.
            http.client.HTTPException: The answer is no HTTP.
            TooLargeError: More than `max_bytes`.
            PackedError: It is compressed.
        """
        self.kept = False
        head = _Head(self.peer.host)
        head.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            head.putheader(name, value)
        if content or method in {"POST", "PUT", "PATCH"}:
            head.putheader("content-length", str(len(content)))
        head.endheaders()
        self._sock.settimeout(left(until))
        self._sock.sendall(head.sent + content)
        return self._read(method, until, max_bytes)

    def _read(self, method: str, until: float, max_bytes: int) -> Response:
        response = http.client.HTTPResponse(_Timed(self._sock, until), method=method)  # type: ignore[arg-type]
        try:
            response.begin()
            names: dict[str, str] = {}
            for name, value in response.getheaders():
                low = name.lower()
                names[low] = f"{names[low]}, {value}" if low in names else value
            if names.get("content-encoding", "identity").lower() != "identity":
                raise PackedError
            body = bytearray()
            while chunk := response.read(min(CHUNK_BYTES, max_bytes + 1 - len(body))):
                body += chunk
                if len(body) > max_bytes:
                    raise TooLargeError
            self.kept = not response.will_close
            return Response(response.status, names, bytes(body))
        finally:
            response.close()

    def close(self) -> None:
        """Ends the connection."""
        self._sock.close()


class _Head(http.client.HTTPConnection):
    """Writes the head of a request into memory, with the checks of the standard library; connects nowhere."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.sent = b""

    def send(self, data: Any) -> None:
        self.sent += data
