"""Warninglists: values that many mistake for signs of an attack, such as public resolvers and office networks.

An indicator that stands on one is held back, with the list's name as the reason. The lists are MISP's own format; each
type is compared its own way: `string` whole, `hostname` with the names under it, `cidr` by network, `substring` and
`regex` anywhere.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import json
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from vedette.core.errors import DataError
from vedette.expr.patterns import compile_regex, regex_refusal
from vedette.expr.spotter import Spotter, literal
from vedette.sense.intel.values import Kind, address, host_of, networks, parents, refanged

MAX_BYTES = 256 * 1024 * 1024
"""Of all lists, unpacked."""
MAX_FILES = 2_000

_TYPES = {
    Kind.IPV4: {"ip-src", "ip-dst", "domain|ip", "ip-src|port", "ip-dst|port"},
    Kind.IPV6: {"ip-src", "ip-dst", "domain|ip", "ip-src|port", "ip-dst|port"},
    Kind.DOMAIN: {"domain", "hostname", "domain|ip", "hostname|port"},
    Kind.URL: {"url", "uri"},
    Kind.EMAIL: {"email-src", "email-dst", "email", "target-email", "whois-registrant-email", "dns-soa-email"},
    Kind.FILE: {"md5", "sha1", "sha256", "sha512"},
}


class List(msgspec.Struct, frozen=True):
    """One list."""

    name: str
    type: str
    entries: tuple[str, ...]
    kinds: frozenset[Kind]


class Warninglists:
    """Lists in the form in which they are asked.

    Args:
        lists: Which.
    """

    def __init__(self, lists: Sequence[List] = ()) -> None:
        self.lists = tuple(lists)
        self._whole: dict[Kind, dict[str, int]] = {kind: {} for kind in Kind}
        self._hosts: dict[str, int] = {}
        self._nets: dict[str, int] = {}
        self._anywhere: list[tuple[int, Spotter]] = []
        self._regexes: list[tuple[int, Any]] = []
        for place, one in enumerate(self.lists):
            self._lay(place, one)

    def _lay(self, place: int, one: List) -> None:
        texts = [refanged(each).lower() for each in one.entries]
        if one.type == "hostname":
            self._hosts |= {text.strip("."): place for text in texts}
        elif one.type == "cidr":
            for text in texts:
                try:
                    net = ipaddress.ip_network(text, strict=False)
                except ValueError:
                    continue
                self._nets[str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)] = place
        elif one.type == "substring":
            self._anywhere.append((place, Spotter(literal(text.encode()) for text in texts if text)))
        elif one.type == "regex":
            for text in one.entries:
                body, _, flags = text.removeprefix("/").rpartition("/") if text.startswith("/") else (text, "", "")
                if not regex_refusal(body, flags):
                    self._regexes.append((place, compile_regex(body, flags)))
        else:
            for kind in one.kinds:
                self._whole[kind].update(dict.fromkeys(texts, place))

    def holds(self, kind: Kind, value: str) -> str:
        """Name of a list that a canonical value stands on; empty for none."""
        host = host_of(value) if kind is Kind.URL else value.rpartition("@")[2] if kind is Kind.EMAIL else value
        is_address = kind in {Kind.IPV4, Kind.IPV6} or (kind is Kind.URL and bool(address(host)))
        found = [self._whole[kind].get(value, -1)]
        if is_address:
            nets = networks(host.partition("/")[0]) if "/" not in host else _around(host)
            found += [self._nets.get(net, -1) for net in nets]
        elif kind in {Kind.DOMAIN, Kind.URL} and host:
            found += [self._hosts.get(name, -1) for name in (*parents(host), host.rpartition(".")[2])]
        text = value.encode()
        found += [place for place, spotter in self._anywhere if spotter.holds(text)]
        found += [place for place, regex in self._regexes if regex.search(text)]
        return next((self.lists[at].name for at in found if at >= 0 and kind in self.lists[at].kinds), "")

    def reason(self, values: Sequence[tuple[Kind, str]]) -> str:
        """Why an indicator of these values is held back; empty when none of them stands on a list."""
        for kind, value in values:
            if name := self.holds(kind, value):
                return f"{value} stands on the warninglist `{name}`"
        return ""


def load_warninglists(path: Path, *, only: str = "*", leave: str = "") -> tuple[List, ...]:
    """Lists from a folder of MISP's repository, an archive of it, or one file.

    Args:
        path: Of the folder, the `.tar.xz` or `.tar.gz`, or the `list.json`.
        only: Glob over the folders' names, such as `rfc*`.
        leave: Glob of those to leave out; empty: none.

    Raises:
        DataError: `intel.warninglists.unreadable`, `intel.warninglists.invalid`, `intel.warninglists.too_large`.
    """
    found = []
    try:
        for name, content in _files(path):
            if fnmatch.fnmatch(name, only) and not (leave and fnmatch.fnmatch(name, leave)):
                found.append(_list(name, content))
    except (OSError, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise DataError("intel.warninglists.unreadable", "cannot be read", at=str(path)) from error
    if not found:
        raise DataError("intel.warninglists.invalid", "there is no list", at=str(path))
    return tuple(sorted(found, key=lambda one: one.name))


def keep_warninglists(folder: Path, lists: Sequence[List]) -> None:
    """Puts lists in place of those that a home had, whole or not at all."""
    path = _place(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(msgspec.json.encode(lists))
    fresh.replace(path)


def kept_warninglists(folder: Path) -> Warninglists:
    """The lists of a home; none where none were imported.

    Raises:
        DataError: `intel.warninglists.damaged`.
    """
    try:
        return Warninglists(msgspec.json.decode(_place(folder).read_bytes(), type=tuple[List, ...]))
    except FileNotFoundError:
        return Warninglists()
    except (OSError, msgspec.DecodeError) as error:
        raise DataError("intel.warninglists.damaged", "cannot be read", hint="import them again") from error


def _place(folder: Path) -> Path:
    return folder / "intel" / "warninglists.json"


def _around(network: str) -> list[str]:
    """A network and those it lies in."""
    own = ipaddress.ip_network(network, strict=False)
    size = own.max_prefixlen - own.prefixlen
    return [str(own), *(str(own.supernet(new_prefix=wide)) for wide in range(own.max_prefixlen - size))]


def _list(name: str, content: bytes) -> List:
    try:
        told = json.loads(content)
        entries = tuple(str(each) for each in told["list"])
        kind, title = str(told.get("type", "string")), str(told.get("name", name))
        named = {str(each) for each in told.get("matching_attributes", ())}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError("intel.warninglists.invalid", "no list of MISP's form", at=name) from error
    return List(title, kind, entries, frozenset(one for one in Kind if not named or named & _TYPES[one]))


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Folder's name and content of each `list.json`."""
    total = 0
    for number, (name, content) in enumerate(_archived(path) if path.is_file() else _foldered(path)):
        total += len(content)
        if total > MAX_BYTES or number > MAX_FILES:
            raise DataError("intel.warninglists.too_large", f"more than {MAX_FILES} lists or {MAX_BYTES} bytes")
        yield name, content


def _foldered(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(path.rglob("list.json")):
        yield file.parent.name, file.read_bytes()


def _archived(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix == ".json":
        yield path.parent.name, path.read_bytes()
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and Path(member.name).name == "list.json" and member.size <= MAX_BYTES:
                file = archive.extractfile(member)
                assert file is not None  # noqa: S101 - a regular file
                yield Path(member.name).parent.name, file.read()
