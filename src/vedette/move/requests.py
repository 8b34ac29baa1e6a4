"""What a client may ask for: every field checked, every problem told with its JSON path, no value repeated.

Card numbers are refused here, before anything is stored, hashed or logged.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from vedette.core.errors import DataError
from vedette.core.money import MAX_MINOR, Money
from vedette.prove.dlp import refuse_pans

MAX_METADATA: Final = 50
"""Most entries of `metadata`."""
MAX_METADATA_KEY: Final = 40
MAX_METADATA_VALUE: Final = 500
MAX_REASON: Final = 500
_SOURCE: Final = re.compile(r"tok_[A-Za-z0-9_-]{1,120}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


class ChargeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request for a charge."""

    amount_minor: int
    currency: str
    source: str
    merchant: str
    metadata: dict[str, str]


class PayoutRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request for a payout."""

    amount_minor: int
    currency: str
    merchant: str


def parse_charge(key: str, parameters: Any) -> ChargeRequest:
    """Checks `{amount_minor, currency, source, merchant, metadata}`; `metadata` may be left out.

    Raises:
        DataError: `request.pan_refused`; `request.field.missing`, `request.field.unknown`, `request.field.type`;
            `money.*`; `charge.source.invalid`, `charge.metadata.too_large`, `request.merchant.invalid`.
    """
    _refuse_pans(key, parameters)
    fields = _object(parameters, required={"amount_minor", "currency", "source", "merchant"}, optional={"metadata"})
    money = _money(fields)
    source = _text(fields, "source")
    if not _SOURCE.fullmatch(source):
        raise DataError(
            "charge.source.invalid",
            "the source must be a token",
            hint="send the `tok_...` that stands for the card",
            at="$.source",
        )
    return ChargeRequest(
        amount_minor=money.amount_minor,
        currency=money.currency,
        source=source,
        merchant=_merchant(fields),
        metadata=_metadata(fields.get("metadata", {})),
    )


def parse_refund(key: str, parameters: Any) -> int | None:
    """Checks `{amount_minor}`; None when it is left out: refund everything that is left.

    Raises:
        DataError: `request.*`, `money.amount.*`.
    """
    _refuse_pans(key, parameters)
    fields = _object(parameters, required=set(), optional={"amount_minor"})
    return _amount(fields) if "amount_minor" in fields else None


def parse_payout(key: str, parameters: Any) -> PayoutRequest:
    """Checks `{amount_minor, currency, merchant}`.

    Raises:
        DataError: `request.*`, `money.*`.
    """
    _refuse_pans(key, parameters)
    fields = _object(parameters, required={"amount_minor", "currency", "merchant"}, optional=set())
    money = _money(fields)
    return PayoutRequest(amount_minor=money.amount_minor, currency=money.currency, merchant=_merchant(fields))


def parse_freeze(key: str, merchant: str, reason: str) -> None:
    """Checks what a freeze names.

    Raises:
        DataError: `request.*`.
    """
    _refuse_pans(key, {"merchant": merchant, "reason": reason})
    _merchant({"merchant": merchant})
    if len(reason) > MAX_REASON:
        raise DataError("request.reason.too_long", f"at most {MAX_REASON} characters", at="$.reason")


def _refuse_pans(key: str, parameters: Any) -> None:
    refuse_pans(key, "$idempotency_key")
    refuse_pans(parameters)


def _object(value: Any, *, required: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError("request.field.type", "the body must be a JSON object", at="$")
    for name in sorted(required - value.keys()):
        raise DataError("request.field.missing", f"`{name}` is missing", at=f"$.{name}")
    for name in sorted(str(name) for name in value.keys() - required - optional):
        raise DataError(
            "request.field.unknown",
            "unknown field",
            hint=f"known are {', '.join(sorted(required | optional))}",
            at=f"$.{name[:64]!r}",
        )
    return value


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise DataError("request.field.type", f"`{name}` must be text", at=f"$.{name}")
    return value


def _money(fields: dict[str, Any]) -> Money:
    return Money(_amount(fields), _text(fields, "currency"))


def _amount(fields: dict[str, Any]) -> int:
    value = fields["amount_minor"]
    if type(value) is not int:
        raise DataError(
            "money.amount.invalid",
            "amount must be a whole number of minor units",
            hint="send cents as an integer: 1999 means 19.99",
            at="$.amount_minor",
        )
    if not 0 < value <= MAX_MINOR:
        raise DataError("money.amount.invalid", "amount must be more than zero and fit", at="$.amount_minor")
    return value


def _merchant(fields: dict[str, Any]) -> str:
    value = _text(fields, "merchant")
    if not _NAME.fullmatch(value):
        raise DataError(
            "request.merchant.invalid", "a merchant id has 1 to 64 letters, digits, `_.:-`", at="$.merchant"
        )
    return value


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise DataError("request.field.type", "`metadata` must be an object of texts", at="$.metadata")
    if len(value) > MAX_METADATA:
        raise DataError("charge.metadata.too_large", f"at most {MAX_METADATA} entries", at="$.metadata")
    for name, text in value.items():
        at = f"$.metadata[{str(name)[:MAX_METADATA_KEY]!r}]"
        if not isinstance(name, str) or not isinstance(text, str):
            raise DataError("request.field.type", "metadata is text to text", at=at)
        if len(name) > MAX_METADATA_KEY or len(text) > MAX_METADATA_VALUE:
            hint = f"keys up to {MAX_METADATA_KEY} characters, values up to {MAX_METADATA_VALUE}"
            raise DataError("charge.metadata.too_large", "too long", hint=hint, at=at)
    return value
