"""What the two services tell each other."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from vedette.core.errors import DataError

STEPS: Final = ("unsaved", "saved")
"""What a step hears of every transaction: before and after its commit."""


class Kind(StrEnum):
    """What a message says."""

    CREDIT = "credit"
    """To the receiver: take this amount."""
    CANCEL = "cancel"
    """To the receiver: refuse it, unless you have it."""
    APPLIED = "applied"
    """To the sender: I have it."""
    REFUSED = "refused"
    """To the sender: I will never take it."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message. The same may come again, late, or before an earlier one."""

    kind: Kind
    tenant: str
    crossing: str
    """Id, the sender's; unique in its tenant."""
    fence: int
    """1 of a credit, 2 of a cancel: the receiver turns away what is below the highest it saw."""
    account: int = 0
    """The receiver's account."""
    amount: int = 0
    """Minor units."""
    currency: str = ""
    reason: str = ""
    """Why it was refused: a status of the ledger, or `cancelled`."""

    def encode(self) -> bytes:
        """JSON."""
        return msgspec.json.encode(self)


def parse_message(raw: bytes) -> Message:
    """A message from the bus.

    Raises:
        DataError: `crossing.message.invalid`.
    """
    try:
        return msgspec.json.decode(raw, type=Message)
    except msgspec.MsgspecError as error:
        raise DataError("crossing.message.invalid", "not a message of a crossing") from error
