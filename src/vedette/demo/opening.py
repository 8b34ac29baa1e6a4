"""What must be there before the day: API keys of the merchants and of the company's own systems, made over HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from vedette.demo.day import Passes
from vedette.demo.wire import Wire
from vedette.demo.world.nouns import Key

FEED: Final = "events:write,charges:write,refunds:write,payouts:write,labels:write"
WATCH: Final = "metrics:read"


def make_keys(wire: Wire, admin: str, keys: Iterable[Key]) -> tuple[Passes, Mapping[str, str]]:
    """Makes every key that the day needs.

    Args:
        wire: To the product.
        admin: Token of somebody who may make keys.
        keys: The merchants'.

    Returns:
        The secrets, and the id of each merchant's key by its name.
    """
    secrets: dict[str, str] = {}
    ids: dict[str, str] = {}
    for key in keys:
        secrets[key.name], ids[key.name] = _make(wire, admin, key.name, "charges:write", (key.merchant,))
    feed, _ = _make(wire, admin, "company systems", FEED)
    watch, _ = _make(wire, admin, "monitoring", WATCH)
    return Passes(secrets, feed, watch), ids


def _make(wire: Wire, admin: str, name: str, scopes: str, accounts: tuple[str, ...] = ()) -> tuple[str, str]:
    wanted = {"scopes": scopes, "mode": "live", "name": name, "accounts": accounts}
    made = wire.post("/v1/keys", wanted, bearer=admin)
    return made["secret"], made["id"]
