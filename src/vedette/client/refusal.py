"""What a service refuses, as errors with its own codes and places."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from vedette.core.errors import DataError, DeniedError, PermanentError

BAD_REQUEST, DENIED = 400, (401, 403)


def refusal(status: int, body: bytes) -> DataError | DeniedError | PermanentError:
    """The error of an answer that is none."""
    error: Mapping[str, Any] = {}
    with suppress(msgspec.DecodeError, KeyError, TypeError):
        error = dict(msgspec.json.decode(body)["error"])
    code, message = str(error.get("code", "client.answer.unreadable")), str(error.get("message", "refused"))
    hint, place = str(error.get("hint", "")), str(error.get("place", ""))
    kind = DataError if status == BAD_REQUEST else DeniedError if status in DENIED else PermanentError
    return kind(code, message, hint=hint, at=place)
