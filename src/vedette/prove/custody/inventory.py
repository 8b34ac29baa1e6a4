"""The key inventory: how old each key is against its crypto-period (PCI DSS 3.7.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from vedette.core.clock import DAY
from vedette.prove.custody.provider import KeyInfo

DEFAULT_DAYS = 365
"""Crypto-period of keys that no other is stated for."""
DUE_SHARE = 0.9
"""From this share of its period on, a key is due."""


class State(StrEnum):
    """Where a key stands in its crypto-period."""

    OK = "ok"
    DUE = "due"
    """Plan its rotation."""
    OVER = "over"
    """Rotate it now."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A key and its age."""

    label: str
    use: str
    check: str
    created: int
    age_days: int
    period_days: int
    state: State


def take_inventory(keys: Iterable[KeyInfo], now: int, periods: Mapping[str, int] | None = None) -> list[Held]:
    """Every key with its age, oldest first.

    Args:
        keys: From the provider.
        now: Microseconds UTC.
        periods: First part of a label -> crypto-period in days, for those that are not `DEFAULT_DAYS`.
    """
    held = []
    for key in keys:
        period = (periods or {}).get(key.label.split(":")[0], DEFAULT_DAYS)
        share = max(0, now - key.created) / (period * DAY)
        state = State.OVER if share >= 1 else State.DUE if share >= DUE_SHARE else State.OK
        held.append(
            Held(
                label=key.label,
                use=key.use,
                check=key.check,
                created=key.created,
                age_days=max(0, now - key.created) // DAY,
                period_days=period,
                state=state,
            )
        )
    return sorted(held, key=lambda one: (one.created, one.label))
