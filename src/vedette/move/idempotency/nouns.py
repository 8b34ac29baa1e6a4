"""What an idempotency key stands for, who may carry it out, and what everyone is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Any, Final

import msgspec

from vedette.core.errors import ConflictError, DataError, VedetteError

MAX_KEY: Final = 255
"""Longest key, in characters."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a key stands for."""

    tenant: str
    key: str
    operation: str
    """Method and path, such as `POST /v1/charges`."""
    parameters: Any
    """The decoded body. Compared by its canonical JSON, so white space and field order do not matter; bytes are
    compared as they are."""
    context: Mapping[str, Any] = attribute(default_factory=dict)
    """What the attempt knows besides, such as who asks. Not compared: every later attempt has that of the first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished request: what the client gets, now and at every retry."""

    status: int
    """HTTP status."""
    body: bytes
    """Stored and sent as these very bytes; JSON, unless `headers` say otherwise."""
    replayed: bool = False
    """True when an earlier request made it."""
    headers: tuple[tuple[str, str], ...] = ()
    """Those of the first answer that every retry gets too."""

    def json(self) -> Any:
        """The decoded body."""
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry a request out, until someone holds a higher fence."""

    tenant: str
    key: str
    resource: str
    """Id of the thing the request makes; chosen by its first attempt, the same in every later one."""
    point: str
    """How far an earlier attempt came; empty when none did."""
    fence: int
    """1 for the first attempt; one more for every take-over."""
    created: int
    """When the first attempt began, microseconds UTC."""
    context: Mapping[str, Any] = attribute(default_factory=dict)
    """That of the first attempt."""


def to_answer(status: int, value: Any) -> Answer:
    """An answer with `value` as JSON."""
    return Answer(status, msgspec.json.encode(value))


def to_refusal(status: int, error: VedetteError) -> Answer:
    """An answer that stores a final error in the one JSON shape of errors."""
    return to_answer(status, {"error": error.to_dict()})


def key_in_use() -> ConflictError:
    """What a request is told whose key another one is carrying out."""
    return ConflictError(
        "idempotency.key_in_use",
        "the first request with this idempotency key has not finished",
        hint="retry with the same key in a moment",
    )


def lease_lost() -> ConflictError:
    """What an attempt is told that was taken over."""
    return ConflictError(
        "idempotency.lease_lost",
        "another attempt took this request over",
        hint="retry with the same key to read its answer",
    )


def check_key(key: str) -> None:
    """Refuses what is no idempotency key.

    Raises:
        DataError: `idempotency.key.invalid`.
    """
    if not (0 < len(key) <= MAX_KEY and key.isprintable()):
        raise DataError(
            "idempotency.key.invalid",
            f"an idempotency key has 1 to {MAX_KEY} printable characters",
            hint="a random UUID is a good key",
        )
