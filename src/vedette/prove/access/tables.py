"""Tables of access in state.db: tenants, keys, people, their grants and tokens. Times are microseconds UTC."""

from __future__ import annotations

from vedette.core.db import Connection, Migration, create, sa

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

_LOGIN = sa.MetaData()
"""Tables of the third step."""

passwords = sa.Table(
    "access_passwords",
    _LOGIN,
    sa.Column("person", sa.Text, sa.ForeignKey(people.c.id), primary_key=True),
    sa.Column("login", sa.Text, nullable=False, unique=True),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("earlier", sa.Text, nullable=False),
    sa.Column("expires", _MICROS),
    sa.Column("used", _MICROS),
    sa.Column("changed", _MICROS, nullable=False),
    sqlite_strict=True,
)
"""How people prove who they are. `expires` is set for a one-time password only, `used` once it was."""

factors = sa.Table(
    "access_factors",
    _LOGIN,
    sa.Column("person", sa.Text, sa.ForeignKey(people.c.id), primary_key=True),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("confirmed", _MICROS),
    sa.Column("last_step", _MICROS, nullable=False),
    sa.Column("pending", sa.LargeBinary),
    sa.Column("begun", _MICROS),
    sqlite_strict=True,
)
"""Authenticators: the one in force and the one being set up. `last_step` is the newest time step whose code was used:
no code is taken twice."""

codes = sa.Table(
    "access_codes",
    _LOGIN,
    sa.Column("hash", sa.LargeBinary, primary_key=True),
    sa.Column("person", sa.Text, sa.ForeignKey(people.c.id), nullable=False, index=True),
    sa.Column("created", _MICROS, nullable=False),
    sa.Column("used", _MICROS),
    sqlite_strict=True,
)
"""Recovery codes."""

sessions = sa.Table(
    "access_sessions",
    _LOGIN,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("tenant", sa.Text, sa.ForeignKey(tenants.c.id), nullable=False),
    sa.Column("person", sa.Text, sa.ForeignKey(people.c.id), nullable=False, index=True),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("created", _MICROS, nullable=False),
    sa.Column("seen", _MICROS, nullable=False),
    sa.Column("expires", _MICROS, nullable=False),
    sa.Column("proven", _MICROS),
    sa.Column("ended", _MICROS),
    sqlite_strict=True,
)
"""`proven` is when the second factor was last shown in this session."""

throttles = sa.Table(
    "access_throttles",
    _LOGIN,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last", _MICROS, nullable=False, index=True),
    sa.Column("until", _MICROS, nullable=False),
    sqlite_strict=True,
)
"""Failed logins by person, by unknown name and by origin; from `until` on the next attempt is looked at."""

_APPS = sa.MetaData()
"""Tables of the fourth step."""

apps = sa.Table(
    "access_apps",
    _APPS,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("created", _MICROS, nullable=False),
    sa.Column("disabled", _MICROS),
    sa.Column("last_used", _MICROS),
    sqlite_strict=True,
)

app_secrets = sa.Table(
    "access_app_secrets",
    _APPS,
    sa.Column("hash", sa.LargeBinary, primary_key=True),
    sa.Column("app", sa.Text, sa.ForeignKey(apps.c.id), nullable=False, index=True),
    sa.Column("created", _MICROS, nullable=False),
    sa.Column("expires", _MICROS),
    sqlite_strict=True,
)
"""`expires` is empty for the secret of now; that of before has the end of its overlap."""

app_tokens = sa.Table(
    "access_app_tokens",
    _APPS,
    sa.Column("hash", sa.LargeBinary, primary_key=True),
    sa.Column("app", sa.Text, sa.ForeignKey(apps.c.id), nullable=False, index=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("created", _MICROS, nullable=False),
    sa.Column("expires", _MICROS, nullable=False, index=True),
    sqlite_strict=True,
)
"""`account` is the tenant that the token acts in: the app's own, or one that is connected to it."""

connections = sa.Table(
    "access_connections",
    _APPS,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("platform", sa.Text, nullable=False, index=True),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("merchants", sa.Text, nullable=False),
    sa.Column("given_by", sa.Text, nullable=False),
    sa.Column("created", _MICROS, nullable=False),
    sa.Column("expires", _MICROS, nullable=False),
    sa.Column("revoked", _MICROS),
    sqlite_strict=True,
)
"""`account` is the tenant that gave it, `platform` the one that it was given to."""

sa.Index("access_connections_alive", connections.c.account, connections.c.platform, connections.c.mode)

MIGRATIONS = (
    Migration(1, "tenants, keys, people, grants", create(_METADATA)),
    Migration(2, "personal tokens", create(_TOKENS)),
    Migration(3, "passwords, second factors, sessions, throttles", create(_LOGIN)),
    Migration(4, "apps, their secrets and tokens, connected accounts", create(_APPS)),
)


def end_sessions(connection: Connection, person_id: str, now: int) -> int:
    """Ends every session of a person, in a transaction of the caller; gives how many."""
    alive = sessions.update().where(sessions.c.person == person_id, sessions.c.ended.is_(None))
    return connection.execute(alive.values(ended=now)).rowcount


def join_accounts(accounts: frozenset[str]) -> str:
    """Accounts as one column holds them."""
    return "\n".join(sorted(accounts))


def split_accounts(text: str) -> frozenset[str]:
    """What `join_accounts` joined."""
    return frozenset(filter(None, text.split("\n")))
