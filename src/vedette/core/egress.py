"""All outgoing HTTP. An address that someone else wrote must not reach what only we can reach.

The host is resolved once, every address it has is checked, and the connection goes to the checked address itself, so a
name that changes its answer meanwhile changes nothing. The TLS certificate is still checked against the name. Redirects
are not followed, nothing is unpacked, cookies and proxies do not exist, and size and total time are capped.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

import httpx

from vedette.core._exchange import Link, PackedError, Peer, Response, TooLargeError
from vedette.core.errors import DataError, DeniedError, PermanentError, TransientError

__all__ = ["MAX_BODY_BYTES", "Egress", "Resolve", "Response", "inner", "is_public", "resolve"]

MAX_BODY_BYTES = 1024 * 1024
"""Largest answer that is read."""
MAX_PORT = 65_535
MAX_KEPT = 64
"""Connections that are kept for the next request of `keep`."""
KEPT_S = 10.0
"""How long one is kept without use."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]
"""Host and port to textual addresses; raises OSError."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


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
        self._context = context or httpx.create_ssl_context(trust_env=False)
        self._kept: OrderedDict[Link, Peer] = OrderedDict()
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        timeout: float = 10.0,
        max_bytes: int = MAX_BODY_BYTES,
        keep: bool = False,
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
            keep: Use a connection that an earlier request to the same name and address left open, and leave this one
                open for the next. The address is looked up and checked all the same. When the other side has closed
                it meanwhile the request is sent again, so only for what may arrive twice.

        Raises:
            DataError: `egress.url.invalid`, `egress.request.invalid`.
            DeniedError: `egress.scheme.refused`, `egress.address.refused`.
            TransientError: `egress.name.unresolved`, `egress.connection.failed`, `egress.time.exceeded`. After the last
                two the other side may have acted on the request.
            PermanentError: `egress.response.too_large`, `egress.response.encoded`.
        """
        target = self._parse(url)
        until = time.monotonic() + timeout
        ours = {"host": target.netloc.decode("ascii"), "accept-encoding": "identity"}
        given = {name: value for name, value in (headers or {}).items() if name.lower() not in {*ours, *_FRAMING}}
        if not keep:
            ours["connection"] = "close"
        peer = self._pin(target)
        path = target.raw_path.decode("ascii")
        try:
            return self._send(
                peer,
                keep,
                lambda link: link.exchange(method, path, ours | given, content, until=until, max_bytes=max_bytes),
                until,
            )
        except (http.client.HTTPException, OSError) as error:
            # Before ValueError: an error about a certificate is both.
            late = isinstance(error, TimeoutError)
            code, text = ("egress.time.exceeded", f"no whole answer within {timeout} s") if late else _FAILED
            raise TransientError(code, text, at=target.host) from error
        except ValueError as error:
            raise DataError("egress.request.invalid", "the request is not valid HTTP", at=target.host) from error
        except PackedError as error:
            raise PermanentError("egress.response.encoded", "a packed answer is not read", at=target.host) from error
        except TooLargeError as error:
            text = f"more than {max_bytes} bytes"
            raise PermanentError("egress.response.too_large", text, at=target.host) from error

    def address(self, host: str, port: int) -> str:
        """The checked address of a host, for what speaks another protocol than HTTP; connect to this and to no name.

        Raises:
            DataError: `egress.url.invalid`.
            DeniedError: `egress.address.refused`.
            TransientError: `egress.name.unresolved`.
        """
        try:
            target = httpx.URL(scheme="https", host=host, port=port)
        except (httpx.InvalidURL, TypeError, ValueError) as error:
            raise DataError("egress.url.invalid", "not a host and a port") from error
        return self._pin(target).address

    def close(self) -> None:
        """Ends every connection that is kept."""
        with self._lock:
            links, self._kept = list(self._kept), OrderedDict()
        for link in links:
            link.close()

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

    def _pin(self, target: httpx.URL) -> Peer:
        """Whom to connect to. One refused address refuses the host: who mixes them means harm."""
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
        return Peer(target.host, addresses[0], port, target.scheme == "https")

    def _send(self, peer: Peer, keep: bool, exchange: Callable[[Link], Response], until: float) -> Response:  # noqa: FBT001
        """On a kept connection if there is one; on a new one when that turns out to be closed."""
        old = self._take(peer) if keep else None
        if old is not None:
            try:
                return self._finish(old, exchange, keep=keep)
            except (ConnectionError, http.client.BadStatusLine):
                pass  # closed by the other side in the same moment, before it answered
        return self._finish(Link(peer, self._context, until), exchange, keep=keep)

    def _finish(self, link: Link, exchange: Callable[[Link], Response], *, keep: bool) -> Response:
        stays = False
        try:
            response = exchange(link)
            stays = keep and link.kept
            return response
        finally:
            if stays:
                self._keep(link)
            else:
                link.close()

    def _take(self, peer: Peer) -> Link | None:
        while True:
            with self._lock:
                link = next((each for each, whose in self._kept.items() if whose == peer), None)
                if link is None:
                    return None
                del self._kept[link]
            if time.monotonic() - link.since <= KEPT_S and link.is_quiet():
                return link
            link.close()

    def _keep(self, link: Link) -> None:
        link.since = time.monotonic()
        with self._lock:
            self._kept[link] = link.peer
            spare = self._kept.popitem(last=False)[0] if len(self._kept) > MAX_KEPT else None
        if spare is not None:
            spare.close()


_FAILED = ("egress.connection.failed", "the connection failed")
_FRAMING = ("content-length", "transfer-encoding", "connection")
"""Headers that say where a message ends: ours alone, so that nothing can be smuggled behind it."""
