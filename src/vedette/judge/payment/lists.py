"""Value lists that rules name with `@alias`."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vedette.core.errors import DefinitionError
from vedette.judge.payment.attributes import COUNTRIES, Kind

MAX_LIST_ITEMS = 50_000
"""Most items of one list."""
MAX_ITEM_CHARS = 800
"""Longest item."""
_ALIAS = re.compile(r"[A-Za-z0-9_]{1,100}")


class ItemType(StrEnum):
    """What the items of a list are; each item is checked against it when the list is loaded."""

    CARD_FINGERPRINT = "card_fingerprint"
    CARD_BIN = "card_bin"
    EMAIL = "email"
    IP_ADDRESS = "ip_address"
    COUNTRY = "country"
    STRING = "string"
    CASE_SENSITIVE_STRING = "case_sensitive_string"
    CUSTOMER_ID = "customer_id"
    SEPA_DEBIT_FINGERPRINT = "sepa_debit_fingerprint"
    US_BANK_ACCOUNT_FINGERPRINT = "us_bank_account_fingerprint"
    CRYPTO_FINGERPRINT = "crypto_fingerprint"
    ACCOUNT = "account"


def _is_ip(item: str) -> bool:
    try:
        ipaddress.ip_address(item)
    except ValueError:
        return False
    return True


_CHECKS: Mapping[ItemType, tuple[Callable[[str], object], str]] = {
    ItemType.CARD_BIN: (re.compile(r"[0-9]{6}").fullmatch, "the first six digits of a card"),
    ItemType.EMAIL: (
        re.compile(r"[^@\s]+@[^@\s]+|[0-9a-f]{64}").fullmatch,
        "an address such as a@example.com, or the SHA-256 of its lower-case form",
    ),
    ItemType.IP_ADDRESS: (_is_ip, "an IPv4 or IPv6 address"),
    ItemType.COUNTRY: (lambda item: item.upper() in COUNTRIES, "an ISO 3166 two-letter code such as CA"),
}
_UNCASED = frozenset({ItemType.CARD_BIN, ItemType.EMAIL, ItemType.IP_ADDRESS, ItemType.COUNTRY, ItemType.STRING})


@dataclass(frozen=True, slots=True)
class ValueList:
    """A typed list.

    Raises:
        DefinitionError: `payment.list.alias`, `payment.list.too_long`, `payment.list.item`.
    """

    alias: str
    """Name without the `@`."""
    item_type: ItemType
    items: tuple[str, ...]
    """Each once, in the order given."""

    def __post_init__(self) -> None:
        if not _ALIAS.fullmatch(self.alias):
            raise DefinitionError(
                "payment.list.alias",
                f"`{self.alias:.40}` is no list name",
                hint="letters, digits and underscores",
                at="$.alias",
            )
        if len(self.items) > MAX_LIST_ITEMS:
            raise DefinitionError(
                "payment.list.too_long",
                f"list `@{self.alias}` has {len(self.items)} items, at most {MAX_LIST_ITEMS}",
                at="$.items",
            )
        check, wanted = _CHECKS.get(self.item_type, (bool, "text that is not empty"))
        for place, item in enumerate(self.items):
            if len(item) > MAX_ITEM_CHARS or not check(item):
                raise DefinitionError(
                    "payment.list.item",
                    f"item {place + 1} of list `@{self.alias}` is no {self.item_type}",
                    hint=f"give {wanted}, at most {MAX_ITEM_CHARS} characters",
                    at=f"$.items[{place}]",
                )

    def matches(self, kind: Kind) -> bool:
        """Whether an attribute of this type may be looked up in the list."""
        if kind is Kind.COUNTRY:
            return self.item_type in {ItemType.COUNTRY, ItemType.STRING}
        if kind is Kind.CASED:
            return self.item_type not in _UNCASED
        return kind in {Kind.TEXT, Kind.STATE, Kind.METADATA} and self.item_type is not ItemType.COUNTRY


CARD_BLOCKLIST, EMAIL_BLOCKLIST = "card_fingerprint_blocklist", "email_blocklist"
DEVICE_BLOCKLIST, IP_BLOCKLIST = "device_blocklist", "ip_address_blocklist"
DEFAULTS: Mapping[str, ItemType] = {
    CARD_BLOCKLIST: ItemType.CARD_FINGERPRINT,
    EMAIL_BLOCKLIST: ItemType.EMAIL,
    DEVICE_BLOCKLIST: ItemType.CASE_SENSITIVE_STRING,
    IP_BLOCKLIST: ItemType.IP_ADDRESS,
}
"""Lists that every tenant has. What turned out to be fraud adds cards and e-mail addresses; people and playbooks add
devices and addresses, which others may share."""
EMPTY: Mapping[str, ValueList] = {alias: ValueList(alias, kind, ()) for alias, kind in DEFAULTS.items()}


def compared(held: ValueList) -> tuple[str, ...]:
    """Items as payments are compared with them. An address stands for its SHA-256 too, which is what charges carry."""
    if held.item_type is not ItemType.EMAIL:
        return held.items
    hashed = (hashlib.sha256(item.strip().lower().encode()).hexdigest() for item in held.items if "@" in item)
    return (*held.items, *hashed)


def to_lists(data: Any) -> dict[str, ValueList]:
    """Lists of a decoded document: a list of `{alias, item_type, items}`.

    Raises:
        DefinitionError: `payment.list.shape` and what `ValueList` raises.
    """
    found: dict[str, ValueList] = {}
    if not isinstance(data, list):
        raise DefinitionError("payment.list.shape", "expected a list of {alias, item_type, items}", at="$")
    for place, entry in enumerate(data):
        value_list = _to_list(entry, f"$[{place}]")
        if value_list.alias in found:
            raise DefinitionError(
                "payment.list.duplicate", f"list `@{value_list.alias}` is there twice", at=f"$[{place}].alias"
            )
        found[value_list.alias] = value_list
    return found


def _to_list(entry: Any, at: str) -> ValueList:
    if not isinstance(entry, dict) or set(entry) != {"alias", "item_type", "items"}:
        raise DefinitionError("payment.list.shape", "expected exactly {alias, item_type, items}", at=at)
    items = entry["items"]
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise DefinitionError(
            "payment.list.shape", "expected a list of texts", hint="put quotes round numbers", at=f"{at}.items"
        )
    try:
        item_type = ItemType(entry["item_type"])
    except ValueError:
        raise DefinitionError(
            "payment.list.item_type",
            f"unknown item type `{entry['item_type']!s:.40}`",
            hint=f"one of {', '.join(ItemType)}",
            at=f"{at}.item_type",
        ) from None
    try:
        return ValueList(str(entry["alias"]), item_type, _distinct(items))
    except DefinitionError as error:
        raise DefinitionError(error.code, error.message, hint=error.hint, at=f"{at}{error.at[1:]}") from error


def _distinct(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
