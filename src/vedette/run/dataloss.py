"""Data-loss scans on a schedule: the product's own logs, its event tables, and folders that somebody chose.

A round goes through a place piece by piece, a bounded piece at a time, and its state is kept after each: killed at any
moment, it goes on where it was. What was scanned before and did not change is not scanned again: log records by their
offset, stored events by their data file, files by their size and time. What is found is kept as kind and place, each
once, and told as a signal, which becomes an alert; what stands there is in neither.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vedette.core.clock import DAY, MICROS, Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import DefinitionError, NotFoundError
from vedette.core.event import Entity
from vedette.core.log import Log
from vedette.core.signal import Level, Signal
from vedette.prove.dlp import Finding, scan, scrub
from vedette.prove.dlp.blocks import BLOCK, files_in, scan_block

RULE = "dataloss."
"""Before the kind: `dataloss.pan`, `dataloss.secret.github-pat`."""
TOPICS = ("event", "decision", "audit", "signal", "action")
"""Topics of the product's own log."""
OWN = {"audit", "action"}
"""Topics that hold our own words. In what other systems said only card numbers are looked for: their records name ids
of credentials by the million, such as the access key of each call to a cloud."""
LOG, TABLES = "log", "tables"
"""Names of the two places that every installation has."""
BUDGET = 4 * BLOCK
"""Bytes that one turn scans: about a tenth of a second of one processor."""
TURN_S = 5.0
"""From turn to turn: a scan takes a fiftieth of one processor while a round lasts."""
MIN_EVERY = 60 * MICROS
MAX_PLACES = 100
MAX_SHOWN = 500
RECORDS = 500
_TEXT_COLUMNS = ("data", "raw")
"""Columns of the tables that hold what came in."""

_METADATA = sa.MetaData()
_PLACE = sa.Table(
    "dlp_place",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("every", LONG, nullable=False),
    sa.Column("due", LONG, nullable=False),
    sa.Column("cursor", sa.Text, nullable=False),
    sa.Column("open", LONG, nullable=False),
    sa.Column("finished", LONG, nullable=False),
    sa.Column("scanned", LONG, nullable=False),
    sqlite_strict=True,
)
_SO_FAR = sa.case((_PLACE.c.open == 1, _PLACE.c.scanned), else_=0)
"""Bytes of the round that is going on."""
_DONE = sa.Table(
    "dlp_done",
    _METADATA,
    sa.Column("place", sa.Text, primary_key=True),
    sa.Column("item", sa.Text, primary_key=True),
    sa.Column("mark", sa.Text, nullable=False),
    sqlite_strict=True,
)
_FOUND = sa.Table(
    "dlp_found",
    _METADATA,
    sa.Column("place", sa.Text, primary_key=True),
    sa.Column("item", sa.Text, primary_key=True),
    sa.Column("start", LONG, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sa.Index("dlp_found_time", "tenant", "time"),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "scheduled data-loss scans", create(_METADATA)),)


class State(StrEnum):
    """Where a place stands."""

    WAITING = "waiting"
    """Until it is due."""
    SCANNING = "scanning"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A place that is scanned on a schedule."""

    name: str
    path: str
    """Of a chosen folder or file; empty for the product's own."""
    every: int
    """From the end of a round to the beginning of the next, microseconds."""
    due: int
    """Microseconds UTC."""
    state: State
    finished: int
    """When the last round ended, microseconds UTC; 0: none has."""
    scanned: int
    """Bytes since the beginning of the last round."""
    found: int
    """What was ever found there."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What stands where it must not. Holds nothing of it."""

    place: str
    item: str
    """File, record of the log (`event/0@17`) or stored event (`product/evt_1`)."""
    start: int
    """First byte in it."""
    kind: str
    time: int
    """When it was found, microseconds UTC."""


class _Piece(NamedTuple):
    """A bounded piece of a place, scanned."""

    item: str
    tenant: str
    found: Sequence[Finding]
    size: int
    cursor: Any
    """Where the round goes on after it."""
    done: tuple[str, str] | None = None
    """Item and mark of what is scanned to its end."""


class DataLoss:
    """The scheduled scans of an installation. Two processes that scan at once find the same, and keep it once.

    Args:
        database: state.db, or its PostgreSQL schema.
        log: The product's own; signals go to it too.
        store: Folder of the event tables.
        clock: Says what is due.
        tenant: Who hears of what is in no tenant's data.
        every: Default time from round to round, microseconds.
    """

    def __init__(
        self, database: Database, log: Log, store: Path, clock: Clock, *, tenant: str, every: int = DAY
    ) -> None:
        self._database = database
        self._log = log
        self._store = store
        self._clock = clock
        self._tenant = tenant
        database.migrate("dlp", MIGRATIONS)
        for name in (LOG, TABLES):
            self._add(name, "", every)

    def watch(self, name: str, path: str = "", *, every: int = DAY, now: bool = False) -> Place:
        """Adds a folder or file, or changes how often a place is scanned.

        Args:
            name: What it is called; `log` and `tables` are the product's own.
            path: Of the folder or file; empty for those two.
            every: From round to round, microseconds.
            now: Begin a round at once.

        Raises:
            DefinitionError: `dlp.place.invalid`, `dlp.place.many`.
        """
        own = name in {LOG, TABLES}
        if every < MIN_EVERY or not name.isidentifier() or len(name) > 64 or own is bool(path):  # noqa: PLR2004
            hint = "a plain name, a path unless it is `log` or `tables`, and at least a minute from round to round"
            raise DefinitionError("dlp.place.invalid", "this is no place to scan", hint=hint)
        if path and not Path(path).is_absolute():
            raise DefinitionError("dlp.place.invalid", "the path of a place is absolute", at=path[:200])
        if len(self.places()) >= MAX_PLACES:
            raise DefinitionError("dlp.place.many", f"at most {MAX_PLACES} places")
        self._add(name, path, every)
        values = {"path": path, "every": every} | ({"due": self._clock.now()} if now else {})
        with self._database.begin() as connection:
            connection.execute(_PLACE.update().where(_PLACE.c.name == name).values(**values))
        return self._place(name)

    def forget(self, name: str) -> None:
        """Scans a folder no more; what was found there stays.

        Raises:
            NotFoundError: `dlp.place.unknown`.
            DefinitionError: `dlp.place.own`.
        """
        self._place(name)
        if name in {LOG, TABLES}:
            raise DefinitionError("dlp.place.own", "the product's own places are always scanned", hint="set `--every`")
        with self._database.begin() as connection:
            connection.execute(_PLACE.delete().where(_PLACE.c.name == name))
            connection.execute(_DONE.delete().where(_DONE.c.place == name))

    def places(self, tenant: str = "") -> list[Place]:
        """All places, by name. `tenant`: count only what was found in its data."""
        query = sa.select(_FOUND.c.place, sa.func.count()).group_by(_FOUND.c.place)
        with self._database.read() as connection:
            counted = connection.execute(query.where(_FOUND.c.tenant == tenant) if tenant else query)
            counts: dict[str, int] = {place: count for place, count in counted}  # noqa: C416 - rows are no pairs
            rows = connection.execute(_PLACE.select().order_by(_PLACE.c.name)).all()
        return [_to_place(row, counts.get(row.name, 0)) for row in rows]

    def found(self, tenant: str, place: str = "", limit: int = 100) -> list[Found]:
        """What was found, newest first.

        Args:
            tenant: In whose data; the installation's own tenant also has what is in nobody's.
            place: Only there.
            limit: Most findings.
        """
        query = _FOUND.select().where(_FOUND.c.tenant == tenant)
        if place:
            query = query.where(_FOUND.c.place == place)
        query = query.order_by(_FOUND.c.time.desc(), _FOUND.c.place, _FOUND.c.item, _FOUND.c.start)
        with self._database.read() as connection:
            rows = connection.execute(query.limit(min(limit, MAX_SHOWN))).all()
        return [Found(**{name: getattr(row, name) for name in Found.__struct_fields__}) for row in rows]

    def turn(self) -> int:
        """Scans what is due, at most about `BUDGET` bytes; gives how many findings were new."""
        fresh, left = 0, BUDGET
        for place in self.places():
            if left <= 0 or place.due > self._clock.now():
                continue
            scanned, more = self._scan(place, left)
            fresh, left = fresh + more, left - scanned
        return fresh

    def run(self, tell: Callable[[int], None] = lambda _scanned: None) -> int:
        """Whole rounds of everything that is due; gives how many findings were new."""
        fresh, begun, scanned = 0, self._clock.now(), 0
        for name in [place.name for place in self.places() if place.due <= begun]:
            while (place := self._place(name)).due <= begun:
                size, more = self._scan(place, BUDGET)
                fresh, scanned = fresh + more, scanned + size
                tell(scanned)
        return fresh

    # One place

    def _scan(self, place: Place, left: int) -> tuple[int, int]:
        """Some pieces of a round; gives the bytes scanned and the findings that were new."""
        with self._database.read() as connection:
            text = connection.execute(sa.select(_PLACE.c.cursor).where(_PLACE.c.name == place.name)).scalar_one()
        held = msgspec.json.decode(text) if text else None
        scanned = fresh = 0
        for piece in self._pieces(place, held):
            fresh += self._keep(place, piece)
            scanned += piece.size
            if scanned >= left:
                return scanned, fresh
        self._end(place)
        return scanned, fresh

    def _pieces(self, place: Place, held: Any) -> Iterator[_Piece]:
        if place.name == LOG:
            return self._log_pieces(held or {})
        if place.name == TABLES:
            return self._table_pieces(held or ["", 0])
        return self._file_pieces(place, held or ["", 0])

    def _log_pieces(self, held: dict[str, int]) -> Iterator[_Piece]:
        places = dict(held)
        for topic in TOPICS:
            for partition in range(self._log.partitions(topic)):
                key = f"{topic}/{partition}"
                while records := self._log.read(topic, partition, places.get(key, 0), RECORDS):
                    for record in records:
                        places[key] = record.offset + 1
                        found = scan(record.value) if topic in OWN else _cards(record.value)
                        if found:
                            yield _Piece(f"{key}@{record.offset}", self._tenant, found, 0, dict(places))
                    yield _Piece("", self._tenant, (), sum(len(one.value) for one in records), dict(places))

    def _table_pieces(self, held: Sequence[Any]) -> Iterator[_Piece]:
        """Stored events, by data file; a file never changes, and its rows are known by their ids."""
        name, row = held
        for path in sorted(self._store.glob("*/tenant=*/**/*.parquet")):
            item = str(path.relative_to(self._store))
            if item < name or self._mark(TABLES, item):
                continue
            source = path.relative_to(self._store).parts[0]
            tenant = next(part.partition("=")[2] for part in path.parts if part.startswith("tenant="))
            first = row if item == name else 0
            at = 0
            for batch in _batches(path):
                at += len(batch)
                if at <= first:
                    continue
                for event_id, value in batch:
                    found = _cards(value)
                    if found:
                        yield _Piece(scrub(f"{source}/{event_id}"), tenant, found, 0, [item, at - len(batch)])
                yield _Piece("", tenant, (), sum(len(value) for _, value in batch), [item, at])
            yield _Piece("", tenant, (), 0, [item, at], (item, "1"))

    def _file_pieces(self, place: Place, held: Sequence[Any]) -> Iterator[_Piece]:
        name, at = held
        # A name may hold what must be kept nowhere.
        for item, path in sorted((scrub(str(path)), path) for path in files_in(Path(place.path))):
            if item < name:
                continue
            try:
                told = path.stat()
                mark = f"{told.st_ino} {told.st_size} {told.st_mtime_ns}"
                before = self._mark(place.name, item)
                if before == mark:
                    continue
                start = at if item == name else _grown(before, told)
                while start < told.st_size:
                    found, after = scan_block(path, start, min(BLOCK, told.st_size - start))
                    if after <= start:
                        break  # it shrank meanwhile; another round looks again
                    size, start = after - start, after
                    yield _Piece(item, self._tenant, found, size, [item, start])
                yield _Piece(item, self._tenant, (), 0, [item, start], (item, mark))
            except OSError:
                continue  # gone, or not ours to read: another round looks again

    # What is kept

    def _keep(self, place: Place, piece: _Piece) -> int:
        """Tells of what is new, then keeps it together with where the round stands."""
        known = self._known(place.name, piece.item) if piece.found else set()
        fresh = [one for one in piece.found if (one.start, one.kind) not in known]
        for kind in dict.fromkeys(one.kind for one in fresh):
            # Told before it is kept: a signal that comes twice, after a kill between the two, is the same alert.
            self._tell(place, piece, kind, [one for one in fresh if one.kind == kind])
        now = self._clock.now()
        with self._database.begin() as connection:
            for one in fresh:
                values = {"place": place.name, "item": piece.item, "start": one.start, "kind": one.kind}
                insert_new(connection, _FOUND, **values, tenant=piece.tenant, time=now)
            if piece.done:
                _note(connection, place.name, *piece.done)
            cursor = msgspec.json.encode(piece.cursor).decode()
            change = _PLACE.update().where(_PLACE.c.name == place.name)
            connection.execute(change.values(cursor=cursor, open=1, scanned=_SO_FAR + piece.size))
        return len(fresh)

    def _end(self, place: Place) -> None:
        """A round is over. The log goes on where it is; of files the marks say what is left."""
        now = self._clock.now()
        cursor = _PLACE.c.cursor if place.name == LOG else ""
        with self._database.begin() as connection:
            change = _PLACE.update().where(_PLACE.c.name == place.name)
            connection.execute(
                change.values(cursor=cursor, open=0, scanned=_SO_FAR, finished=now, due=now + place.every)
            )

    def _tell(self, place: Place, piece: _Piece, kind: str, found: Sequence[Finding]) -> None:
        now, start = self._clock.now(), found[0].start
        event_id = f"{piece.item}@{start}"
        signal = Signal(
            id=hashlib.sha256(msgspec.json.encode([piece.tenant, place.name, event_id, kind])).hexdigest()[:32],
            tenant=piece.tenant,
            rule_id=RULE + kind,
            rule_version="1",
            title=_title(kind, place.name),
            level=Level.INFORMATIONAL if kind == "pan.test" else Level.HIGH,
            event_id=event_id,
            event_time=now,
            source="dataloss",
            entities=(Entity("place", place.name),),
            why={"kind": kind, "place": place.name, "item": piece.item, "start": start, "count": len(found)},
        )
        self._log.append("signal", piece.tenant, [msgspec.json.encode(signal)])

    def _known(self, place: str, item: str) -> set[tuple[int, str]]:
        query = sa.select(_FOUND.c.start, _FOUND.c.kind).where(_FOUND.c.place == place, _FOUND.c.item == item)
        with self._database.read() as connection:
            return {(start, kind) for start, kind in connection.execute(query)}

    def _mark(self, place: str, item: str) -> str:
        query = sa.select(_DONE.c.mark).where(_DONE.c.place == place, _DONE.c.item == item)
        with self._database.read() as connection:
            return connection.execute(query).scalar() or ""

    def _add(self, name: str, path: str, every: int) -> None:
        now = self._clock.now()
        values = {"name": name, "path": path, "every": every, "due": now + every, "cursor": ""}
        with self._database.begin() as connection:
            insert_new(connection, _PLACE, **values, open=0, finished=0, scanned=0)

    def _place(self, name: str) -> Place:
        found = next((place for place in self.places() if place.name == name), None)
        if found is None:
            raise NotFoundError("dlp.place.unknown", "no such place is scanned", at=name[:64])
        return found


def _cards(data: bytes) -> list[Finding]:
    return [one for one in scan(data) if one.kind.startswith("pan")]


def _note(connection: Connection, place: str, item: str, mark: str) -> None:
    connection.execute(_DONE.delete().where(_DONE.c.place == place, _DONE.c.item == item))
    connection.execute(_DONE.insert().values(place=place, item=item, mark=mark))


def _grown(before: str, told: os.stat_result) -> int:
    """Where to go on in a file that was scanned before and has grown since; one that is another begins anew."""
    if not before:
        return 0
    inode, size, _ = before.split()
    grown = int(inode) == told.st_ino and int(size) <= told.st_size
    # A number may have been cut by what was the end.
    return max(0, int(size) - BLOCK // 16) if grown and int(size) < told.st_size else 0


def _batches(path: Path) -> Iterator[list[tuple[str, bytes]]]:
    """Ids and texts of the rows of a data file, a few at a time."""
    import pyarrow.parquet as pq  # only where a table is read: the command line starts without it

    file = pq.ParquetFile(path)
    named = [name for name in _TEXT_COLUMNS if name in file.schema_arrow.names]
    if not named:
        return
    for batch in file.iter_batches(RECORDS, columns=["id", *named]):
        texts = (value.encode() if isinstance(value, str) else value or b"" for value in batch[named[0]].to_pylist())
        yield list(zip(map(str, batch["id"].to_pylist()), texts, strict=True))


def _title(kind: str, place: str) -> str:
    what = {"pan": "A card number", "pan.test": "A test card number"}.get(kind, "A secret")
    where = {LOG: "the product's own log", TABLES: "stored events"}.get(place, f"`{place}`")
    return f"{what} stands in {where}"


def _to_place(row: Any, found: int) -> Place:
    return Place(
        name=row.name,
        path=row.path,
        every=row.every,
        due=row.due,
        state=State.SCANNING if row.open else State.WAITING,
        finished=row.finished,
        scanned=row.scanned,
        found=found,
    )
