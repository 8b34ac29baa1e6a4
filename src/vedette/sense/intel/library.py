"""The library: every version of every object that was learned, when, and from whom.

Nothing is changed in place: a change is a further version, and the one before it notes when it was superseded. So what
was known at a time is a question with an exact answer. Every read and write names a tenant and sees nothing of another.
Times of arrival rise strictly, so a reader who remembers the last one misses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from vedette.core.clock import DAY, Clock
from vedette.core.db import Connection, Database, insert_new, sa
from vedette.core.errors import DataError, DefinitionError, NotFoundError
from vedette.sense.intel.indicator import Indicator, Tlp, collection_id, kind_of
from vedette.sense.intel.library_tables import (
    COLLECTION,
    CURSOR,
    FURTHER,
    MIGRATIONS,
    NEVER,
    OBJECT,
    PLACE,
    REFUSED,
    SIGHTING,
    Kept,
    digest_of,
    further,
    to_kept,
    to_row,
)
from vedette.sense.intel.stix import Object, Refused
from vedette.sense.intel.values import Kind, guess, host_of, networks, parents, url_keys
from vedette.sense.intel.warninglists import Warninglists

CHUNK = 2_000
"""Objects looked up and written at a time."""
MAX_PAGE = 1_000
MAX_REFUSED = 10_000
"""Refused entries kept of a tenant, the newest."""
RENEWED = DAY
"""A sighting renews an indicator's confidence when the last renewal is so long ago."""
USUAL = "shared"
"""The collection that every tenant has."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_Progress = Callable[[int], None]


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """Objects of one origin."""

    id: str
    name: str
    title: str = ""
    tlp: Tlp = Tlp.AMBER
    """Of what comes without a marking."""
    confidence: int = 50
    """Of what comes without one, 0..100."""
    url: str = ""
    """Of the collection of another server that it follows; empty for one that follows none."""
    secret: str = ""
    """Name of the secret to log in there with."""
    every: int = 0
    """How often it looks there, seconds; 0: only when asked."""
    added_after: str = ""
    """How far it came there."""
    next: str = ""
    """The page to go on with, where a look was not finished."""
    polled: int = 0
    """When it last looked, microseconds UTC."""
    problem: str = ""
    """Why its last look failed."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which indicators. Empty means all."""

    value: str = ""
    """A value that they would match: an address finds its networks, a name the names above it."""
    kind: str = ""
    collection: str = ""
    label: str = ""
    as_of: int = 0
    """What was known then, microseconds UTC; 0: now."""
    valid_at: int = 0
    """Only what would match an event of this time, microseconds UTC; 0: whatever is known."""
    held: bool | None = None
    """True: only what is held back; False: only what is not."""
    within: Tlp = Tlp.RED
    """What may go where this may go."""


class Put(msgspec.Struct, frozen=True):
    """What became of objects: each is one of these."""

    added: int = 0
    changed: int = 0
    same: int = 0
    held: int = 0
    """Of the added and changed ones those that match nothing."""
    refused: int = 0
    first: int = 0
    """`seq` of the first version that was written; 0: none was."""
    last: int = 0


class Library:
    """Objects of all tenants in one database.

    Args:
        database: intel.db, or its PostgreSQL schema.
        clock: Times of arrival.
        warninglists: Hold back what stands on them; asked at every import.
    """

    def __init__(self, database: Database, clock: Clock, warninglists: Callable[[], Warninglists]) -> None:
        self._database = database
        self._clock = clock
        self._warninglists = warninglists
        database.migrate("intel", MIGRATIONS)

    # Collections

    def collection(self, tenant: str, name: str = USUAL, **told: Any) -> Collection:
        """A collection by name, made when there is none; what is told changes it.

        Raises:
            DefinitionError: `intel.collection.name`.
        """
        if not _NAME.fullmatch(name):
            raise DefinitionError("intel.collection.name", f"no name of a collection: `{name[:64]}`")
        here = (COLLECTION.c.tenant == tenant) & (COLLECTION.c.name == name)
        with self._database.begin() as connection:
            body = connection.execute(sa.select(COLLECTION.c.body).where(here)).scalar()
            found = (
                msgspec.json.decode(body, type=Collection)
                if body
                else Collection(id=collection_id(tenant, name), name=name, title=name)
            )
            changed = msgspec.structs.replace(found, **told)
            if changed != found or not body:
                connection.execute(COLLECTION.delete().where(here))
                row = {"tenant": tenant, "name": name, "id": found.id}
                connection.execute(COLLECTION.insert().values(**row, body=msgspec.json.encode(changed).decode()))
        return changed

    def collections(self, tenant: str) -> list[Collection]:
        """A tenant's collections by name; `shared` is always there."""
        query = sa.select(COLLECTION.c.body).where(COLLECTION.c.tenant == tenant).order_by(COLLECTION.c.name)
        with self._database.read() as connection:
            found = [msgspec.json.decode(each, type=Collection) for each in connection.execute(query).scalars()]
        if any(one.name == USUAL for one in found):
            return found
        return [Collection(id=collection_id(tenant, USUAL), name=USUAL, title=USUAL), *found]

    def find_collection(self, tenant: str, named: str) -> Collection:
        """A collection by its id or name.

        Raises:
            NotFoundError: `intel.collection.unknown`, also for another tenant's.
        """
        for one in self.collections(tenant):
            if named in {one.id, one.name}:
                return one
        raise NotFoundError("intel.collection.unknown", "no such collection", at=named[:64])

    def followed(self) -> list[tuple[str, Collection]]:
        """Every collection that follows another server's, with its tenant."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(COLLECTION.c.tenant, COLLECTION.c.body)).all()
        both = [(row.tenant, msgspec.json.decode(row.body, type=Collection)) for row in rows]
        return [(tenant, one) for tenant, one in both if one.url]

    # Writing

    def put(
        self,
        tenant: str,
        collection: str,
        objects: Iterable[Object],
        refused: Sequence[Refused] = (),
        *,
        told: Mapping[str, Any] | None = None,
        progress: _Progress = lambda _done: None,
    ) -> Put:
        """Adds objects: all or none. One that is there as it is changes nothing.

        Args:
            tenant: Whose.
            collection: Name of the collection.
            objects: Which.
            refused: What of their source could not be taken; kept with its reason.
            told: What the collection is to note in the same transaction, such as how far a poll came.
            progress: Told how many were taken.
        """
        self.collection(tenant, collection)
        lists = self._warninglists()
        with self._database.begin() as connection:
            place = _Place(connection, tenant, self._clock.now(), refused=len(refused))
            iterator, done = iter(objects), 0
            while chunk := list(islice(iterator, CHUNK)):
                checked = [_checked(one, lists) for one in chunk]
                self._write(connection, collection, checked, place)
                done += len(chunk)
                progress(done)
            self._refuse(connection, tenant, collection, refused)
            place.keep()
            if told:
                self._note(connection, tenant, collection, told)
        return place.put()

    def _write(
        self, connection: Connection, collection: str, objects: Sequence[Object], place: _Place, *, ours: bool = False
    ) -> None:
        """Adds what is new of some objects.

        Args:
            connection: Of the transaction.
            collection: Its name.
            objects: Which.
            place: Where the tenant is.
            ours: What changed is what we know of them, not what their author said.
        """
        tenant = place.tenant
        held = _current(connection, tenant, [one.id for one in objects])
        rows, ended, more = list[dict[str, Any]](), dict[int, int](), list[dict[str, Any]]()
        for one in objects:
            digest = digest_of(one)
            before = held.get(one.id)
            own = one.indicator is not None and not one.body
            if before is not None and (before[1] == digest or (before[2] == one.version and not own and not ours)):
                place.same += 1
                continue
            seq, added = place.next()
            row = {**to_row(one, tenant, collection, digest), "seq": seq, "added": added}
            older = before is not None and one.version < before[2]
            row |= {"superseded": added if older else NEVER, "replaces": before[0] if before and not older else 0}
            if before and not older:
                ended[before[0]] = added
            if not older:
                held[one.id] = (seq, digest, one.version)
            rows.append(row)
            more += [{"tenant": tenant, "value": value, "seq": seq} for value in further(one)]
            place.take(one, fresh=before is None)
        _supersede(rows, ended)
        if rows:
            connection.execute(OBJECT.insert(), rows)
        if more:
            connection.execute(FURTHER.insert(), more)
        if ended:
            change = (
                OBJECT.update()
                .where(OBJECT.c.tenant == tenant, OBJECT.c.seq == sa.bindparam("of"))
                .values(superseded=sa.bindparam("at"))
            )
            connection.execute(change, [{"of": seq, "at": at} for seq, at in ended.items()])
        self._sight_told(connection, tenant, objects)

    @staticmethod
    def _sight_told(connection: Connection, tenant: str, objects: Sequence[Object]) -> None:
        """Sightings that others tell of."""
        for one in objects:
            if one.about:
                row = {"indicator": one.about, "time": one.last, "body": '{"told":true}'}
                insert_new(connection, SIGHTING, tenant=tenant, id=one.id, **row)

    def _refuse(self, connection: Connection, tenant: str, collection: str, refused: Sequence[Refused]) -> None:
        if not refused:
            return
        mine = REFUSED.c.tenant == tenant
        newest = connection.execute(sa.select(sa.func.max(REFUSED.c.number)).where(mine)).scalar() or 0
        row = {"tenant": tenant, "collection": collection, "time": self._clock.now()}
        kept = refused[-MAX_REFUSED:]
        rows = [
            {**row, "number": newest + place, "body": msgspec.json.encode(one).decode()}
            for place, one in enumerate(kept, 1)
        ]
        connection.execute(REFUSED.insert(), rows)
        connection.execute(REFUSED.delete().where(mine, REFUSED.c.number <= newest + len(kept) - MAX_REFUSED))

    @staticmethod
    def _note(connection: Connection, tenant: str, name: str, told: Mapping[str, Any]) -> None:
        here = (COLLECTION.c.tenant == tenant) & (COLLECTION.c.name == name)
        body = connection.execute(sa.select(COLLECTION.c.body).where(here)).scalar_one()
        changed = msgspec.structs.replace(msgspec.json.decode(body, type=Collection), **told)
        connection.execute(COLLECTION.update().where(here).values(body=msgspec.json.encode(changed).decode()))

    def recheck(self, tenant: str) -> Put:
        """Asks the warninglists about every current indicator again; gives what became of those judged otherwise."""
        lists = self._warninglists()
        total = Put()
        after = 0
        while page := self.indicators(tenant, Asked(), after=after, limit=MAX_PAGE):
            after = page[-1].seq
            changed = [(one.collection, _checked(one.object, lists, again=True)) for one in page]
            fresh = [
                (name, now)
                for (name, now), one in zip(changed, page, strict=True)
                if now.indicator != one.object.indicator
            ]
            for name in sorted({name for name, _ in fresh}):
                with self._database.begin() as connection:
                    place = _Place(connection, tenant, self._clock.now())
                    self._write(connection, name, [now for of, now in fresh if of == name], place, ours=True)
                    place.keep()
                one = place.put()
                total = msgspec.structs.replace(
                    total, changed=total.changed + one.changed, held=total.held + one.held, last=one.last
                )
        return total

    def remove(self, tenant: str, collection: str, object_id: str) -> int:
        """Ends every current version of an object in a collection, which matches no more; 0 when it was never there."""
        here = (OBJECT.c.tenant == tenant) & (OBJECT.c.collection == collection) & (OBJECT.c.id == object_id)
        with self._database.begin() as connection:
            rows = connection.execute(OBJECT.select().where(here, OBJECT.c.superseded == NEVER)).mappings().all()
            place = _Place(connection, tenant, self._clock.now())
            for row in rows:
                seq, added = place.next()
                # What follows the changes learns of the end by a version that is superseded as it comes.
                gone = {**row, "seq": seq, "added": added, "superseded": added, "replaces": row["seq"]}
                gone |= {"type": "removed", "value": "", "kind": "", "body": "", "formula": "", "digest": ""}
                connection.execute(OBJECT.insert().values(**gone))
            ended = OBJECT.update().where(here, OBJECT.c.superseded == NEVER)
            if rows:
                connection.execute(ended.values(superseded=place.added))
                connection.execute(OBJECT.delete().where(here, OBJECT.c.superseded < place.added))
            place.keep()
            before = sa.select(sa.func.count()).where(here, OBJECT.c.type == "removed")
            return len(rows) or int(connection.execute(before).scalar_one())

    # Reading

    def get(self, tenant: str, object_id: str, *, as_of: int = 0) -> Kept:
        """An object as it is known, or as it was known at a time.

        Raises:
            NotFoundError: `intel.object.unknown`.
        """
        found = self.versions(tenant, object_id)
        for one in reversed(found):
            if one.superseded == NEVER if not as_of else one.added <= as_of < one.superseded:
                return one
        raise NotFoundError("intel.object.unknown", "no such object", at=object_id[:100])

    def at(self, tenant: str, seq: int) -> Kept | None:
        """One version by its place; None when there is none."""
        here = (OBJECT.c.tenant == tenant) & (OBJECT.c.seq == seq)
        with self._database.glance() as connection:
            row = connection.execute(OBJECT.select().where(here)).first()
        return to_kept(row) if row else None

    def versions(self, tenant: str, object_id: str) -> list[Kept]:
        """Every version of an object, oldest first."""
        mine = (OBJECT.c.tenant == tenant) & (OBJECT.c.id == object_id) & (OBJECT.c.type != "removed")
        with self._database.read() as connection:
            return [to_kept(row) for row in connection.execute(OBJECT.select().where(mine).order_by(OBJECT.c.seq))]

    def indicators(self, tenant: str, asked: Asked, *, after: int = 0, limit: int = 100) -> list[Kept]:
        """Indicators in the order in which they came.

        Args:
            tenant: Whose.
            asked: Which.
            after: `seq` after which the page begins.
            limit: Most of them, at most `MAX_PAGE`.
        """
        query = (
            OBJECT.select()
            .where(OBJECT.c.tenant == tenant, OBJECT.c.type == "indicator", OBJECT.c.seq > after)
            .where(*_conditions(tenant, asked))
            .order_by(OBJECT.c.seq)
            .limit(max(1, min(limit, MAX_PAGE)))
        )
        with self._database.read() as connection:
            return [to_kept(row) for row in connection.execute(query)]

    def tenants(self) -> list[str]:
        """Every tenant that learned anything."""
        with self._database.glance() as connection:
            return list(connection.execute(sa.select(PLACE.c.tenant).order_by(PLACE.c.tenant)).scalars())

    def newest(self, tenant: str) -> int:
        """`seq` of the tenant's newest version; 0 for none."""
        with self._database.glance() as connection:
            return connection.execute(sa.select(PLACE.c.seq).where(PLACE.c.tenant == tenant)).scalar() or 0

    def changes(self, tenant: str, after: int) -> Iterator[Sequence[Any]]:
        """Rows of (seq, replaces, value, formula, valid_from, until) to look for, after a place; in pieces.

        From the beginning only what is current. A row that ends another without being looked for has no value.
        """
        columns = [OBJECT.c[name] for name in ("seq", "replaces", "value", "formula", "valid_from", "until", "held")]
        while True:
            query = (
                sa.select(*columns, OBJECT.c.superseded)
                .where(OBJECT.c.tenant == tenant, OBJECT.c.seq > after)
                .where(OBJECT.c.type.in_(("indicator", "removed")))
                .order_by(OBJECT.c.seq)
                .limit(50_000)
            )
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            if not rows:
                return
            after = rows[-1].seq
            yield rows

    def count(self, tenant: str) -> dict[str, int]:
        """Current indicators: all, and those that are held back; and objects of any type."""
        mine = (OBJECT.c.tenant == tenant) & (OBJECT.c.superseded == NEVER)
        of = [
            sa.func.count(),
            sa.func.sum(sa.case((OBJECT.c.type == "indicator", 1), else_=0)),
            sa.func.sum(sa.case((OBJECT.c.held != "", 1), else_=0)),
        ]
        with self._database.read() as connection:
            row = connection.execute(sa.select(*of).where(mine)).one()
        return {"objects": int(row[0]), "indicators": int(row[1] or 0), "held": int(row[2] or 0)}

    def refused(self, tenant: str, limit: int = 100) -> list[dict[str, Any]]:
        """What could not be taken, newest first: collection, time, at, code, reason."""
        query = REFUSED.select().where(REFUSED.c.tenant == tenant).order_by(REFUSED.c.number.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.limit(min(limit, MAX_PAGE))).all()
        return [{"collection": row.collection, "time": row.time, **msgspec.json.decode(row.body)} for row in rows]

    # Sightings

    def sight(self, tenant: str, seen: Sequence[tuple[str, str, int, Mapping[str, Any]]]) -> int:
        """Notes that indicators were seen: (id of the sighting, indicator, event time, what of it). Once each.

        A sighting renews an indicator's confidence, at most once a day: that is a further version of it.
        """
        with self._database.begin() as connection:
            return self._sight(connection, tenant, seen)

    def _sight(
        self, connection: Connection, tenant: str, seen: Sequence[tuple[str, str, int, Mapping[str, Any]]]
    ) -> int:
        fresh, newest = 0, dict[str, int]()
        for own, indicator, time, what in seen:
            row = {"indicator": indicator, "time": time, "body": msgspec.json.encode(what).decode()}
            if insert_new(connection, SIGHTING, tenant=tenant, id=own, **row):
                fresh += 1
                newest[indicator] = max(time, newest.get(indicator, 0))
        place = _Place(connection, tenant, self._clock.now())
        for indicator, time in newest.items():
            here = (OBJECT.c.tenant == tenant) & (OBJECT.c.id == indicator) & (OBJECT.c.superseded == NEVER)
            held = connection.execute(OBJECT.select().where(here)).first()
            if held is None or time < max(held.seen, held.valid_from) + RENEWED:
                continue
            kept = to_kept(held)
            assert kept.object.indicator is not None  # noqa: S101 - only indicators are seen
            renewed = msgspec.structs.replace(kept.object.indicator, seen=time)
            one = msgspec.structs.replace(kept.object, indicator=renewed)
            self._write(connection, kept.collection, [one], place, ours=True)
        place.keep()
        return fresh

    def sightings(self, tenant: str, indicator: str, *, limit: int = 100) -> list[dict[str, Any]]:
        """Sightings of an indicator, newest first: id, time, and what was noted."""
        mine = (SIGHTING.c.tenant == tenant) & (SIGHTING.c.indicator == indicator)
        query = SIGHTING.select().where(mine).order_by(SIGHTING.c.time.desc(), SIGHTING.c.id).limit(limit)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [{"id": row.id, "time": row.time, **msgspec.json.decode(row.body)} for row in rows]

    def follow(
        self,
        name: str,
        partition: int,
        read: Callable[[int], tuple[int, Mapping[str, Sequence[tuple[str, str, int, Mapping[str, Any]]]]]],
    ) -> int:
        """Takes what a reader of the log brings, and notes its place in the same transaction; gives the new place.

        Args:
            name: Of the reader.
            partition: Of the log.
            read: Place -> next place, and tenant -> sightings.
        """
        here = (CURSOR.c.name == name) & (CURSOR.c.partition == partition)
        with self._database.begin() as connection:
            insert_new(connection, CURSOR, name=name, partition=partition, next_offset=0)
            place = connection.execute(sa.select(CURSOR.c.next_offset).where(here).with_for_update()).scalar_one()
            following, seen = read(place)
            for tenant, some in seen.items():
                self._sight(connection, tenant, some)
            if following != place:
                connection.execute(CURSOR.update().where(here).values(next_offset=following))
        return following

    def place(self, name: str, partition: int) -> int:
        """Where a reader of the log is."""
        here = (CURSOR.c.name == name) & (CURSOR.c.partition == partition)
        with self._database.read() as connection:
            return connection.execute(sa.select(CURSOR.c.next_offset).where(here)).scalar() or 0

    @property
    def database(self) -> Database:
        """Where it lives, for what is kept beside it."""
        return self._database

    @property
    def clock(self) -> Clock:
        """Its clock."""
        return self._clock


class _Place:
    """The next places of a tenant, and what became of what was to have one; other writers wait until the commit."""

    def __init__(self, connection: Connection, tenant: str, now: int, *, refused: int = 0) -> None:
        self._connection = connection
        self._here = PLACE.c.tenant == tenant
        insert_new(connection, PLACE, tenant=tenant, seq=0, added=0)
        row = connection.execute(PLACE.select().where(self._here).with_for_update()).one()
        self.tenant, self._now = tenant, now
        self.start = self.seq = row.seq
        self.added = row.added
        self.fresh = self.changed = self.same = self.held = 0
        self.refused = refused

    def next(self) -> tuple[int, int]:
        """The next `seq`, and a time of arrival later than all before it."""
        self.seq += 1
        self.added = max(self.added + 1, self._now)
        return self.seq, self.added

    def keep(self) -> None:
        """Writes how far it came."""
        if self.seq != self.start:
            self._connection.execute(PLACE.update().where(self._here).values(seq=self.seq, added=self.added))

    def take(self, one: Object, *, fresh: bool) -> None:
        self.fresh += fresh
        self.changed += not fresh
        self.held += bool(one.indicator and one.indicator.held)

    def put(self) -> Put:
        first = self.start + 1 if self.seq > self.start else 0
        return Put(self.fresh, self.changed, self.same, self.held, self.refused, first, self.seq if first else 0)


def _supersede(rows: list[dict[str, Any]], ended: dict[int, int]) -> None:
    """Ends what was superseded in the very batch."""
    for row in rows:
        if (at := ended.pop(row["seq"], 0)) and row["superseded"] == NEVER:
            row["superseded"] = at


def _current(connection: Connection, tenant: str, ids: Sequence[str]) -> dict[str, tuple[int, str, int]]:
    """Id -> (seq, digest, version) of what is current."""
    found: dict[str, tuple[int, str, int]] = {}
    columns = (OBJECT.c.id, OBJECT.c.seq, OBJECT.c.digest, OBJECT.c.version)
    for start in range(0, len(ids), 500):
        mine = (OBJECT.c.tenant == tenant) & OBJECT.c.id.in_(ids[start : start + 500])
        for row in connection.execute(sa.select(*columns).where(mine, OBJECT.c.superseded == NEVER)):
            found[row.id] = (row.seq, row.digest, row.version)
    return found


def _checked(one: Object, lists: Warninglists, *, again: bool = False) -> Object:
    """The object, held back when one of its values stands on a warninglist."""
    own = one.indicator
    if own is None or not own.formula:
        return one
    listed = "warninglist" in own.held
    if own.held and not (again and listed):
        return one
    reason = lists.reason([(kind_of(value), value) for values in own.formula for value in values])
    return msgspec.structs.replace(one, indicator=msgspec.structs.replace(own, held=reason))


def _conditions(tenant: str, asked: Asked) -> Iterator[sa.ColumnElement[bool]]:
    column = OBJECT.c
    if asked.as_of:
        yield column.added <= asked.as_of
        yield column.superseded > asked.as_of
    else:
        yield column.superseded == NEVER
    if asked.value:
        wanted = candidates(asked.value)
        others = sa.select(FURTHER.c.seq).where(FURTHER.c.tenant == tenant, FURTHER.c.value.in_(wanted))
        yield column.value.in_(wanted) | column.seq.in_(others)
    for name in ("kind", "collection"):
        if told := getattr(asked, name):
            yield column[name] == told
    if asked.label:
        yield (sa.literal("\n") + column.labels + sa.literal("\n")).contains(f"\n{asked.label}\n", autoescape=True)
    if asked.valid_at:
        yield column.valid_from <= asked.valid_at
        yield column.until > asked.valid_at
        yield column.held == ""
    if asked.held is not None:
        yield (column.held != "") if asked.held else (column.held == "")
    yield column.tlp.in_([str(tlp) for tlp in Tlp if tlp.within(asked.within)])


def candidates(text: str) -> list[str]:
    """The values of indicators that would match an observed value.

    Raises:
        DataError: `intel.value.invalid`.
    """
    found = guess(text)
    if found is None:
        raise DataError("intel.value.invalid", f"no value that can be looked for: `{text[:80]}`")
    kind, value = found
    if kind in {Kind.IPV4, Kind.IPV6} and "/" not in value:
        return networks(value)
    if kind is Kind.DOMAIN:
        return parents(value)
    if kind is Kind.URL:
        host = host_of(value)
        about = guess(host) if host else None
        return [*url_keys(value), *(candidates(host) if about and about.kind is not Kind.URL else [])]
    return [value]


def indicator_of(kept: Kept) -> Indicator:
    """The indicator of a version of one."""
    assert kept.object.indicator is not None  # noqa: S101 - asked of indicators only
    return kept.object.indicator
