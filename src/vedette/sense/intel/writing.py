"""Versions as they are written: what is new, what it supersedes, its place and time, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from vedette.core.db import Connection, insert_new, sa
from vedette.sense.intel.indicator import kind_of
from vedette.sense.intel.library_tables import (
    FURTHER,
    NEVER,
    OBJECT,
    PLACE,
    REMOVED,
    SIGHTING,
    digest_of,
    further,
    to_row,
)
from vedette.sense.intel.stix import Object
from vedette.sense.intel.warninglists import Warninglists

BY_HAND = "by hand: "
"""How `held` begins of what a person holds back; a later version of its author stays held."""


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


class Place:
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
        """Counts one that is written."""
        self.fresh += fresh
        self.changed += not fresh
        self.held += bool(one.indicator and one.indicator.held)

    def put(self) -> Put:
        """What became of all."""
        first = self.start + 1 if self.seq > self.start else 0
        return Put(self.fresh, self.changed, self.same, self.held, self.refused, first, self.seq if first else 0)


def write(
    connection: Connection, collection: str, objects: Sequence[Object], place: Place, *, ours: bool = False
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
        before = held.get(one.id)
        if before is not None and not ours:
            one = _still_held(one, before.held)  # noqa: PLW2901 - as it is written
        digest = digest_of(one)
        if before is not None and _same(one, digest, before, ours=ours):
            place.same += 1
            continue
        seq, added = place.next()
        older = before is not None and one.version < before.version
        row = {**to_row(one, tenant, collection, digest), "seq": seq, "added": added}
        row |= {"superseded": added if older else NEVER, "replaces": before.seq if before and not older else 0}
        if before and not older:
            ended[before.seq] = added
        if not older:
            held[one.id] = _Current(seq, digest, one.version, row["held"])
        rows.append(row)
        more += [{"tenant": tenant, "value": value, "seq": seq} for value in further(one)]
        place.take(one, fresh=before is None)
    _insert(connection, tenant, rows, ended, more)
    _sight_told(connection, tenant, objects)


def _same(one: Object, digest: str, before: _Current, *, ours: bool) -> bool:
    own = one.indicator is not None and not one.body
    return before.digest == digest or (before.version == one.version and not own and not ours)


def _insert(
    connection: Connection, tenant: str, rows: list[dict[str, Any]], ended: dict[int, int], more: list[dict[str, Any]]
) -> None:
    """Writes versions, ends those that they take the place of, and notes their further values."""
    _supersede(rows, ended)
    if rows:
        connection.execute(OBJECT.insert(), rows)
    if more:
        connection.execute(FURTHER.insert(), more)
    if ended:
        of = (OBJECT.c.tenant == tenant) & (OBJECT.c.seq == sa.bindparam("of"))
        change = OBJECT.update().where(of).values(superseded=sa.bindparam("at"))
        connection.execute(change, [{"of": seq, "at": at} for seq, at in ended.items()])


def _sight_told(connection: Connection, tenant: str, objects: Sequence[Object]) -> None:
    """Sightings that others tell of."""
    for one in objects:
        if one.about:
            row = {"indicator": one.about, "time": one.last, "body": '{"told":true}'}
            insert_new(connection, SIGHTING, tenant=tenant, id=one.id, **row)


def end(connection: Connection, tenant: str, now: int, here: sa.ColumnElement[bool]) -> int:
    """Ends the current versions of an object; what was known of it stays known of the time before.

    Args:
        connection: Of the transaction.
        tenant: Whose.
        now: Microseconds UTC.
        here: Which rows are of the object.
    """
    rows = connection.execute(OBJECT.select().where(here, OBJECT.c.superseded == NEVER)).mappings().all()
    place = Place(connection, tenant, now)
    for row in rows:
        seq, added = place.next()
        ended = OBJECT.update().where(OBJECT.c.tenant == tenant, OBJECT.c.seq == row["seq"])
        connection.execute(ended.values(superseded=added))
        # What follows the changes learns of the end by a version that is superseded as it comes.
        gone = {**row, "seq": seq, "added": added, "superseded": added, "replaces": row["seq"], "type": REMOVED}
        gone |= dict.fromkeys(("value", "kind", "body", "formula", "digest", "held"), "")
        connection.execute(OBJECT.insert().values(**gone))
    place.keep()
    return len(rows)


def _supersede(rows: list[dict[str, Any]], ended: dict[int, int]) -> None:
    """Ends what was superseded in the very batch."""
    for row in rows:
        if (at := ended.pop(row["seq"], 0)) and row["superseded"] == NEVER:
            row["superseded"] = at


class _Current(NamedTuple):
    """What is current of an object."""

    seq: int
    digest: str
    version: int
    held: str


def _current(connection: Connection, tenant: str, ids: Sequence[str]) -> dict[str, _Current]:
    """By id."""
    found: dict[str, _Current] = {}
    columns = (OBJECT.c.id, OBJECT.c.seq, OBJECT.c.digest, OBJECT.c.version, OBJECT.c.held)
    for start in range(0, len(ids), 500):
        mine = (OBJECT.c.tenant == tenant) & OBJECT.c.id.in_(ids[start : start + 500])
        for row in connection.execute(sa.select(*columns).where(mine, OBJECT.c.superseded == NEVER)):
            found[row.id] = _Current(row.seq, row.digest, row.version, row.held)
    return found


def _still_held(one: Object, held: str) -> Object:
    """What a person held back stays so, whatever its author says next."""
    own = one.indicator
    if own is None or own.held or not held.startswith(BY_HAND):
        return one
    return msgspec.structs.replace(one, indicator=msgspec.structs.replace(own, held=held))


def checked(one: Object, lists: Warninglists, *, again: bool = False) -> Object:
    """The object, held back when one of its values stands on a warninglist."""
    own = one.indicator
    if own is None or not own.formula:
        return one
    listed = "warninglist" in own.held
    if own.held and not (again and listed):
        return one
    reason = lists.reason([(kind_of(value), value) for values in own.formula for value in values])
    return msgspec.structs.replace(one, indicator=msgspec.structs.replace(own, held=reason))
