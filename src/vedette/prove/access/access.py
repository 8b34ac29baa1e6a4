"""Issue, prove, roll and revoke API keys; prove personal tokens; and the one place that says no."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vedette.core.clock import MICROS, Clock
from vedette.core.db import Connection, Database, insert_new, sa
from vedette.core.errors import ConflictError, DefinitionError, DeniedError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.access.apps import TOKEN_PREFIX, Apps
from vedette.prove.access.connections import Connections
from vedette.prove.access.factors import Factors
from vedette.prove.access.logins import Logins
from vedette.prove.access.passwords import Passwords
from vedette.prove.access.people import People
from vedette.prove.access.policy import Kind, Level, Mode, Principal, format_scopes, parse_scopes, permit, read_scopes
from vedette.prove.access.sessions import Sessions
from vedette.prove.access.tables import MIGRATIONS, apps, join_accounts, keys, split_accounts, tenants, tokens
from vedette.prove.access.throttle import Throttle
from vedette.prove.access.tokens import DEFAULT_LIFETIME_S, PREFIX, IssuedToken, Token, Tokens, read_token
from vedette.prove.audit import NOBODY, Audit, AuditRecord, Outcome
from vedette.prove.secrets import Secret

MAX_CACHE_AGE = 1.0
"""Seconds for which a process may go on believing a key or token that another process revoked, and a person's roles."""

MAX_CACHED = 50_000
"""Authenticated keys and tokens kept in memory, about 600 bytes each."""

MAX_OVERLAP = 7 * 86_400
"""Longest time in seconds for which a rolled key may still be used."""

_SECRET = re.compile(r"v(?:[ka]_(?:test|live)|p)_[0-9A-Za-z_-]{43}")
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_RANDOM_BYTES = 32


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What may be known of a key later: everything but its secret."""

    id: str
    tenant: str
    name: str
    mode: Mode
    scopes: Mapping[str, Level]
    accounts: frozenset[str]
    """Accounts or merchants it is bound to; empty: all of the tenant."""
    created: int
    expires: int | None = None
    """From then on it is refused, microseconds UTC; None: never."""
    revoked: int | None = None
    last_used: int | None = None
    """To about the interval at which `Access.flush` is called."""
    rolled_from: str | None = None
    """Id of the key that this one replaces."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key with its secret, which is shown this once and kept nowhere."""

    key: ApiKey
    secret: Secret


@dataclass(frozen=True, slots=True)
class _Cached:
    id: str
    """Of the key or token."""
    principal: Principal
    expires: int | None
    read_at: float


class Access:
    """Tenants, keys, people, their tokens, and the decisions about them.

    Safe to use from several threads. A revocation, a role given or taken and the end of a person are effective at the
    next call in the same process, and within `max_age` seconds in every other process on the same database.

    Args:
        db: state.db; its tables are made when missing.
        clock: Wall time for expiry, monotonic time for the cache.
        ids: Makes ids of keys, people and audit records.
        observe: Gets an audit record of each refusal, each authorisation and each change; called outside of any
            transaction, after the change is durable. Usually `audit.to_log(log)`.
        random_bytes: The operating system's generator, except in tests.
        max_age: Bound in seconds on the age of a cached key or token; 0 reads the database each time.
        sealing: Gives the key that authenticators are sealed with, 32 bytes; without it nobody sets one up.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        ids: Ids,
        *,
        observe: Callable[[AuditRecord], None] | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        max_age: float = MAX_CACHE_AGE,
        sealing: Callable[[], bytes] | None = None,
    ) -> None:
        db.migrate("access", MIGRATIONS)
        self._db = db
        self._clock = clock
        self._ids = ids
        self._audit = Audit(observe, clock, ids)
        self.people = People(db, clock, ids, self._audit, self._forget)
        self.sessions = Sessions(db, clock, ids, self._audit, self._random_text)
        self._throttle = Throttle(db, clock)
        self.factors = Factors(db, clock, self._audit, self._throttle, sealing, random_bytes)
        self.logins = Logins(
            db, clock, self._audit, sessions=self.sessions, throttle=self._throttle, keeper=Passwords()
        )
        self._tokens = Tokens(db, clock, ids, self._audit, self._random_text)
        self.connections = Connections(db, clock, ids, self._audit, changed=self._forget_all, max_age=max_age)
        self.apps = Apps(
            db,
            clock,
            ids,
            self._audit,
            connections=self.connections,
            random_text=self._random_text,
            changed=self._forget,
        )
        self._random_bytes = random_bytes
        self.max_age = max_age
        self._cache: dict[bytes, _Cached] = {}
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()
        self._generation = 0

    # Tenants

    def create_tenant(self, tenant: str, name: str = "", *, by: str = "system") -> None:
        """Makes a tenant; one that exists stays as it is.

        Raises:
            DefinitionError: `access.tenant.invalid`.
        """
        if not _TENANT.fullmatch(tenant) or tenant == "system":
            raise DefinitionError(
                "access.tenant.invalid", "not an id of a tenant", hint="lower-case letters, digits, - and _, 1 to 63"
            )
        with self._db.begin() as connection:
            first = insert_new(connection, tenants, id=tenant, name=name or tenant, created=self._clock.now())
        if first:
            self._audit.record(tenant, "tenants.create", actor=by, target=tenant)

    def tenants(self) -> list[str]:
        """Ids of all tenants, in order."""
        with self._db.read() as connection:
            return list(connection.scalars(sa.select(tenants.c.id).order_by(tenants.c.id)))

    # API keys

    def issue_key(
        self,
        tenant: str,
        *,
        scopes: Mapping[str, Level],
        mode: Mode,
        name: str = "",
        accounts: Iterable[str] = (),
        expires: int | None = None,
        by: str = "system",
    ) -> IssuedKey:
        """Makes a key of 256 random bits. Its secret is in the result and nowhere else.

        Raises:
            NotFoundError: `access.tenant.unknown`.
            DefinitionError: `access.scope.invalid`, `access.scope.people_only`.
        """
        parse_scopes(format_scopes(scopes))
        key = ApiKey(
            id=self._ids.new("key"),
            tenant=tenant,
            name=name,
            mode=mode,
            scopes=dict(scopes),
            accounts=frozenset(accounts),
            created=self._clock.now(),
            expires=expires,
        )
        with self._db.begin() as connection:
            if not connection.scalar(sa.select(tenants.c.id).where(tenants.c.id == tenant)):
                raise NotFoundError("access.tenant.unknown", "no such tenant", hint="create it first")
            secret = self._store_key(connection, key)
        detail = {"mode": mode.value, "scopes": format_scopes(scopes)}
        self._audit.record(tenant, "keys.issue", actor=by, target=key.id, detail=detail)
        return IssuedKey(key, secret)

    def roll_key(self, tenant: str, key_id: str, *, overlap: float = 0.0, by: str = "system") -> IssuedKey:
        """Replaces a key by a new one with the same reach; the old one ends after `overlap` seconds.

        Raises:
            NotFoundError: `access.key.unknown`.
            ConflictError: `access.key.ended` for a key that is revoked or expired.
            DefinitionError: `access.overlap.invalid`.
        """
        if not 0 <= overlap <= MAX_OVERLAP:
            raise DefinitionError("access.overlap.invalid", f"an overlap is 0 to {MAX_OVERLAP} seconds")
        now = self._clock.now()
        with self._db.begin() as connection:
            old = _find(connection, tenant, key_id, lock=True)
            if old.revoked is not None or (old.expires is not None and old.expires <= now):
                raise ConflictError("access.key.ended", "this key is revoked or expired", hint="issue a new one")
            ends = now + round(overlap * MICROS)
            ends = ends if old.expires is None else min(ends, old.expires)
            connection.execute(keys.update().where(keys.c.id == key_id).values(expires=ends))
            key = replace(old, id=self._ids.new("key"), created=now, last_used=None, rolled_from=key_id)
            secret = self._store_key(connection, key)
        self._forget(key_id)
        self._audit.record(tenant, "keys.roll", actor=by, target=key_id, detail={"new": key.id})
        return IssuedKey(key, secret)

    def revoke_key(self, tenant: str, key_id: str, *, by: str = "system") -> ApiKey:
        """Ends a key for good. Again changes nothing: the first time of revocation stays.

        Raises:
            NotFoundError: `access.key.unknown`, also for another tenant's key.
        """
        with self._db.begin() as connection:
            key = _find(connection, tenant, key_id, lock=True)
            first = key.revoked is None
            if first:
                connection.execute(keys.update().where(keys.c.id == key_id).values(revoked=self._clock.now()))
                key = _find(connection, tenant, key_id)
        self._forget(key_id)
        if first:
            self._audit.record(tenant, "keys.revoke", actor=by, target=key_id)
        return key

    def key(self, tenant: str, key_id: str) -> ApiKey:
        """One key of the tenant.

        Raises:
            NotFoundError: `access.key.unknown`.
        """
        with self._db.read() as connection:
            return _find(connection, tenant, key_id)

    def keys(self, tenant: str) -> list[ApiKey]:
        """All keys of the tenant, ended ones too, oldest first."""
        self.flush()
        with self._db.read() as connection:
            rows = connection.execute(keys.select().where(keys.c.tenant == tenant).order_by(keys.c.created, keys.c.id))
            return [_to_key(row) for row in rows]

    # Personal tokens

    def issue_token(
        self, tenant: str, person_id: str, *, expires_s: float = DEFAULT_LIFETIME_S, by: str
    ) -> IssuedToken:
        """Makes a personal token of 256 random bits, which gives whoever sends it all that the person may do.

        Args:
            tenant: Whose person.
            person_id: Whom it stands for.
            expires_s: Seconds until it ends, at most `tokens.MAX_LIFETIME_S`.
            by: Who asks: the person itself, or a component such as `system`; never another person, nor a key.

        Raises:
            NotFoundError: `access.person.unknown`.
            DeniedError: `access.token.other`, `access.person.invalid` for a disabled person.
            DefinitionError: `access.token.lifetime`.
        """
        return self._tokens.issue(tenant, person_id, expires_s=expires_s, by=by)

    def revoke_token(self, tenant: str, token_id: str, *, by: str = "system") -> Token:
        """Ends a token for good. Again changes nothing: the first time of revocation stays.

        Raises:
            NotFoundError: `access.token.unknown`, also for another tenant's token.
        """
        token = self._tokens.revoke(tenant, token_id, by=by)
        self._forget(token.person)
        return token

    def tokens(self, tenant: str, person_id: str) -> list[Token]:
        """All tokens of the person, ended ones too, oldest first.

        Raises:
            NotFoundError: `access.person.unknown`.
        """
        self.flush()
        return self._tokens.list(tenant, person_id)

    # Proof

    def authenticate(self, secret: str | Secret, *, origin: str = "", max_age: float | None = None) -> Principal:
        """Who this API key, personal token or token of an app belongs to, a person with the roles held now.

        Microseconds when it was seen within `max_age`, else an indexed read.

        Args:
            secret: What the caller shows.
            origin: Where the request came from, for the record of a refusal.
            max_age: Oldest memory in seconds to believe, where that is less than usual.

        Raises:
            DeniedError: `access.key.invalid`, with the same text for an unknown, a revoked and an expired key or
                token, and for the token of a disabled person.
        """
        text = secret.reveal() if isinstance(secret, Secret) else secret
        if not _SECRET.fullmatch(text):
            raise self._refused(origin)
        digest = hashlib.sha256(text.encode()).digest()
        cached = self._cache.get(digest)
        age = self.max_age if max_age is None else max_age
        if cached is None or self._clock.monotonic() - cached.read_at >= age:
            cached = self._read(digest, text[:3])
        now = self._clock.now()
        if cached is None:
            raise self._refused(origin, self._ended(digest))
        if cached.expires is not None and cached.expires <= now:
            raise self._refused(origin, cached.principal)
        self._used[cached.id] = now
        return cached.principal

    def vouch(self, tenant: str, key_ids: Collection[str], *, origin: str = "") -> dict[str, Principal | DeniedError]:
        """What API keys of the tenant may do now, for a caller that is trusted to have proven them itself.

        One indexed read, no cache. In the place of an unknown, revoked or expired key stands `access.key.invalid`; a
        known one's refusal is recorded as when it is sent here.
        """
        query = keys.select().where(keys.c.tenant == tenant, keys.c.id.in_(sorted(key_ids)))
        with self._db.read() as connection:
            held = {row.id: row for row in connection.execute(query)}
        now = self._clock.now()
        found: dict[str, Principal | DeniedError] = {}
        for key_id in key_ids:
            row = held.get(key_id)
            if row is None:
                found[key_id] = self._refused(origin)
            elif row.revoked is not None or (row.expires is not None and row.expires <= now):
                found[key_id] = self._refused(origin, Principal(tenant, key_id, Kind.KEY))
            else:
                found[key_id] = _to_principal(_to_key(row))
        return found

    def recall(self, secret: str, *, max_age: float | None = None) -> Principal | None:
        """Who this belongs to as far as memory tells, without reading anything; None when it cannot tell.

        Args:
            secret: An API key or personal token.
            max_age: Oldest memory in seconds to believe; that of `authenticate` by default. A longer one is for while
                the database does not answer: what another process revokes meanwhile is not known.
        """
        cached = self._cache.get(hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest())
        age = self.max_age if max_age is None else max_age
        now = self._clock.now()
        if cached is None or self._clock.monotonic() - cached.read_at >= age:
            return None
        if cached.expires is not None and cached.expires <= now:
            return None
        self._used[cached.id] = now
        return cached.principal

    def warm(self, most: int = 5_000) -> int:
        """Takes the API keys that were used last into memory, so that the first request of each need not wait for us.

        Args:
            most: How many at most.

        Returns:
            How many there were.
        """
        used = keys.select().where(keys.c.revoked.is_(None)).order_by(keys.c.last_used.desc().nulls_last()).limit(most)
        read_at = self._clock.monotonic()
        with self._db.read() as connection:
            held = {row.hash: _to_key(row) for row in connection.execute(used)}
        with self._lock:
            for digest, key in held.items():
                self._cache[digest] = _Cached(key.id, _to_principal(key), key.expires, read_at)
        return len(held)

    def sweep(self) -> int:
        """Deletes sessions, tokens and counts of failures that say nothing any more; gives how many."""
        return self.sessions.sweep() + self._throttle.sweep() + self.apps.sweep()

    def flush(self) -> None:
        """Writes when keys and tokens were last used. Call it every minute or so: a write at each use costs a sync."""
        with self._lock:
            used, self._used = self._used, {}
        if used:
            with self._db.begin() as connection:
                for held_id, when in sorted(used.items()):
                    table = _HOLDERS[held_id.partition("_")[0]]
                    connection.execute(table.update().where(table.c.id == held_id).values(last_used=when))

    # The decision

    def authorize(
        self,
        principal: Principal,
        resource: str,
        verb: str,
        *,
        tenant: str | None = None,
        account: str | None = None,
        mode: Mode | None = None,
        target: str = "",
        origin: str = "",
        hide: bool = False,
    ) -> None:
        """Returns if the policy allows it, else raises; either way the decision is observed.

        Args:
            principal: From `authenticate` or `principal`.
            resource: Name in the policy.
            verb: Name in the policy.
            tenant: Owner of the object acted on, when there is one.
            account: Account or merchant of the object; needed from a principal that is bound to accounts.
            mode: Mode of the object, when it has one.
            target: Id of the object, for the record.
            origin: Where the request came from, for the record.
            hide: Answer as if the object did not exist, where knowing that it does is already too much.

        Raises:
            DeniedError: `access.denied`.
            NotFoundError: `access.not_found` instead, with `hide`.
        """
        why = permit(principal, resource, verb, tenant=tenant, account=account, mode=mode)
        self._audit.record(
            principal.tenant,
            f"{resource}.{verb}",
            actor=principal.id,
            target=target,
            outcome=Outcome.DENIED if why else Outcome.SUCCESS,
            code=f"access.{why}" if why else "",
            origin=origin,
            detail={"platform": principal.platform} if principal.platform else {},
        )
        if not why:
            return
        if hide:
            raise NotFoundError("access.not_found", f"nothing of that id under `{resource}`")
        raise DeniedError("access.denied", f"not allowed: `{resource}` `{verb}`", hint=_HINTS[why])

    def _store_key(self, connection: Connection, key: ApiKey) -> Secret:
        secret = f"vk_{key.mode}_{self._random_text()}"
        connection.execute(
            keys.insert().values(
                id=key.id,
                tenant=key.tenant,
                name=key.name,
                hash=hashlib.sha256(secret.encode()).digest(),
                mode=key.mode,
                scopes=format_scopes(key.scopes),
                accounts=join_accounts(key.accounts),
                created=key.created,
                expires=key.expires,
                rolled_from=key.rolled_from,
            )
        )
        return Secret(secret)

    def _random_text(self) -> str:
        return urlsafe_b64encode(self._random_bytes(_RANDOM_BYTES)).decode().rstrip("=")

    def _read(self, digest: bytes, prefix: str) -> _Cached | None:
        """Reads a key or token and caches it, unless something was taken away while it was being read."""
        read = {PREFIX: read_token, TOKEN_PREFIX: self.apps.read_token}.get(prefix, _read_key)
        generation = self._generation
        read_at = self._clock.monotonic()
        with self._db.read() as connection:
            found = read(connection, digest)
        with self._lock:
            if found is None:
                self._cache.pop(digest, None)
                return None
            held, principal = found
            cached = _Cached(held.id, principal, held.expires, read_at)
            if generation == self._generation:
                if len(self._cache) >= MAX_CACHED:
                    self._cache.clear()
                self._cache[digest] = cached
        return cached

    def _forget(self, principal_id: str) -> None:
        """Believes nothing about a key, or a person, any more."""
        with self._lock:
            self._generation += 1
            for digest in [digest for digest, held in self._cache.items() if held.principal.id == principal_id]:
                del self._cache[digest]

    def _forget_all(self) -> None:
        with self._lock:
            self._generation += 1
            self._cache.clear()

    def _ended(self, digest: bytes) -> Principal | None:
        """Whose key this was that is no more; None for one that never was."""
        with self._db.read() as connection:
            row = connection.execute(keys.select().where(keys.c.hash == digest)).one_or_none()
        return Principal(row.tenant, row.id, Kind.KEY) if row is not None else None

    def _refused(self, origin: str, known: Principal | None = None) -> DeniedError:
        # The record says whose key it was; the answer does not.
        self._audit.record(
            known.tenant if known else "system",
            "keys.authenticate",
            actor=known.id if known else NOBODY,
            outcome=Outcome.DENIED,
            code="access.key.invalid",
            origin=origin,
        )
        return DeniedError(
            "access.key.invalid",
            "no valid API key or personal token",
            hint="send one that is neither revoked nor expired",
        )


_HOLDERS = {"key": keys, "tok": tokens, "app": apps}
"""Table of what has an id with this prefix, and a time of last use."""

_HINTS = {
    "policy": "nobody may do this",
    "tenant": "it belongs to somebody else",
    "mode": "use a key of the other mode",
    "account": "this key is bound to accounts and this is none of them",
    "role": "ask an admin for a role that may do this",
    "scope": "ask an admin for a key with this scope",
}


def _find(connection: Connection, tenant: str, key_id: str, *, lock: bool = False) -> ApiKey:
    query = keys.select().where(keys.c.tenant == tenant, keys.c.id == key_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFoundError("access.key.unknown", "no key of that id", hint="list the keys of this tenant")
    return _to_key(row)


def _read_key(connection: Connection, digest: bytes) -> tuple[ApiKey, Principal] | None:
    """The key of this SHA-256 and what it may do; None for an unknown or revoked one."""
    row = connection.execute(keys.select().where(keys.c.hash == digest)).one_or_none()
    if row is None or row.revoked is not None:
        return None
    key = _to_key(row)
    return key, _to_principal(key)


def _to_principal(key: ApiKey) -> Principal:
    return Principal(key.tenant, key.id, Kind.KEY, scopes=key.scopes, mode=key.mode, accounts=key.accounts)


def _to_key(row: Any) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        mode=Mode(row.mode),
        scopes=read_scopes(row.scopes),
        accounts=split_accounts(row.accounts),
        created=row.created,
        expires=row.expires,
        revoked=row.revoked,
        last_used=row.last_used,
        rolled_from=row.rolled_from,
    )
