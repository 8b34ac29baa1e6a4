"""The short way for decisions and charges: plain requests are read from the socket by hand, others by the library.

A request takes this way only when nothing else is open on its connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from vedette.serve.door.plain import Asked, Call, read_request
from vedette.serve.errors import Reply
from vedette.serve.hot import Hot

_JSON = "content-type: application/json\r\ncontent-length: "
_HEADS = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n{_JSON}".encode() for each in HTTPStatus}


def write_reply(reply: Reply, *, close: bool) -> bytes:
    """The answer's bytes."""
    more = b"".join(f"{name}: {value}\r\n".encode() for name, value in reply.headers.items())
    last = b"connection: close\r\n\r\n" if close else b"\r\n"
    return b"".join((_HEADS[reply.status], str(len(reply.body)).encode(), b"\r\n", more, last, reply.body))


def lane_of(hot: Sequence[Hot]) -> type[H11Protocol]:  # noqa: C901 - one class with small methods
    """The library's protocol with the short way to these routes in front."""
    routes = {route.path: route for route in hot}

    class Lane(H11Protocol):
        _asked: Asked | None = None
        _behind = b""
        _ending = False

        def data_received(self, data: bytes) -> None:
            """Takes the short way where it can."""
            if self._asked is not None:
                # Sent before the answer to the last one: kept in order. More than a little is not read from the socket.
                self._behind += data
                self.flow.pause_reading()
                return
            asked = read_request(data, self.client[0] if self.client else "") if self._is_idle() else None
            route = routes.get(asked.path) if asked else None
            if asked is None or route is None or not route.takes(asked.call.authorization):
                super().data_received(data)
                return
            self._unset_keepalive_if_required()
            self._asked = asked
            if not route.begin(asked.call, self._tell):
                task = self.loop.create_task(self._answer(route, asked.call))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

        def _is_idle(self) -> bool:
            conn: Any = self.conn
            idle = {conn.our_state.__name__, conn.their_state.__name__} == {"IDLE"}
            return idle and not conn.trailing_data[0] and self.limit_concurrency is None

        async def _answer(self, route: Hot, call: Call) -> None:
            self._tell(await route.answer(call))

        def _tell(self, reply: Reply) -> None:
            asked, self._asked = self._asked, None
            if not self.transport.is_closing():
                close = self._ending or asked is None or asked.close
                self.transport.write(write_reply(reply, close=close))
                if close:
                    self.transport.close()
            behind, self._behind = self._behind, b""
            self.on_response_complete()
            if behind and not self.transport.is_closing():
                self.data_received(behind)

        def shutdown(self) -> None:
            """Lets the answer in hand out first."""
            if self._asked is not None:
                self._ending = True
            else:
                super().shutdown()

    return Lane
