"""All outgoing HTTP. An address that someone else wrote must not reach what only we can reach.

The host is resolved once, every address it has is checked, and the connection goes to the checked address itself, so a
name that changes its answer meanwhile changes nothing. The TLS certificate is still checked against the name. Redirects
are not followed, nothing is unpacked, cookies and proxies do not exist, and size and total time are capped.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from vedette.core.errors import DataError, DeniedError, PermanentError, TransientError

MAX_BODY_BYTES = 1024 * 1024
"""Largest answer that is read."""
CHUNK_BYTES = 16 * 1024
MAX_PORT = 65_535

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]
"""Host and port to textual addresses; raises OSError."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, whatever its status."""

    status: int
    """100..599; a redirect is an answer like another."""
    headers: Mapping[str, str]
    """Names in lower case; of a repeated header, the values joined by commas."""
    body: bytes = field(repr=False)


def resolve(host: str, port: int) -> list[str]:
    """Every address the system's resolver gives for a host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one carries (mapped, 6to4, Teredo, NAT64), else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    carried = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    return carried or address


def is_public(address: Address) -> bool:
    """True for an address that anyone reaches: not private, loopback, link-local, multicast or reserved."""
    real = inner(address)
    return real.is_global and not real.is_multicast and not real.is_reserved


class Egress:
    """Sends requests to public addresses, and to what is named. Safe to share between threads.

    Args:
        allow: Host names, addresses and networks (`10.2.0.0/16`) that may be reached though they are private. A named
            host may also be reached by plain `http`.
        resolver: Tests pass their own.
        context: TLS settings; the certificates of the `certifi` package and no older protocol than TLS 1.2 by default.
    """

    def __init__(
        self, allow: Iterable[str] = (), *, resolver: Resolve = resolve, context: ssl.SSLContext | None = None
    ) -> None:
        self._hosts: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in allow:
            try:
                self._networks.append(ipaddress.ip_network(entry))
            except ValueError:
                self._hosts.add(entry.lower().rstrip("."))
        self._resolver = resolver
        # No connection is kept: the pool knows addresses, not names, and a name must not ride on another's connection.
        self._transport = httpx.HTTPTransport(
            verify=context or httpx.create_ssl_context(trust_env=False),
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        timeout: float = 10.0,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> Response:
        """Sends one request and reads the whole answer.

        Args:
            method: `GET`, `POST`, ...
            url: `https://host[:port]/path`; no user name or password in it.
            headers: Sent as given; `Host` and `Accept-Encoding` are ours.
            content: The body.
            timeout: Seconds for connecting, sending and reading together. Resolving the name comes before it and has
                the system resolver's own limit.
            max_bytes: Largest answer.

        Raises:
            DataError: `egress.url.invalid`, `egress.request.invalid`.
            DeniedError: `egress.scheme.refused`, `egress.address.refused`.
            TransientError: `egress.name.unresolved`, `egress.connection.failed`, `egress.time.exceeded`. After the last
                two the other side may have acted on the request.
            PermanentError: `egress.response.too_large`, `egress.response.encoded`.
        """
        target = self._parse(url)
        pinned = target.copy_with(host=self._pin(target))
        ours = {"host": target.netloc.decode("ascii"), "accept-encoding": "identity"}
        given = {name: value for name, value in (headers or {}).items() if name.lower() not in ours}
        deadline = _Deadline(timeout)
        request = httpx.Request(
            method,
            pinned,
            headers={**given, **ours},
            content=content,
            extensions={
                "sni_hostname": target.host,
                "timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout),
                "trace": deadline.watch,
            },
        )
        try:
            with deadline:
                return self._send(request, max_bytes, target.host)
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:
            raise DataError("egress.request.invalid", "the request is not valid HTTP", at=target.host) from error
        except httpx.TransportError as error:
            late = deadline.passed or isinstance(error, httpx.TimeoutException)
            code, text = ("egress.time.exceeded", f"no whole answer within {timeout} s") if late else _FAILED
            raise TransientError(code, text, at=target.host) from error

    def close(self) -> None:
        """Gives back the TLS settings and sockets."""
        self._transport.close()

    def _parse(self, url: str) -> httpx.URL:
        try:
            target = httpx.URL(url)
        except (httpx.InvalidURL, TypeError) as error:
            raise DataError("egress.url.invalid", "not a URL") from error
        if not target.host or target.userinfo or not 0 < (target.port or 1) <= MAX_PORT:
            raise DataError("egress.url.invalid", "a URL with a host and without a password is needed")
        if target.scheme != "https" and not (target.scheme == "http" and self._named(target.host)):
            raise DeniedError("egress.scheme.refused", "only https is sent to hosts not named", at=target.host)
        return target

    def _named(self, host: str) -> bool:
        return host.lower().rstrip(".") in self._hosts or self._in_networks(host)

    def _in_networks(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        return any(address in network or inner(address) in network for network in self._networks)

    def _pin(self, target: httpx.URL) -> str:
        """The address to connect to. One refused address refuses the host: who mixes them means harm."""
        port = target.port or (443 if target.scheme == "https" else 80)
        try:
            addresses = self._resolver(target.raw_host.decode("ascii").strip("[]"), port)
        except (OSError, UnicodeError) as error:
            raise TransientError("egress.name.unresolved", "the host has no address", at=target.host) from error
        for text in addresses:
            allowed = self._named(target.host) or self._in_networks(text) or is_public(ipaddress.ip_address(text))
            if not allowed:
                raise DeniedError(
                    "egress.address.refused",
                    "the host's address is private",
                    at=target.host,
                    hint="name it in `egress_allow` if it is meant",
                )
        if not addresses:
            raise TransientError("egress.name.unresolved", "the host has no address", at=target.host)
        return addresses[0]

    def _send(self, request: httpx.Request, max_bytes: int, host: str) -> Response:
        response = self._transport.handle_request(request)
        try:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise PermanentError("egress.response.encoded", "a packed answer is not read", at=host)
            body = bytearray()
            for chunk in response.iter_raw(CHUNK_BYTES):
                body += chunk
                if len(body) > max_bytes:
                    raise PermanentError("egress.response.too_large", f"more than {max_bytes} bytes", at=host)
            return Response(response.status_code, dict(response.headers), bytes(body))
        finally:
            response.close()


_FAILED = ("egress.connection.failed", "the connection failed")


class _Deadline:
    """Cuts the connection when the time is over, however slowly the other side drips its bytes.

    The library's own limits are per read; a server that sends a byte a second would never meet them.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def watch(self, event: str, info: dict[str, Any]) -> None:
        """Trace hook of the transport: learns the socket as soon as there is one."""
        if event == "connection.connect_tcp.complete":
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
            if self.passed:
                self._cut()

    def _cut(self) -> None:
        with self._lock:
            self.passed = True
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    # Closed by itself in the same moment.
                    self._socket = None

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            self._socket = None
