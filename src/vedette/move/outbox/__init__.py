"""Webhooks out: written with the effect they tell of, delivered at least once, with the same id every time.

`Outbox.emit` writes one delivery for each of the tenant's endpoints in the caller's transaction: no effect without its
webhook, no webhook without its effect. A `Dispatcher` leases deliveries that are due, sends them signed, and notes what
came back if its fencing token is still the newest. Any number of dispatchers may run.

Delivery statuses: `waiting`, then `delivered`, or `dead` once the schedule is used up or the endpoint is gone. A dead
one can be sent again by hand.
"""

from vedette.move.outbox.dispatcher import (
    JITTER,
    LEASE_S,
    SCHEDULE_S,
    TIMEOUT_S,
    Dispatcher,
    Post,
    Response,
    SecretsOf,
    Send,
    through,
)
from vedette.move.outbox.outbox import Delivery, Endpoint, Outbox
from vedette.move.outbox.tables import DeliveryStatus

__all__ = [
    "JITTER",
    "LEASE_S",
    "SCHEDULE_S",
    "TIMEOUT_S",
    "Delivery",
    "DeliveryStatus",
    "Dispatcher",
    "Endpoint",
    "Outbox",
    "Post",
    "Response",
    "SecretsOf",
    "Send",
    "through",
]
