"""What an action on another system is made of, and the one way in which it speaks HTTP.

An action is declared whole: its signature, how it is performed, and how one looks ahead. Its destination and its
credential come together in a *connection*: a secret that is a JSON object such as `{"url": "https://...", "token":
"..."}`. A playbook names the secret and can neither read it nor send a credential somewhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from vedette.act.actions import ActionCall, ActionResult, Argument, Signature
from vedette.core.clock import Clock
from vedette.core.egress import Egress, Response
from vedette.core.errors import DefinitionError, PermanentError, TransientError

TIMEOUT_S = 20.0
MAX_RETRY_AFTER_S = 300.0
"""A receiver may ask us to wait no longer than this."""
CONNECTION = Argument(str, secret=True)
"""The name of a connection."""
MAX_ECHO = 500


@dataclass(frozen=True, slots=True)
class Reach:
    """What actions reach the world with."""

    egress: Egress
    """The guarded way out."""
    secret: Callable[[str], str]
    """Name of a secret -> its value, at the moment of use."""
    clock: Clock
    folder: Path
    """Where files for other programs are written: block lists, zones."""
    ports: Mapping[str, Any]
    """Rooms of the product that its own actions act on, by their names."""


@dataclass(frozen=True, slots=True)
class Action:
    """An action, declared whole."""

    signature: Signature
    perform: Callable[[ActionCall, Reach], ActionResult]
    """Does it; the same key again has no second effect."""
    preview: Callable[[ActionCall, Reach], dict[str, Any]] | None = None
    """What it would touch; touches nothing."""


class Remote:
    """The other side of a connection.

    Args:
        reach: The way out.
        name: Name of the secret.
        needs: What the connection must hold.

    Raises:
        DefinitionError: `action.connection.invalid`.
    """

    def __init__(self, reach: Reach, name: str, *needs: str) -> None:
        self._egress = reach.egress
        self._values = read_connection(reach, name, *needs)
        self._name = name

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def get(self, name: str) -> str:
        """Something that the connection may hold; empty when it does not."""
        return self._values.get(name, "")

    def send(
        self,
        method: str,
        path: str = "",
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (),
    ) -> Response:
        """Sends one request; what is no success becomes a coded error.

        Args:
            method: `GET`, `POST`, ...
            path: After the connection's `url`.
            body: Sent as JSON; bytes are sent as they are.
            headers: Beside content type.
            accept: Statuses beside 2xx that are answers and no errors.

        Raises:
            TransientError: `action.remote.busy` (429), `action.remote.unavailable` (5xx), `egress.*`.
            PermanentError: `action.remote.denied`, `action.remote.missing`, `action.remote.refused`.
        """
        content = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        told = {"Accept": "application/json", "Content-Type": "application/json"} | dict(headers or {})
        url = self._values["url"].rstrip("/") + path
        answer = self._egress.request(method, url, headers=told, content=content, timeout=TIMEOUT_S)
        check(answer, self._name, accept)
        return answer


def read_connection(reach: Reach, name: str, *needs: str) -> dict[str, str]:
    """What a connection holds. Nothing of it is in the error.

    Raises:
        DefinitionError: `action.connection.invalid`.
        NotFoundError: `secrets.name.unknown`.
    """
    hint = f"a JSON object of texts with {', '.join(needs)}"
    try:
        values = msgspec.json.decode(reach.secret(name).encode(), type=dict[str, str])
    except msgspec.MsgspecError:
        raise DefinitionError("action.connection.invalid", f"`{name}` is no connection", hint=hint) from None
    if any(not values.get(each) for each in needs):
        raise DefinitionError("action.connection.invalid", f"`{name}` lacks something", hint=hint)
    return values


def check(answer: Response, name: str, accept: tuple[int, ...] = ()) -> None:
    """Turns an answer that is no success into a coded error. What the receiver wrote is not repeated."""
    status = answer.status
    if 200 <= status < 300 or status in accept:  # noqa: PLR2004 - HTTP
        return
    text = f"the receiver answered {status}"
    if status == 429:  # noqa: PLR2004 - HTTP
        raise TransientError("action.remote.busy", text, at=name, retry_after=_retry_after(answer))
    if status >= 500:  # noqa: PLR2004 - HTTP
        raise TransientError("action.remote.unavailable", text, at=name, retry_after=_retry_after(answer))
    codes = {401: "denied", 403: "denied", 404: "missing", 410: "missing"}
    raise PermanentError(f"action.remote.{codes.get(status, 'refused')}", text, at=name)


def _retry_after(answer: Response) -> float:
    wait = answer.headers.get("retry-after", "")
    return min(float(wait), MAX_RETRY_AFTER_S) if re.fullmatch(r"\d{1,6}", wait) else 0.0


def read_json(answer: Response, kind: type[Any] = dict) -> Any:
    """The JSON of an answer.

    Raises:
        TransientError: `action.remote.garbled`: it is none, or of another shape; the call may have had its effect, and
            comes again under its key.
    """
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.MsgspecError:
        raise TransientError("action.remote.garbled", "the receiver's answer cannot be read") from None


def segment(text: str) -> str:
    """A text as one segment of a path."""
    return quote(text, safe="")


def cut(text: Any) -> str:
    """Something the other side wrote, for people."""
    return str(text)[:MAX_ECHO]
