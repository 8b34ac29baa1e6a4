"""Hunts as objects: a hypothesis, the query that would show it, and what each run of it found.

A run that finds rows opens a case, or goes on in the case of the run before; one that finds none is evidence, with its
date, that it was looked for and was not there. Each run keeps a hash of its rows, so a colleague who runs it again is
told whether they are the same ones.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any

import msgspec

from vedette.core.clock import to_iso
from vedette.core.db import LONG, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DefinitionError, NotFoundError
from vedette.core.signal import Level
from vedette.prove.dlp import scrub
from vedette.prove.evidence import Entry
from vedette.run.parts import Parts
from vedette.sense.query import Answer, run_query
from vedette.sense.store import Store

MAX_TEXT = 20_000
MAX_NAME, MAX_LINKS = 200, 200
SHOWN = 20
"""Rows that a case's note shows."""
_METADATA = sa.MetaData()
_HUNT = sa.Table(
    "hunt",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)
_RUN = sa.Table(
    "hunt_run",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("time", LONG, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)
_LATER = sa.MetaData()
_STANDING = sa.Table(
    "hunt_standing",
    _LATER,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (
    Migration(1, "hunts", create(_METADATA)),
    Migration(2, "what becomes of hunts", create(_LATER)),
)


class SavedHunt(msgspec.Struct, frozen=True, kw_only=True):
    """What is suspected, and how it would show."""

    name: str
    hypothesis: str
    sql: str
    """One SELECT over the tenant's events: rows are hits."""
    techniques: tuple[str, ...] = ()
    """Of ATT&CK, such as `T1566`."""
    author: str = ""


class HuntState(StrEnum):
    """What became of a hypothesis."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    ABANDONED = "abandoned"
    """Nobody could tell."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a hunt."""

    state: HuntState = HuntState.OPEN
    found: str = ""
    """What was found, in words; a hunt is not settled without."""
    cases: tuple[str, ...] = ()
    """Cases that came of it, those of its runs among them."""
    rules: tuple[str, ...] = ()
    """Rules that look for it from now on."""
    by: str = ""
    time: int = 0
    """Of the last change, microseconds UTC."""


class HuntRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a hunt."""

    time: int
    operator: str
    rows: int
    cut: bool
    """There were more rows than are read."""
    digest: str
    """SHA-256 of the rows in the order of their JSON; equal for the same rows."""
    same: bool | None
    """Whether they are those of the run before; None for the first."""
    case: str = ""
    evidence: str = ""
    """Record that it was looked for and not found; empty for a hit."""


class Hunts:
    """The hunts of an installation.

    Args:
        parts: The installation.
        store: Its event store.
    """

    def __init__(self, parts: Parts, store: Store) -> None:
        self._parts = parts
        self._store = store
        parts.state.migrate("hunts", MIGRATIONS)

    def save(self, tenant: str, hunt: SavedHunt) -> None:
        """Keeps a hunt. Its query is fixed from then on: another query is another hunt.

        Raises:
            DefinitionError: `hunts.hunt.invalid`.
            ConflictError: `hunts.name.taken`.
        """
        named = hunt.name.replace("-", "_").isidentifier()
        if not named or not hunt.hypothesis.strip() or len(hunt.hypothesis) + len(hunt.sql) > MAX_TEXT:
            raise DefinitionError("hunts.hunt.invalid", "a hunt has a plain name, a hypothesis and one query")
        run_query(self._store, tenant, f"select * from ({hunt.sql}) limit 0")
        body = msgspec.json.encode(hunt).decode()
        with self._parts.state.begin() as connection:
            if not insert_new(connection, _HUNT, tenant=tenant, name=hunt.name, body=body):
                raise ConflictError("hunts.name.taken", "there is a hunt of this name", at=hunt.name)

    def all(self, tenant: str) -> list[SavedHunt]:
        """A tenant's hunts by name."""
        query = sa.select(_HUNT.c.body).where(_HUNT.c.tenant == tenant).order_by(_HUNT.c.name)
        with self._parts.state.read() as connection:
            return [msgspec.json.decode(body, type=SavedHunt) for body in connection.execute(query).scalars()]

    def get(self, tenant: str, name: str) -> SavedHunt:
        """A hunt by its name.

        Raises:
            NotFoundError: `hunts.hunt.unknown`.
        """
        found = next((one for one in self.all(tenant) if one.name == name), None)
        if found is None:
            raise NotFoundError("hunts.hunt.unknown", "no such hunt", at=name[:64])
        return found

    def standing(self, tenant: str, name: str) -> Standing:
        """What became of a hunt.

        Raises:
            NotFoundError: `hunts.hunt.unknown`.
        """
        self.get(tenant, name)
        mine = (_STANDING.c.tenant == tenant) & (_STANDING.c.name == name)
        with self._parts.state.read() as connection:
            body = connection.execute(sa.select(_STANDING.c.body).where(mine)).scalar()
        held = msgspec.json.decode(body, type=Standing) if body else Standing()
        cases = dict.fromkeys([*held.cases, *(run.case for run in self.runs(tenant, name) if run.case)])
        return msgspec.structs.replace(held, cases=tuple(cases))

    def change(
        self,
        tenant: str,
        name: str,
        *,
        operator: str,
        state: HuntState | None = None,
        found: str | None = None,
        case: str = "",
        rule: str = "",
    ) -> Standing:
        """Says what was found, settles a hunt, and links the cases and rules that came of it.

        Raises:
            NotFoundError: `hunts.hunt.unknown`, `cases.case.unknown`.
            DefinitionError: `hunts.found.missing`, `hunts.hunt.invalid`.
        """
        held = self.standing(tenant, name)
        if case:
            self._parts.cases.get(tenant, case)
        made = msgspec.structs.replace(
            held,
            state=state or held.state,
            found=held.found if found is None else found.strip(),
            cases=tuple(dict.fromkeys([*held.cases, *([case] if case else [])])),
            rules=tuple(dict.fromkeys([*held.rules, *([rule] if rule else [])])),
            by=operator,
            time=self._parts.clock.now(),
        )
        if made.state is not HuntState.OPEN and not made.found:
            raise DefinitionError("hunts.found.missing", "a hunt is settled with what was found", hint="say `found`")
        if len(made.found) > MAX_TEXT or len(rule) > MAX_NAME or len(made.rules) + len(made.cases) > MAX_LINKS:
            raise DefinitionError("hunts.hunt.invalid", f"at most {MAX_TEXT} characters and {MAX_LINKS} links")
        body = msgspec.json.encode(made).decode()
        mine = (_STANDING.c.tenant == tenant) & (_STANDING.c.name == name)
        with self._parts.state.begin() as connection:
            if not insert_new(connection, _STANDING, tenant=tenant, name=name, body=body):
                connection.execute(_STANDING.update().where(mine).values(body=body))
        return made

    def runs(self, tenant: str, name: str) -> list[HuntRun]:
        """The runs of a hunt, oldest first."""
        mine = (_RUN.c.tenant == tenant) & (_RUN.c.name == name)
        query = sa.select(_RUN.c.body).where(mine).order_by(_RUN.c.time)
        with self._parts.state.read() as connection:
            return [msgspec.json.decode(body, type=HuntRun) for body in connection.execute(query).scalars()]

    def run(self, tenant: str, name: str, *, operator: str) -> tuple[HuntRun, Answer]:
        """Runs a hunt: a hit is a case, a miss is evidence with its date.

        Raises:
            NotFoundError: `hunts.hunt.unknown`.
            DataError, TransientError: As `run_query`.
        """
        hunt, before = self.get(tenant, name), self.runs(tenant, name)
        answer = run_query(self._store, tenant, hunt.sql)
        rows = sorted(msgspec.json.encode(row, enc_hook=str).decode() for row in answer.table.to_pylist())
        digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()
        now = self._parts.clock.now()
        same = before[-1].digest == digest if before else None
        made = HuntRun(time=now, operator=operator, rows=len(rows), cut=answer.cut, digest=digest, same=same)
        case = next((one.case for one in reversed(before) if one.case), "")
        if rows:
            made = msgspec.structs.replace(made, case=self._case(tenant, hunt, made, rows, case))
        else:
            made = msgspec.structs.replace(made, evidence=self._missed(tenant, hunt, made))
        with self._parts.state.begin() as connection:
            insert_new(connection, _RUN, tenant=tenant, name=name, time=now, body=msgspec.json.encode(made).decode())
        return made, answer

    def _case(self, tenant: str, hunt: SavedHunt, made: HuntRun, rows: list[str], case: str) -> str:
        cases = self._parts.cases
        if not case:
            title = f"Hunt {hunt.name}: {hunt.hypothesis}"[:200]
            case = cases.open(tenant, scrub(title), operator=made.operator, level=Level.MEDIUM).id
        lines = (
            f"Hunt {hunt.name} at {to_iso(made.time)}: {made.rows:,} rows, sha256 {made.digest}",
            *([] if made.same is None else ["the same rows as before" if made.same else "other rows than before"]),
            hunt.sql,
            *rows[:SHOWN],
        )
        cases.note(tenant, case, scrub("\n".join(lines))[:MAX_TEXT], operator=made.operator)
        return case

    def _missed(self, tenant: str, hunt: SavedHunt, made: HuntRun) -> str:
        told: dict[str, Any] = {"hunt": msgspec.to_builtins(hunt), "run": msgspec.to_builtins(made), "found": False}
        content = msgspec.json.encode(told, order="sorted")
        name = f"hunt/{tenant}/{hunt.name}/{made.time}"
        self._parts.evidence.append([Entry(name, tenant, "hunt_missed", made.time, content)])
        return name
