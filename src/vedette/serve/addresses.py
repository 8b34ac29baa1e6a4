"""Where the console lives: which Host and Origin are its own, and the headers that every page carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from vedette.core.asgi import App, Message, Receive, Scope, Send
from vedette.core.errors import DefinitionError, DeniedError

HEADERS: dict[str, str] = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer outside the API. A route may say another `cache-control`, as static files do."""

Refuse = Callable[[DeniedError, Scope, Receive, Send], Awaitable[None]]
"""Answers a request that was not let through."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS = {"http": 80, "https": 443}
_BESIDE = ("/v1", "/taxii2", "/healthz", "/metrics", "/openapi.json")
"""Paths of the API, which takes no cookie and so needs no Host or Origin."""


class Addresses:
    """The console's own addresses.

    Args:
        urls: Such as `https://vedette.example` or `http://127.0.0.1:8700`; scheme, host and port only.

    Raises:
        DefinitionError: `serve.address.invalid`.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        self.origins = frozenset(_origin(url) for url in urls)
        self._secure = frozenset(_authority(each) for each in self.origins if each.startswith("https:"))
        self._hosts = frozenset(_authority(each) for each in self.origins)

    @classmethod
    def listening(cls, host: str, port: int, urls: Iterable[str] = ()) -> Addresses:
        """The configured addresses; without any, the one listened on and the machine's own names."""
        hosts = {host, "localhost", "127.0.0.1"}
        return cls(urls or [f"http://{f'[{name}]' if ':' in name else name}:{port}" for name in sorted(hosts)])

    def secure(self, host: str) -> bool:
        """Whether this Host is reached over HTTPS."""
        return _plain(host) in self._secure

    def check(self, method: str, host: str, origin: str | None) -> None:
        """Lets a request to a page pass.

        Raises:
            DeniedError: `session.host` for a Host that is none of ours; `session.origin` for a request that changes
                something and does not come from a page of ours.
        """
        if _plain(host) not in self._hosts:
            hint = "the setting `addresses` names where browsers reach the console"
            raise DeniedError("session.host", "the console does not live at this address", hint=hint)
        if method in _SAFE:
            return
        if origin is None or origin not in self.origins or _authority(origin) != _plain(host):
            raise DeniedError("session.origin", "this request does not come from a page of the console")


def of_api(path: str) -> bool:
    """Whether a path belongs to the API rather than to the console."""
    return any(path == each or path.startswith(f"{each}/") for each in _BESIDE)


def fenced(addresses: Addresses, app: ASGIApp | App, refuse: Refuse) -> App:
    """Puts every page behind Host and Origin, and every answer outside the API under `HEADERS`.

    Args:
        addresses: The console's own.
        app: What answers.
        refuse: Answers a request that is not let through.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or of_api(scope["path"]):
            await app(scope, receive, send)
            return
        sent = {name: value.decode("latin-1") for name, value in scope["headers"]}

        async def dress(message: Message) -> None:
            if message["type"] == "http.response.start":
                held = {name.lower() for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in held]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        try:
            addresses.check(scope["method"], sent.get(b"host", ""), sent.get(b"origin"))
        except DeniedError as error:
            await refuse(error, scope, receive, dress)
            return
        await app(scope, receive, dress)

    return guarded


def _origin(url: str) -> str:
    """The origin as browsers write it: lower case, without the scheme's own port."""
    try:
        parts = urlsplit(url.strip().rstrip("/").lower())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    if parts.scheme not in _PORTS or not name or parts.path or parts.query or parts.fragment or parts.username:
        hint = "write scheme, host and port, such as https://vedette.example"
        raise DefinitionError("serve.address.invalid", "not an address of a console", hint=hint, at=url[:128])
    return f"{parts.scheme}://{name}" + (f":{port}" if port not in {None, _PORTS[parts.scheme]} else "")


def _authority(origin: str) -> str:
    return origin.partition("://")[2]


def _plain(host: str) -> str:
    return host.lower()
