"""What a dedup filter is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from vedette.core.errors import DataError, TransientError

MAX_ID: Final = 256
WINDOW_S: Final = 5 * 86_400
"""How long ids are kept unless told otherwise: longer than a sender's whole schedule of retries and both tolerances."""

Effect = Callable[[Any], object]
"""What is done once. Gets the transaction (`core.db.Connection`) of the mark where there is one, else None."""


class Dedup(Protocol):
    """Lets each id pass once in a window. Exact: it forgets nothing before its time, and mistakes none for another."""

    def once(self, id_: str, effect: Effect) -> bool:
        """Runs the effect if the id is new, and marks the id when the effect succeeded.

        Returns:
            True: it ran, and the mark stands. False: the id passed before, within the window.

        Raises:
            TransientError: `dedup.id.in_flight` while another runs it; `dedup.window.full`.
            DataError: `dedup.id.invalid`.
            Exception: What the effect raised; then the id is as new as before.
        """

    def admit(self, id_: str) -> bool:
        """Marks the id now, and says whether it was new: for streams where losing one is better than doing it twice."""


def check(id_: str) -> str:
    """The id, when it is one.

    Raises:
        DataError: `dedup.id.invalid` unless it is 1 to 256 printable characters.
    """
    if not 0 < len(id_) <= MAX_ID or not id_.isprintable():
        raise DataError("dedup.id.invalid", f"an id is 1 to {MAX_ID} printable characters")
    return id_


def in_flight(retry_after: float) -> TransientError:
    """What a second one is told while the first runs."""
    return TransientError("dedup.id.in_flight", "this id is being worked on", retry_after=max(retry_after, 0.001))
