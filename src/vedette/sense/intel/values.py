"""Observable values: what an indicator names and an event holds, each in one canonical spelling.

Canonical values of different kinds never look alike: a hash has no dot, an e-mail address has an at sign, a URL begins
with a slash. So one table can hold them all.

Example:
    >>> canonical(Kind.DOMAIN, "WWW.Evil.Example."), canonical(Kind.IPV4, "203.0.113.0/24")
    ('www.evil.example', '203.0.113.0/24')
    >>> canonical(Kind.URL, "hxxp://Evil[.]Example:80/a?b=1#c"), guess("d41d8cd98f00b204e9800998ecf8427e").kind
    ('//evil.example/a?b=1', <Kind.FILE: 'file'>)
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import NamedTuple

from vedette.core.errors import DataError

MAX_VALUE = 2_048
"""Longest value, characters."""
HASH_DIGITS = {32: "MD5", 40: "SHA-1", 64: "SHA-256", 128: "SHA-512"}
"""Hexadecimal digits -> the algorithm by STIX's name."""

_HEX = re.compile(r"[0-9a-f]+")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_EMAIL = re.compile(r"[^\s@\"<>()]{1,64}@([^\s@]+)")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,20}://")
_DEFANGED = (("[.]", "."), ("(.)", "."), ("[dot]", "."), ("[:]", ":"), ("[@]", "@"))
_PORTS = {"http": "80", "https": "443", "ftp": "21"}


class Kind(StrEnum):
    """Kinds of observables, by the names of STIX's objects."""

    IPV4 = "ipv4-addr"
    """An address or a network of them."""
    IPV6 = "ipv6-addr"
    DOMAIN = "domain-name"
    """A name, which stands for the names under it too."""
    URL = "url"
    """Kept without scheme: `//host/path?query`, or `/path` for a path on whatever host."""
    EMAIL = "email-addr"
    FILE = "file"
    """The hash of a file, told by its length."""

    # An enumeration's own hash is computed in Python, and every look-up would pay for it several times.
    __hash__ = str.__hash__


class Atom(NamedTuple):
    """One value that is looked for."""

    kind: Kind
    value: str


def canonical(kind: Kind, text: str) -> str:
    """The one spelling of a value; defanged texts (`hxxp`, `[.]`) are made whole.

    Raises:
        DataError: `intel.value.invalid`.
    """
    plain = refanged(text)
    found = _SPELLINGS[kind](plain) if 0 < len(plain) <= MAX_VALUE else ""
    if not found:
        raise DataError("intel.value.invalid", f"no {kind}: `{text[:80]}`")
    return found


def guess(text: str) -> Atom | None:
    """The kind of a value that stands alone, and its canonical spelling; None where it is none."""
    plain = refanged(text)
    if not 0 < len(plain) <= MAX_VALUE:
        return None
    for kind in (Kind.FILE, Kind.IPV4, Kind.IPV6, Kind.EMAIL, Kind.DOMAIN, Kind.URL):
        if kind is Kind.URL and "/" not in plain:
            continue
        if found := _SPELLINGS[kind](plain):
            return Atom(kind, found)
    return None


def refanged(text: str) -> str:
    """A text whose links people made harmless, as it was."""
    plain = text.strip()
    for broken, whole in _DEFANGED:
        plain = plain.replace(broken, whole)
    return re.sub(r"^h(xx|\*\*)p", "http", plain, flags=re.IGNORECASE)


def parents(name: str) -> list[str]:
    """A domain name and the names it lies under, itself first and the last label alone left out."""
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(max(1, len(labels) - 1))]


def url_keys(url: str) -> list[str]:
    """What an indicator may say of a canonical URL: it all, without its query, and its path on any host."""
    host, _, rest = url.removeprefix("//").partition("/")
    path = rest.partition("?")[0]
    keys = (url, f"//{host}/{path}", f"/{rest}", f"/{path}")
    return [key for key in dict.fromkeys(keys) if key != "/"]


def host_of(url: str) -> str:
    """The host of a canonical URL, without port and user; empty for a path alone."""
    if not url.startswith("//"):
        return ""
    host = url[2:].partition("/")[0].rpartition("@")[2]
    return host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]


def networks(address: str) -> list[str]:
    """An address and every network it lies in, canonically spelled."""
    try:
        own = ipaddress.ip_address(address)
    except ValueError:
        return [address]
    wide = own.max_prefixlen
    spelled = (str(ipaddress.ip_network((int(own) >> (wide - size) << (wide - size), size))) for size in range(wide))
    return [str(own), *spelled] if own.version == 4 else [str(own), *_six(own, wide)]  # noqa: PLR2004


def _six(own: ipaddress.IPv4Address | ipaddress.IPv6Address, wide: int) -> list[str]:
    whole = int(own)
    return [str(ipaddress.IPv6Network((whole >> (wide - size) << (wide - size), size))) for size in range(wide)]


def address(text: str) -> str:
    """An address in its canonical spelling: an IPv4 one inside an IPv6 one as itself; empty for none."""
    try:
        found = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def _ip(version: int, text: str) -> str:
    try:
        if "/" not in text:
            own = ipaddress.ip_address(text.strip("[]"))
            return address(text) if own.version == version else ""
        net = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return ""
    if net.version != version:
        return ""
    return str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)


def _ipv4(text: str) -> str:
    return _ip(4, text)


def _ipv6(text: str) -> str:
    return _ip(6, text)


def _domain(text: str) -> str:
    name = text.rstrip(".").removeprefix("*.").lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return ""
    labels = name.split(".")
    good = len(name) <= 253 and len(labels) > 1 and all(map(_LABEL.fullmatch, labels))  # noqa: PLR2004 - RFC 1035
    return name if good and not labels[-1].isdecimal() else ""


def _url(text: str) -> str:
    scheme = _SCHEME.match(text.lower())
    rest = text[scheme.end() :] if scheme else text.removeprefix("//")
    if any(ord(char) <= 32 or ord(char) == 127 for char in rest):  # noqa: PLR2004 - controls and spaces
        return ""
    rest = rest.partition("#")[0]
    host, slash, path = rest.partition("/")
    if not host:
        return rest if len(path) > 1 else ""
    if not slash and "?" in host:
        host, _, query = host.partition("?")
        path = f"?{query}"
    host = host.lower()
    name, colon, port = host.rpartition(":")
    if colon and scheme and _PORTS.get(scheme[0][:-3]) == port:
        host = name
    bare = host_of(f"//{host}")
    return f"//{host}/{path}" if _domain(bare) or _ipv4(bare) or _ipv6(bare) else ""


def _email(text: str) -> str:
    found = _EMAIL.fullmatch(text.lower())
    return found[0] if found and _domain(found[1]) else ""


def _hash(text: str) -> str:
    plain = text.lower()
    return plain if len(plain) in HASH_DIGITS and _HEX.fullmatch(plain) else ""


_SPELLINGS = {
    Kind.IPV4: _ipv4,
    Kind.IPV6: _ipv6,
    Kind.DOMAIN: _domain,
    Kind.URL: _url,
    Kind.EMAIL: _email,
    Kind.FILE: _hash,
}
