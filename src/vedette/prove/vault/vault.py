"""The vault's operations. Everything that is asked of a card is recorded, granted or refused, before it is answered."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vedette.core.clock import MICROS, Clock
from vedette.core.db import Connection, Database, insert_new, overwrite_deleted, sa
from vedette.core.errors import ConflictError, DataError, DeniedError, NotFoundError, VedetteError
from vedette.core.ids import Ids
from vedette.prove.audit import Audit, AuditRecord, Outcome
from vedette.prove.custody.provider import KeyProvider, KeyUse, ensure_key
from vedette.prove.dlp import to_brand
from vedette.prove.secrets import Secret
from vedette.prove.vault.cards import (
    MAX_MERCHANT,
    Card,
    Envelope,
    Number,
    Purpose,
    fingerprint_label,
    is_token,
    new_token,
    open_card,
    open_key,
    read_number,
    seal_card,
    seal_key,
    to_fingerprint,
    wrapping_label,
)
from vedette.prove.vault.tables import MIGRATIONS, cards, tenants, tickets

TICKET_S = 1_800
"""How long a browser may take to send a card."""
REWRAP_AT_ONCE = 200
"""Cards whose data keys are sealed anew in one transaction."""
GRACE_S = 60
"""Shortest time between a rotation and the end of the older key: what was read before it is used up by then."""
MAX_REASON = 200


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to store one card from a browser."""

    secret: Secret
    merchant: str
    origin: str
    """The page that may show the card form; empty: any."""
    expires: int


class Vault:
    """Cards of all tenants. Safe to use from several threads and processes.

    Args:
        db: vault.db; its tables are made when missing.
        provider: Holds the keys.
        clock: Time of records and tickets.
        ids: Makes ids of audit records.
        observe: Gets the audit record of each call before it is answered; usually `audit.to_log(log)`.
    """

    def __init__(
        self,
        db: Database,
        provider: KeyProvider,
        clock: Clock,
        ids: Ids,
        observe: Callable[[AuditRecord], None] | None = None,
    ) -> None:
        db.migrate("vault", MIGRATIONS)
        self._db = db
        self._provider = provider
        self._clock = clock
        self._audit = Audit(observe, clock, ids)

    # Cards in

    def issue_ticket(
        self, tenant: str, *, merchant: str, purposes: Collection[Purpose], origin: str = "", by: str
    ) -> Ticket:
        """Lets a browser store one card for a merchant within `TICKET_S`.

        Raises:
            DataError: `vault.merchant.invalid`, `vault.purpose.none`.
        """
        _check(merchant, purposes)
        secret = f"vt_{secrets.token_urlsafe(32)}"
        now = self._clock.now()
        ticket = Ticket(Secret(secret), merchant, origin, now + TICKET_S * MICROS)
        with self._db.begin() as connection:
            connection.execute(tickets.delete().where(tickets.c.expires < now))
            row = {"merchant": merchant, "purposes": ",".join(sorted(purposes)), "origin": origin}
            connection.execute(
                tickets.insert().values(hash=_hash(secret), tenant=tenant, expires=ticket.expires, token=None, **row)
            )
        self._audit.record(tenant, "tickets.issue", actor=by, target=merchant)
        return ticket

    def origin_of(self, secret: Secret) -> str:
        """The page that a ticket is for.

        Raises:
            DeniedError: `vault.ticket.invalid`.
        """
        with self._db.read() as connection:
            return str(self._ticket(connection, secret).origin)

    def store_by_ticket(self, secret: Secret, text: Secret, exp_month: int, exp_year: int, *, origin: str = "") -> Card:
        """Stores the card of a ticket. The same card again gives the same answer.

        Args:
            secret: The ticket.
            text: The number as it was typed.
            exp_month: 1 to 12.
            exp_year: Four digits.
            origin: Address of the caller, for the record.

        Raises:
            DeniedError: `vault.ticket.invalid` for one that is unknown or over.
            ConflictError: `vault.ticket.used` for another card.
            DataError: As `read_number`.
        """
        with self._db.read() as connection:
            ticket = self._ticket(connection, secret)
        number = read_number(text, exp_month, exp_year)
        if ticket.token is None:
            purposes = tuple(Purpose(name) for name in ticket.purposes.split(","))

            def take(connection: Connection, token: str) -> bool:
                taken = tickets.update().where(tickets.c.hash == ticket.hash, tickets.c.token.is_(None))
                return connection.execute(taken.values(token=token)).rowcount == 1

            card = self._store(ticket.tenant, ticket.merchant, purposes, number, take)
            if card is not None:
                self._audit.record(ticket.tenant, "cards.store", actor="ticket", target=card.token, origin=origin)
                return card
            with self._db.read() as connection:
                ticket = self._ticket(connection, secret)
        card = self.look(ticket.tenant, ticket.token)
        if card.fingerprint != to_fingerprint(self._provider, ticket.tenant, number):
            raise ConflictError("vault.ticket.used", "this ticket stored another card", hint="ask for a new one")
        return card

    def store(
        self,
        tenant: str,
        text: Secret,
        exp_month: int,
        exp_year: int,
        *,
        merchant: str,
        purposes: Collection[Purpose],
        by: str,
        origin: str = "",
    ) -> Card:
        """Stores a card from a server.

        Raises:
            DataError: As `read_number`; `vault.merchant.invalid`, `vault.purpose.none`.
            ConflictError: `vault.tenant.shredded`.
        """
        _check(merchant, purposes)
        number = read_number(text, exp_month, exp_year)
        card = self._store(tenant, merchant, tuple(sorted(purposes)), number, lambda *_: True)
        assert card is not None  # noqa: S101 - nothing competes for it
        self._audit.record(tenant, "cards.store", actor=by, target=card.token, origin=origin)
        return card

    # Cards out

    def look(self, tenant: str, token: str) -> Card:
        """What may be known of a card.

        Raises:
            NotFoundError: `vault.token.unknown`, of another tenant too.
        """
        with self._db.read() as connection:
            return _to_card(self._row(connection, tenant, token))

    def detokenise(
        self, tenant: str, token: str, *, merchant: str, purpose: Purpose, reason: str, by: str, origin: str = ""
    ) -> Number:
        """The one way out: a number, for a merchant and a purpose that its token is bound to.

        The record of it is durable before the number is given.

        Raises:
            NotFoundError: `vault.token.unknown`.
            DeniedError: `vault.token.merchant`, `vault.token.purpose`, `vault.token.erased`.
            DataError: `vault.reason.missing`.
        """
        detail = {"merchant": merchant, "purpose": purpose.value, "reason": reason[:MAX_REASON]}

        def tell(outcome: Outcome, code: str = "") -> None:
            self._audit.record(
                tenant,
                "cards.detokenise",
                actor=by,
                target=token if is_token(token) else "",
                outcome=outcome,
                code=code,
                origin=origin,
                detail=detail,
            )

        try:
            if not reason.strip():
                raise DataError("vault.reason.missing", "say what the number is needed for", at="$.reason")
            with self._db.read() as connection:
                row = self._row(connection, tenant, token)
            _permit(row, merchant, purpose)
            envelope = Envelope(row.version, row.sealed, row.sealed_key)
            number = open_card(self._provider, row.tenant, row.token, envelope)
        except VedetteError as error:
            tell(Outcome.DENIED if isinstance(error, DeniedError | NotFoundError) else Outcome.FAILURE, error.code)
            raise
        tell(Outcome.SUCCESS)
        return number

    # The end of cards

    def erase(self, tenant: str, token: str, *, by: str) -> Card:
        """Forgets the number of a card and its data key. Older backups of the database have both until they expire.

        Raises:
            NotFoundError: `vault.token.unknown`.
        """
        with self._db.begin() as connection:
            overwrite_deleted(connection)
            self._row(connection, tenant, token)
            gone = cards.update().where(cards.c.token == token, cards.c.erased.is_(None))
            connection.execute(gone.values(sealed=None, sealed_key=None, erased=self._clock.now()))
            card = _to_card(self._row(connection, tenant, token))
        self._flush()
        self._audit.record(tenant, "cards.erase", actor=by, target=token)
        return card

    def shred(self, tenant: str, *, by: str) -> int:
        """Destroys every key of a tenant: its cards can be read by nobody, wherever copies of them are. Gives how many.

        Again: goes on where an earlier call ended.

        Raises:
            NotFoundError: `vault.tenant.unknown`.
        """
        with self._db.begin() as connection:
            marked = tenants.update().where(tenants.c.tenant == tenant)
            kept = sa.func.coalesce(tenants.c.shredded, self._clock.now())
            if connection.execute(marked.values(shredded=kept)).rowcount == 0:
                raise NotFoundError("vault.tenant.unknown", "this tenant has no cards", at=tenant)
            count = connection.execute(sa.select(sa.func.count()).where(cards.c.tenant == tenant)).scalar_one()
        for label in (*self._wrapping(tenant), fingerprint_label(tenant)):
            self._provider.destroy(label)
        self._audit.record(tenant, "cards.shred", actor=by, detail={"cards": str(count)})
        return int(count)

    # Keys

    def rotate(self, tenant: str, *, by: str) -> int:
        """Makes the next wrapping key, for new cards; `rewrap` brings the older ones over. Gives its version.

        Raises:
            NotFoundError: `vault.tenant.unknown`.
            ConflictError: `vault.tenant.shredded`.
        """
        with self._db.read() as connection:
            version = self._version(connection, tenant) + 1
        ensure_key(self._provider, wrapping_label(tenant, version), KeyUse.WRAP)
        with self._db.begin() as connection:
            moved = tenants.update().where(tenants.c.tenant == tenant, tenants.c.version == version - 1)
            connection.execute(moved.values(version=version, rotated=self._clock.now()))
        self._audit.record(tenant, "keys.rotate", actor=by, target=wrapping_label(tenant, version))
        return version

    def rewrap(self, tenant: str, *, limit: int = REWRAP_AT_ONCE) -> int:
        """Seals the data keys of up to `limit` cards under the newest key. Gives how many; 0 when all are done.

        Cards themselves are not touched. May run beside everything else, in several processes, and be cut anywhere.
        """
        with self._db.read() as connection:
            newest = self._version(connection, tenant)
            old = sa.select(cards).where(
                cards.c.tenant == tenant, cards.c.version < newest, cards.c.sealed_key.is_not(None)
            )
            rows = connection.execute(old.limit(limit)).all()
        fresh = {row.token: self._rewrapped(row, newest) for row in rows}
        with self._db.begin() as connection:
            for row in rows:
                same = cards.update().where(
                    cards.c.token == row.token, cards.c.version == row.version, cards.c.sealed_key == row.sealed_key
                )
                connection.execute(same.values(sealed_key=fresh[row.token], version=newest))
        return len(rows)

    def retire(self, tenant: str, *, by: str) -> list[str]:
        """Destroys the older wrapping keys once no card needs them. Gives their labels.

        Raises:
            ConflictError: `vault.key.needed` while cards are under one, or `GRACE_S` after the rotation are not over.
        """
        with self._db.begin() as connection:
            row = self._tenant(connection, tenant, lock=True)
            needed = sa.select(sa.func.count()).where(
                cards.c.tenant == tenant, cards.c.version < row.version, cards.c.sealed_key.is_not(None)
            )
            left = connection.execute(needed).scalar_one()
            over = self._clock.now() - row.rotated >= GRACE_S * MICROS
        if left or not over:
            why = f"{left} cards are under an older key" if left else "the rotation is too fresh"
            raise ConflictError("vault.key.needed", why, hint="rewrap all cards, and come again after a minute")
        # From here on no new card can come under an older key: each is stored under the version its transaction sees.
        ended = [label for label in self._wrapping(tenant) if label != wrapping_label(tenant, row.version)]
        for label in ended:
            self._provider.destroy(label)
            self._audit.record(tenant, "keys.destroy", actor=by, target=label)
        return ended

    def tenants(self) -> list[str]:
        """Tenants with cards, those that were shredded left out."""
        with self._db.read() as connection:
            alive = sa.select(tenants.c.tenant).where(tenants.c.shredded.is_(None)).order_by(tenants.c.tenant)
            return list(connection.execute(alive).scalars())

    # Inside

    def _store(
        self,
        tenant: str,
        merchant: str,
        purposes: tuple[Purpose, ...],
        number: Number,
        claim: Callable[[Connection, str], bool],
    ) -> Card | None:
        """Seals and inserts a card; None when `claim` says no inside the transaction, which then leaves nothing."""
        while True:
            version = self._current(tenant)
            token = new_token()
            envelope = seal_card(self._provider, tenant, token, version, number)
            card = Card(
                token=token,
                tenant=tenant,
                merchant=merchant,
                purposes=purposes,
                fingerprint=to_fingerprint(self._provider, tenant, number),
                brand=to_brand(number.number) or "",
                last4=number.number[-4:],
                created=self._clock.now(),
            )
            with self._db.begin() as connection:
                if self._tenant(connection, tenant, lock=True).version != version:
                    continue  # rotated meanwhile: an older key may be about to end
                if not claim(connection, token):
                    return None
                connection.execute(cards.insert().values(**_to_row(card, envelope)))
            return card

    def _current(self, tenant: str) -> int:
        """Version of the wrapping key that new cards use; a new tenant's keys are made."""
        with suppress(NotFoundError), self._db.read() as connection:
            return self._version(connection, tenant)
        ensure_key(self._provider, wrapping_label(tenant, 1), KeyUse.WRAP)
        ensure_key(self._provider, fingerprint_label(tenant), KeyUse.MAC)
        with self._db.begin() as connection:
            insert_new(connection, tenants, tenant=tenant, version=1, rotated=self._clock.now(), shredded=None)
            return self._version(connection, tenant)

    def _rewrapped(self, row: Any, version: int) -> bytes:
        data_key = open_key(self._provider, row.tenant, row.token, row.version, row.sealed_key)
        return seal_key(self._provider, row.tenant, row.token, version, data_key)

    def _wrapping(self, tenant: str) -> list[str]:
        start = wrapping_label(tenant, 0)[:-1]
        return [info.label for info in self._provider.list_keys() if info.label.startswith(start)]

    def _version(self, connection: Connection, tenant: str) -> int:
        return int(self._tenant(connection, tenant).version)

    def _tenant(self, connection: Connection, tenant: str, *, lock: bool = False) -> Any:
        asked = sa.select(tenants).where(tenants.c.tenant == tenant)
        row = connection.execute(asked.with_for_update() if lock else asked).first()
        if row is None:
            raise NotFoundError("vault.tenant.unknown", "this tenant has no cards", at=tenant)
        if row.shredded is not None:
            raise ConflictError("vault.tenant.shredded", "the keys of this tenant were destroyed", at=tenant)
        return row

    def _ticket(self, connection: Connection, secret: Secret) -> Any:
        row = connection.execute(sa.select(tickets).where(tickets.c.hash == _hash(secret.reveal()))).first()
        if row is None or row.expires <= self._clock.now():
            raise DeniedError("vault.ticket.invalid", "no such ticket, or its time is over", hint="ask for a new one")
        return row

    def _row(self, connection: Connection, tenant: str, token: str) -> Any:
        row = connection.execute(sa.select(cards).where(cards.c.token == token, cards.c.tenant == tenant)).first()
        if row is None:
            raise NotFoundError("vault.token.unknown", "no such token")
        return row

    def _flush(self) -> None:
        """Takes old pages out of SQLite's log of changes, where an erased row would stand for a while."""
        if self._db.is_sqlite:
            raw = self._db.engine.raw_connection()
            try:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                raw.close()


def _check(merchant: str, purposes: Collection[Purpose]) -> None:
    if not merchant or len(merchant) > MAX_MERCHANT:
        raise DataError(
            "vault.merchant.invalid", f"a merchant's id has 1 to {MAX_MERCHANT} characters", at="$.merchant"
        )
    if not purposes:
        raise DataError(
            "vault.purpose.none", "say what the card may be used for", hint=f"one or more of {', '.join(Purpose)}"
        )


def _permit(row: Any, merchant: str, purpose: Purpose) -> None:
    if row.merchant != merchant:
        raise DeniedError("vault.token.merchant", "this token belongs to another merchant")
    if purpose not in row.purposes.split(","):
        raise DeniedError("vault.token.purpose", f"this token is not for: {purpose}")
    if row.erased is not None:
        raise DeniedError("vault.token.erased", "this card was erased")


def _to_row(card: Card, envelope: Envelope) -> dict[str, Any]:
    return {
        "token": card.token,
        "tenant": card.tenant,
        "merchant": card.merchant,
        "purposes": ",".join(card.purposes),
        "fingerprint": card.fingerprint,
        "brand": card.brand,
        "last4": card.last4,
        "created": card.created,
        "erased": None,
        **envelope._asdict(),
    }


def _to_card(row: Any) -> Card:
    return Card(
        token=row.token,
        tenant=row.tenant,
        merchant=row.merchant,
        purposes=tuple(Purpose(name) for name in row.purposes.split(",")),
        fingerprint=row.fingerprint,
        brand=row.brand,
        last4=row.last4,
        created=row.created,
        erased=row.erased,
    )


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
