"""The ledger's tables. A transfer row is the entry: there are no separate postings."""

from __future__ import annotations

from vedette.core.db import LONG, Connection, Migration, sa
from vedette.move.ledger.numbers import Unsigned

METADATA = sa.MetaData()


def _by_id() -> sa.PrimaryKeyConstraint:
    # The id first, and no index that begins with the tenant: before its first ANALYZE, PostgreSQL takes a tenant for a
    # two-hundredth of a table and would rather read all of it than look a hundred ids up.
    return sa.PrimaryKeyConstraint("id", "tenant")


account = sa.Table(
    "ledger_account",
    METADATA,
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("id", Unsigned(16), nullable=False),
    sa.Column("ledger", LONG, nullable=False),
    sa.Column("code", sa.Integer, nullable=False),
    sa.Column("flags", sa.Integer, nullable=False),
    sa.Column("user_data_128", Unsigned(16), nullable=False),
    sa.Column("user_data_64", Unsigned(8), nullable=False),
    sa.Column("user_data_32", LONG, nullable=False),
    sa.Column("debits_pending", Unsigned(16), nullable=False),
    sa.Column("debits_posted", Unsigned(16), nullable=False),
    sa.Column("credits_pending", Unsigned(16), nullable=False),
    sa.Column("credits_posted", Unsigned(16), nullable=False),
    sa.Column("timestamp", LONG, nullable=False),
    sa.Column("touched", LONG, nullable=False),
    _by_id(),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""`touched`: when the account was made or last moved; its next transfer is stamped later."""

transfer = sa.Table(
    "ledger_transfer",
    METADATA,
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("id", Unsigned(16), nullable=False),
    sa.Column("debit_account_id", Unsigned(16), nullable=False),
    sa.Column("credit_account_id", Unsigned(16), nullable=False),
    sa.Column("amount", Unsigned(16), nullable=False),
    sa.Column("pending_id", Unsigned(16)),
    sa.Column("user_data_128", Unsigned(16), nullable=False),
    sa.Column("user_data_64", Unsigned(8), nullable=False),
    sa.Column("user_data_32", LONG, nullable=False),
    sa.Column("timeout", LONG, nullable=False),
    sa.Column("ledger", LONG, nullable=False),
    sa.Column("code", sa.Integer, nullable=False),
    sa.Column("flags", sa.Integer, nullable=False),
    sa.Column("timestamp", LONG, nullable=False),
    _by_id(),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
# The index is the last line of defence: no pending transfer can be resolved twice, whatever the program does.
sa.Index(
    "ledger_transfer_resolves",
    transfer.c.pending_id,
    transfer.c.tenant,
    unique=True,
    sqlite_where=transfer.c.pending_id.is_not(None),
    postgresql_where=transfer.c.pending_id.is_not(None),
)
sa.Index("ledger_transfer_time", transfer.c.timestamp, transfer.c.tenant)

pending = sa.Table(
    "ledger_pending",
    METADATA,
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("id", Unsigned(16), nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("expires_at", LONG),
    _by_id(),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Where each two-phase transfer is; the only thing about a transfer that changes."""
sa.Index(
    "ledger_pending_due",
    pending.c.expires_at,
    pending.c.tenant,
    sqlite_where=(pending.c.status == "pending") & pending.c.expires_at.is_not(None),
    postgresql_where=(pending.c.status == "pending") & pending.c.expires_at.is_not(None),
)

balance = sa.Table(
    "ledger_balance",
    sa.MetaData(),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("account_id", Unsigned(16), nullable=False),
    sa.Column("timestamp", LONG, nullable=False),
    sa.Column("debits_pending", Unsigned(16), nullable=False),
    sa.Column("debits_posted", Unsigned(16), nullable=False),
    sa.Column("credits_pending", Unsigned(16), nullable=False),
    sa.Column("credits_posted", Unsigned(16), nullable=False),
    sqlite_strict=True,
)
sa.Index("ledger_balance_time", balance.c.account_id, balance.c.timestamp, balance.c.tenant)
"""Balances of accounts with the flag `history`, after each movement."""

failed = sa.Table(
    "ledger_failed",
    METADATA,
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("id", Unsigned(16), nullable=False),
    _by_id(),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Burnt ids: a transfer of this id met a passing condition, and a retry must not succeed later."""

_SQLITE_TRIGGERS = (
    """create trigger ledger_transfer_no_update before update on ledger_transfer
    begin select raise(abort, 'transfers are immutable'); end""",
    """create trigger ledger_transfer_no_delete before delete on ledger_transfer
    begin select raise(abort, 'transfers are immutable'); end""",
    """create trigger ledger_account_no_delete before delete on ledger_account
    begin select raise(abort, 'accounts are never deleted'); end""",
    """create trigger ledger_account_fixed before update of tenant, id, ledger, code, user_data_128, user_data_64,
    user_data_32, timestamp on ledger_account begin select raise(abort, 'an account keeps its identity'); end""",
)
_POSTGRES_TRIGGERS = (
    """create function ledger_refuse() returns trigger language plpgsql as
    $$ begin raise exception '% of % is refused: the ledger only grows', tg_op, tg_table_name; end $$""",
    """create trigger ledger_transfer_immutable before update or delete or truncate on ledger_transfer
    for each statement execute function ledger_refuse()""",
    """create trigger ledger_account_no_delete before delete or truncate on ledger_account
    for each statement execute function ledger_refuse()""",
    """create trigger ledger_account_fixed before update of tenant, id, ledger, code, user_data_128, user_data_64,
    user_data_32, timestamp on ledger_account for each statement execute function ledger_refuse()""",
)


def _create(connection: Connection) -> None:
    METADATA.create_all(connection, checkfirst=False)
    for trigger in _SQLITE_TRIGGERS if connection.dialect.name == "sqlite" else _POSTGRES_TRIGGERS:
        connection.exec_driver_sql(trigger.replace("%", "%%") if connection.dialect.name != "sqlite" else trigger)


def _add_history(connection: Connection) -> None:
    for side in ("debit", "credit"):
        connection.exec_driver_sql(
            f"create index ledger_transfer_{side} on ledger_transfer ({side}_account_id, timestamp, tenant)"
        )
    connection.exec_driver_sql(
        "alter table ledger_pending add column resolved_at bigint"
        if connection.dialect.name != "sqlite"
        else "alter table ledger_pending add column resolved_at integer"
    )
    balance.create(connection)
    if connection.dialect.name != "sqlite":
        # Room on the page for the next version of a row: a hot account then needs no new index entries.
        connection.exec_driver_sql("alter table ledger_account set (fillfactor = 50)")
        connection.exec_driver_sql(_IMMUTABLE.format(table="ledger_balance"))
    else:
        for verb in ("update", "delete"):
            connection.exec_driver_sql(
                f"""create trigger ledger_balance_no_{verb} before {verb} on ledger_balance
                begin select raise(abort, 'kept balances are immutable'); end"""
            )


_IMMUTABLE = """create trigger {table}_immutable before update or delete or truncate on {table}
for each statement execute function ledger_refuse()"""

MIGRATIONS = (
    Migration(1, "accounts, transfers, pendings, burnt ids", _create),
    Migration(2, "movements of an account by time, kept balances", _add_history),
)
