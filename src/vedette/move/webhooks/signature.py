"""Signatures of webhooks, in the two forms that are in use.

| Scheme | Headers | Signed text |
|---|---|---|
| `timestamped` | `Webhook-Signature: t=<unix seconds>,v1=<hex>` | `t.body` |
| `standard` | `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,<base64>` | `id.t.body` |

Both are HMAC-SHA256. The time is signed, so an old delivery cannot be sent again later; the id is signed, so a second
one within the tolerance can be told from the first (`move.dedup`). Several signatures in one header let a secret
be rotated. The signature covers the raw bytes: verify before parsing. What is not understood (`v0`, `v1a`) is ignored,
never trusted; the caller names the scheme, so a sender cannot choose a weaker one.

Source: Stripe's published webhook signature scheme; Standard Webhooks 1.0.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from vedette.core.errors import DeniedError

Scheme = Literal["timestamped", "standard"]
"""How a webhook is signed."""
Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
"""Names and values; pairs where a name may stand twice. As an ASGI server or an HTTP library gives them."""

SIGNATURE: Final = "webhook-signature"
MESSAGE_ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
TOLERANCE_S: Final = 300
"""How far a delivery's time may be from the verifier's clock, either way."""
MAX_TOLERANCE_S: Final = 3_600
PREFIX: Final = "whsec_"
"""Of a `standard` secret; the base64 of its key follows."""
MIN_SECRET: Final = 16
"""Shortest `timestamped` secret, in bytes."""
MAX_SECRET: Final = 512
MIN_KEY, MAX_KEY = 24, 64
"""Bytes of a `standard` key."""
MAX_SECRETS: Final = 8
MAX_HEADER: Final = 4_096
"""Longest header that is read, in characters."""
MAX_SIGNATURES: Final = 16
"""Most signatures in a header; bounds the work a forged one costs."""
MAX_ID: Final = 256
MAX_TIME: Final = 10**12
_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_ID: Final = re.compile(r"[!-\-/-~]{1,256}")
"""Visible ASCII without a full stop, which would let a part of the id be taken for the time."""
_ITEM: Final = re.compile(r"[A-Za-z0-9_]+=[!-+\--~]*")
_SIGNED: Final = re.compile(r"[A-Za-z0-9]+,[!-+\--~]+")
_VISIBLE: Final = re.compile(r"[!-~]{1,256}")
_Encode = Callable[[bytes], str]


class WebhookError(DeniedError):
    """A delivery that is refused, or a secret, scheme or tolerance that cannot be used.

    | `code` | Means |
    |---|---|
    | `webhooks.signature.missing` | a header that the scheme needs is not there |
    | `webhooks.signature.repeated` | a header stands twice: nobody can say which one counts |
    | `webhooks.signature.malformed` | a header has another form, or is too long |
    | `webhooks.signature.mismatch` | no signature was made with one of the secrets over this body |
    | `webhooks.signature.stale`, `.early` | signed too long ago, or in the future |
    | `webhooks.id.invalid` | the message has no usable id |
    | `webhooks.body.invalid` | the body is not bytes |
    | `webhooks.secret.invalid`, `webhooks.scheme.unknown`, `webhooks.tolerance.invalid`, `webhooks.time.invalid` | the caller's own mistake |
    """  # noqa: E501 - a table


class Verified(NamedTuple):
    """What a signature proves."""

    message_id: str
    """The sender's id of the event, the same at every attempt: deduplicate by it."""
    timestamp: int
    """When this attempt was signed, unix seconds."""
    secret_index: int
    """Which of the secrets it was signed with."""


class _Body(msgspec.Struct):
    id: str


_decode_body = msgspec.json.Decoder(_Body).decode


def sign(
    body: bytes, *, secret: str, timestamp: int, message_id: str | None = None, scheme: Scheme = "timestamped"
) -> dict[str, str]:
    """The headers of one delivery.

    Args:
        body: The bytes that are sent.
        secret: `timestamped`: any text of at least `MIN_SECRET` bytes, used as it is. `standard`: `whsec_` and the
            base64 of 24 to 64 bytes.
        timestamp: Unix seconds of this attempt.
        message_id: `standard` needs it. `timestamped` has it in the body, as the top-level `id`.
        scheme: Which form.

    Raises:
        WebhookError: Its class lists the codes.

    Example:
        >>> sign(b'{"id":"evt_1"}', secret="a secret of the tests", timestamp=1_700_000_000)
        {'Webhook-Signature': 't=1700000000,v1=0169c37b42f573e11afe5bf41f9ba8719f3e70ea8cb0149974092bd41dba14b6'}
    """
    return sign_each(body, secrets=[secret], timestamp=timestamp, message_id=message_id, scheme=scheme)


def sign_each(
    body: bytes,
    *,
    secrets: Sequence[str],
    timestamp: int,
    message_id: str | None = None,
    scheme: Scheme = "timestamped",
) -> dict[str, str]:
    """As `sign`, with one signature for each secret, newest first: while a secret is rotated, either one verifies."""
    keys = _keys(secrets, scheme)
    _check_body(body)
    if not _is_whole(timestamp) or not 0 <= timestamp < MAX_TIME:
        raise WebhookError("webhooks.time.invalid", "the time is whole unix seconds")
    stamp = str(timestamp)
    if scheme == "timestamped":
        signed = stamp.encode() + b"." + body
        parts = [f"t={stamp}", *(f"v1={hmac.digest(key, signed, 'sha256').hex()}" for key in keys)]
        return {"Webhook-Signature": ",".join(parts)}
    if message_id is None or not _ID.fullmatch(message_id):
        raise WebhookError("webhooks.id.invalid", "an id is visible ASCII without a full stop, at most 256 characters")
    signed = f"{message_id}.{stamp}.".encode() + body
    signatures = " ".join(f"v1,{_to_base64(hmac.digest(key, signed, 'sha256'))}" for key in keys)
    return {MESSAGE_ID: message_id, TIMESTAMP: stamp, SIGNATURE: signatures}


def verify(
    body: bytes,
    headers: Headers,
    *,
    scheme: Scheme,
    secrets: Sequence[str],
    tolerance: int = TOLERANCE_S,
    now: int,
) -> Verified:
    """Checks a delivery before anything of it is parsed.

    Args:
        body: The raw bytes received.
        headers: All of the request; names in any case.
        scheme: The form that the sender was told to use.
        secrets: Any of them may have signed.
        tolerance: Largest distance between `now` and the signed time, both ways, 1 to 3,600 seconds. There is no way to
            switch the check off.
        now: The verifier's clock, unix seconds.

    Raises:
        WebhookError: Its class lists the codes. Nothing else is raised, whatever the input.
    """
    keys = _keys(secrets, scheme)
    if not _is_whole(tolerance) or not 1 <= tolerance <= MAX_TOLERANCE_S:
        raise WebhookError("webhooks.tolerance.invalid", f"the tolerance is 1 to {MAX_TOLERANCE_S} seconds")
    _check_body(body)
    if scheme == "timestamped":
        found = _read(headers, (SIGNATURE,))
        stamp, signatures = _timestamped(found[SIGNATURE])
        index = _match(keys, signatures, stamp.encode() + b"." + body, encode=bytes.hex)
        _check_age(int(stamp), now, tolerance)
        return Verified(_id_of(body), int(stamp), index)
    found = _read(headers, (SIGNATURE, MESSAGE_ID, TIMESTAMP))
    stamp, message_id = found[TIMESTAMP], found[MESSAGE_ID]
    if not _SECONDS.fullmatch(stamp):
        raise WebhookError("webhooks.signature.malformed", "the time is not whole unix seconds")
    if not _ID.fullmatch(message_id):
        raise WebhookError("webhooks.id.invalid", "an id is visible ASCII without a full stop, at most 256 characters")
    index = _match(keys, _standard(found[SIGNATURE]), f"{message_id}.{stamp}.".encode() + body, encode=_to_base64)
    _check_age(int(stamp), now, tolerance)
    return Verified(message_id, int(stamp), index)


def _read(headers: Headers, wanted: tuple[str, ...]) -> dict[str, str]:
    """The wanted headers, each exactly once."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers.items() if isinstance(headers, Mapping) else headers:
        name = (raw_name if isinstance(raw_name, str) else raw_name.decode("latin-1")).lower()
        if name not in wanted:
            continue
        if name in found:
            raise WebhookError("webhooks.signature.repeated", f"header `{name}` stands twice")
        value = raw_value.decode("latin-1") if isinstance(raw_value, bytes) else raw_value
        if not isinstance(value, str) or len(value) > MAX_HEADER:
            raise WebhookError("webhooks.signature.malformed", f"header `{name}` is not a text of usual length")
        found[name] = value
    for name in wanted:
        if not found.get(name):
            raise WebhookError("webhooks.signature.missing", f"header `{name}` is needed")
    return found


def _timestamped(header: str) -> tuple[str, list[str]]:
    """Time and `v1` signatures; the first `t` counts, names that are not known are ignored.

    Whatever else departs from the form is refused, white space too: nobody who signs writes it.
    """
    stamp, signatures = "", []
    for item in header.split(","):
        name, _, value = item.partition("=")
        if not _ITEM.fullmatch(item):
            raise WebhookError("webhooks.signature.malformed", "the header is a list of `name=value`")
        if name == "v1":
            signatures.append(value)
        elif name == "t" and not stamp:
            stamp = value
    if not _SECONDS.fullmatch(stamp) or not 0 < len(signatures) <= MAX_SIGNATURES:
        raise WebhookError("webhooks.signature.malformed", "the header needs one time `t` and a signature `v1`")
    return stamp, signatures


def _standard(header: str) -> list[str]:
    items = header.split(" ")
    signatures = [item[3:] for item in items if item.startswith("v1,")]
    if not all(map(_SIGNED.fullmatch, items)):
        raise WebhookError("webhooks.signature.malformed", "the header is a list of `version,signature`")
    if not 0 < len(signatures) <= MAX_SIGNATURES:
        raise WebhookError("webhooks.signature.malformed", "the header needs a signature `v1,...`")
    return signatures


def _match(keys: Sequence[bytes], signatures: Sequence[str], signed: bytes, *, encode: _Encode) -> int:
    """Index of the first key that made one of the signatures.

    Texts are compared, not decoded bytes: of the many ways to write the same bytes only the usual one passes. Every
    pair is compared, whichever matches, so that the time tells nothing about the secrets.
    """
    sent = [signature.encode("utf-8", "surrogatepass") for signature in signatures]
    matched = -1
    for index, key in enumerate(keys):
        own = encode(hmac.digest(key, signed, "sha256")).encode()
        for signature in sent:
            if hmac.compare_digest(own, signature) and matched < 0:
                matched = index
    if matched < 0:
        raise WebhookError("webhooks.signature.mismatch", "no signature matches this body")
    return matched


def _check_age(stamp: int, now: int, tolerance: int) -> None:
    age = now - stamp
    if age > tolerance:
        raise WebhookError("webhooks.signature.stale", f"signed {age} s ago, more than {tolerance} s")
    if -age > tolerance:
        raise WebhookError("webhooks.signature.early", f"signed {-age} s in the future, more than {tolerance} s")


def _id_of(body: bytes) -> str:
    try:
        found = _decode_body(body).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise WebhookError("webhooks.id.invalid", "the body is no JSON object with a text `id`") from None
    if not _VISIBLE.fullmatch(found):
        raise WebhookError("webhooks.id.invalid", f"the body's `id` is visible ASCII, 1 to {MAX_ID} characters")
    return found


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_body(body: object) -> None:
    if not isinstance(body, bytes):
        raise WebhookError("webhooks.body.invalid", "the body is the raw bytes")


def _keys(secrets: Sequence[str], scheme: Scheme) -> list[bytes]:
    if scheme not in {"timestamped", "standard"}:
        raise WebhookError("webhooks.scheme.unknown", "the scheme is `timestamped` or `standard`")
    if isinstance(secrets, str | bytes) or not 0 < len(secrets) <= MAX_SECRETS:
        raise WebhookError("webhooks.secret.invalid", f"1 to {MAX_SECRETS} secrets are needed, in a list")
    return [_to_key(secret, scheme) for secret in secrets]


def _to_key(secret: object, scheme: Scheme) -> bytes:
    """The key's bytes. No error here repeats any of the secret, and none keeps one that does as its cause."""
    if scheme == "timestamped":
        key = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else b""
        if MIN_SECRET <= len(key) <= MAX_SECRET:
            return key
        raise WebhookError("webhooks.secret.invalid", f"a secret is a text of at least {MIN_SECRET} bytes")
    if isinstance(secret, str) and secret.startswith(PREFIX):
        try:
            key = base64.b64decode(secret[len(PREFIX) :], validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if MIN_KEY <= len(key) <= MAX_KEY:
            return key
    raise WebhookError("webhooks.secret.invalid", "a secret is `whsec_` and the base64 of 24 to 64 bytes")


def _to_base64(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode()
