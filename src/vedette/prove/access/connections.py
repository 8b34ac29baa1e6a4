"""Connections: what the owner of an account lets a platform do in it, until when, and until taken back.

An account is a tenant; a platform is another one, whose keys and apps name the account they act for. Without a
connection the account is as unknown as one that does not exist.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vedette.core.clock import MICROS, Clock
from vedette.core.db import Connection as Transaction
from vedette.core.db import Database
from vedette.core.errors import DefinitionError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.access.policy import Kind, Level, Mode, Principal, check_lent, format_scopes, narrow, read_scopes
from vedette.prove.access.tables import connections, join_accounts, split_accounts
from vedette.prove.audit import Audit, Outcome

MAX_LIFETIME_S = 366 * 86_400.0
"""Longest time for which a connection is given, seconds; then its owner looks at it again."""

MAX_CACHED = 10_000


@dataclass(frozen=True, slots=True)
class Connection:
    """What a platform may do in an account."""

    id: str
    account: str
    """Tenant that gave it."""
    platform: str
    """Tenant whose keys and apps may use it."""
    mode: Mode
    """Keys and apps of the other mode may not."""
    scopes: Mapping[str, Level]
    merchants: frozenset[str]
    """Merchants of the account that it is bound to; empty: all of the account."""
    given_by: str
    created: int
    expires: int
    """From then on it is gone, microseconds UTC."""
    revoked: int | None = None

    def holds(self, now: int) -> bool:
        """Whether it may be used."""
        return self.revoked is None and now < self.expires


class Connections:
    """The connections of all accounts. Part of `Access`, as `access.connections`.

    Args:
        db: state.db, already migrated by `Access`.
        clock: Wall time for expiry, monotonic time for the cache.
        ids: Makes their ids.
        audit: Where changes and refusals are recorded.
        changed: Told when a connection ends, once that is durable.
        max_age: Seconds for which another process's change may go unseen.
    """

    def __init__(
        self, db: Database, clock: Clock, ids: Ids, audit: Audit, *, changed: Callable[[], None], max_age: float
    ) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._changed = changed
        self._max_age = max_age
        self._cache: dict[tuple[str, str, Mode], tuple[Connection, float]] = {}
        self._generation = 0
        self._lock = threading.Lock()

    def give(
        self,
        account: str,
        platform: str,
        *,
        scopes: Mapping[str, Level],
        mode: Mode,
        expires_s: float,
        merchants: Iterable[str] = (),
        by: str,
    ) -> Connection:
        """Lets a platform act in the account. One given before for the same mode ends with it.

        Whether there is a platform of that name is not told: names of other tenants cannot be tried.

        Args:
            account: Tenant that gives it.
            platform: Tenant that gets it.
            scopes: What it may do; a key or app of the platform has no more than its own scopes of them.
            mode: In which world.
            expires_s: Seconds until it ends, at most `MAX_LIFETIME_S`.
            merchants: Bind it to these merchants of the account.
            by: Who gives it.

        Raises:
            DefinitionError: `access.connection.self`, `access.connection.lifetime`, `access.scope.none`,
                `access.scope.own_keys_only`.
        """
        if platform == account:
            raise DefinitionError("access.connection.self", "an account needs no connection to itself")
        if not 0 < expires_s <= MAX_LIFETIME_S:
            hint = f"more than 0 and at most {MAX_LIFETIME_S / 86_400:.0f} days"
            raise DefinitionError("access.connection.lifetime", "a connection cannot last that long", hint=hint)
        check_lent(scopes)
        now = self._clock.now()
        made = Connection(
            id=self._ids.new("con"),
            account=account,
            platform=platform,
            mode=mode,
            scopes=dict(scopes),
            merchants=frozenset(merchants),
            given_by=by,
            created=now,
            expires=now + round(expires_s * MICROS),
        )
        alive = connections.update().where(
            connections.c.account == account,
            connections.c.platform == platform,
            connections.c.mode == mode,
            connections.c.revoked.is_(None),
        )
        with self._db.begin() as transaction:
            transaction.execute(alive.values(revoked=now))
            transaction.execute(connections.insert().values(**_row(made)))
        self._forget()
        detail = {"platform": platform, "mode": mode.value, "scopes": format_scopes(scopes)}
        self._audit.record(account, "connections.give", actor=by, target=made.id, detail=detail)
        return made

    def revoke(self, account: str, connection_id: str, *, by: str) -> Connection:
        """Takes a connection back for good. Again changes nothing: the first time stays.

        Raises:
            NotFoundError: `access.connection.unknown`, also for another account's.
        """
        now = self._clock.now()
        named = connections.update().where(connections.c.account == account, connections.c.id == connection_id)
        with self._db.begin() as transaction:
            first = transaction.execute(named.where(connections.c.revoked.is_(None)).values(revoked=now)).rowcount
            found = _find(transaction, account, connection_id)
        self._forget()
        if first:
            detail = {"platform": found.platform}
            self._audit.record(account, "connections.revoke", actor=by, target=connection_id, detail=detail)
        return found

    def given(self, account: str) -> Sequence[Connection]:
        """What the account gave, ended ones too, oldest first."""
        return self._list(connections.c.account == account)

    def held(self, platform: str) -> Sequence[Connection]:
        """What a platform was given, ended ones too, oldest first."""
        return self._list(connections.c.platform == platform)

    def act_for(self, principal: Principal, account: str, *, origin: str = "") -> Principal:
        """The key or app as it may act in an account that it names: no more than both its own scopes and the given.

        Raises:
            NotFoundError: `access.account.unknown`, the same for an account that does not exist, that gave nothing, or
                took it back, and for a caller that can never act for another.
        """
        if account == principal.tenant:
            return principal
        found = self.lent(principal, account)
        if found is not None:
            return in_account(principal, found)
        self._audit.record(
            principal.tenant,
            "connections.use",
            actor=principal.id,
            target=account,
            outcome=Outcome.DENIED,
            code="access.account.unknown",
            origin=origin,
        )
        raise unknown_account()

    def lent(self, principal: Principal, account: str) -> Connection | None:
        """What the account gives this key or app now, as far as this process knows; None: nothing."""
        # One that is bound to merchants of its own tenant, or acts for somebody already, acts for nobody else.
        if principal.kind is Kind.PERSON or principal.mode is None or principal.accounts or principal.platform:
            return None
        key = (principal.tenant, account, principal.mode)
        held = self._cache.get(key)
        if held is None or self._clock.monotonic() - held[1] >= self._max_age:
            held = self._read(key)
        return held[0] if held and held[0].holds(self._clock.now()) else None

    def _read(self, key: tuple[str, str, Mode]) -> tuple[Connection, float] | None:
        generation, read_at = self._generation, self._clock.monotonic()
        platform, account, mode = key
        query = connections.select().where(
            connections.c.account == account,
            connections.c.platform == platform,
            connections.c.mode == mode,
            connections.c.revoked.is_(None),
        )
        with self._db.read() as transaction:
            row = transaction.execute(query).one_or_none()
        with self._lock:
            self._cache.pop(key, None)
            if row is None:
                return None
            held = (_to_connection(row), read_at)
            if generation == self._generation:
                if len(self._cache) >= MAX_CACHED:
                    self._cache.clear()
                self._cache[key] = held
        return held

    def _forget(self) -> None:
        with self._lock:
            self._generation += 1
            self._cache.clear()
        self._changed()

    def _list(self, which: Any) -> list[Connection]:
        query = connections.select().where(which).order_by(connections.c.created, connections.c.id)
        with self._db.read() as transaction:
            return [_to_connection(row) for row in transaction.execute(query)]


def unknown_account() -> NotFoundError:
    """What is said of an account that is not connected, whether it exists or not."""
    return NotFoundError("access.account.unknown", "no account of that name is connected", hint="ask its owner")


def in_account(principal: Principal, found: Connection) -> Principal:
    """The principal as it may act by a connection: no more than both its own scopes and the given."""
    return replace(
        principal,
        tenant=found.account,
        scopes=narrow(principal.scopes, found.scopes),
        accounts=found.merchants,
        platform=principal.tenant,
    )


def _find(transaction: Transaction, account: str, connection_id: str) -> Connection:
    query = connections.select().where(connections.c.account == account, connections.c.id == connection_id)
    row = transaction.execute(query).one_or_none()
    if row is None:
        raise NotFoundError("access.connection.unknown", "no connection of that id", hint="list the connections")
    return _to_connection(row)


def _row(made: Connection) -> dict[str, Any]:
    return {
        "id": made.id,
        "account": made.account,
        "platform": made.platform,
        "mode": made.mode,
        "scopes": format_scopes(made.scopes),
        "merchants": join_accounts(made.merchants),
        "given_by": made.given_by,
        "created": made.created,
        "expires": made.expires,
    }


def _to_connection(row: Any) -> Connection:
    return Connection(
        id=row.id,
        account=row.account,
        platform=row.platform,
        mode=Mode(row.mode),
        scopes=read_scopes(row.scopes),
        merchants=split_accounts(row.merchants),
        given_by=row.given_by,
        created=row.created,
        expires=row.expires,
        revoked=row.revoked,
    )
