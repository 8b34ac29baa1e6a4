"""Label: the truth about an event, with the time we learned it."""

from __future__ import annotations

import msgspec


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """Joined to its event only from `observed_time` on, so that training never sees the future."""

    event_id: str
    tenant: str
    fraud: bool
    observed_time: int
    """When we learned it, microseconds UTC."""
    kind: str = "dispute"
    """How we learned it: `dispute`, `refund`, `verdict`."""
