"""A function whose effect happens once for each key."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any, Final

from vedette.core.db import Connection
from vedette.move.idempotency.nouns import Claim, Request, to_answer
from vedette.move.idempotency.store import Idempotency

OK: Final = 200
Effect = Callable[..., Any]


def idempotent(keys: Idempotency, operation: str) -> Callable[[Effect], Callable[..., Any]]:
    """Makes `effect(connection, claim, **parameters)` a function of `key`, `tenant` and its parameters.

    The effect runs once for each tenant and key, in the transaction that also stores what it returns: work on
    `connection` happens exactly then. `claim.resource` is an id for what it makes. Every later call returns the stored
    value; what the effect raises is raised, and nothing is stored.

    Args:
        keys: Where keys are kept.
        operation: Name of what is done; part of what a key stands for.

    Raises:
        DataError: From the call: `idempotency.key.invalid`, `idempotency.mismatch`.
        ConflictError: From the call: `idempotency.key_in_use`, `idempotency.lease_lost`.
    """

    def decorate(effect: Effect) -> Callable[..., Any]:
        @functools.wraps(effect)
        def once(*, key: str, tenant: str = "", **parameters: Any) -> Any:
            def work(connection: Connection, claim: Claim) -> Any:
                return to_answer(OK, effect(connection, claim, **parameters))

            return keys.once(Request(tenant, key, operation, parameters), uuid.uuid4().hex, work).json()

        return once

    return decorate
