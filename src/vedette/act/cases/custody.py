"""The chain of custody: who took what, when and how, each link holding the hash of the one before.

A link is written in the transaction that adds the evidence; the evidence tree gets it right after, and what a kill left
out at the next turn. So a bundle can show that nothing was taken out of a case's evidence and nothing put in between:
the tree proves each link, and the links prove their order and what belongs to the case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import StrEnum

import msgspec

from vedette.act.cases.store import Store, check_text, here, load
from vedette.act.cases.tables import EVIDENCE, LINK
from vedette.act.timeline import CustodyChanged, EvidenceAdded
from vedette.core.clock import Clock
from vedette.core.db import Connection, Database, insert_new, sa
from vedette.core.errors import DataError
from vedette.core.ids import Ids

KIND = "custody"
"""Of a link in the evidence tree."""
ARTEFACT = "artefact"
"""Of a collected item in the evidence tree."""
MAX_ITEM = 32 * 1024 * 1024
"""Largest item that is collected, bytes."""
MAX_LINKS = 5_000
FIRST = "0" * 64
"""What the first link holds in place of a hash."""

Keep = Callable[[str, str, str, int, bytes], str]
"""(id, tenant, kind, time, content) -> reference: puts content under the evidence tree; again changes nothing."""


class Act(StrEnum):
    """What happened to evidence."""

    COLLECTED = "collected"
    TRANSFERRED = "transferred"
    EXPORTED = "exported"


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """An artefact on its way into a case."""

    digest: str
    """SHA-256 of its bytes, hex."""
    reference: str
    """Where its bytes are proven."""
    name: str
    who: str
    how: str
    """By what means it was taken: a tool, a playbook, by hand."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One link of a chain. Its canonical JSON is what the evidence tree holds."""

    v: int = 1
    case: str
    number: int
    """From 0, without gaps."""
    previous: str
    """SHA-256 of the link before, hex; `FIRST` for the first."""
    act: Act
    time: int
    """Microseconds UTC."""
    who: str
    how: str = ""
    item: str = ""
    """SHA-256 of the artefact that it is about, hex; empty when it is about all of them."""
    reference: str = ""
    """Record of the evidence tree that holds the artefact."""
    name: str = ""
    size: int = -1
    """Bytes; -1 when not known."""
    to: str = ""
    """Who has it from now on, or the purpose of an export."""


def to_bytes(link: Link) -> bytes:
    """The stored bytes of a link: JSON with sorted keys."""
    return msgspec.json.encode(link, order="sorted")


def link_id(case_id: str, number: int) -> str:
    """Id of a link in the evidence tree."""
    return f"{KIND}/{case_id}/{number}"


def link_evidence(connection: Connection, tenant: str, case_id: str, intake: Intake, now: int, size: int = -1) -> Link:  # noqa: PLR0917
    """Adds the link of an artefact, inside the transaction that holds the case's lock."""
    link = _next(connection, tenant, case_id)
    parts = {"item": intake.digest, "reference": intake.reference, "name": intake.name, "size": size}
    made = msgspec.structs.replace(link, act=Act.COLLECTED, time=now, who=intake.who, how=intake.how, **parts)
    _insert(connection, tenant, made)
    return made


class Custody(Store):
    """The evidence of cases, as it is taken, handed over and given out.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Times of links.
        ids: Unused ids of the store.
        keep: The evidence tree.
    """

    def __init__(self, database: Database, clock: Clock, ids: Ids, keep: Keep) -> None:
        super().__init__(database, clock, ids)
        self._keep = keep

    def collect(self, tenant: str, case_id: str, *, name: str, content: bytes, how: str, operator: str) -> Link:
        """Takes bytes into a case: hashed, kept under the tree, chained; the same bytes again change nothing.

        Args:
            tenant: Whose case.
            case_id: Which.
            name: What people call it, such as a file's name.
            content: Its bytes, at most `MAX_ITEM`.
            how: By what means it was taken.
            operator: Who took it.

        Raises:
            DataError: `cases.evidence.size`, `cases.text.invalid`.
        """
        check_text(name)
        check_text(how)
        if not 0 < len(content) <= MAX_ITEM:
            raise DataError("cases.evidence.size", f"an item has 1 to {MAX_ITEM} bytes, not {len(content)}")
        digest, now = hashlib.sha256(content).hexdigest(), self._clock.now()
        with self._database.read() as connection:
            load(connection, tenant, case_id)
            known = connection.execute(
                sa.select(EVIDENCE.c.time).where(here(EVIDENCE, tenant, case_id), EVIDENCE.c.digest == digest)
            ).scalar()
        # The bytes first: a link never names what is not there.
        reference = self._keep(f"{ARTEFACT}/{case_id}/{digest}", tenant, ARTEFACT, known or now, content)
        intake = Intake(digest=digest, reference=reference, name=name, who=operator, how=how)
        row = {"digest": digest, "reference": reference, "what": name[:200], "time": now}
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            if insert_new(connection, EVIDENCE, tenant=tenant, case_id=case_id, **row):
                made = link_evidence(connection, tenant, case_id, intake, now, len(content))
                self._add(connection, tenant, case_id, operator, EvidenceAdded(digest, reference, name[:200]))
            else:
                links = _read(connection, tenant, case_id)
                made = next(each for each in links if each.item == digest)
        self.settle()
        return made

    def transfer(self, tenant: str, case_id: str, *, to: str, how: str, operator: str) -> Link:
        """Records that the evidence is another person's to answer for from now on."""
        check_text(to)
        return self._whole(tenant, case_id, Act.TRANSFERRED, to=to, how=how, operator=operator)

    def export(self, tenant: str, case_id: str, *, to: str, operator: str) -> Link:
        """Records that all evidence is given out; the last link of the bundle that is made then."""
        return self._whole(tenant, case_id, Act.EXPORTED, to=to, how="bundle", operator=operator)

    def links(self, tenant: str, case_id: str) -> list[Link]:
        """The chain, in order."""
        with self._database.read() as connection:
            load(connection, tenant, case_id)
            return _read(connection, tenant, case_id)

    def settle(self) -> int:
        """Puts links under the tree that are not there yet, of all cases; gives how many."""
        waiting = LINK.select().where(LINK.c.kept == 0).order_by(LINK.c.tenant, LINK.c.case_id, LINK.c.number)
        with self._database.read() as connection:
            rows = connection.execute(waiting.limit(MAX_LINKS)).all()
        for row in rows:
            link = msgspec.json.decode(row.body, type=Link)
            self._keep(link_id(row.case_id, row.number), row.tenant, KIND, link.time, row.body.encode())
            mine = here(LINK, row.tenant, row.case_id) & (LINK.c.number == row.number)
            with self._database.begin() as connection:
                connection.execute(LINK.update().where(mine).values(kept=1))
        return len(rows)

    def _whole(self, tenant: str, case_id: str, act: Act, *, to: str, how: str, operator: str) -> Link:
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            link = _next(connection, tenant, case_id)
            made = msgspec.structs.replace(link, act=act, time=self._clock.now(), who=operator, how=how, to=to)
            _insert(connection, tenant, made)
            self._add(connection, tenant, case_id, operator, CustodyChanged(act, to))
        self.settle()
        return made


def _next(connection: Connection, tenant: str, case_id: str) -> Link:
    """The link that comes next, to be filled."""
    query = sa.select(LINK.c.number, LINK.c.digest).where(here(LINK, tenant, case_id))
    last = connection.execute(query.order_by(LINK.c.number.desc()).limit(1)).first()
    number, previous = (last.number + 1, last.digest) if last else (0, FIRST)
    if number >= MAX_LINKS:
        raise DataError("cases.evidence.full", f"a case has at most {MAX_LINKS} links of custody", at=case_id)
    return Link(case=case_id, number=number, previous=previous, act=Act.COLLECTED, time=0, who="")


def _insert(connection: Connection, tenant: str, link: Link) -> None:
    content = to_bytes(link)
    digest = hashlib.sha256(content).hexdigest()
    row = {"number": link.number, "digest": digest, "kept": 0, "body": content.decode()}
    connection.execute(LINK.insert().values(tenant=tenant, case_id=link.case, **row))


def _read(connection: Connection, tenant: str, case_id: str) -> list[Link]:
    query = sa.select(LINK.c.body).where(here(LINK, tenant, case_id)).order_by(LINK.c.number)
    return [msgspec.json.decode(body, type=Link) for body in connection.execute(query).scalars()]
