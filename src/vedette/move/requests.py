"""What a client may ask for: every field checked, every problem told with its JSON path, no value repeated.

Card numbers are refused here, before anything is stored, hashed or logged.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from vedette.core.clock import DAY
from vedette.core.errors import DataError
from vedette.core.money import MAX_MINOR, Money
from vedette.move.dispute import Outcome, Reason
from vedette.prove.dlp import refuse_pans
from vedette.sense.times import TimeFormat, parse_time

MAX_METADATA: Final = 50
"""Most entries of `metadata`."""
MAX_METADATA_KEY: Final = 40
MAX_METADATA_VALUE: Final = 500
MAX_REASON: Final = 500
MAX_EVIDENCE: Final = 20_000
"""Most characters of one piece of a dispute's evidence."""
MAX_EVIDENCE_DAYS: Final = 120
"""Furthest that evidence may be due; networks give 7 to 45 days."""
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


class DisputeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request to open a dispute."""

    charge: str
    reason: Reason
    evidence_due: int
    """Microseconds UTC."""
    amount_minor: int | None
    network_reason: str


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


class RefundReason(StrEnum):
    """Why a payment is given back."""

    DUPLICATE = "duplicate"
    FRAUDULENT = "fraudulent"
    """The default block lists learn the card and the address from it."""
    REQUESTED = "requested_by_customer"


class WantedRefund(NamedTuple):
    """A checked request for a refund."""

    amount_minor: int | None
    """None: everything that is left."""
    reason: RefundReason | None


def parse_refund(key: str, parameters: Any) -> WantedRefund:
    """Checks `{amount_minor, reason}`; both may be left out.

    Raises:
        DataError: `request.*`, `money.amount.*`, `refund.reason.unknown`.
    """
    _refuse_pans(key, parameters)
    fields = _object(parameters, required=set(), optional={"amount_minor", "reason"})
    amount = _amount(fields) if "amount_minor" in fields else None
    if "reason" not in fields:
        return WantedRefund(amount, None)
    reason = _text(fields, "reason")
    if reason not in set(RefundReason):
        hint = f"one of {', '.join(RefundReason)}"
        raise DataError("refund.reason.unknown", "no such reason for a refund", hint=hint, at="$.reason")
    return WantedRefund(amount, RefundReason(reason))


def parse_payout(key: str, parameters: Any) -> PayoutRequest:
    """Checks `{amount_minor, currency, merchant}`.

    Raises:
        DataError: `request.*`, `money.*`.
    """
    _refuse_pans(key, parameters)
    fields = _object(parameters, required={"amount_minor", "currency", "merchant"}, optional=set())
    money = _money(fields)
    return PayoutRequest(amount_minor=money.amount_minor, currency=money.currency, merchant=_merchant(fields))


def parse_dispute(key: str, parameters: Any, *, now: int) -> DisputeRequest:
    """Checks `{charge, reason, evidence_due, amount_minor, network_reason}`; the last two may be left out.

    Raises:
        DataError: `request.*`, `money.*`, `dispute.reason.unknown`, `dispute.evidence_due.out_of_range`.
    """
    _refuse_pans(key, parameters)
    optional = {"amount_minor", "network_reason"}
    fields = _object(parameters, required={"charge", "reason", "evidence_due"}, optional=optional)
    reason = _text(fields, "reason")
    if reason not in set(Reason):
        hint = f"known are {', '.join(Reason)}"
        raise DataError("dispute.reason.unknown", "unknown reason", hint=hint, at="$.reason")
    due = parse_time(_text(fields, "evidence_due"), TimeFormat.ISO)
    if not now < due <= now + MAX_EVIDENCE_DAYS * DAY:
        hint = f"ISO 8601 of the next {MAX_EVIDENCE_DAYS} days"
        raise DataError("dispute.evidence_due.out_of_range", "not a time to come", hint=hint, at="$.evidence_due")
    code = _text(fields, "network_reason") if "network_reason" in fields else ""
    if len(code) > MAX_METADATA_KEY:
        raise DataError("request.reason.too_long", f"at most {MAX_METADATA_KEY} characters", at="$.network_reason")
    return DisputeRequest(
        charge=_text(fields, "charge"),
        reason=Reason(reason),
        evidence_due=due,
        amount_minor=_amount(fields) if "amount_minor" in fields else None,
        network_reason=code,
    )


def parse_evidence(key: str, parameters: Any) -> dict[str, str]:
    """Checks `{evidence: {name: text}}`.

    Raises:
        DataError: `request.*`, `dispute.evidence.invalid`.
    """
    _refuse_pans(key, parameters)
    value = _object(parameters, required={"evidence"}, optional=set())["evidence"]
    fits = isinstance(value, dict) and 0 < len(value) <= MAX_METADATA
    if not fits or not all(isinstance(text, str) and len(text) <= MAX_EVIDENCE for text in value.values()):
        hint = f"1 to {MAX_METADATA} texts of up to {MAX_EVIDENCE} characters"
        raise DataError("dispute.evidence.invalid", "evidence is text by name", hint=hint, at="$.evidence")
    return {str(name)[:MAX_METADATA_KEY]: text for name, text in value.items()}


def parse_outcome(key: str, parameters: Any) -> Outcome:
    """Checks `{outcome}`.

    Raises:
        DataError: `request.*`, `dispute.outcome.unknown`.
    """
    _refuse_pans(key, parameters)
    outcome = _text(_object(parameters, required={"outcome"}, optional=set()), "outcome")
    if outcome not in set(Outcome):
        raise DataError("dispute.outcome.unknown", "an outcome is `won` or `lost`", at="$.outcome")
    return Outcome(outcome)


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
