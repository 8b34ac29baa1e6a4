"""The ledger of one tenant: the plain way in."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from vedette.core.clock import Clock, SystemClock
from vedette.core.db import Database, open_database
from vedette.core.errors import DefinitionError
from vedette.move.ledger import history
from vedette.move.ledger.filters import AccountBalance, AccountFilter, QueryFilter
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.ledger.nouns import Account, AccountStatus, PendingStatus, Transfer, TransferStatus

_SQLITE = "sqlite:///"
TENANT = "default"
"""Whose ledger it is when nobody says."""


class Ledger:
    """Accounts and transfers of one tenant.

    `now` is nanoseconds UTC; item i of n is stamped `now - n + i + 1`. Left out it is the machine's time, and calls
    from several threads share commits.

    Args:
        ledgers: Those of every tenant.
        tenant: Whose this one is.

    Example:
        >>> from vedette.move.ledger import Account, Ledger, Transfer
        >>> with Ledger.open("sqlite:///money.db") as ledger:  # doctest: +SKIP
        ...     ledger.create_accounts([Account(1, ledger=978, code=1), Account(2, ledger=978, code=1)])[0].value
        'created'
    """

    def __init__(self, ledgers: Ledgers, tenant: str = TENANT) -> None:
        self._ledgers = ledgers
        self.tenant = tenant

    @classmethod
    def open(cls, url: str, *, tenant: str = TENANT, schema: str | None = None, clock: Clock | None = None) -> Self:
        """Opens a ledger, making its tables where they are missing.

        Args:
            url: `sqlite:///path/to/file` or `postgresql://...`.
            tenant: Whose ledger.
            schema: PostgreSQL schema, made when missing; None: whatever the connection finds by itself.
            clock: The machine's when left out.

        Raises:
            DefinitionError: `ledger.url.unknown`.
        """
        if url.startswith("postgresql"):
            db = open_database(url, schema=schema)
        elif url.startswith(_SQLITE) and len(url) > len(_SQLITE):
            db = open_database(url.removeprefix(_SQLITE))
        else:
            raise DefinitionError(
                "ledger.url.unknown", "not the address of a ledger", hint="sqlite:///path, postgresql://"
            )
        return cls(Ledgers(db, clock or SystemClock()), tenant)

    @property
    def db(self) -> Database:
        """Where it is kept."""
        return self._ledgers.db

    def close(self) -> None:
        """Gives back every connection."""
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def create_accounts(self, accounts: Sequence[Account], *, now: int | None = None) -> list[AccountStatus]:
        """Creates accounts; one status each, in order. Repeating a call answers `exists` and changes nothing.

        Raises:
            DataError: `ledger.batch.too_large`: more than `MAX_BATCH`.
        """
        return self._ledgers.create_accounts(self.tenant, accounts, now=now)

    def create_transfers(self, transfers: Sequence[Transfer], *, now: int | None = None) -> list[TransferStatus]:
        """Moves money; one status each, in order. Repeating a call answers `exists` and moves nothing.

        Raises:
            DataError: `ledger.batch.too_large`: more than `MAX_BATCH`.
        """
        return self._ledgers.create_transfers(self.tenant, transfers, now=now)

    def expire(self, now: int | None = None) -> int:
        """Gives back every reservation whose time has passed; answers how many there were.

        Writes do so by themselves before they look at a balance; this is for those who only read.
        """
        count = 0
        while some := self._ledgers.expire(self.tenant, now=now):
            count += some
        return count

    def lookup_accounts(self, ids: Sequence[int]) -> list[Account]:
        """The accounts of those ids that exist, in the order asked for."""
        return self._ledgers.lookup_accounts(self.tenant, ids)

    def lookup_transfers(self, ids: Sequence[int]) -> list[Transfer]:
        """The transfers of those ids that exist, in the order asked for."""
        return self._ledgers.lookup_transfers(self.tenant, ids)

    def lookup_pending(self, id_: int) -> PendingStatus | None:
        """Where a two-phase transfer is; None when `id_` is no two-phase transfer."""
        return self._ledgers.lookup_pending(self.tenant, id_)

    def get_account_transfers(self, wanted: AccountFilter) -> list[Transfer]:
        """Movements of one account, oldest first; a page.

        Raises:
            DataError: `ledger.filter.invalid`.
        """
        return history.get_account_transfers(self.db, self.tenant, wanted)

    def get_account_balances(self, wanted: AccountFilter) -> list[AccountBalance]:
        """Balances of an account with the flag `history` after each of its movements, oldest first; a page.

        Raises:
            DataError: `ledger.filter.invalid`.
        """
        return history.get_account_balances(self.db, self.tenant, wanted)

    def query_accounts(self, wanted: QueryFilter) -> list[Account]:
        """Accounts by when they were made; a page.

        Raises:
            DataError: `ledger.filter.invalid`.
        """
        return history.query_accounts(self.db, self.tenant, wanted)

    def query_transfers(self, wanted: QueryFilter) -> list[Transfer]:
        """Transfers by when they were made; a page.

        Raises:
            DataError: `ledger.filter.invalid`.
        """
        return history.query_transfers(self.db, self.tenant, wanted)

    def trial_balance(self) -> dict[int, tuple[int, int]]:
        """Ledger -> (debits pending - credits pending, debits posted - credits posted). Both are always 0."""
        return self._ledgers.trial_balance(self.tenant)
