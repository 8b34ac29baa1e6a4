"""Asks for decisions over HTTP, again when that helps, and answers by policy when nobody else does in time."""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from vedette.client.refusal import refusal
from vedette.client.retry import RETRIED, Retry
from vedette.core.decision import Action
from vedette.core.errors import DefinitionError

DEADLINE_S = 0.9
"""Within this `decide` answers, whatever happens to the service: a hung one is replaced within a second."""
ATTEMPT_S = 0.25
"""How long one request waits for its answer: several times the 50 ms in which a sound service answers."""
MAX_ANSWER = 1 << 20
UNREACHABLE = "fallback.service"
"""Code of an answer by policy because the service gave none."""
OK = 200


class Policy(StrEnum):
    """What the merchant wants when the service does not answer in time."""

    OPEN = "open"
    CLOSED = "closed"
    REVIEW = "review"


_ACTIONS = {Policy.OPEN: Action.ALLOW, Policy.CLOSED: Action.BLOCK, Policy.REVIEW: Action.REVIEW}


@dataclass(frozen=True, slots=True)
class Answer:
    """What to do with one payment."""

    action: str
    """`allow`, `challenge`, `review` or `block`."""
    fallback: str | None
    """Why it is by policy: a part of the service (`fallback.features`), or all of it (`fallback.service`)."""
    decision: Mapping[str, Any] | None
    """The service's whole answer; None when it gave none. Unknown fields are there too: newer services may add some."""
    attempts: int
    """Requests that were made."""


@dataclass(slots=True)
class _Reply:
    status: int = 0
    body: bytes = b""
    retry_after: float = 0.0


@dataclass(slots=True)
class _Counts:
    asked: int = 0
    retried: int = 0
    fallbacks: dict[str, int] = field(default_factory=dict)


class Client:
    """One service. Safe to use from several threads: each has its own connection.

    Args:
        url: Of the service, such as `https://vedette.example`.
        key: API key with `decisions:write`.
        policy: Answers when the service does not.
        deadline_s: Within this every call answers.
        attempt_s: How long one request waits.
        retry: How requests are repeated.
        alert: Hears the code of each answer by policy, such as `fallback.service`: somebody should know.
        monotonic: Seconds.
        sleep: Waits.
        uniform: Draws the jitter.

    Raises:
        DefinitionError: `client.url.invalid`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        policy: Policy = Policy.OPEN,
        deadline_s: float = DEADLINE_S,
        attempt_s: float = ATTEMPT_S,
        retry: Retry = Retry(),  # noqa: B008 - a frozen value
        alert: Callable[[str], None] = lambda _code: None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise DefinitionError("client.url.invalid", "not the address of a service", hint="https://host:port")
        self._parts = parts
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self.policy, self._deadline_s, self._attempt_s, self._retry = policy, deadline_s, attempt_s, retry
        self._alert, self._monotonic, self._sleep, self._uniform = alert, monotonic, sleep, uniform
        self._held = threading.local()
        self._open: set[http.client.HTTPConnection] = set()
        self._counts, self._lock = _Counts(), threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections of all threads. A later call opens new ones."""
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            connection.close()

    def decide(self, event: Mapping[str, Any], *, source: str = "") -> Answer:
        """The answer for one payment. Its own id is the key: however often it is asked for, it is decided on once.

        Args:
            event: The source's own fields.
            source: Its name, or a decision point; what the service decides on by default when left out.

        Raises:
            DataError: The event is wrong; code and place are the service's.
            DeniedError: The key is not accepted.
            PermanentError: Anything else that no repetition mends, such as an id used for other data.
        """
        wanted = {"event": event, **({"source": source} if source else {})}
        body = msgspec.json.encode(wanted)
        start, attempts = self._monotonic(), 0
        while True:
            left = self._deadline_s - (self._monotonic() - start)
            attempts += 1
            reply = self._ask(body, min(self._attempt_s, left)) if left > 0 else _Reply()
            if reply.status == OK:
                return self._read(reply.body, attempts)
            if reply.status and reply.status not in RETRIED:
                raise refusal(reply.status, reply.body)
            left = self._deadline_s - (self._monotonic() - start)
            wait = self._retry.wait(attempts, told=reply.retry_after, left=left, uniform=self._uniform)
            if wait is None:
                return self._by_policy(attempts)
            self._sleep(wait)

    @property
    def counts(self) -> Mapping[str, Any]:
        """Answers so far, repeated requests, and answers by policy by their code."""
        with self._lock:
            counts = self._counts
            return {"asked": counts.asked, "retried": counts.retried, "fallbacks": dict(counts.fallbacks)}

    def _read(self, body: bytes, attempts: int) -> Answer:
        decision = msgspec.json.decode(body)
        answer = Answer(decision["action"], decision.get("fallback"), decision, attempts)
        self._count(answer)
        return answer

    def _by_policy(self, attempts: int) -> Answer:
        answer = Answer(_ACTIONS[self.policy].value, UNREACHABLE, None, attempts)
        self._count(answer)
        return answer

    def _count(self, answer: Answer) -> None:
        with self._lock:
            self._counts.asked += 1
            self._counts.retried += answer.attempts - 1
            if answer.fallback:
                self._counts.fallbacks[answer.fallback] = self._counts.fallbacks.get(answer.fallback, 0) + 1
        if answer.fallback:
            self._alert(answer.fallback)

    def _ask(self, body: bytes, seconds: float) -> _Reply:
        """One request; an empty reply when it failed on the way."""
        connection = self._connection(seconds)
        try:
            connection.request("POST", f"{self._parts.path.rstrip('/')}/v1/decisions", body, self._headers)
            response = connection.getresponse()
            wait = response.getheader("retry-after", "")
            told = float(wait) if wait.isdigit() else 0.0
            reply = _Reply(response.status, response.read(MAX_ANSWER), told)
            if response.will_close:
                self._forget()
        except (OSError, http.client.HTTPException):
            # What is left of this exchange must not be taken for the answer of the next.
            self._forget()
            return _Reply()
        return reply

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        held: http.client.HTTPConnection | None = getattr(self._held, "connection", None)
        if held is None:
            parts = self._parts
            host = str(parts.hostname)
            if parts.scheme == "https":
                context = ssl.create_default_context()
                held = http.client.HTTPSConnection(host, parts.port, timeout=seconds, context=context)
            else:
                held = http.client.HTTPConnection(host, parts.port, timeout=seconds)
            self._held.connection = held
        with self._lock:
            self._open.add(held)
        held.timeout = seconds
        if held.sock is not None:
            held.sock.settimeout(seconds)
            with suppress(OSError):
                held.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return held

    def _forget(self) -> None:
        held: http.client.HTTPConnection | None = getattr(self._held, "connection", None)
        if held is not None:
            held.close()
            self._held.connection = None
            with self._lock:
                self._open.discard(held)
