"""The port of key providers: what every place that holds keys can do, and the check value that names a key.

A key leaves its provider in no form. It seals and opens small things, such as data keys, with AES-256-GCM, or it makes
MACs with HMAC-SHA256; never both. Sealed bytes are nonce (12), ciphertext, tag (16).

The check value is the first three bytes of a MAC over sixteen zero bytes (AES-CMAC for a wrapping key, as ANSI X9.24-1
has it; HMAC for a MAC key). The older one, the encrypted zero block, would tell 24 bits of the key that authenticates
GCM.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Protocol

import msgspec

from vedette.core.errors import DefinitionError, NotFoundError, PermanentError

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
CHECK_BYTES = 3
CHECK_INPUT = bytes(16)
TAKEN = "custody.key.exists"
"""Code of the error for a label that is taken."""

_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}(:[a-z0-9][a-z0-9._-]{0,62}){0,3}")


class KeyUse(StrEnum):
    """What a key may do."""

    WRAP = "wrap"
    """Seal and open, AES-256-GCM."""
    MAC = "mac"
    """Make MACs, HMAC-SHA256."""


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What may be known of a key."""

    label: str
    """Name in its provider: parts split by colons, such as `vault:acme:2`."""
    use: KeyUse
    created: int
    """Microseconds UTC."""
    check: str
    """Key check value, six hexadecimal digits."""


class KeyProvider(Protocol):
    """A place that holds keys. Implementations are safe for several threads.

    Every method raises `PermanentError` `custody.provider.failed` when the place itself refuses; a method that names a
    key raises `NotFoundError` `custody.key.unknown`.
    """

    def create(self, label: str, use: KeyUse) -> KeyInfo:
        """Makes a fresh key inside.

        Raises:
            DefinitionError: `custody.key.label`, or `custody.key.exists`.
        """

    def place(self, label: str, use: KeyUse, secret: bytes) -> KeyInfo:
        """Takes in a key that a ceremony rebuilt, 32 bytes. Raises as `create`."""

    def seal(self, label: str, data: bytes, aad: bytes) -> bytes:
        """Encrypts and authenticates `data`, and binds it to `aad`."""

    def open(self, label: str, sealed: bytes, aad: bytes) -> bytes:
        """What was sealed.

        Raises:
            DefinitionError: `custody.sealed.invalid` for another key, another `aad` or changed bytes.
        """

    def mac(self, label: str, data: bytes) -> bytes:
        """HMAC-SHA256 over `data`, 32 bytes."""

    def list_keys(self) -> list[KeyInfo]:
        """Every key it holds, by label."""

    def destroy(self, label: str) -> None:
        """Ends a key for good: what it sealed can be opened by nobody. A key that is not there is no error."""


def ensure_key(provider: KeyProvider, label: str, use: KeyUse) -> None:
    """Makes a key unless it is there: another process, or this one before it died, may have made it.

    Raises:
        DefinitionError: `custody.key.label`.
    """
    try:
        provider.create(label, use)
    except DefinitionError as error:
        if error.code != TAKEN:
            raise


def check_label(label: str) -> None:
    """Lets a label pass.

    Raises:
        DefinitionError: `custody.key.label`.
    """
    if not _LABEL.fullmatch(label):
        raise DefinitionError(
            "custody.key.label", "not a label of a key", hint="lower case parts split by colons, such as `vault:acme:2`"
        )


def to_check(mac: bytes) -> str:
    """A key check value from the MAC over `CHECK_INPUT`."""
    return mac[:CHECK_BYTES].hex()


def unknown(label: str) -> NotFoundError:
    """No key of that label."""
    return NotFoundError("custody.key.unknown", f"no key `{label}`", hint="it was destroyed, or is held elsewhere")


def exists(label: str) -> DefinitionError:
    """A key of that label is there already."""
    return DefinitionError(TAKEN, f"there is a key `{label}` already", hint="use the next version")


def invalid() -> DefinitionError:
    """What was to be opened was not sealed like this."""
    return DefinitionError("custody.sealed.invalid", "these bytes were not sealed by this key for this place")


def failed(what: str) -> PermanentError:
    """The provider refused."""
    return PermanentError("custody.provider.failed", f"the key provider refused: {what}")
