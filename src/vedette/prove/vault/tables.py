"""Tables of vault.db. Times are microseconds UTC. No column holds a card number, whole or cut, beyond its last four."""

from __future__ import annotations

from vedette.core.db import LONG, Migration, create, sa

_METADATA = sa.MetaData()

tenants = sa.Table(
    "vault_tenants",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    # Of the wrapping key that new cards use.
    sa.Column("version", LONG, nullable=False),
    sa.Column("rotated", LONG, nullable=False),
    sa.Column("shredded", LONG),
    sqlite_strict=True,
)

cards = sa.Table(
    "vault_cards",
    _METADATA,
    sa.Column("token", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, sa.ForeignKey(tenants.c.tenant), nullable=False),
    sa.Column("merchant", sa.Text, nullable=False),
    sa.Column("purposes", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("brand", sa.Text, nullable=False),
    sa.Column("last4", sa.Text, nullable=False),
    sa.Column("created", LONG, nullable=False),
    # None of both once the card is erased.
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("sealed_key", sa.LargeBinary),
    sa.Column("version", LONG, nullable=False),
    sa.Column("erased", LONG),
    sa.Index("vault_cards_version", "tenant", "version"),
    sqlite_strict=True,
)

tickets = sa.Table(
    "vault_tickets",
    _METADATA,
    sa.Column("hash", sa.LargeBinary, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("merchant", sa.Text, nullable=False),
    sa.Column("purposes", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("expires", LONG, nullable=False, index=True),
    sa.Column("token", sa.Text),
    sqlite_strict=True,
)

MIGRATIONS = [Migration(1, "tenants, cards and tickets", create(_METADATA))]
