"""What payment rules can count on: the names that events, features, alerts and the model of a source give."""

from __future__ import annotations

from collections.abc import Iterable

from vedette.judge.decisions.bindings import BY_NAME, binding_of
from vedette.judge.payment.attributes import ATTRIBUTES, RISKS
from vedette.judge.payment.velocity import backed

ALWAYS = frozenset({":risk_level:", ":risk_score:", *(f":{name}:" for name in RISKS)})
"""Names that are there for every source: the model's, and what alerts say."""
_MONEY = frozenset({"product"})
"""Sources whose payments carry `amount_minor` and `currency` of any kind."""


def provided(source: str, features: Iterable[str] = ()) -> frozenset[str]:
    """Names as rules write them, `:amount_in_usd:`. A source that names its fields itself may carry any attribute.

    Args:
        source: Of the payments.
        features: Names of those that are computed for it.
    """
    binding = binding_of(source)
    held = tuple(features)
    counted = frozenset(f":{name}:" for name in (*held, *backed(held)))
    if binding is BY_NAME:
        return ALWAYS | counted | {f":{name}:" for name in ATTRIBUTES}
    amounts = {f":{name}:" for name in ATTRIBUTES if name.startswith("amount_in_")} if source in _MONEY else set()
    return ALWAYS | counted | binding.provides() | amounts
