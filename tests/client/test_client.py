"""The client answers in time whatever the service does, asks again under one key, and tells of what it could not ask."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from vedette.client import Client, Policy, Retry
from vedette.client.client import ATTEMPT_S, DEADLINE_S
from vedette.core.errors import DataError, DefinitionError, DeniedError, PermanentError

HANG, RESET, RUBBISH, SLOW = "hang", "reset", "rubbish", "slow"
ROOMY_S, TRIES = 120.0, 20
"""A deadline that a busy machine does not miss, and how often one is tried that it may miss by itself."""
DECISION = {"event_id": "1", "action": "review", "score": 0.5, "fallback": None, "a_new_field": [1]}


def answer(status, body, headers=""):
    content = json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\n{headers}content-length: {len(content)}\r\n\r\n".encode() + content


OK = answer(200, DECISION)
BUSY = answer(503, {"error": {"code": "decision.queue.full", "message": "too much waits"}})
WAIT = answer(503, {}, "retry-after: 1\r\n")


@contextmanager
def service(*script):
    """A service that does one thing after the other; the last goes on for ever. Gives its address and what it got."""
    got, listener, stop = [], socket.create_server(("127.0.0.1", 0)), threading.Event()
    steps = list(script)

    def handle(link):
        with link:
            link.settimeout(120)
            while not stop.is_set():
                data = b""
                while b"\r\n\r\n" not in data:
                    some = link.recv(65_536)
                    if not some:
                        return
                    data += some
                head, _, body = data.partition(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                while len(body) < length:
                    body += link.recv(65_536)
                got.append(body)
                step = steps.pop(0) if len(steps) > 1 else steps[0]
                if step == HANG:
                    stop.wait(600)
                    return
                if step == RESET:
                    return
                link.sendall(b"\x00\x01 nonsense\r\n\r\n" if step == RUBBISH else step)

    def serve():
        while not stop.is_set():
            try:
                link, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=lambda link=link: quietly(handle, link), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", got
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def quietly(handle, link):
    with suppress(OSError):
        handle(link)


def asked(url, **options):
    told, options = [], {"attempt_s": ROOMY_S, "deadline_s": ROOMY_S} | options
    with Client(url, "vk_test_x", alert=told.append, **options) as client:
        started = time.monotonic()
        return client.decide({"TRANSACTION_ID": 1}), time.monotonic() - started, client, told


def test_an_answer_is_read_with_what_newer_services_add():
    with service(OK) as (url, got):
        found, _, client, told = asked(url)
        for _ in range(3):
            client.decide({"TRANSACTION_ID": 2}, source="payouts")
        client.close()
    assert (found.action, found.fallback, found.attempts, found.decision) == ("review", None, 1, DECISION)
    assert json.loads(got[0]) == {"event": {"TRANSACTION_ID": 1}}
    assert json.loads(got[1]) == {"event": {"TRANSACTION_ID": 2}, "source": "payouts"}
    assert (client.counts, told) == ({"asked": 4, "retried": 0, "fallbacks": {}}, [])


@pytest.mark.parametrize("trouble", [BUSY, RESET, RUBBISH, answer(500, {}), answer(429, {})])
def test_trouble_that_passes_is_repeated_with_the_same_request(trouble):
    with service(trouble, trouble, OK) as (url, got):
        found, _, client, _ = asked(url)
    assert (found.action, found.attempts, len(set(got)), len(got)) == ("review", 3, 1, 3)
    assert client.counts["retried"] == 2


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("trouble", [HANG, RESET, RUBBISH, BUSY, WAIT])
def test_trouble_that_stays_is_answered_by_policy_in_time(trouble, policy):
    for _ in range(TRIES):
        with service(trouble) as (url, _):
            found, seconds, client, told = asked(url, policy=policy, attempt_s=ATTEMPT_S, deadline_s=DEADLINE_S)
        if seconds < DEADLINE_S + 0.1:
            break
    assert found.action == {"open": "allow", "closed": "block", "review": "review"}[policy]
    assert (found.fallback, found.decision) == ("fallback.service", None)
    assert seconds < DEADLINE_S + 0.1
    assert client.counts["fallbacks"] == {"fallback.service": 1}
    assert told == ["fallback.service"]


def test_nobody_there():
    found, _, _, told = asked("http://127.0.0.1:1", deadline_s=0.3)
    assert (found.action, told) == ("allow", ["fallback.service"])


@pytest.mark.parametrize(
    ("status", "kind"), [(400, DataError), (401, DeniedError), (403, DeniedError), (409, PermanentError)]
)
def test_what_no_repetition_mends_is_raised(status, kind):
    error = {"error": {"code": "decision.event.type", "message": "must be a number", "place": "$.TX_AMOUNT"}}
    with service(answer(status, error)) as (url, got), pytest.raises(kind) as caught:
        asked(url)
    assert (caught.value.code, caught.value.place, len(got)) == ("decision.event.type", "$.TX_AMOUNT", 1)


def test_waits():
    law = Retry(attempts=4, base_s=0.1, cap_s=0.3)
    longest = lambda _low, high: high  # noqa: E731
    waits = [law.wait(n, told=0, left=9, uniform=longest) for n in range(1, 5)]
    assert waits == [0.1, 0.2, 0.3, None]
    assert law.wait(1, told=2.0, left=3.0, uniform=longest) == 2.0
    assert law.wait(1, told=2.0, left=1.0, uniform=longest) is None
    assert law.wait(1, told=0.0, left=1.0, uniform=lambda low, _high: low) == 0.0


@pytest.mark.parametrize("url", ["ftp://x", "nothing", "http://"])
def test_an_address_that_is_none(url):
    with pytest.raises(DefinitionError, match="not the address"):
        Client(url, "k")
