"""The short way reads a request as the library does, or leaves it alone."""

from __future__ import annotations

import json
import socket

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serve_world import card
from server_process import PATIENCE_S, Server, make_key

from vedette.serve.door.plain import Call, is_begun, read_request
from vedette.serve.errors import Reply
from vedette.serve.lane import write_reply


def request(body=b"{}", more=b"", length=None):
    head = b"POST /v1/decisions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s\r\nContent-Type: application/json\r\n"
    return head + more + b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


def by_library(data):
    """(headers, body, rest) of the first request; None where the library refuses it or wants more."""
    conn = h11.Connection(h11.SERVER)
    conn.receive_data(data)
    try:
        asked, body = conn.next_event(), b""
        while isinstance(event := conn.next_event(), h11.Data):
            body += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    if not isinstance(asked, h11.Request) or not isinstance(event, h11.EndOfMessage):
        return None
    return asked, body, conn.trailing_data[0]


PIECES = [
    b"X-More: 1\r\n", b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
    b"Connection: Upgrade\r\n", b" folded\r\n", b"Bad Name: 1\r\n", b"X: a\nY: b\r\n", b"X: \x00\r\n", b"X:\r\n",
    b"Expect: 100-continue\r\n", b"content-length:2\r\n", b"X : 1\r\n", b"Host: y\r\n", b"X: \xe9\r\n", b"\r\n",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=3),
    st.binary(max_size=6),
    st.none() | st.integers(0, 9),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=2),
    st.sampled_from([b"", b"POST /v1/decisions HTTP/1.1\r\n", b"\r\n"]),
)
def test_what_is_taken_is_what_the_library_reads(pieces, body, length, changes, behind):
    data = bytearray(request(body, b"".join(pieces), length) + behind)
    for place, value in changes:
        data[place % len(data)] = value
    asked = read_request(bytes(data))
    if asked is None:
        return
    found = by_library(bytes(data))
    assert found is not None
    wanted, content, rest = found
    headers = {bytes(name): bytes(value) for name, value in wanted.headers}
    assert (bytes(wanted.method), bytes(wanted.target), content, rest) == (
        b"POST",
        asked.path.encode(),
        asked.call.body,
        b"",
    )
    assert headers.get(b"authorization", b"").decode("latin-1") == (asked.call.authorization or "")
    assert asked.close is (headers.get(b"connection", b"").lower() == b"close")
    assert b"transfer-encoding" not in headers


def test_plain_requests_take_the_short_way():
    asked = read_request(request(b'{"a": 1}'))
    assert asked == ("/v1/decisions", Call("Bearer s", "application/json", b'{"a": 1}'), False)
    assert read_request(request(b"", b"Connection: close\r\n")).close
    for odd in (*PIECES[1:3], *PIECES[4:8]):
        assert read_request(request(b"{}", odd)) is None
    assert write_reply(Reply(503, b"{}", {"retry-after": "1"}), close=True) == (
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
        b"retry-after: 1\r\nconnection: close\r\n\r\n{}"
    )


def test_the_beginning_of_a_plain_request_is_waited_for():
    whole = request(b'{"a": 1}')
    start = whole.index(b"\r\n") + 2
    assert all(is_begun(whole[:size], 1_000) for size in range(start, len(whole)))
    assert not any(is_begun(whole[:size], 1_000) for size in (0, start - 1, len(whole)))
    assert not is_begun(whole + b"x", 1_000)
    assert not is_begun(whole[:-1], len(whole) - 1)
    assert not is_begun(request(b"{}", b"Transfer-Encoding: chunked\r\n")[:-1], 1_000)


@pytest.fixture(scope="module", params=[(), ("--supervised",)], ids=["alone", "door"])
def served(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("lane") / "home"
    secret = make_key(home, "decisions:write")
    server = Server(home, *request.param)
    server.start()
    yield server, secret
    assert server.stop() == 0


def exchange(server, *sent, answers=1):
    """Statuses and bodies of the answers to bytes sent one after the other on one connection."""
    found = []
    place = ("127.0.0.1", server.port)
    with socket.create_connection(place, timeout=PATIENCE_S) as link, link.makefile("rb") as file:
        for data in sent:
            link.sendall(data)
        for _ in range(answers):
            status, headers = int(file.readline().split()[1]), {}
            while (line := file.readline()) != b"\r\n":
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            found.append((status, json.loads(file.read(int(headers["content-length"])))))
    return found


def asked_for(number, secret, more=b""):
    body = json.dumps({"event": card(number)}).encode()
    return request(body, more).replace(b"Bearer s", b"Bearer " + secret.encode())


def test_both_ways_answer_alike(served):
    server, secret = served
    whole = asked_for(1, secret)
    ((status, first),) = exchange(server, whole)
    assert (status, first["event_id"], first["fallback"]) == (200, "1", None)
    assert exchange(server, whole[:40], whole[40:]) == [(200, first)]
    assert exchange(server, asked_for(1, secret, b"TE: trailers\r\n")) == [(200, first)]
    assert exchange(server, asked_for(1, "vk_test_" + "0" * 43))[0][0] == 401
    assert exchange(server, request(b"{", b"").replace(b"Bearer s", b"Bearer " + secret.encode()))[0][0] == 400


def test_requests_behind_each_other_are_answered_in_order(served):
    server, secret = served
    several = [asked_for(number, secret) for number in range(10, 16)]
    together = exchange(server, b"".join(several), answers=6)
    assert [answer["event_id"] for _, answer in together] == [str(number) for number in range(10, 16)]
    assert (
        exchange(server, several[0], several[1], several[2] + several[3][:30], several[3][30:], answers=4)
        == together[:4]
    )
