"""Bindings: where a payment rule's attributes stand in a source's own fields, and what those fields must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Any

from vedette.core.errors import DataError
from vedette.core.money import Money
from vedette.expr.nodes import Field, Space
from vedette.judge.payment.attributes import ATTRIBUTES, Kind
from vedette.judge.payment.compiled import key_of

Data = Mapping[str, Any]
Read = Callable[[Data], object]

MAX_METADATA = 50
"""Most metadata keys of one payment."""


@dataclass(frozen=True, slots=True)
class Binding:
    """How one source names what rules ask for. What it does not name is read under its own name."""

    attributes: Mapping[str, str] = attribute(default_factory=dict)
    """Attribute -> field of the data."""
    metadata: Mapping[str, str] = attribute(default_factory=dict)
    """Metadata key -> field of the data."""
    numbers: tuple[str, ...] = ()
    """Fields that must hold a finite number, zero or more."""
    ids: tuple[str, ...] = ()
    """Fields that must hold a text or a whole number."""
    truth: tuple[str, ...] = ()
    """Fields that tell the outcome; they are taken out before anything sees the event."""

    def reader(self, field: Field) -> Read:
        """A function from an event's data to the field's value; None where it is missing."""
        if field.space is Space.METADATA:
            if field.name in self.metadata:
                return _as_text(self.metadata[field.name])
            return _metadata(field.name)
        if field.name in self.attributes:
            path = self.attributes[field.name]
            return _plain(path) if path in self.numbers else _as_text(path)
        if field.name.startswith("amount_in_"):
            return _amount(field.name.removeprefix("amount_in_").upper())
        return _plain(field.name)

    def provides(self) -> frozenset[str]:
        """Keys of the attributes it names: what a rule can count on for this source."""
        return frozenset(f":{name}:" for name in self.attributes)

    def spelled(self) -> dict[str, str]:
        """Field of the data -> how rules write it."""
        own = {path: f":{name}:" for name, path in self.attributes.items()}
        return {path: f"::{key}::" for key, path in self.metadata.items()} | own

    def check(self, data: Data) -> None:
        """Refuses data that cannot be decided on.

        Raises:
            DataError: `decision.event.type`, `decision.event.negative`, `money.amount.invalid`,
                `money.currency.unknown`, with the JSON path of the field.
        """
        for name in self.numbers:
            _check_number(data.get(name), name)
        for name in self.ids:
            value = data.get(name)
            if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
                raise _wrong_type(name, "a text or a whole number")
        if "amount_minor" in data or "currency" in data:
            Money(data.get("amount_minor"), data.get("currency"))  # type: ignore[arg-type] # it checks both
        if "metadata" in data:
            _check_metadata(data["metadata"])


def _wrong_type(name: str, wanted: str) -> DataError:
    return DataError("decision.event.type", f"`{name}` must be {wanted}", at=f"$.{name}")


def _check_number(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong_type(name, "a finite number")
    if value < 0:
        raise DataError("decision.event.negative", f"`{name}` must not be negative", at=f"$.{name}")


def _check_metadata(value: object) -> None:
    if not isinstance(value, dict) or len(value) > MAX_METADATA:
        raise _wrong_type("metadata", f"an object of at most {MAX_METADATA} keys")
    for key, item in value.items():
        if not isinstance(item, str | int | float | bool | None):
            raise _wrong_type(f"metadata.{key}", "a text, a number or a truth value")


def _plain(path: str) -> Read:
    return lambda data: data.get(path)


def _as_text(path: str) -> Read:
    def read(data: Data) -> object:
        value = data.get(path)
        return value if value is None or isinstance(value, str | bool) else str(value)

    return read


def _metadata(key: str) -> Read:
    def read(data: Data) -> object:
        held = data.get("metadata")
        return held.get(key) if isinstance(held, dict) else None

    return read


def _amount(currency: str) -> Read:
    """Major units, when the payment is in that currency: there are no exchange rates here, so others are missing."""

    def read(data: Data) -> object:
        if data.get("currency") != currency or "amount_minor" not in data:
            return None
        money = Money(data["amount_minor"], currency)
        return float(money.amount_minor / 10**money.exponent)

    return read


BY_NAME = Binding()
"""For sources whose fields carry the attributes' own names, with `metadata`, `amount_minor` and `currency`."""

_OURS = {"currency", "risk_level", "card_fingerprint", "merchant"}
_KINDS = {Kind.BOOLEAN, Kind.TEXT, Kind.CASED, Kind.COUNTRY, Kind.STATE}
TOLD: Mapping[str, str] = {
    **{name: name for name, known in ATTRIBUTES.items() if known.kind in _KINDS and name not in _OURS},
    **{name: name for name in ("customer", "device", "ip", "country")},
    "ip_address": "ip",
}
"""What a merchant may tell of a payment in its metadata: name there -> field of the event. Customer, device, ip,
country, and what payment rules know of a payment but cannot count themselves. Numbers that rules read are counted."""

BINDINGS: Mapping[str, Binding] = {
    "card_transactions": Binding(
        attributes={"amount_in_usd": "TX_AMOUNT", "customer": "CUSTOMER_ID"},
        metadata={"terminal": "TERMINAL_ID"},
        numbers=("TX_AMOUNT",),
        ids=("CUSTOMER_ID", "TERMINAL_ID"),
        truth=("TX_FRAUD", "TX_FRAUD_SCENARIO"),
    ),
    "product": Binding(attributes={**TOLD, "card_fingerprint": "source", "merchant": "merchant"}, metadata=TOLD),
}
"""Source -> binding; a source that is not here is read `BY_NAME`."""


def binding_of(source: str) -> Binding:
    """The binding of a source."""
    return BINDINGS.get(source, BY_NAME)


def readers(source: str, fields: Iterable[Field]) -> tuple[tuple[str, Read], ...]:
    """Key and reader of each field, for one source."""
    binding = binding_of(source)
    return tuple((key_of(field), binding.reader(field)) for field in sorted(fields, key=key_of))
