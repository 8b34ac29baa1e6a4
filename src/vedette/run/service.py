"""One of several services on one PostgreSQL: each has a home, a name and the secrets of all.

What is shared are money, people, alerts, cases and runs; each service has its own log, decisions and evidence in its
home. Two that took each other's places in the log, or that could not read each other's secrets, would lose events and
refuse retries. So a service that would is not begun.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping

from vedette.core.db import Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DefinitionError
from vedette.core.settings import Settings

_METADATA = sa.MetaData()
_service = sa.Table(
    "service",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("home", sa.Text, nullable=False),
    sqlite_strict=True,
)
_proof = sa.Table(
    "service_secret",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("proof", sa.Text, nullable=False),
    sqlite_strict=True,
)
_MIGRATIONS = (Migration(1, "services on one database", create(_METADATA)),)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}|")


def join(state: Database, settings: Settings, own: Mapping[str, bytes]) -> Callable[[], None]:
    """Begins a service on a shared database; gives what ends it.

    Args:
        state: Where services are noted.
        settings: Its name and home.
        own: Secrets that all services must have in common.

    Raises:
        ConflictError: `service.home.busy`: another process serves this home; `service.name.taken`: the name is that of
            another home.
        DefinitionError: `service.name.invalid`; `service.secret.differs`: the secrets are not those of the others.
    """
    if not _NAME.fullmatch(settings.service):
        raise DefinitionError("service.name.invalid", "a service's name is up to 31 small letters, digits and _")
    leave = _hold(settings)
    try:
        state.migrate("service", _MIGRATIONS)
        with state.begin() as connection:
            _note(connection, settings, own)
    except BaseException:
        leave()
        raise
    return leave


def _note(connection: Connection, settings: Settings, own: Mapping[str, bytes]) -> None:
    home = _identity(settings)
    if not _agrees(connection, _service, settings.service, "home", home):
        raise ConflictError(
            "service.name.taken",
            f"another home serves this database under the name `{settings.service}`",
            hint="give each service a name of its own: VEDETTE_SERVICE=west",
        )
    for name, secret in own.items():
        proof = hmac.new(secret, b"vedette service secret " + name.encode(), hashlib.sha256).hexdigest()
        if not _agrees(connection, _proof, name, "proof", proof):
            raise DefinitionError(
                "service.secret.differs",
                f"`{name}` is not that of the other services on this database",
                hint="let VEDETTE_SHARED name one folder for them all, with the first one's keys/ and secrets/ in it",
            )


def _agrees(connection: Connection, table: sa.Table, name: str, column: str, value: str) -> bool:
    if insert_new(connection, table, name=name, **{column: value}):
        return True
    return bool(connection.scalar(sa.select(table.c[column]).where(table.c.name == name)) == value)


def _identity(settings: Settings) -> str:
    """Random, made once in a home."""
    path = settings.home / "service.id"
    if not path.exists():
        path.write_text(secrets.token_hex(16))
    return path.read_text().strip()


def _hold(settings: Settings) -> Callable[[], None]:
    path = settings.home / "locks" / "service.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ConflictError(
            "service.home.busy",
            "another process serves this home",
            hint="give each service a home and a name of its own",
            at=str(settings.home),
        ) from None
    return lock.close
