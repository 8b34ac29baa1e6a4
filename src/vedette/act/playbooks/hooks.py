"""Webhooks of other systems, proven by their own signatures: each delivery starts a playbook once.

| Scheme | What is signed | What a delivery is told by |
|---|---|---|
| `timestamped` | time and body | the body's `id` |
| `standard` | id, time and body (Standard Webhooks) | the header `webhook-id` |
| `sha256` | the body alone: `X-Hub-Signature-256: sha256=<hex>` | the body: `X-GitHub-Delivery` is not signed |

A scheme without a time cannot tell a delivery that somebody recorded and sends again much later; as it is told by the
signed body and not by an id that anybody may change, it starts nothing twice.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from vedette.core.errors import DeniedError
from vedette.move.webhooks.signature import MAX_SECRET, MIN_SECRET, Scheme, WebhookError, verify

Pairs = Sequence[tuple[bytes, bytes]]
"""Headers as an ASGI server gives them."""

_HUB: Final = b"x-hub-signature-256"
_DIGEST: Final = re.compile(rb"sha256=([0-9a-f]{64})")


class HookScheme(StrEnum):
    """How a delivery is signed."""

    TIMESTAMPED = "timestamped"
    STANDARD = "standard"
    SHA256 = "sha256"


def delivery_of(body: bytes, headers: Pairs, *, scheme: HookScheme, secret: str, now: int) -> str:
    """What tells this delivery from every other one, proven by its signature.

    Args:
        body: The raw bytes, before anything parses them.
        headers: All of the request.
        scheme: The one that the playbook names; a sender cannot choose a weaker one.
        secret: Shared with the sender.
        now: Unix seconds.

    Raises:
        WebhookError: `webhooks.*`.
    """
    if scheme is HookScheme.SHA256:
        _check_digest(body, [value for name, value in headers if name.lower() == _HUB], secret)
        return hashlib.sha256(body).hexdigest()
    named: Scheme = "standard" if scheme is HookScheme.STANDARD else "timestamped"
    return verify(body, headers, scheme=named, secrets=[secret], now=now).message_id


def _check_digest(body: bytes, signatures: Iterable[bytes], secret: str) -> None:
    found = list(signatures)
    key = secret.encode()
    if not MIN_SECRET <= len(key) <= MAX_SECRET:
        raise WebhookError("webhooks.secret.invalid", f"a secret is a text of at least {MIN_SECRET} bytes")
    if not found:
        raise WebhookError("webhooks.signature.missing", "header `x-hub-signature-256` is needed")
    sent = _DIGEST.fullmatch(found[0])
    if len(found) > 1 or sent is None:
        raise WebhookError("webhooks.signature.malformed", "the header is one `sha256=` and 64 hexadecimal digits")
    if not hmac.compare_digest(hmac.digest(key, body, "sha256").hex().encode(), sent[1]):
        raise WebhookError("webhooks.signature.mismatch", "no signature matches this body")


def refused() -> DeniedError:
    """What a sender is told, whatever was wrong: nobody learns which addresses and secrets there are."""
    return DeniedError(
        "playbook.hook.refused",
        "no hook takes this delivery",
        hint="look at the address, the scheme, the secret and the clock",
    )
