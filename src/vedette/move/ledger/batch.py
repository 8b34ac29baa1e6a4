"""One batch, in order: chains all-or-nothing, imports all or none, and each event's own decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from vedette.move.ledger.nouns import (
    TIMESTAMP_MAX,
    Account,
    AccountFlags,
    AccountStatus,
    Transfer,
    TransferFlags,
    TransferStatus,
)

_Event = TypeVar("_Event", Account, Transfer)
_Status = TypeVar("_Status", AccountStatus, TransferStatus)


GRAIN: Final = 999
"""Nanoseconds of a microsecond after its first: what the clock calls now is a whole microsecond."""
_LINKED: Final = 1
"""The same bit for accounts and transfers."""
_IMPORTED: Final[dict[type, int]] = {
    AccountStatus: int(AccountFlags.IMPORTED),
    TransferStatus: int(TransferFlags.IMPORTED),
}


class WorkingSet(Protocol[_Event, _Status]):  # type: ignore[misc]
    """What decides single events and can take a chain back: `Book` and `Opening`."""

    def mark(self) -> None:
        """A chain begins."""

    def keep(self) -> None:
        """The chain is whole."""

    def undo(self) -> None:
        """The chain is broken: takes back everything since `mark`."""

    def burn(self, event: _Event, status: _Status) -> None:
        """Told of every failure, so that passing ones can burn the id."""

    def create(self, event: _Event, timestamp: int) -> _Status:
        """Decides one event and applies it if it is accepted."""


def run(
    events: Sequence[_Event],
    kind: type[_Status],
    book: WorkingSet[_Event, _Status],
    *,
    base: int,
) -> list[_Status]:
    """Decides a batch.

    Args:
        events: Accounts or transfers, at most `MAX_BATCH`.
        kind: The status type of these events.
        book: Their working set.
        base: The event at place `i` is stamped `base + i`, unless it is imported with its own time.
    """
    statuses: list[_Status] = []
    chain: int | None = None  # place of the chain's first event
    broken = False
    last = len(events) - 1
    created, flag = kind.CREATED, _IMPORTED[kind]
    imported = bool(events) and bool(events[0].flags & flag)
    for place, event in enumerate(events):
        linked = bool(event.flags & _LINKED)
        if linked and chain is None:
            chain, broken = place, False
            book.mark()
        if linked and place == last:
            status = kind.LINKED_EVENT_CHAIN_OPEN
        elif broken:
            status = kind.LINKED_EVENT_FAILED
        else:
            stamp = event.timestamp if imported else base + place
            if imported or event.timestamp or event.flags & flag:
                wrong = _envelope(event, kind, base + last, flag, imported=imported)
                status = wrong or book.create(event, stamp)
            else:
                status = book.create(event, stamp)
        if status is not created:
            if chain is not None and not broken:
                broken = True
                book.undo()
                statuses[chain:] = [kind.LINKED_EVENT_FAILED] * (place - chain)
            book.burn(event, status)
        statuses.append(status)
        if chain is not None and not linked:
            if not broken:
                book.keep()
            chain, broken = None, False
    return statuses


def _envelope(event: Account | Transfer, kind: type[_Status], now: int, flag: int, *, imported: bool) -> _Status | None:
    if bool(event.flags & flag) is not imported:
        return kind.IMPORTED_EVENT_EXPECTED if imported else kind.IMPORTED_EVENT_NOT_EXPECTED
    if not imported:
        return kind.TIMESTAMP_MUST_BE_ZERO if event.timestamp else None
    if not 0 < event.timestamp <= TIMESTAMP_MAX:
        return kind.IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE
    return kind.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE if event.timestamp >= now else None


def run_each(
    batches: Sequence[Sequence[Transfer]], book: WorkingSet[Transfer, TransferStatus], base: int
) -> list[list[TransferStatus]]:
    """Decides batches of transfers one after the other; the first event is stamped `base`."""
    statuses = []
    for batch in batches:
        statuses.append(run(batch, TransferStatus, book, base=base))
        base += len(batch)
    return statuses
