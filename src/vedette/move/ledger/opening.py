"""The working set of one batch of new accounts; the twin of `book`."""

# One return per status, top to bottom in order of precedence: read it beside `AccountStatus`.
# ruff: noqa: C901, PLR0911

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from vedette.move.ledger.nouns import U128_MAX, Account, AccountFlags, AccountStatus

_LIMITS: Final = AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS | AccountFlags.CREDITS_MUST_NOT_EXCEED_DEBITS
_KNOWN: Final = sum(int(flag) for flag in AccountFlags)
_BALANCES: Final = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


class Opening:
    """The working set of a batch of new accounts; the twin of `Book`.

    Args:
        existing: Stored accounts among the batch's ids.
        last_timestamp: Newest timestamp of any stored account; only imports ask for it.
        taken: Timestamps of transfers that an imported account may not reuse.
    """

    def __init__(self, existing: dict[int, Account], *, last_timestamp: int = 0, taken: Iterable[int] = ()) -> None:
        self.known = existing
        self.created: list[Account] = []
        self._newest = [last_timestamp]
        self._mark = 0
        self.taken = set(taken)

    def mark(self) -> None:
        """A chain begins."""
        self._mark = len(self.created)

    def keep(self) -> None:
        """The chain is whole."""

    def undo(self) -> None:
        """The chain is broken: takes back every account made since `mark`."""
        while len(self.created) > self._mark:
            del self.known[self.created.pop().id]
            self._newest.pop()

    def burn(self, account: Account, status: AccountStatus) -> None:
        """Account ids are never burnt."""

    def create(self, a: Account, timestamp: int) -> AccountStatus:
        """Decides one account and keeps it if it is accepted."""
        if a.reserved:
            return AccountStatus.RESERVED_FIELD
        if a.flags & ~_KNOWN:
            return AccountStatus.RESERVED_FLAG
        if a.id == 0:
            return AccountStatus.ID_MUST_NOT_BE_ZERO
        if a.id == U128_MAX:
            return AccountStatus.ID_MUST_NOT_BE_INT_MAX
        existing = self.known.get(a.id)
        if existing is not None:
            return _compare_accounts(a, existing)
        if a.flags & _LIMITS == _LIMITS:
            return AccountStatus.FLAGS_ARE_MUTUALLY_EXCLUSIVE
        for name in _BALANCES:
            if getattr(a, name):
                return AccountStatus(f"{name}_must_be_zero")
        if a.ledger == 0:
            return AccountStatus.LEDGER_MUST_NOT_BE_ZERO
        if a.code == 0:
            return AccountStatus.CODE_MUST_NOT_BE_ZERO
        if a.flags & AccountFlags.IMPORTED and (a.timestamp <= self._newest[-1] or a.timestamp in self.taken):
            return AccountStatus.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
        self.known[a.id] = msgspec.structs.replace(a, timestamp=timestamp)
        self.created.append(self.known[a.id])
        self._newest.append(max(self._newest[-1], timestamp))
        return AccountStatus.CREATED


def _compare_accounts(a: Account, existing: Account) -> AccountStatus:
    for name in ("flags", "user_data_128", "user_data_64", "user_data_32", "ledger", "code"):
        if getattr(a, name) != getattr(existing, name):
            return AccountStatus(f"exists_with_different_{name}")
    return AccountStatus.EXISTS
