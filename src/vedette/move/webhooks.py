"""Webhook signatures: `t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`.

The time is signed, so an old delivery cannot be sent again; several `v1` allow the secret to be rotated. A time too far
in the past is refused, and so is one in the future. The signature covers the raw bytes: verify before parsing.

Example:
    >>> header = sign([b"whsec_0123456789abcdef"], b"{}", 1_700_000_000)
    >>> verify(header, b"{}", [b"whsec_0123456789abcdef"], now=1_700_000_100)
    1700000000

Source: Stripe's published webhook signature scheme.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

from vedette.core.errors import DefinitionError, DeniedError

HEADER: Final = "vedette-signature"
TOLERANCE_S: Final = 300
"""How far a delivery's time may be from the verifier's clock, either way."""
MIN_SECRET: Final = 16
"""Shortest secret, in bytes."""
MAX_HEADER: Final = 4_096
"""Longest header that is looked at, in characters."""
MAX_SIGNATURES: Final = 16
"""Most `v1` items that are compared; bounds the work a forged header costs."""
_TIME: Final = re.compile(r"[0-9]{1,12}")


def sign(secrets: Sequence[bytes], body: bytes, timestamp: int) -> str:
    """The header of one delivery.

    Args:
        secrets: All that are valid now, newest first; one `v1` each.
        body: The bytes that are sent.
        timestamp: Unix seconds of this attempt.

    Raises:
        DefinitionError: `webhooks.secret.invalid`.
    """
    _check(secrets)
    return ",".join([f"t={timestamp}", *(f"v1={_digest(secret, str(timestamp), body)}" for secret in secrets)])


def verify(header: str, body: bytes, secrets: Sequence[bytes], *, now: int, tolerance_s: int = TOLERANCE_S) -> int:
    """Checks a delivery and gives the time it was signed, unix seconds.

    Args:
        header: Value of `HEADER`. Unknown schemes in it are ignored; the first `t` counts.
        body: The raw bytes received.
        secrets: Any of them may have signed.
        now: The verifier's clock, unix seconds.
        tolerance_s: Largest distance between `now` and the signed time, both ways; at least 1.

    Raises:
        DeniedError: `webhooks.signature.malformed`, `webhooks.signature.mismatch`, `webhooks.signature.stale`,
            `webhooks.signature.early`.
        DefinitionError: `webhooks.secret.invalid`, `webhooks.tolerance.invalid`.
    """
    _check(secrets)
    if tolerance_s < 1:
        raise DefinitionError("webhooks.tolerance.invalid", "the tolerance must be at least a second")
    stamp, signatures = _parse(header)
    # Every pair is compared, whichever matches, so that the time tells nothing about the secrets.
    matches = [
        hmac.compare_digest(_digest(secret, stamp, body).encode(), signature.encode())
        for secret in secrets
        for signature in signatures
    ]
    if not any(matches):
        raise DeniedError("webhooks.signature.mismatch", "no signature matches this body")
    age = now - int(stamp)
    if age > tolerance_s:
        raise DeniedError("webhooks.signature.stale", f"signed {age} s ago, more than {tolerance_s} s")
    if -age > tolerance_s:
        raise DeniedError("webhooks.signature.early", f"signed {-age} s in the future, more than {tolerance_s} s")
    return int(stamp)


def _parse(header: str) -> tuple[str, list[str]]:
    items = [item.strip().partition("=") for item in header[:MAX_HEADER].split(",")] if header else []
    stamp = next((value for name, _, value in items if name == "t"), "")
    signatures = [value for name, _, value in items if name == "v1"][:MAX_SIGNATURES]
    if not _TIME.fullmatch(stamp) or not signatures:
        raise DeniedError("webhooks.signature.malformed", "the signature header needs a time `t` and a signature `v1`")
    return stamp, signatures


def _digest(secret: bytes, stamp: str, body: bytes) -> str:
    return hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _check(secrets: Sequence[bytes]) -> None:
    if not secrets or any(len(secret) < MIN_SECRET for secret in secrets):
        raise DefinitionError(
            "webhooks.secret.invalid", f"a webhook secret has at least {MIN_SECRET} bytes, and there is at least one"
        )
