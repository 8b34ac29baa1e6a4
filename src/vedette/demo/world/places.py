"""Countries: where customers and merchants are, what they pay in, and when they are awake."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.core.clock import MICROS

HOUR = 3_600 * MICROS
MINUTE = 60 * MICROS


class Place(NamedTuple):
    """A country."""

    code: str
    currency: str
    offset: int
    """Hours ahead of UTC."""
    share: float
    """Of the company's customers."""


PLACES = (
    Place("GB", "GBP", 0, 0.20),
    Place("DE", "EUR", 1, 0.16),
    Place("FR", "EUR", 1, 0.12),
    Place("NL", "EUR", 1, 0.08),
    Place("ES", "EUR", 1, 0.08),
    Place("IT", "EUR", 1, 0.07),
    Place("US", "USD", -5, 0.12),
    Place("CA", "CAD", -5, 0.04),
    Place("IE", "EUR", 0, 0.03),
    Place("BE", "EUR", 1, 0.03),
    Place("PT", "EUR", 0, 0.02),
    Place("AT", "EUR", 1, 0.02),
    Place("AU", "AUD", 10, 0.02),
    Place("BR", "USD", -3, 0.005),
    Place("SG", "USD", 8, 0.005),
)
"""Shares add up to 1. All currencies have two decimals and nearly the same worth: there are no exchange rates here."""

SHARES: npt.NDArray[np.float64] = np.array([place.share for place in PLACES])
HOURS: npt.NDArray[np.float64] = np.array(
    [
        1.2,
        0.7,
        0.4,
        0.3,
        0.3,
        0.5,
        1.2,
        2.4,
        3.6,
        4.6,
        5.2,
        5.6,
        6.0,
        5.6,
        5.2,
        5.2,
        5.6,
        6.2,
        7.0,
        7.6,
        7.4,
        6.2,
        4.2,
        2.4,
    ]
)
"""How much people buy in each hour of their own day."""
FIRST_OCTET = 240
"""Addresses are of 240.0.0.0/4, which is reserved and belongs to nobody; each country has one first octet."""


def hour_cumulative(place: Place) -> npt.NDArray[np.float64]:
    """Share of a country's buying that is done by the end of each UTC hour."""
    return np.asarray(np.cumsum(np.roll(HOURS, -place.offset)) / HOURS.sum())
