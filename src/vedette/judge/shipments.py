"""What was shipped: files with their stages, change by change, so that each can be taken back.

A *unit* is what goes together: a rule file with all its rules, or one of the parts that decide on payments (the model,
its rules, its features). A unit has a version that is live and may have another on trial, in shadow or for a share of
the entities. Every change is a row with what stood after it; nothing is overwritten. A change is known by its number,
so that a stream can say which it ran with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from vedette.core.clock import Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DataError, NotFoundError

MAX_FILES = 50
"""Most files of one unit: its own, and the exceptions shipped with it."""
MAX_HISTORY = 100
BASE, NOTHING = "", "off"
"""Words for a live version: what the pipeline's own folder holds; none at all."""
WHOLE = 100
"""Per cent."""


SHARES = 1 << 32


class Kind(StrEnum):
    """What is shipped. Each kind has changes and numbers of its own."""

    RULE = "rule"
    """Rules that raise alerts."""
    SCORING = "scoring"
    """Parts that decide on payments."""

    @property
    def word(self) -> str:
        """Start of its error codes."""
        return "rules" if self is Kind.RULE else "model"


def among(unit: str, entity: str, percent: int) -> bool:
    """Whether an entity is among some per cent, for the rollout of a unit. Stable; a higher share only adds."""
    digest = hashlib.sha256(f"{unit}\x00{entity}".encode()).digest()
    return int.from_bytes(digest[:4]) * 100 < percent * SHARES


class Stage(StrEnum):
    """How far a unit is."""

    SHADOW = "shadow"
    """On trial: its signals are counted and raise no alert."""
    STAGED = "staged"
    """On trial for a share of the entities; the others keep what was live."""
    LIVE = "live"
    OFF = "off"
    """Nothing of it runs."""


class Shipped(msgspec.Struct, frozen=True):
    """A file as it was shipped."""

    path: str
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of its content."""
        return hashlib.sha256(self.content).hexdigest()


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a unit."""

    ids: tuple[str, ...]
    """Of its rules and correlations."""
    title: str
    files: tuple[Shipped, ...]
    pipelines: tuple[Shipped, ...] = ()
    """Those its rules go through, and no others; none: those of the installation."""
    detector: str = ""
    """Of a detector in Python, which has no files: the version that is installed."""

    @property
    def version(self) -> str:
        """SHA-256 of the contents of files and pipelines, whatever they are called; of a detector's id and version."""
        contents: list[Any] = [one.content for one in self.files]
        if self.pipelines:
            contents.append([one.content for one in self.pipelines])
        if self.detector:
            contents += [self.ids, self.detector]
        return hashlib.sha256(msgspec.json.encode(contents)).hexdigest()


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What stands of a unit after a change."""

    seq: int
    unit: str
    """Id of the first rule it was ever shipped with."""
    action: str
    """`ship`, `rollback` or `off`."""
    live: str
    """Version; `BASE` or `NOTHING`."""
    trial: str
    """Version; empty without one."""
    percent: int
    """Share of the entities that the trial is for; 0 in shadow."""
    operator: str
    time: int
    """Microseconds UTC."""
    note: str
    restores: int = 0
    """Of a rollback: the change whose standing came back; 0: that before the first."""

    @property
    def stage(self) -> Stage:
        """How far the unit is."""
        if self.trial:
            return Stage.STAGED if self.percent else Stage.SHADOW
        return Stage.OFF if self.live == NOTHING else Stage.LIVE

    @property
    def stands(self) -> int:
        """The change that this standing came with; 0: none."""
        return self.restores if self.action == "rollback" else self.seq

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that run."""
        return tuple(one for one in (self.live, self.trial) if one not in {BASE, NOTHING})


class _Tables:
    """The tables of a kind."""

    def __init__(self, kind: Kind) -> None:
        self.word = kind.word
        metadata = sa.MetaData()
        self.change = sa.Table(
            f"{kind}_change",
            metadata,
            sa.Column("seq", sa.Integer, primary_key=True),
            sa.Column("unit", sa.Text, nullable=False),
            sa.Column("action", sa.Text, nullable=False),
            sa.Column("live", sa.Text, nullable=False),
            sa.Column("trial", sa.Text, nullable=False),
            sa.Column("percent", sa.Integer, nullable=False),
            sa.Column("operator", sa.Text, nullable=False),
            sa.Column("time", LONG, nullable=False),
            sa.Column("note", sa.Text, nullable=False),
            sa.Column("restores", sa.Integer, nullable=False),
            sa.Index(f"{kind}_change_unit", "unit", "seq"),
            sqlite_strict=True,
        )
        self.document = sa.Table(
            f"{kind}_document",
            metadata,
            sa.Column("version", sa.Text, primary_key=True),
            sa.Column("time", LONG, nullable=False),
            sa.Column("body", sa.LargeBinary, nullable=False),
            sqlite_strict=True,
        )
        self.owned = sa.Table(
            f"{kind}_owned",
            metadata,
            sa.Column("rule_id", sa.Text, primary_key=True),
            sa.Column("unit", sa.Text, nullable=False),
            sqlite_strict=True,
        )
        self.applied = sa.Table(
            f"{kind}_applied",
            metadata,
            sa.Column("name", sa.Text, primary_key=True),
            sa.Column("seq", sa.Integer, nullable=False),
            sa.Column("day", sa.Text, nullable=False),
            sqlite_strict=True,
        )
        self.migrations = (Migration(1, f"shipped {kind}s", create(metadata)),)

    def unit_of(self, connection: Connection, name: str) -> str:
        query = sa.select(self.owned.c.unit).where(self.owned.c.rule_id == name)
        unit: str | None = connection.execute(query).scalar()
        if unit is None:
            raise NotFoundError(f"{self.word}.rule.unknown", "nothing of that id was shipped", at=name[:200])
        return unit

    def changes(self, connection: Connection, unit: str) -> Sequence[Standing]:
        query = self.change.select().where(self.change.c.unit == unit).order_by(self.change.c.seq)
        return list(map(_standing, connection.execute(query)))

    def newest(self, connection: Connection, unit: str) -> Standing | None:
        query = self.change.select().where(self.change.c.unit == unit).order_by(self.change.c.seq.desc())
        row = connection.execute(query).first()
        return _standing(row) if row else None


_OF = {kind: _Tables(kind) for kind in Kind}


class Shipments:
    """What an installation shipped of one kind.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Times of changes.
        kind: What is shipped.
    """

    def __init__(self, database: Database, clock: Clock, kind: Kind = Kind.RULE) -> None:
        self._database = database
        self._clock = clock
        self._tables = _OF[kind]
        self._word = kind.word
        database.migrate("shipments" if kind is Kind.RULE else f"shipments.{kind}", self._tables.migrations)

    def ship(self, document: Document, *, percent: int, operator: str, note: str = "") -> Standing:
        """Puts a version to a stage.

        Args:
            document: The version.
            percent: 0: in shadow; `WHOLE`: live; between: for that share of the entities.
            operator: Who does it.
            note: Why.

        Raises:
            DataError: `rules.ship.percent`, `rules.ship.large`.
            ConflictError: `rules.ship.live` (this version is live already), `rules.ship.split` (its rules belong to
                several units).
        """
        if not 0 <= percent <= WHOLE:
            raise DataError(f"{self._word}.ship.percent", f"{percent} is no share of 0 to {WHOLE} per cent")
        if len(document.files) > MAX_FILES:
            raise DataError(f"{self._word}.ship.large", f"more than {MAX_FILES} files")
        version = document.version
        with self._database.begin() as connection:
            unit = self._own(connection, document)
            before = self._tables.newest(connection, unit)
            live = before.live if before else BASE
            if live == version:
                raise ConflictError(f"{self._word}.ship.live", "this version is live already", at=document.title)
            body = msgspec.msgpack.encode(document)
            insert_new(connection, self._tables.document, version=version, time=self._clock.now(), body=body)
            whole = percent == WHOLE
            return self._add(
                connection,
                unit=unit,
                action="ship",
                live=version if whole else live,
                trial="" if whole else version,
                percent=0 if whole else percent,
                operator=operator,
                note=note,
            )

    def switch_off(self, name: str, *, operator: str, note: str = "") -> Standing:
        """Takes a unit out of service.

        Args:
            name: Id of one of its rules; of a rule that was never shipped, a unit is made of it.
            operator: Who does it.
            note: Why.
        """
        with self._database.begin() as connection:
            insert_new(connection, self._tables.owned, rule_id=name, unit=name)
            return self._add(
                connection,
                unit=self._tables.unit_of(connection, name),
                action="off",
                live=NOTHING,
                trial="",
                percent=0,
                operator=operator,
                note=note,
            )

    def rollback(self, name: str, *, operator: str, note: str = "") -> Standing:
        """Takes a unit's last change back; again, the one before it.

        Args:
            name: Id of one of its rules.
            operator: Who does it.
            note: Why.

        Raises:
            NotFoundError: `rules.rule.unknown`: it was never shipped.
            ConflictError: `rules.rollback.nothing`: all its changes are taken back.
        """
        with self._database.begin() as connection:
            unit = self._tables.unit_of(connection, name)
            changes = {one.seq: one for one in self._tables.changes(connection, unit)}
            standing = changes[max(changes)].stands
            if standing == 0:
                raise ConflictError(f"{self._word}.rollback.nothing", "all its changes are taken back", at=name)
            earlier = max((seq for seq in changes if seq < standing), default=0)
            before = changes[earlier].stands if earlier else 0
            found = changes.get(before)
            return self._add(
                connection,
                unit=unit,
                action="rollback",
                live=found.live if found else BASE,
                trial=found.trial if found else "",
                percent=found.percent if found else 0,
                operator=operator,
                note=note,
                restores=before,
            )

    def newest(self) -> int:
        """Number of the last change; 0 before the first."""
        with self._database.read() as connection:
            return connection.execute(sa.select(sa.func.max(self._tables.change.c.seq))).scalar() or 0

    def standings(self, upto: int | None = None) -> dict[str, Standing]:
        """Unit -> what stands of it, as of a change's number; None: now."""
        last = sa.select(sa.func.max(self._tables.change.c.seq)).group_by(self._tables.change.c.unit)
        if upto is not None:
            last = last.where(self._tables.change.c.seq <= upto)
        with self._database.read() as connection:
            rows = connection.execute(
                self._tables.change.select()
                .where(self._tables.change.c.seq.in_(last))
                .order_by(self._tables.change.c.seq)
            )
            return {one.unit: one for one in map(_standing, rows)}

    def history(self, name: str) -> list[Standing]:
        """A unit's changes, newest first, by the id of one of its rules; empty when it was never shipped."""
        with self._database.read() as connection:
            unit = connection.execute(
                sa.select(self._tables.owned.c.unit).where(self._tables.owned.c.rule_id == name)
            ).scalar()
            return list(reversed(self._tables.changes(connection, unit)))[:MAX_HISTORY] if unit else []

    def document(self, version: str) -> Document:
        """One version.

        Raises:
            NotFoundError: `rules.version.unknown`.
        """
        with self._database.read() as connection:
            body = connection.execute(
                sa.select(self._tables.document.c.body).where(self._tables.document.c.version == version)
            ).scalar()
        if body is None:
            raise NotFoundError(f"{self._word}.version.unknown", "no such version was shipped", at=version[:64])
        return msgspec.msgpack.decode(body, type=Document)

    def ids(self) -> dict[str, set[str]]:
        """Unit -> ids of all rules that it ever held."""
        found: dict[str, set[str]] = {}
        with self._database.read() as connection:
            for row in connection.execute(self._tables.owned.select()):
                found.setdefault(row.unit, set()).add(row.rule_id)
        return found

    def applied(self, name: str) -> tuple[int, str] | None:
        """Which change, and which day (UTC), a reader of the log judges by; None before it said so."""
        with self._database.read() as connection:
            row = connection.execute(self._tables.applied.select().where(self._tables.applied.c.name == name)).first()
        return (row.seq, row.day) if row else None

    def apply(self, name: str, seq: int, day: str) -> None:
        """Notes what a reader of the log judges by from now on; before it judges anything by it."""
        with self._database.begin() as connection:
            if not insert_new(connection, self._tables.applied, name=name, seq=seq, day=day):
                connection.execute(
                    self._tables.applied.update().where(self._tables.applied.c.name == name).values(seq=seq, day=day)
                )

    def _own(self, connection: Connection, document: Document) -> str:
        """The unit of a version, which takes over all its rules."""
        query = sa.select(self._tables.owned.c.unit).where(self._tables.owned.c.rule_id.in_(document.ids)).distinct()
        held = set(connection.execute(query).scalars())
        if len(held) > 1:
            hint = "ship them as the files they were, or switch the old ones off"
            raise ConflictError(
                f"{self._word}.ship.split", "its rules were shipped apart", hint=hint, at=document.title
            )
        unit = held.pop() if held else document.ids[0]
        for name in document.ids:
            insert_new(connection, self._tables.owned, rule_id=name, unit=unit)
        return unit

    def _add(
        self,
        connection: Connection,
        *,
        unit: str,
        action: str,
        live: str,
        trial: str,
        percent: int,
        operator: str,
        note: str,
        restores: int = 0,
    ) -> Standing:
        seq = (connection.execute(sa.select(sa.func.max(self._tables.change.c.seq))).scalar() or 0) + 1
        standing = Standing(
            seq=seq,
            unit=unit,
            action=action,
            live=live,
            trial=trial,
            percent=percent,
            operator=operator,
            time=self._clock.now(),
            note=note,
            restores=restores,
        )
        connection.execute(self._tables.change.insert().values(**msgspec.structs.asdict(standing)))
        return standing


def _standing(row: sa.Row[Iterable[object]]) -> Standing:
    return Standing(**row._mapping)  # noqa: SLF001 - SQLAlchemy's name for it
