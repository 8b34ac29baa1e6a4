"""HTTP as the player speaks it: one kept connection, a bearer's secret with each request, JSON both ways."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple

import msgspec

from vedette.core.errors import PermanentError, TransientError

TIMEOUT_S = 60.0
_GOOD = range(200, 300)


class Reply(NamedTuple):
    """What came back."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.status in _GOOD

    def json(self) -> Any:
        """The decoded body."""
        return msgspec.json.decode(self.body)


class Wire:
    """One connection to the served process. For one thread at a time.

    Args:
        host: Its address.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._connection = HTTPConnection(host, port, timeout=TIMEOUT_S)

    def send(
        self,
        method: str,
        path: str,
        *,
        bearer: str,
        body: bytes | None = None,
        media: str = "application/json",
        key: str = "",
    ) -> Reply:
        """One request and its answer, whatever its status.

        Args:
            method: HTTP method.
            path: Path with its query.
            bearer: Secret of an API key or a person's token.
            body: As it is sent.
            media: Its media type.
            key: Idempotency key; none by default.

        Raises:
            TransientError: `demo.server.silent` when there is no answer.
        """
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": media}
        if key:
            headers["Idempotency-Key"] = key
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            return Reply(answer.status, answer.read())
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise TransientError("demo.server.silent", f"no answer from the server: {error!s:.100}", at=path) from error

    def get(self, path: str, *, bearer: str) -> Any:
        """The decoded answer of a GET.

        Raises:
            PermanentError: `demo.request.refused`.
        """
        return _wanted(self.send("GET", path, bearer=bearer), path).json()

    def post(self, path: str, value: Mapping[str, Any], *, bearer: str, key: str = "", method: str = "POST") -> Any:
        """The decoded answer of a POST that must succeed.

        Raises:
            PermanentError: `demo.request.refused`.
        """
        reply = self.send(method, path, bearer=bearer, body=msgspec.json.encode(value), key=key)
        return _wanted(reply, path).json()

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


def _wanted(reply: Reply, path: str) -> Reply:
    if not reply.ok:
        text = reply.body[:300].decode("utf-8", "replace")
        raise PermanentError("demo.request.refused", f"{reply.status}: {text}", at=path)
    return reply


def free(host: str, port: int) -> bool:
    """Whether the port can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
