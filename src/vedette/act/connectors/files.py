"""Files that other programs read: a firewall's block list, a DNS resolver's sinkhole zone.

Each write is whole: a new file beside the old one, synced, then renamed over it, under a lock that every process of
the installation takes. An entry is there or it is not, so a call that comes again changes nothing.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vedette.act.actions import CHANGED, ActionCall, ActionResult, Argument, Signature
from vedette.act.connectors.connector import Action, Reach
from vedette.core.clock import MICROS
from vedette.core.errors import DataError

MIN_PREFIX = {4: 16, 6: 32}
"""Widest network that is blocked: a whole country is no entry of a list."""
MAX_ENTRIES = 100_000
_FILE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DOMAIN = re.compile(r"(?=.{4,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{1,62}")


def canonical_network(value: str) -> str:
    """A network or an address as the list holds it.

    Raises:
        DataError: `action.entry.invalid`: it is none, it is not public, or it is wider than `MIN_PREFIX`.
    """
    try:
        network = ipaddress.ip_network(value.strip(), strict=False)
    except ValueError:
        raise DataError("action.entry.invalid", "not an address or a network") from None
    if network.prefixlen < MIN_PREFIX[network.version]:
        hint = f"at least /{MIN_PREFIX[network.version]}"
        raise DataError("action.entry.invalid", "the network is too wide to be blocked", hint=hint)
    if network.is_loopback or network.is_link_local or network.is_multicast or network.is_unspecified:
        raise DataError("action.entry.invalid", "blocking this would stop the machine itself")
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def canonical_domain(value: str) -> str:
    """A domain as the zone holds it.

    Raises:
        DataError: `action.entry.invalid`; a top-level domain is none.
    """
    try:
        name = value.strip().rstrip(".").lower().encode("idna").decode()
    except UnicodeError:
        name = ""
    if not _DOMAIN.fullmatch(name):
        raise DataError("action.entry.invalid", "not a domain")
    return name


class _File:
    """One file under the folder of the installation."""

    def __init__(self, reach: Reach, name: str, ending: str) -> None:
        if not _FILE.fullmatch(name):
            raise DataError("action.file.name", "a file is named by lower-case letters, digits, `_` and `-`")
        self.path: Path = reach.folder / f"{name}{ending}"

    def read(self) -> list[str]:
        return self.path.read_text("utf-8").splitlines() if self.path.exists() else []

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (self.path.parent / f".{self.path.name}.lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def change(self, edit: Callable[[list[str]], list[str]]) -> bool:
        """Writes what `edit` makes of the lines; true when that is something else."""
        with self._lock():
            before = self.read()
            after = edit(before)
            if after == before:
                return False
            fresh = self.path.with_name(f".{self.path.name}.new")
            with fresh.open("w", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in after))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
            return True


def _add(lines: list[str], entry: str) -> list[str]:
    if entry in lines:
        return lines
    if len(lines) >= MAX_ENTRIES:
        raise DataError("action.file.full", f"the list holds {MAX_ENTRIES:,} entries")
    return [*lines, entry]


def _block(call: ActionCall, reach: Reach) -> ActionResult:
    entry = canonical_network(call.arguments["address"])
    changed = _File(reach, call.arguments["list"], ".txt").change(lambda lines: _add(lines, entry))
    return ActionResult({"address": entry, "changed": changed})


def _unblock(call: ActionCall, reach: Reach) -> ActionResult:
    entry = canonical_network(call.arguments["address"])
    if call.arguments.get("changed", True):
        file = _File(reach, call.arguments["list"], ".txt")
        file.change(lambda lines: [line for line in lines if line != entry])
    return ActionResult({"address": entry})


def _look_list(call: ActionCall, reach: Reach) -> dict[str, Any]:
    entry, lines = canonical_network(call.arguments["address"]), _File(reach, call.arguments["list"], ".txt").read()
    return {"address": entry, "blocked_already": entry in lines, "entries": len(lines)}


# A response policy zone (draft-vixie-dnsop-dns-rpz): `CNAME .` answers that the name does not exist.


def _records(name: str, target: str) -> list[str]:
    return [f"{name} CNAME {target}", f"*.{name} CNAME {target}"]


def _zone(lines: list[str], records: list[str], drop: str, now: int) -> list[str]:
    """The zone with some records, and without those of a name; its serial grows with every change."""
    held = [line for line in lines[3:] if drop not in (line.split(" ", 1)[0], line.split(" ", 1)[0].removeprefix("*."))]
    wanted = held + records
    if wanted == lines[3:]:
        return lines
    serial = re.search(r"\((\d+) ", lines[1]) if len(lines) > 1 else None
    fresh = max(now // MICROS, int(serial[1]) + 1 if serial else 0) % 2**32
    head = ["$TTL 60", f"@ SOA localhost. hostmaster.localhost. ({fresh} 3600 600 86400 60)", "@ NS localhost."]
    return [*head, *wanted]


def _sinkhole(call: ActionCall, reach: Reach) -> ActionResult:
    name, to = canonical_domain(call.arguments["domain"]), call.arguments.get("to")
    target = f"{canonical_domain(to)}." if to else "."
    file, now = _File(reach, call.arguments["zone"], ".rpz"), reach.clock.now()
    known = set(file.read())
    if set(_records(name, target)) <= known:
        return ActionResult({"domain": name, "changed": False})
    return ActionResult(
        {"domain": name, "changed": file.change(lambda lines: _zone(lines, _records(name, target), name, now))}
    )


def _release(call: ActionCall, reach: Reach) -> ActionResult:
    name, now = canonical_domain(call.arguments["domain"]), reach.clock.now()
    if call.arguments.get("changed", True):
        _File(reach, call.arguments["zone"], ".rpz").change(lambda lines: _zone(lines, [], name, now))
    return ActionResult({"domain": name})


def _look_zone(call: ActionCall, reach: Reach) -> dict[str, Any]:
    name = canonical_domain(call.arguments["domain"])
    lines = _File(reach, call.arguments["zone"], ".rpz").read()
    return {"domain": name, "sunk_already": any(line.startswith(f"{name} ") for line in lines)}


_LIST = {"list": Argument(str), "address": Argument(str)}
_ZONE = {"zone": Argument(str), "domain": Argument(str)}

ACTIONS = (
    Action(
        Signature(
            "firewall_block",
            "puts an address or a network on a block list that a firewall reads",
            _LIST,
            drastic=True,
            touches={"address": "address"},
            undo="firewall_unblock",
        ),
        _block,
        _look_list,
    ),
    Action(
        Signature(
            "firewall_unblock",
            "takes an address or a network off a block list",
            {**_LIST, "changed": CHANGED},
            touches={"address": "address"},
        ),
        _unblock,
        _look_list,
    ),
    Action(
        Signature(
            "dns_sinkhole",
            "makes a domain and everything below it unreachable by name, in a response policy zone",
            {**_ZONE, "to": Argument(str, required=False)},
            drastic=True,
            touches={"domain": "domain"},
            undo="dns_release",
        ),
        _sinkhole,
        _look_zone,
    ),
    Action(
        Signature(
            "dns_release",
            "takes a domain out of a response policy zone",
            {**_ZONE, "changed": CHANGED},
            touches={"domain": "domain"},
        ),
        _release,
        _look_zone,
    ),
)
