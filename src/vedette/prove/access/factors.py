"""The second factor: codes of an authenticator (RFC 6238), and recovery codes for when it is lost."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b32encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from vedette.core.clock import MICROS, Clock
from vedette.core.db import Connection, Database, insert_new, sa
from vedette.core.errors import ConflictError, DefinitionError, DeniedError
from vedette.prove.access.people import find_person
from vedette.prove.access.tables import codes, factors
from vedette.prove.access.throttle import Throttle, factor_counter
from vedette.prove.audit import Audit, Outcome
from vedette.prove.secrets import Secret

STEP_S, DIGITS = 30, 6
"""What every authenticator takes (RFC 6238: 30 seconds, six digits, SHA-1)."""
DRIFT = 1
"""Steps that the person's clock may be off, before and after (RFC 6238 section 5.2)."""
KEY_BYTES = 20
CODES = 10
"""Recovery codes of one set, each of 80 random bits."""
PENDING_S = 30 * 60.0
"""Seconds for which an authenticator that nobody confirmed yet is offered again."""
ISSUER = "Vedette"

_TOTP = re.compile(rf"[0-9]{{{DIGITS}}}")
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Pending:
    """An authenticator to set up. Shown to its person, who then proves to have it by a code."""

    key: Secret
    """Base 32, to type in."""
    uri: Secret
    """`otpauth://...`, for the picture."""


@dataclass(frozen=True, slots=True)
class FactorState:
    """What a person has to prove themselves with, besides the password."""

    authenticator: bool
    pending: bool
    """An authenticator is being set up."""
    codes: int
    """Recovery codes that are left."""

    @property
    def any(self) -> bool:
        """Whether the person can show a second factor."""
        return self.authenticator or self.codes > 0


@dataclass(frozen=True)
class Factors:
    """Second factors of all people. Part of `Access`, as `access.factors`.

    Args:
        db: state.db, already migrated by `Access`.
        clock: Wall time, which codes depend on.
        audit: Where enrolments, uses and refusals are recorded.
        throttle: Bounds guesses.
        sealing: Gives the 32-byte key that authenticators' keys are sealed with; None where none can be set up.
        random_bytes: The operating system's generator, except in tests.
    """

    db: Database
    clock: Clock
    audit: Audit
    throttle: Throttle
    sealing: Callable[[], bytes] | None = None
    random_bytes: Callable[[int], bytes] = field(default=secrets.token_bytes, repr=False)

    def state(self, tenant: str, person_id: str) -> FactorState:
        """What the person has.

        Raises:
            NotFoundError: `access.person.unknown`.
        """
        left = sa.select(sa.func.count()).select_from(codes).where(codes.c.person == person_id, codes.c.used.is_(None))
        with self.db.read() as connection:
            find_person(connection, tenant, person_id)
            row = connection.execute(factors.select().where(factors.c.person == person_id)).one_or_none()
            count = connection.scalar(left) or 0
        return FactorState(
            authenticator=row is not None and row.sealed is not None,
            pending=row is not None and row.pending is not None,
            codes=count,
        )

    def enrol(self, tenant: str, person_id: str, login: str) -> Pending:
        """Begins to set up an authenticator, or goes on with one begun shortly before.

        The caller has seen to it that this is the person: by the password, and by the second factor where there is one.
        One that is confirmed stays in force until the new one is.

        Raises:
            NotFoundError: `access.person.unknown`.
            DefinitionError: `access.factor.sealing` where no key to seal it with is known.
        """
        now = self.clock.now()
        with self.db.begin() as connection:
            find_person(connection, tenant, person_id)
            insert_new(connection, factors, person=person_id, last_step=0)
            row = _locked(connection, person_id)
            going = row.pending is not None and now - row.begun < PENDING_S * MICROS
            key = self._open(person_id, row.pending) if going else self.random_bytes(KEY_BYTES)
            if not going:
                sealed = self._seal(person_id, key)
                connection.execute(_row(person_id).values(pending=sealed, begun=now))
        if not going:
            self.audit.record(tenant, "factors.enrol", actor=person_id, target=person_id)
        return _shown(key, login)

    def pending(self, tenant: str, person_id: str, login: str) -> Pending | None:
        """The authenticator that is being set up; None when none is, or nobody went on with it for too long."""
        with self.db.read() as connection:
            find_person(connection, tenant, person_id)
            row = connection.execute(factors.select().where(factors.c.person == person_id)).one_or_none()
        if row is None or row.pending is None or self.clock.now() - row.begun >= PENDING_S * MICROS:
            return None
        return _shown(self._open(person_id, row.pending), login)

    def confirm(self, tenant: str, person_id: str, code: str, *, origin: str = "") -> list[Secret]:
        """Puts the authenticator that is being set up in force, once the person has shown a code of it.

        Returns:
            Fresh recovery codes, which are shown this once. Earlier ones and an earlier authenticator end.

        Raises:
            ConflictError: `access.factor.none` when none is being set up.
            DeniedError: `access.code.refused`.
            TransientError: `access.login.throttled`.
        """
        counter, now = factor_counter(person_id), self.clock.now()
        self.throttle.take(counter)
        fresh = self._fresh_codes()
        with self.db.begin() as connection:
            row = _locked(connection, person_id)
            if row is None or row.pending is None or now - row.begun >= PENDING_S * MICROS:
                raise ConflictError("access.factor.none", "no authenticator is being set up", hint="begin again")
            step = self._step(self._open(person_id, row.pending), code)
            if step is not None:
                changed = _row(person_id).values(
                    sealed=row.pending, confirmed=now, last_step=step, pending=None, begun=None
                )
                connection.execute(changed)
                _replace_codes(connection, person_id, fresh, now)
        self._tell(tenant, "factors.confirm", person_id, refused=step is None, origin=origin)
        self.throttle.forgive(counter)
        return fresh

    def prove(self, tenant: str, person_id: str, code: str, *, origin: str = "") -> None:
        """Returns when this is a code of the person's authenticator, or a recovery code; it then is used up.

        Args:
            tenant: Whose person.
            person_id: Who.
            code: Six digits, or a recovery code; spaces and dashes do not matter.
            origin: Address of the client, for the record.

        Raises:
            DeniedError: `access.code.refused`, with the same text for a wrong, a used and an unknown one.
            TransientError: `access.login.throttled`.
        """
        counter, plain = factor_counter(person_id), _plain(code)
        self.throttle.take(counter)
        is_totp = _TOTP.fullmatch(plain) is not None
        with self.db.begin() as connection:
            find_person(connection, tenant, person_id)
            fits = (
                self._use_step(connection, person_id, plain)
                if is_totp
                else self._use_code(connection, plain, person_id)
            )
        self._tell(tenant, "factors.prove" if is_totp else "codes.use", person_id, refused=not fits, origin=origin)
        self.throttle.forgive(counter)

    def issue_codes(self, tenant: str, person_id: str, *, by: str) -> list[Secret]:
        """Makes a fresh set of recovery codes; earlier ones end. They are shown this once and kept as SHA-256 only.

        Args:
            tenant: Whose person.
            person_id: For whom.
            by: The person itself, or a component such as `system`; never another person, nor a key.

        Raises:
            NotFoundError: `access.person.unknown`.
            DeniedError: `access.codes.other`, `access.person.invalid` for a disabled person.
        """
        if by != person_id and by.startswith(("per_", "key_")):
            raise DeniedError("access.codes.other", "nobody gets codes in somebody else's name")
        fresh = self._fresh_codes()
        with self.db.begin() as connection:
            if find_person(connection, tenant, person_id).disabled:
                raise DeniedError("access.person.invalid", "this person is disabled")
            _replace_codes(connection, person_id, fresh, self.clock.now())
        self.audit.record(tenant, "codes.issue", actor=by, target=person_id)
        return fresh

    def _use_step(self, connection: Connection, person_id: str, code: str) -> bool:
        row = _locked(connection, person_id)
        if row is None or row.sealed is None:
            return False
        step = self._step(self._open(person_id, row.sealed), code, after=row.last_step)
        if step is not None:
            connection.execute(_row(person_id).values(last_step=step))
        return step is not None

    def _use_code(self, connection: Connection, code: str, person_id: str) -> bool:
        left = codes.update().where(
            codes.c.hash == _digest(person_id, code), codes.c.person == person_id, codes.c.used.is_(None)
        )
        return connection.execute(left.values(used=self.clock.now())).rowcount == 1

    def _step(self, key: bytes, code: str, *, after: int = 0) -> int | None:
        """The time step that this is the code of, later than `after`; None when there is none."""
        now, found = self.clock.now() // MICROS // STEP_S, None
        totp = _totp(key)
        for step in range(now - DRIFT, now + DRIFT + 1):
            # Every step is compared, so that the time taken tells nothing.
            same = hmac.compare_digest(totp.generate(step * STEP_S), _plain(code).encode("utf-8", "replace"))
            if same and step > after and found is None:
                found = step
        return found

    def _tell(self, tenant: str, action: str, person_id: str, *, refused: bool, origin: str) -> None:
        if not refused:
            self.audit.record(tenant, action, actor=person_id, target=person_id, origin=origin)
            return
        self.audit.record(
            tenant,
            action,
            actor=person_id,
            target=person_id,
            outcome=Outcome.DENIED,
            code="access.code.refused",
            origin=origin,
        )
        raise DeniedError("access.code.refused", "this code is not right", hint="wait for the next one and type that")

    def _fresh_codes(self) -> list[Secret]:
        texts = (b32encode(self.random_bytes(10)).decode().lower() for _ in range(CODES))
        return [Secret("-".join(text[place : place + 4] for place in range(0, 16, 4))) for text in texts]

    def _seal(self, person_id: str, key: bytes) -> bytes:
        nonce = self.random_bytes(_NONCE_BYTES)
        return nonce + self._cipher().encrypt(nonce, key, person_id.encode())

    def _open(self, person_id: str, sealed: bytes) -> bytes:
        try:
            return self._cipher().decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], person_id.encode())
        except InvalidTag as error:
            hint = "restore keys/factors.secret of this installation, or let people use recovery codes"
            raise DefinitionError(
                "access.factor.sealing", "authenticators were sealed with another key", hint=hint
            ) from error

    def _cipher(self) -> AESGCM:
        if self.sealing is None:
            raise DefinitionError("access.factor.sealing", "no key to seal authenticators with is known")
        return AESGCM(self.sealing())


def _shown(key: bytes, login: str) -> Pending:
    return Pending(Secret(b32encode(key).decode()), Secret(_totp(key).get_provisioning_uri(login, ISSUER)))


def _totp(key: bytes) -> TOTP:
    # SHA-1: what RFC 6238 says and authenticators know; its collisions do not matter for a keyed hash.
    return TOTP(key, DIGITS, SHA1(), STEP_S)  # noqa: S303


def _row(person_id: str) -> sa.Update:
    return factors.update().where(factors.c.person == person_id)


def _locked(connection: Connection, person_id: str) -> Any:
    return connection.execute(factors.select().where(factors.c.person == person_id).with_for_update()).one_or_none()


def _replace_codes(connection: Connection, person_id: str, fresh: list[Secret], now: int) -> None:
    connection.execute(codes.delete().where(codes.c.person == person_id))
    rows = [{"hash": _digest(person_id, _plain(each.reveal())), "person": person_id, "created": now} for each in fresh]
    connection.execute(codes.insert(), rows)


def _plain(code: str) -> str:
    return re.sub(r"[\s-]", "", code[:64]).lower()


def _digest(person_id: str, code: str) -> bytes:
    return hashlib.sha256(f"{person_id}:{code}".encode("utf-8", "replace")).digest()
