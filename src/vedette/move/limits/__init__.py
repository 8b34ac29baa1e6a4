"""Limits: how often, how many at a time, and how much in all; in one process or, with Redis, for all of them.

`Limits` and `RedisLimits` decide on rates (GCRA), a request's buckets together: a refusal takes nothing from any.
`Slots` and `RedisSlots` count what runs, by leases. `Shedder` keeps a share of the capacity for what is critical.
`LimitMiddleware` puts them in front of any ASGI application.

Example:
    >>> from vedette.core.clock import SystemClock
    >>> limits = Limits(SystemClock())
    >>> both = [("key:k1", Rate(100, 1, 2)), ("account:acme", Rate(500, 1, 1_000))]
    >>> [limits.ask(both).passed for _ in range(3)]
    [True, True, False]
"""

from vedette.move.limits.asgi import LimitMiddleware, rate_headers
from vedette.move.limits.gcra import MAX_BUCKETS, Limits
from vedette.move.limits.rate import Bucket, Limiter, Rate, Standing, Verdict
from vedette.move.limits.shared import RedisLimits
from vedette.move.limits.slots import Lease, Places, RedisSlots, Shedder, Slots, Slotted, hold

__all__ = [
    "MAX_BUCKETS",
    "Bucket",
    "Lease",
    "LimitMiddleware",
    "Limiter",
    "Limits",
    "Places",
    "Rate",
    "RedisLimits",
    "RedisSlots",
    "Shedder",
    "Slots",
    "Slotted",
    "Standing",
    "Verdict",
    "hold",
    "rate_headers",
]
