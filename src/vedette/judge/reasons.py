"""Reasons in plain words, from a table; and the view of a decision that a merchant may see.

A record keeps stable codes, values and weights. Words are looked up when somebody reads, so that a better sentence
changes no record, and a record from years ago speaks today's language.

Example:
    >>> words = load_words()
    >>> words.analyst("customer_count_1d", 7.0, 0.4)
    '7 payments of this customer in 1 day, which raises the risk'
    >>> words.merchant("customer_count_1d", 0.4)
    'how often this customer pays raises the risk'
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from vedette.core.content import shipped
from vedette.core.decision import Decision, Reason
from vedette.core.documents import load_yaml
from vedette.core.errors import DefinitionError, Span
from vedette.judge.payment.rules import Outcome, PaymentRules

_WINDOW = re.compile(r"(?P<base>.+)_(?P<count>\d+)(?P<unit>[smhd])")
_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}
_FILLED = re.compile(r"\{(\w+)\}")
MODEL = "model."


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    analyst: str
    merchant: str


@dataclass(frozen=True, slots=True)
class Words:
    """The table: feature without its window -> what is said of it."""

    entries: Mapping[str, _Entry]

    def analyst(self, feature: str, value: float | None, weight: float) -> str:
        """What an analyst reads of one reason of the model."""
        entry, window = self._find(feature)
        missing = value is None or math.isnan(value)
        if entry is None or missing:
            named = feature.replace("_", " ")
            said = f"{named} is missing" if missing else f"{named} is {value:.6g}"
        else:
            said = entry.analyst.format(value=f"{value:.6g}", window=window)
        return f"{said}, which {_direction(weight)} the risk"

    def merchant(self, feature: str, weight: float) -> str:
        """What a merchant reads: the kind of thing, no number and no threshold."""
        entry, _ = self._find(feature)
        return f"{entry.merchant if entry else 'the pattern of payments'} {_direction(weight)} the risk"

    def _find(self, feature: str) -> tuple[_Entry | None, str]:
        if feature in self.entries:
            return self.entries[feature], ""
        parts = _WINDOW.fullmatch(feature)
        if parts is None:
            return None, ""
        count, unit = int(parts["count"]), _UNITS[parts["unit"]]
        return self.entries.get(parts["base"]), f"{count} {unit}{'' if count == 1 else 's'}"


def _direction(weight: float) -> str:
    return "raises" if weight > 0 else "lowers"


@cache
def load_words(path: Path | None = None) -> Words:
    """Reads a table; the shipped one by default.

    Raises:
        DefinitionError: `reasons.table.invalid` with its place, `documents.yaml.*`.
    """
    file = path or shipped("reasons") / "payments.yaml"
    document = load_yaml(file.read_bytes(), path=str(file))
    try:
        entries = msgspec.convert(document.data, dict[str, _Entry])
    except msgspec.ValidationError as error:
        raise DefinitionError("reasons.table.invalid", str(error).lower(), span=Span(str(file))) from error
    for name, entry in entries.items():
        if wrong := {*_FILLED.findall(entry.analyst)} - {"value", "window"} or _FILLED.findall(entry.merchant):
            message = f"`{name}` may not say {', '.join(f'{{{one}}}' for one in sorted(wrong))}"
            raise DefinitionError("reasons.table.invalid", message, span=document.span(f"$.{name}"))
    return Words(entries)


def plain(record: Decision, words: Words) -> tuple[Reason, ...]:
    """The reasons of a record as an analyst reads them; codes and weights are those of the record."""
    found = []
    for reason in record.reasons:
        text = reason.text
        if reason.code.startswith(MODEL):
            feature = reason.code.removeprefix(MODEL)
            text = words.analyst(feature, record.features.get(feature), reason.weight)
        found.append(Reason(reason.code, text, reason.weight))
    return tuple(found)


class MerchantReason(msgspec.Struct, frozen=True):
    """One reason without numbers."""

    code: str
    text: str


class MerchantView(msgspec.Struct, frozen=True):
    """What a merchant may know of a decision on one of its payments."""

    event_id: str
    action: str
    risk_level: str
    """`normal`, `elevated`, `highest` or `not_assessed`; where the levels begin is the platform's own."""
    reasons: tuple[MerchantReason, ...]
    by_policy: bool
    """True when a part of the service did not answer and the merchant's own policy decided."""


def merchant_view(record: Decision, rules: PaymentRules, words: Words, *, merchant: str) -> MerchantView:
    """Hides scores, weights, values and thresholds, and what rules of others say: of those only that there was one.

    Args:
        record: The decision.
        rules: The set it was made with.
        words: The table.
        merchant: Who reads: rules of this owner are its own, and named.
    """
    fired = {result.id for result in record.rules if result.result == Outcome.FIRED}
    known = {rule.id: rule for rule in rules.rules if rule.id in fired}
    reasons = []
    for reason in record.reasons:
        kind, _, name = reason.code.partition(".")
        rule = known.get(name) if kind == "rule" else None
        if kind == "model":
            family = _WINDOW.fullmatch(name)
            found = MerchantReason(f"model.{family['base'] if family else name}", words.merchant(name, reason.weight))
        elif kind == "fallback":
            found = MerchantReason("fallback", "a part of the service did not answer in time; your policy decided")
        elif rule is not None and merchant and rule.owner == merchant:
            found = MerchantReason(reason.code, rule.reason or f"your rule {rule.id} fired")
        else:
            found = MerchantReason("rule", (rule.reason if rule else "") or "a rule of the platform applied")
        if found not in reasons:
            reasons.append(found)
    level = rules.levels.level(record.risk_score)
    return MerchantView(record.event_id, record.action.value, level, tuple(reasons), record.fallback is not None)
