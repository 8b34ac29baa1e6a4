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

from vedette.core.clock import Clock
from vedette.core.db import Connection, Database, insert_new, sa
from vedette.core.errors import DataError, DefinitionError, NotFoundError
from vedette.sense.intel.asked import Asked, conditions
from vedette.sense.intel.collections import USUAL, Collection
from vedette.sense.intel.indicator import Indicator, collection_id
from vedette.sense.intel.library_tables import (
    COLLECTION,
    CURSOR,
    HUNT,
    MIGRATIONS,
    NEVER,
    OBJECT,
    PLACE,
    REFUSED,
    REMOVED,
    SIGHTING,
    Kept,
    to_kept,
)
from vedette.sense.intel.seen import Sighted, sight
from vedette.sense.intel.stix import Object, Refused
from vedette.sense.intel.warninglists import Warninglists
from vedette.sense.intel.writing import BY_HAND, Place, Put, checked, end, write

CHUNK = 2_000
"""Objects looked up and written at a time."""
MAX_PAGE = 1_000
MAX_HUNTS = 1_000
"""Hunts of which is kept what became of them, the newest."""
MAX_REFUSED = 10_000
"""Refused entries kept of a tenant, the newest."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_Progress = Callable[[int], None]


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
            place = Place(connection, tenant, self._clock.now(), refused=len(refused))
            iterator, done = iter(objects), 0
            while chunk := list(islice(iterator, CHUNK)):
                write(connection, collection, [checked(one, lists) for one in chunk], place)
                done += len(chunk)
                progress(done)
            self._refuse(connection, tenant, collection, refused)
            place.keep()
            if told:
                self._note(connection, tenant, collection, told)
        return place.put()

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
            changed = [(one.collection, checked(one.object, lists, again=True)) for one in page]
            fresh = [
                (name, now)
                for (name, now), one in zip(changed, page, strict=True)
                if now.indicator != one.object.indicator
            ]
            for name in sorted({name for name, _ in fresh}):
                with self._database.begin() as connection:
                    place = Place(connection, tenant, self._clock.now())
                    write(connection, name, [now for of, now in fresh if of == name], place, ours=True)
                    place.keep()
                one = place.put()
                total = msgspec.structs.replace(
                    total, changed=total.changed + one.changed, held=total.held + one.held, last=one.last
                )
        return total

    def remove(self, tenant: str, collection: str, object_id: str) -> int:
        """Ends an object in a collection, which matches no more; 0 when it was never there.

        What was known of it stays known of the time before.
        """
        here = (OBJECT.c.tenant == tenant) & (OBJECT.c.collection == collection) & (OBJECT.c.id == object_id)
        with self._database.begin() as connection:
            ended = end(connection, tenant, self._clock.now(), here)
            before = sa.select(sa.func.count()).where(here, OBJECT.c.type == REMOVED)
            return ended or int(connection.execute(before).scalar_one())

    def hold(self, tenant: str, object_id: str, reason: str) -> Kept:
        """Holds an indicator back by hand, or with no reason lets one go that was held by hand; a further version.

        It stays held when its author changes it. One that is let go is asked of the warninglists.

        Raises:
            NotFoundError: `intel.object.unknown`.
            DataError: `intel.hold.other`: it is not held by hand, and cannot be let go so.
        """
        kept = self.get(tenant, object_id)
        own = indicator_of(kept)
        if not reason and not own.held.startswith(BY_HAND):
            raise DataError("intel.hold.other", "this indicator is not held back by hand", hint=own.held)
        told = BY_HAND + reason if reason else ""
        changed = msgspec.structs.replace(kept.object, indicator=msgspec.structs.replace(own, held=told))
        with self._database.begin() as connection:
            place = Place(connection, tenant, self._clock.now())
            write(connection, kept.collection, [checked(changed, self._warninglists())], place, ours=True)
            place.keep()
        return self.get(tenant, object_id)

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
        mine = (OBJECT.c.tenant == tenant) & (OBJECT.c.id == object_id) & (OBJECT.c.type != REMOVED)
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
            .where(*conditions(tenant, asked))
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
                .where(OBJECT.c.type.in_(("indicator", REMOVED)))
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

    def keep_hunt(self, tenant: str, hunt: str, told: Mapping[str, Any]) -> None:
        """Keeps what became of a hunt in the past, in place of what its last run told."""
        here = (HUNT.c.tenant == tenant) & (HUNT.c.id == hunt)
        row = {"time": self._clock.now(), "body": msgspec.json.encode(told).decode()}
        with self._database.begin() as connection:
            connection.execute(HUNT.delete().where(here))
            connection.execute(HUNT.insert().values(tenant=tenant, id=hunt, **row))
            old = sa.select(HUNT.c.id).where(HUNT.c.tenant == tenant).order_by(HUNT.c.time.desc(), HUNT.c.id)
            gone = list(connection.execute(old.offset(MAX_HUNTS).limit(MAX_PAGE)).scalars())
            connection.execute(HUNT.delete().where(HUNT.c.tenant == tenant, HUNT.c.id.in_(gone)))

    def hunts(self, tenant: str, *, limit: int = 100, before: int = 0) -> list[dict[str, Any]]:
        """What became of hunts in the past, the newest run first: `time`, and what was told.

        Args:
            tenant: Whose.
            limit: Most of them.
            before: Only runs before this time, microseconds UTC; 0: all.
        """
        query = HUNT.select().where(HUNT.c.tenant == tenant).order_by(HUNT.c.time.desc(), HUNT.c.id)
        query = query.where(HUNT.c.time < before) if before else query
        with self._database.read() as connection:
            rows = connection.execute(query.limit(min(limit, MAX_PAGE + 1))).all()
        return [{"time": row.time, **msgspec.json.decode(row.body)} for row in rows]

    def count_each(self, tenant: str) -> dict[str, tuple[int, int]]:
        """Collection -> its current indicators, and those of them that are held back."""
        mine = (OBJECT.c.tenant == tenant) & (OBJECT.c.superseded == NEVER) & (OBJECT.c.type == "indicator")
        held = sa.func.sum(sa.case((OBJECT.c.held != "", 1), else_=0))
        query = sa.select(OBJECT.c.collection, sa.func.count(), held).where(mine).group_by(OBJECT.c.collection)
        with self._database.read() as connection:
            return {name: (int(every), int(some)) for name, every, some in connection.execute(query).all()}

    def refused(self, tenant: str, limit: int = 100) -> list[dict[str, Any]]:
        """What could not be taken, newest first: collection, time, at, code, reason."""
        query = REFUSED.select().where(REFUSED.c.tenant == tenant).order_by(REFUSED.c.number.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.limit(min(limit, MAX_PAGE))).all()
        return [{"collection": row.collection, "time": row.time, **msgspec.json.decode(row.body)} for row in rows]

    # Sightings

    def sight(self, tenant: str, seen: Sighted) -> int:
        """Notes that indicators were seen, once each; gives how many were new.

        A sighting renews an indicator's confidence, at most once a day: that is a further version of it.
        """
        with self._database.begin() as connection:
            return sight(connection, tenant, self._clock.now(), seen)

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
        read: Callable[[int], tuple[int, Mapping[str, Sighted]]],
    ) -> int:
        """Takes what a reader of the log brings, and notes its place in the same transaction; gives the new place.

        Args:
            name: Of the reader.
            partition: Of the log.
            read: Place -> next place, and tenant -> sightings.
        """
        name = self._database.placed(name)
        here = (CURSOR.c.name == name) & (CURSOR.c.partition == partition)
        with self._database.begin() as connection:
            insert_new(connection, CURSOR, name=name, partition=partition, next_offset=0)
            place = connection.execute(sa.select(CURSOR.c.next_offset).where(here).with_for_update()).scalar_one()
            following, seen = read(place)
            for tenant, some in seen.items():
                sight(connection, tenant, self._clock.now(), some)
            if following != place:
                connection.execute(CURSOR.update().where(here).values(next_offset=following))
        return following

    def place(self, name: str, partition: int) -> int:
        """Where a reader of the log is."""
        here = (CURSOR.c.name == self._database.placed(name)) & (CURSOR.c.partition == partition)
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


def indicator_of(kept: Kept) -> Indicator:
    """The indicator of a version of one.

    Raises:
        NotFoundError: `intel.object.unknown`: it is another kind of object.
    """
    if kept.object.indicator is None:
        raise NotFoundError("intel.object.unknown", "no such indicator", at=kept.object.id[:100])
    return kept.object.indicator
