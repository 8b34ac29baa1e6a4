"""Ledger states that no transfer reaches quickly."""

from __future__ import annotations

from typing import Protocol

from vedette.core.db import Database


class OpenLedger(Protocol):
    """What `vedette.move.ledger.Ledger` has of it."""

    tenant: str

    @property
    def db(self) -> Database:
        """Where it is kept."""


def set_balances(  # noqa: PLR0917  # the four balances in their published order
    ledger: OpenLedger,
    account_id: int,
    debits_pending: int,
    debits_posted: int,
    credits_pending: int,
    credits_posted: int,
) -> None:
    """Sets the four balances of an account, as if transfers had made them. `vedette ledger check` will object.

    Raises:
        LookupError: There is no such account.
    """
    sums = (debits_pending, debits_posted, credits_pending, credits_posted)
    values = (*sums, account_id)
    mark = "%s"
    if ledger.db.is_sqlite:
        values, mark = tuple(number.to_bytes(16, "big") for number in values), "?"  # type: ignore[assignment]
    names = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
    columns = ", ".join(f"{name} = {mark}" for name in names)
    statement = f"update ledger_account set {columns} where id = {mark} and tenant = {mark} returning code"
    with ledger.db.begin() as connection:
        if connection.exec_driver_sql(statement, (*values, ledger.tenant)).first() is None:
            raise LookupError(account_id)
