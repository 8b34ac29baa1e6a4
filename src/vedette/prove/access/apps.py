"""Apps: programs that prove themselves by a client secret, and act by short-lived tokens of no more scope than asked.

Source: OAuth 2.0, RFC 6749 section 4.4 (client credentials).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vedette.core.clock import MICROS, Clock
from vedette.core.db import Connection, Database, sa
from vedette.core.errors import ConflictError, DefinitionError, DeniedError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.access.connections import Connections, in_account
from vedette.prove.access.policy import (
    Kind,
    Level,
    Mode,
    Principal,
    check_lent,
    format_scopes,
    narrow,
    parse_scopes,
    read_scopes,
)
from vedette.prove.access.tables import app_secrets, app_tokens, apps, tenants
from vedette.prove.audit import NOBODY, Audit, Outcome
from vedette.prove.secrets import Secret

SECRET_PREFIX = "vs_"  # noqa: S105 - a form, no secret
"""With which every client secret begins."""
TOKEN_PREFIX = "va_"  # noqa: S105
"""With which every token of an app begins; its mode follows."""
TOKEN_S = 3_600.0
"""Seconds that a token lasts."""
MAX_TOKENS = 100
"""Tokens of an app that hold at a time; one more ends the oldest."""
MAX_OVERLAP = 7 * 86_400
"""Longest time in seconds for which a rolled secret still proves its app."""


@dataclass(frozen=True, slots=True)
class App:
    """What may be known of an app: everything but its secrets."""

    id: str
    tenant: str
    name: str
    mode: Mode
    scopes: Mapping[str, Level]
    """The most that a token of it may do."""
    created: int
    disabled: int | None = None
    last_used: int | None = None
    """To about the interval at which `Access.flush` is called."""


@dataclass(frozen=True, slots=True)
class IssuedApp:
    """An app with a new client secret, which is shown this once and kept nowhere."""

    app: App
    secret: Secret


@dataclass(frozen=True, slots=True)
class IssuedAccess:
    """A new token of an app, which is shown this once and kept nowhere."""

    token: Secret
    account: str
    """Tenant that it acts in."""
    scopes: Mapping[str, Level]
    expires_s: float


@dataclass(frozen=True, slots=True)
class AppToken:
    """What `Access` remembers of a token; its id is the app's, for which it acts."""

    id: str
    expires: int


class Apps:
    """The apps of all tenants. Part of `Access`, as `access.apps`.

    Args:
        db: state.db, already migrated by `Access`.
        clock: Wall time.
        ids: Makes their ids.
        audit: Where changes and refusals are recorded.
        connections: What apps may do in other accounts.
        random_text: Gives 256 random bits in 43 characters.
        changed: Told the id of an app that ended, once that is durable.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        *,
        connections: Connections,
        random_text: Callable[[], str],
        changed: Callable[[str], None],
    ) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._connections = connections
        self._random_text = random_text
        self._changed = changed

    def create(self, tenant: str, name: str, *, scopes: Mapping[str, Level], mode: Mode, by: str) -> IssuedApp:
        """Makes an app and its first client secret.

        Raises:
            NotFoundError: `access.tenant.unknown`.
            DefinitionError: `access.scope.none`, `access.scope.own_keys_only`.
        """
        check_lent(scopes)
        app = App(self._ids.new("app"), tenant, name, mode, dict(scopes), self._clock.now())
        values = {"id": app.id, "tenant": tenant, "name": name, "mode": mode, "created": app.created}
        with self._db.begin() as connection:
            if not connection.scalar(sa.select(tenants.c.id).where(tenants.c.id == tenant)):
                raise NotFoundError("access.tenant.unknown", "no such tenant", hint="create it first")
            connection.execute(apps.insert().values(**values, scopes=format_scopes(scopes)))
            secret = self._add_secret(connection, app.id)
        detail = {"mode": mode.value, "scopes": format_scopes(scopes)}
        self._audit.record(tenant, "apps.create", actor=by, target=app.id, detail=detail)
        return IssuedApp(app, secret)

    def roll(self, tenant: str, app_id: str, *, overlap: float = 0.0, by: str) -> IssuedApp:
        """A new client secret; all of before prove the app for `overlap` seconds more. Tokens go on.

        Raises:
            NotFoundError: `access.app.unknown`.
            ConflictError: `access.app.disabled`.
            DefinitionError: `access.overlap.invalid`.
        """
        if not 0 <= overlap <= MAX_OVERLAP:
            raise DefinitionError("access.overlap.invalid", f"an overlap is 0 to {MAX_OVERLAP} seconds")
        ends = self._clock.now() + round(overlap * MICROS)
        later = sa.or_(app_secrets.c.expires.is_(None), app_secrets.c.expires > ends)
        with self._db.begin() as connection:
            app = _find(connection, tenant, app_id, lock=True)
            if app.disabled is not None:
                raise ConflictError("access.app.disabled", "this app is disabled", hint="make a new one")
            connection.execute(app_secrets.update().where(app_secrets.c.app == app_id, later).values(expires=ends))
            secret = self._add_secret(connection, app_id)
        self._audit.record(tenant, "apps.roll", actor=by, target=app_id)
        return IssuedApp(app, secret)

    def disable(self, tenant: str, app_id: str, *, by: str) -> App:
        """Ends an app for good, with its secrets and every token. Again changes nothing.

        Raises:
            NotFoundError: `access.app.unknown`.
        """
        enabled = apps.update().where(apps.c.tenant == tenant, apps.c.id == app_id, apps.c.disabled.is_(None))
        with self._db.begin() as connection:
            first = connection.execute(enabled.values(disabled=self._clock.now())).rowcount
            app = _find(connection, tenant, app_id)
            connection.execute(app_tokens.delete().where(app_tokens.c.app == app_id))
            connection.execute(app_secrets.delete().where(app_secrets.c.app == app_id))
        self._changed(app_id)
        if first:
            self._audit.record(tenant, "apps.disable", actor=by, target=app_id)
        return app

    def list(self, tenant: str) -> Sequence[App]:
        """All apps of the tenant, disabled ones too, oldest first."""
        with self._db.read() as connection:
            rows = connection.execute(apps.select().where(apps.c.tenant == tenant).order_by(apps.c.created, apps.c.id))
            return [_to_app(row) for row in rows]

    def token(
        self, app_id: str, secret: str | Secret, *, scopes: str = "", account: str = "", origin: str = ""
    ) -> IssuedAccess:
        """A token of an app that proves itself: for an hour, with what it asks for of what it may.

        Args:
            app_id: Id of the app.
            secret: Its client secret.
            scopes: What the token is for, as `parse_scopes` reads it; empty: all that the app may do there.
            account: Tenant to act in; empty: the app's own.
            origin: Where the request came from, for the record.

        Raises:
            DeniedError: `access.app.invalid`, the same for an unknown app, a wrong secret and a disabled app;
                `access.scope.beyond` for a scope that the app or its connection does not have.
            NotFoundError: `access.account.unknown`.
            DefinitionError: `access.scope.invalid`, `access.scope.people_only`.
        """
        app = self._prove(app_id, secret.reveal() if isinstance(secret, Secret) else secret, origin)
        acting = self._connections.act_for(_principal(app), account or app.tenant, origin=origin)
        wanted = parse_scopes(scopes) if scopes else dict(acting.scopes)
        if narrow(wanted, acting.scopes) != wanted or not wanted:
            raise DeniedError("access.scope.beyond", "more than this app may do there", hint="ask for less")
        token = Secret(f"{TOKEN_PREFIX}{app.mode}_{self._random_text()}")
        now = self._clock.now()
        with self._db.begin() as connection:
            if _find(connection, app.tenant, app.id, lock=True).disabled is not None:
                raise _invalid()
            _make_room(connection, app.id)
            connection.execute(
                app_tokens.insert().values(
                    hash=_digest(token.reveal()),
                    app=app.id,
                    account=acting.tenant,
                    scopes=format_scopes(wanted),
                    created=now,
                    expires=now + round(TOKEN_S * MICROS),
                )
            )
        detail = {"account": acting.tenant, "scopes": format_scopes(wanted)}
        self._audit.record(app.tenant, "apps.token", actor=app.id, target=app.id, origin=origin, detail=detail)
        return IssuedAccess(token, acting.tenant, wanted, TOKEN_S)

    def read_token(self, connection: Connection, digest: bytes) -> tuple[AppToken, Principal] | None:
        """The token of this SHA-256 and what it may do now; None for an unknown one, or without its connection."""
        row = connection.execute(app_tokens.select().where(app_tokens.c.hash == digest)).one_or_none()
        if row is None:
            return None
        app = _to_app(connection.execute(apps.select().where(apps.c.id == row.app)).one())
        principal = _principal(app, read_scopes(row.scopes))
        if row.account == app.tenant:
            return AppToken(app.id, row.expires), principal
        lent = self._connections.lent(principal, row.account)
        return (AppToken(app.id, min(row.expires, lent.expires)), in_account(principal, lent)) if lent else None

    def sweep(self) -> int:
        """Deletes what is expired; gives how many."""
        now = self._clock.now()
        with self._db.begin() as connection:
            gone = connection.execute(app_tokens.delete().where(app_tokens.c.expires <= now)).rowcount
            return gone + connection.execute(app_secrets.delete().where(app_secrets.c.expires <= now)).rowcount

    def _prove(self, app_id: str, secret: str, origin: str) -> App:
        query = sa.select(apps).join(app_secrets).where(apps.c.id == app_id, app_secrets.c.hash == _digest(secret))
        alive = sa.or_(app_secrets.c.expires.is_(None), app_secrets.c.expires > self._clock.now())
        with self._db.read() as connection:
            row = connection.execute(query.where(alive, apps.c.disabled.is_(None))).one_or_none()
            known = None if row is not None else connection.scalar(sa.select(apps.c.tenant).where(apps.c.id == app_id))
        if row is None:
            self._audit.record(
                known or "system",
                "apps.token",
                actor=app_id if known else NOBODY,
                outcome=Outcome.DENIED,
                code="access.app.invalid",
                origin=origin,
            )
            raise _invalid()
        return _to_app(row)

    def _add_secret(self, connection: Connection, app_id: str) -> Secret:
        secret = SECRET_PREFIX + self._random_text()
        values = {"hash": _digest(secret), "app": app_id, "created": self._clock.now()}
        connection.execute(app_secrets.insert().values(**values))
        return Secret(secret)


def _invalid() -> DeniedError:
    return DeniedError("access.app.invalid", "no valid app and client secret", hint="neither disabled nor rolled")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _principal(app: App, scopes: Mapping[str, Level] | None = None) -> Principal:
    held = app.scopes if scopes is None else narrow(scopes, app.scopes)
    return Principal(app.tenant, app.id, Kind.APP, scopes=held, mode=app.mode)


def _make_room(connection: Connection, app_id: str) -> None:
    held = sa.select(app_tokens.c.hash).where(app_tokens.c.app == app_id).order_by(app_tokens.c.created.desc())
    oldest = connection.scalars(held.offset(MAX_TOKENS - 1)).all()
    if oldest:
        connection.execute(app_tokens.delete().where(app_tokens.c.hash.in_(oldest)))


def _find(connection: Connection, tenant: str, app_id: str, *, lock: bool = False) -> App:
    query = apps.select().where(apps.c.tenant == tenant, apps.c.id == app_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFoundError("access.app.unknown", "no app of that id", hint="list the apps of this tenant")
    return _to_app(row)


def _to_app(row: Any) -> App:
    return App(
        row.id, row.tenant, row.name, Mode(row.mode), read_scopes(row.scopes), row.created, row.disabled, row.last_used
    )
