"""Personal tokens: how a person proves who it is to a program, for hours rather than for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vedette.core.clock import MICROS, Clock
from vedette.core.db import Connection, Database
from vedette.core.errors import DefinitionError, DeniedError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.access.people import find_person, to_principal
from vedette.prove.access.policy import Principal
from vedette.prove.access.tables import tokens
from vedette.prove.audit import Audit
from vedette.prove.secrets import Secret

PREFIX = "vp_"
"""With which every personal token begins."""

DEFAULT_LIFETIME_S = 12 * 3_600.0
"""Seconds that a token lasts unless said otherwise: a working day."""

MAX_LIFETIME_S = 7 * 86_400.0
"""Longest lifetime of a token in seconds."""


@dataclass(frozen=True, slots=True)
class Token:
    """What may be known of a personal token later: everything but its secret."""

    id: str
    tenant: str
    person: str
    """Id of the person it stands for."""
    issued_by: str
    created: int
    expires: int
    """From then on it is refused, microseconds UTC."""
    revoked: int | None = None
    last_used: int | None = None
    """To about the interval at which `Access.flush` is called."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token with its secret, which is shown this once and kept nowhere."""

    id: str
    secret: Secret
    expires: int
    """From then on it is refused, microseconds UTC."""


class Tokens:
    """The tokens of all people. Used through `Access`, which also believes and forgets them.

    Args:
        db: state.db, already migrated by `Access`.
        clock: Wall time.
        ids: Makes their ids.
        audit: Where changes are recorded.
        random_text: Gives 256 random bits in 43 characters.
    """

    def __init__(self, db: Database, clock: Clock, ids: Ids, audit: Audit, random_text: Callable[[], str]) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._random_text = random_text

    def issue(self, tenant: str, person_id: str, *, expires_s: float, by: str) -> IssuedToken:
        """See `Access.issue_token`."""
        if not 0 < expires_s <= MAX_LIFETIME_S:
            hint = f"more than 0 and at most {MAX_LIFETIME_S:.0f} seconds"
            raise DefinitionError("access.token.lifetime", "a token cannot last that long", hint=hint)
        if by != person_id and by.startswith(("per_", "key_")):
            raise DeniedError("access.token.other", "nobody gets a token in somebody else's name")
        token_id, secret, now = self._ids.new("tok"), Secret(PREFIX + self._random_text()), self._clock.now()
        expires = now + round(expires_s * MICROS)
        with self._db.begin() as connection:
            if find_person(connection, tenant, person_id).disabled:
                raise DeniedError("access.person.invalid", "this person is disabled")
            connection.execute(
                tokens.insert().values(
                    id=token_id,
                    tenant=tenant,
                    person=person_id,
                    hash=hashlib.sha256(secret.reveal().encode()).digest(),
                    issued_by=by,
                    created=now,
                    expires=expires,
                )
            )
        self._audit.record(tenant, "tokens.issue", actor=by, target=token_id, detail={"person": person_id})
        return IssuedToken(token_id, secret, expires)

    def revoke(self, tenant: str, token_id: str, *, by: str) -> Token:
        """See `Access.revoke_token`."""
        alive = tokens.update().where(tokens.c.tenant == tenant, tokens.c.id == token_id, tokens.c.revoked.is_(None))
        with self._db.begin() as connection:
            first = connection.execute(alive.values(revoked=self._clock.now())).rowcount
            row = connection.execute(
                tokens.select().where(tokens.c.tenant == tenant, tokens.c.id == token_id)
            ).one_or_none()
        if row is None:
            raise NotFoundError("access.token.unknown", "no token of that id", hint="list the tokens of this person")
        if first:
            self._audit.record(tenant, "tokens.revoke", actor=by, target=token_id, detail={"person": row.person})
        return _to_token(row)

    def list(self, tenant: str, person_id: str) -> list[Token]:
        """See `Access.tokens`."""
        query = tokens.select().where(tokens.c.tenant == tenant, tokens.c.person == person_id)
        with self._db.read() as connection:
            find_person(connection, tenant, person_id)
            rows = connection.execute(query.order_by(tokens.c.created, tokens.c.id))
            return [_to_token(row) for row in rows]


def read_token(connection: Connection, digest: bytes) -> tuple[Token, Principal] | None:
    """The token of this SHA-256 and the person as of now; None for an unknown or revoked one, or a disabled person."""
    row = connection.execute(tokens.select().where(tokens.c.hash == digest)).one_or_none()
    if row is None or row.revoked is not None:
        return None
    person = find_person(connection, row.tenant, row.person)
    return None if person.disabled else (_to_token(row), to_principal(person))


def _to_token(row: Any) -> Token:
    return Token(row.id, row.tenant, row.person, row.issued_by, row.created, row.expires, row.revoked, row.last_used)
