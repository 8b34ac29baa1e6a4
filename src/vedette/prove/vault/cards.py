"""Cards as the vault sees them: what may be known of one, how a number is read, how it is sealed."""

from __future__ import annotations

import base64
import re
import secrets
from enum import StrEnum
from typing import NamedTuple

import msgspec

from vedette.core.errors import DataError
from vedette.prove.custody.provider import KEY_BYTES, KeyProvider
from vedette.prove.custody.sealed import open_with, seal_with
from vedette.prove.dlp import is_luhn, to_brand
from vedette.prove.secrets import Secret

TOKEN_BYTES = 20
PADDED = 64
"""Every card is sealed as so many bytes: the length of a number does not show."""
MAX_MERCHANT = 64

_SEPARATORS = re.compile(r"[ -]")
_TOKEN = re.compile(r"tok_[a-z2-7]{32}")


class Purpose(StrEnum):
    """What a card number may be taken out for."""

    CHARGE = "charge"
    REFUND = "refund"
    PAYOUT = "payout"
    VERIFY = "verify"
    DISPUTE = "dispute"


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What may be known of a card outside the vault."""

    token: str
    """Random: says nothing about the number, and differs each time a card is stored."""
    tenant: str
    merchant: str
    """Who alone may use it."""
    purposes: tuple[Purpose, ...]
    fingerprint: str
    """The same for the same number within one tenant, and unlike that of any other tenant."""
    brand: str
    last4: str
    created: int
    """Microseconds UTC."""
    erased: int | None = None


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """What is sealed."""

    number: str
    exp_month: int
    exp_year: int

    def __repr__(self) -> str:
        return "Number([card number])"


def read_number(text: Secret, exp_month: int, exp_year: int) -> Number:
    """A card number as a person types it.

    Raises:
        DataError: `vault.number.invalid`, `vault.expiry.invalid`; neither repeats what was sent.
    """
    digits = _SEPARATORS.sub("", text.reveal())
    if not (digits.isascii() and digits.isdigit() and to_brand(digits) and is_luhn(digits)):
        raise DataError("vault.number.invalid", "not a card number", hint="look for a slipped digit", at="$.number")
    if not (1 <= exp_month <= 12 and 2000 <= exp_year <= 2099):  # noqa: PLR2004
        raise DataError("vault.expiry.invalid", "not a month and year", hint="such as 12 and 2030", at="$.exp_month")
    return Number(number=digits, exp_month=exp_month, exp_year=exp_year)


def new_token() -> str:
    """A token of a card."""
    return f"tok_{base64.b32encode(secrets.token_bytes(TOKEN_BYTES)).decode().lower()}"


def is_token(text: str) -> bool:
    """True for the form of a token."""
    return bool(_TOKEN.fullmatch(text))


def to_fingerprint(provider: KeyProvider, tenant: str, number: Number) -> str:
    """Keyed hash of the whole number (PCI DSS 3.5.1.1): without the tenant's key nobody can try numbers."""
    mac = provider.mac(fingerprint_label(tenant), number.number.encode())
    return f"fp_{base64.b32encode(mac[:20]).decode().lower()}"


class Envelope(NamedTuple):
    """A sealed card."""

    version: int
    """Of the tenant's wrapping key."""
    sealed: bytes
    """The card, under its data key."""
    sealed_key: bytes
    """The data key, under the wrapping key."""


def seal_card(provider: KeyProvider, tenant: str, token: str, version: int, number: Number) -> Envelope:
    """A card under a fresh data key."""
    data_key = secrets.token_bytes(KEY_BYTES)
    plain = msgspec.json.encode(number).ljust(PADDED)
    sealed = seal_with(data_key, plain, _aad("card", tenant, token))
    return Envelope(version, sealed, seal_key(provider, tenant, token, version, data_key))


def open_card(provider: KeyProvider, tenant: str, token: str, envelope: Envelope) -> Number:
    """What was sealed.

    Raises:
        DefinitionError: `custody.sealed.invalid` for a row that was moved or changed.
        NotFoundError: `custody.key.unknown` when the tenant's key is destroyed.
    """
    data_key = open_key(provider, tenant, token, envelope.version, envelope.sealed_key)
    return msgspec.json.decode(open_with(data_key, envelope.sealed, _aad("card", tenant, token)), type=Number)


def seal_key(provider: KeyProvider, tenant: str, token: str, version: int, data_key: bytes) -> bytes:
    """A data key under a version of the tenant's wrapping key."""
    return provider.seal(wrapping_label(tenant, version), data_key, _aad(f"key:{version}", tenant, token))


def open_key(provider: KeyProvider, tenant: str, token: str, version: int, sealed_key: bytes) -> bytes:
    """The data key of a card."""
    return provider.open(wrapping_label(tenant, version), sealed_key, _aad(f"key:{version}", tenant, token))


def wrapping_label(tenant: str, version: int) -> str:
    """Label of a tenant's wrapping key."""
    return f"vault:{tenant}:{version}"


def fingerprint_label(tenant: str) -> str:
    """Label of a tenant's fingerprint key."""
    return f"fingerprint:{tenant}"


def _aad(what: str, tenant: str, token: str) -> bytes:
    # Tenants and tokens have no `|`, so two different places never read alike.
    return f"vedette.vault.v1|{what}|{tenant}|{token}".encode()
