"""Collections: objects of one origin, and what each follows."""

from __future__ import annotations

import msgspec

from vedette.sense.intel.indicator import Tlp

USUAL = "shared"
"""The collection that every tenant has."""


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """Objects of one origin."""

    id: str
    name: str
    title: str = ""
    tlp: Tlp = Tlp.AMBER
    """Of what comes without a marking."""
    confidence: int = 50
    """Of what comes without one, 0..100."""
    url: str = ""
    """Of the collection of another server that it follows; empty for one that follows none."""
    secret: str = ""
    """Name of the secret to log in there with."""
    every: int = 0
    """How often it looks there, seconds; 0: only when asked."""
    added_after: str = ""
    """How far it came there."""
    next: str = ""
    """The page to go on with, where a look was not finished."""
    polled: int = 0
    """When it last looked, microseconds UTC."""
    problem: str = ""
    """Why its last look failed."""
