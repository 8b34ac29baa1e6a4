"""Tables of access in state.db: tenants, keys, people, their grants and tokens. Times are microseconds UTC."""

from __future__ import annotations

from vedette.core.db import Migration, create, sa

_METADATA = sa.MetaData()
_MICROS = sa.BigInteger().with_variant(sa.Integer, "sqlite")

tenants = sa.Table(
    "access_tenants",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("created", _MICROS, nullable=False),
    sqlite_strict=True,
)

keys = sa.Table(
    "access_keys",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, sa.ForeignKey(tenants.c.id), nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("accounts", sa.Text, nullable=False),
    sa.Column("created", _MICROS, nullable=False),
    sa.Column("expires", _MICROS),
    sa.Column("revoked", _MICROS),
    sa.Column("last_used", _MICROS),
    sa.Column("rolled_from", sa.Text),
    sqlite_strict=True,
)

people = sa.Table(
    "access_people",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, sa.ForeignKey(tenants.c.id), nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("accounts", sa.Text, nullable=False),
    sa.Column("created", _MICROS, nullable=False),
    sa.Column("disabled", _MICROS),
    sqlite_strict=True,
)

grants = sa.Table(
    "access_grants",
    _METADATA,
    sa.Column("person", sa.Text, sa.ForeignKey(people.c.id), primary_key=True),
    sa.Column("role", sa.Text, primary_key=True),
    sa.Column("granted_by", sa.Text, nullable=False),
    sa.Column("granted", _MICROS, nullable=False),
    sqlite_strict=True,
)

_TOKENS = sa.MetaData()
"""Tables of the second step: the first one makes all of `_METADATA`, which therefore stays as it is."""

tokens = sa.Table(
    "access_tokens",
    _TOKENS,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, sa.ForeignKey(tenants.c.id), nullable=False),
    sa.Column("person", sa.Text, sa.ForeignKey(people.c.id), nullable=False, index=True),
    sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("issued_by", sa.Text, nullable=False),
    sa.Column("created", _MICROS, nullable=False),
    sa.Column("expires", _MICROS, nullable=False),
    sa.Column("revoked", _MICROS),
    sa.Column("last_used", _MICROS),
    sqlite_strict=True,
)

MIGRATIONS = (
    Migration(1, "tenants, keys, people, grants", create(_METADATA)),
    Migration(2, "personal tokens", create(_TOKENS)),
)


def join_accounts(accounts: frozenset[str]) -> str:
    """Accounts as one column holds them."""
    return "\n".join(sorted(accounts))


def split_accounts(text: str) -> frozenset[str]:
    """What `join_accounts` joined."""
    return frozenset(filter(None, text.split("\n")))
