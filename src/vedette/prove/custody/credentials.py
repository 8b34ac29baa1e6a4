"""Secrets of services: fetched by who they are, for a short while, and changed without a failed request.

A credential has versions, each sealed under a key of the provider and bound to its name and number. A consumer is named
by the id of its API key; it fetches the newest version, and the record of it says which one. A rotation makes a new
version and lets the one before live on for a grace. Who has not fetched the new one by then is named before the old one
is cut. What checks a credential asks `accepts`: both versions within the grace, only the newest after it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from vedette.core.clock import MICROS, Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, overwrite_deleted, sa
from vedette.core.errors import ConflictError, DefinitionError, DeniedError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.audit import Audit, AuditRecord, Outcome
from vedette.prove.custody.provider import KeyProvider, KeyUse, ensure_key
from vedette.prove.secrets import MAX_BYTES, Secret

LEASE_S = 900
"""How long a consumer may go on with what it fetched, before it fetches again."""
KEY = "credentials:1"
"""Label of the key that seals them."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}(\.[a-z0-9_-]{1,40}){0,4}")
_METADATA = sa.MetaData()

_versions = sa.Table(
    "credential_versions",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", LONG, primary_key=True),
    # None once it is cut.
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("created", LONG, nullable=False),
    # When it ends; None for the newest.
    sa.Column("ends", LONG),
    sqlite_strict=True,
)
_consumers = sa.Table(
    "credential_consumers",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("identity", sa.Text, primary_key=True),
    # Version fetched last, and when.
    sa.Column("version", LONG),
    sa.Column("fetched", LONG),
    sqlite_strict=True,
)
MIGRATIONS = [Migration(1, "versions and consumers of credentials", create(_METADATA))]


@dataclass(frozen=True, slots=True)
class Leased:
    """A credential in use."""

    name: str
    version: int
    value: Secret
    until: int
    """Fetch again by then, microseconds UTC."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who may fetch a credential, and what it has."""

    identity: str
    version: int | None
    """None: it never fetched."""
    fetched: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """Where a credential stands."""

    name: str
    version: int
    created: int
    """Of the newest version."""
    older_ends: int | None
    """When the version before it ends; None when there is none."""
    behind: tuple[str, ...]
    """Consumers that fetched, but not the newest version."""
    consumers: tuple[Consumer, ...]


class Credentials:
    """Credentials of one installation. Safe for several threads and processes.

    Args:
        db: Where sealed versions are; its tables are made when missing.
        provider: Seals them.
        clock: Time of leases and graces.
        ids: Makes ids of audit records.
        observe: Gets an audit record of each fetch and change.
    """

    def __init__(
        self,
        db: Database,
        provider: KeyProvider,
        clock: Clock,
        ids: Ids,
        observe: Callable[[AuditRecord], None] | None = None,
    ) -> None:
        db.migrate("credentials", MIGRATIONS)
        self._db = db
        self._provider = provider
        self._clock = clock
        self._audit = Audit(observe, clock, ids)

    def put(self, name: str, value: Secret, *, consumers: Collection[str] = (), by: str) -> int:
        """The first version of a credential.

        Raises:
            DefinitionError: `credentials.name.invalid`, `credentials.value.size`.
            ConflictError: `credentials.name.taken`; rotate it.
        """
        _check(name, value)
        ensure_key(self._provider, KEY, KeyUse.WRAP)
        sealed = self._seal(name, 1, value)
        with self._db.begin() as connection:
            row = {"version": 1, "sealed": sealed, "created": self._clock.now(), "ends": None}
            if not insert_new(connection, _versions, name=name, **row):
                raise ConflictError("credentials.name.taken", "there is such a credential", hint="rotate it", at=name)
            for identity in consumers:
                insert_new(connection, _consumers, name=name, identity=identity, version=None, fetched=None)
        self._tell("credentials.put", name, by)
        return 1

    def allow(self, name: str, identity: str, *, by: str) -> None:
        """Lets a consumer fetch it. Again changes nothing.

        Raises:
            NotFoundError: `credentials.name.unknown`.
        """
        with self._db.begin() as connection:
            self._newest(connection, name)
            insert_new(connection, _consumers, name=name, identity=identity, version=None, fetched=None)
        self._tell("credentials.allow", name, by, consumer=identity)

    def withdraw(self, name: str, identity: str, *, by: str) -> None:
        """Ends a consumer's right. What it holds, it holds: rotate the credential too."""
        with self._db.begin() as connection:
            mine = (_consumers.c.name == name, _consumers.c.identity == identity)
            connection.execute(_consumers.delete().where(*mine))
        self._tell("credentials.withdraw", name, by, consumer=identity)

    def fetch(self, name: str, identity: str, *, origin: str = "") -> Leased:
        """The newest version, for a consumer that may have it. Recorded before it is given, and so are refusals.

        Raises:
            DeniedError: `credentials.denied`, the same for a name that does not exist.
        """
        now = self._clock.now()
        with self._db.begin() as connection:
            mine = (_consumers.c.name == name, _consumers.c.identity == identity)
            known = connection.execute(sa.select(_consumers).where(*mine)).first()
            row = self._newest(connection, name) if known else None
            if row is not None:
                connection.execute(_consumers.update().where(*mine).values(version=row.version, fetched=now))
        if row is None:
            shown = name if _NAME.fullmatch(name) else ""
            self._audit.record(
                "system", "credentials.fetch", actor=identity, target=shown, outcome=Outcome.DENIED, origin=origin
            )
            raise DeniedError("credentials.denied", "not yours, or no such credential")
        value = self._open(name, row)
        detail = {"version": str(row.version)}
        self._audit.record("system", "credentials.fetch", actor=identity, target=name, origin=origin, detail=detail)
        return Leased(name, int(row.version), value, now + LEASE_S * MICROS)

    def rotate(self, name: str, value: Secret, *, grace_s: int, by: str) -> int:
        """The next version; the one before is accepted for `grace_s` more seconds. Gives its number.

        The same value again is the same rotation, so a caller that was cut may repeat itself.

        Raises:
            NotFoundError: `credentials.name.unknown`.
            DefinitionError: `credentials.grace.short` for less than a lease: consumers could not know in time.
        """
        _check(name, value)
        if grace_s < LEASE_S:
            raise DefinitionError(
                "credentials.grace.short", f"a grace is at least {LEASE_S} s", hint="a lease's length"
            )
        now = self._clock.now()
        while True:
            with self._db.read() as connection:
                newest = self._newest(connection, name)
            if self._equal(name, newest, value):
                return int(newest.version)
            version = int(newest.version) + 1
            sealed = self._seal(name, version, value)
            with self._db.begin() as connection:
                row = {"sealed": sealed, "created": now, "ends": None}
                if not insert_new(connection, _versions, name=name, version=version, **row):
                    continue  # another rotation was first
                before = (_versions.c.name == name, _versions.c.version == version - 1)
                connection.execute(_versions.update().where(*before).values(ends=now + grace_s * MICROS))
            self._tell("credentials.rotate", name, by, version=str(version))
            return version

    def accepts(self, name: str, value: Secret) -> bool:
        """True for the newest version, and for one before it within its grace. In constant time for each.

        Raises:
            NotFoundError: `credentials.name.unknown`.
        """
        now = self._clock.now()
        with self._db.read() as connection:
            self._newest(connection, name)
            held = sa.select(_versions).where(_versions.c.name == name, _versions.c.sealed.is_not(None))
            rows = connection.execute(held).all()
        alive = [row for row in rows if row.ends is None or row.ends > now]
        # All of them, so that the time tells nothing about which one it is.
        return sum(self._equal(name, row, value) for row in alive) > 0

    def cut(self, name: str, *, force: bool = False, by: str) -> list[int]:
        """Forgets versions whose grace is over. Gives their numbers.

        Raises:
            ConflictError: `credentials.consumers.behind` with the names of consumers that still have an older one,
                unless `force`.
        """
        status = self.status(name)
        if status.behind and not force:
            names = ", ".join(status.behind)
            raise ConflictError(
                "credentials.consumers.behind",
                f"these have not fetched version {status.version}: {names}",
                hint="restart them, or force it",
                at=name,
            )
        over = (_versions.c.name == name, _versions.c.ends <= self._clock.now(), _versions.c.sealed.is_not(None))
        with self._db.begin() as connection:
            overwrite_deleted(connection)
            gone = list(connection.execute(sa.select(_versions.c.version).where(*over)).scalars())
            connection.execute(_versions.update().where(*over).values(sealed=None))
        if gone:
            self._tell("credentials.cut", name, by, versions=",".join(map(str, gone)))
        return [int(version) for version in gone]

    def status(self, name: str) -> Status:
        """Versions and consumers.

        Raises:
            NotFoundError: `credentials.name.unknown`.
        """
        with self._db.read() as connection:
            newest = self._newest(connection, name)
            older = sa.select(sa.func.max(_versions.c.ends)).where(
                _versions.c.name == name, _versions.c.version < newest.version, _versions.c.sealed.is_not(None)
            )
            ends = connection.execute(older).scalar()
            asked = sa.select(_consumers).where(_consumers.c.name == name).order_by(_consumers.c.identity)
            consumers = tuple(Consumer(row.identity, row.version, row.fetched) for row in connection.execute(asked))
        behind = tuple(one.identity for one in consumers if one.version is not None and one.version < newest.version)
        return Status(name, int(newest.version), newest.created, ends, behind, consumers)

    def names(self) -> list[str]:
        """Every credential."""
        with self._db.read() as connection:
            return list(connection.execute(sa.select(_versions.c.name).distinct().order_by(_versions.c.name)).scalars())

    def _newest(self, connection: Connection, name: str) -> Any:
        asked = sa.select(_versions).where(_versions.c.name == name).order_by(_versions.c.version.desc()).limit(1)
        row = connection.execute(asked).first()
        if row is None:
            raise NotFoundError("credentials.name.unknown", "no such credential", at=name[:80])
        return row

    def _equal(self, name: str, row: Any, value: Secret) -> bool:
        return hmac.compare_digest(self._open(name, row).reveal().encode(), value.reveal().encode())

    def _seal(self, name: str, version: int, value: Secret) -> bytes:
        return self._provider.seal(KEY, value.reveal().encode(), _aad(name, version))

    def _open(self, name: str, row: Any) -> Secret:
        return Secret(self._provider.open(KEY, row.sealed, _aad(name, row.version)).decode())

    def _tell(self, action: str, name: str, by: str, **detail: str) -> None:
        self._audit.record("system", action, actor=by, target=name, detail=detail)


def _check(name: str, value: Secret) -> None:
    if not _NAME.fullmatch(name):
        raise DefinitionError("credentials.name.invalid", "not the name of a credential", hint="such as `ledger.db`")
    if not 1 <= len(value.reveal().encode()) <= MAX_BYTES:
        raise DefinitionError("credentials.value.size", f"a credential has 1 to {MAX_BYTES} bytes", at=name)


def _aad(name: str, version: int) -> bytes:
    return f"vedette.credentials.v1|{name}|{version}".encode()
