"""Velocity attributes: which feature gives the value of an attribute that counts, or that tells since when.

`:total_charges_per_card_number_hourly:` is the feature `total_charges_per_card_number` over an hour. Windows
are exact: an hour is 3,600 seconds, where published tables count in buckets and may reach 3,900.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vedette.judge.payment.attributes import ATTRIBUTES, Kind

WINDOWS: Mapping[str, str] = {
    "hourly": "1h",
    "daily": "1d",
    "weekly": "7d",
    "yearly": "365d",
    "all_time": "1825d",
}
"""Word at the end of an attribute -> window at the end of the feature. All time is five years."""
_SINCE = "seconds_since_"


def backing(attribute: str) -> str:
    """The feature that gives an attribute; by default the one of its own name."""
    for word, window in WINDOWS.items():
        if attribute.endswith(f"_{word}"):
            return f"{attribute.removesuffix(word)}{window}"
    return f"{attribute}_{WINDOWS['all_time']}" if attribute.startswith(_SINCE) else attribute


def backed(features: Iterable[str]) -> frozenset[str]:
    """Attributes that some features give."""
    held = frozenset(features)
    counted = (name for name, known in ATTRIBUTES.items() if known.kind is Kind.NUMBER)
    return frozenset(name for name in counted if name in held or backing(name) in held)
