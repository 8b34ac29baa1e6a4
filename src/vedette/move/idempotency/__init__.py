"""Idempotency keys: the first request of a key runs, every other one gets its answer, byte for byte.

A key belongs to one tenant. It is claimed by an insert that either wins or does not, so two requests can never both be
first. The claim holds a lease and a fencing token: when its holder dies, a retry takes over at the last recovery point
after the lease ends, and a holder that wakes up late finds that its token is old and is refused inside its own
transaction. The answer is stored in the transaction that makes the last effect.

Not stored: a request refused before it began, a conflict, a failure that may pass. Stored: every other answer, errors
included.

Source: Stripe's published behaviour and the IETF idempotency-key draft.

Example:
    A function whose effect happens once for each key, on a file of its own:

    >>> import tempfile
    >>> from vedette.move.idempotency import Idempotency, idempotent
    >>> keys = Idempotency.open(f"sqlite:///{tempfile.mkdtemp()}/keys.db", secret=b"sixteen bytes or more")
    >>> @idempotent(keys, "refund")
    ... def refund(connection, claim, order, amount):
    ...     return {"id": claim.resource, "order": order, "amount": amount}
    >>> first, again = (refund(order="o-1", amount=500, key="k-1") for _ in range(2))
    >>> first == again
    True
"""

from vedette.move.idempotency.decorator import idempotent
from vedette.move.idempotency.middleware import Attempt, IdempotencyMiddleware
from vedette.move.idempotency.nouns import (
    MAX_KEY,
    Answer,
    Claim,
    Request,
    check_key,
    key_in_use,
    lease_lost,
    to_answer,
    to_refusal,
)
from vedette.move.idempotency.store import KEEP, LEASE_S, OPEN, Idempotency

__all__ = [
    "KEEP",
    "LEASE_S",
    "MAX_KEY",
    "OPEN",
    "Answer",
    "Attempt",
    "Claim",
    "Idempotency",
    "IdempotencyMiddleware",
    "Request",
    "check_key",
    "idempotent",
    "key_in_use",
    "lease_lost",
    "to_answer",
    "to_refusal",
]
