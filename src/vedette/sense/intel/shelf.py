"""A collection as others read it, by the filters and pages of TAXII 2.1: objects of any type, in the order they came.

Source: OASIS TAXII 2.1, parts 3.4 (pages, `added_after`) and 5.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence

import msgspec

from vedette.core.clock import DAY, to_iso
from vedette.core.db import insert_new, sa
from vedette.core.errors import DataError, NotFoundError
from vedette.sense.intel.indicator import Tlp
from vedette.sense.intel.library import Library
from vedette.sense.intel.library_tables import NEVER, OBJECT, REMOVED, STATUS, Kept, to_kept
from vedette.sense.intel.stix import to_stix

MAX_OBJECTS = 1_000
"""Most objects of a page."""
STATUS_KEPT = 7 * DAY
"""How long what became of a post can be asked for."""
LAST, FIRST, ALL = "last", "first", "all"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which objects. Empty means all; several of one field are alternatives."""

    added_after: int = 0
    """Only what came later, microseconds UTC."""
    ids: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    versions: tuple[str, ...] = (LAST,)
    """`last`, `first`, `all`, or a version's time in microseconds as text."""
    specs: tuple[str, ...] = ()
    within: Tlp = Tlp.AMBER_STRICT
    """What is marked more strictly is not there."""


def fetch_page(
    library: Library, tenant: str, collection: str, wanted: Wanted, *, after: int = 0, limit: int = MAX_OBJECTS
) -> tuple[list[Kept], bool]:
    """A page of a collection, oldest first, and whether there is more.

    Args:
        library: Where it is.
        tenant: Whose.
        collection: Its name.
        wanted: Which objects.
        after: `seq` after which the page begins.
        limit: Most objects, at most `MAX_OBJECTS`.
    """
    size = max(1, min(limit, MAX_OBJECTS))
    query = (
        OBJECT.select()
        .where(OBJECT.c.tenant == tenant, OBJECT.c.collection == collection, OBJECT.c.seq > after)
        .where(OBJECT.c.type != REMOVED, ~_removed(OBJECT), *_conditions(wanted))
        .order_by(OBJECT.c.seq)
        .limit(size + 1)
    )
    with library.database.read() as connection:
        rows = connection.execute(query).all()
    return [to_kept(row) for row in rows[:size]], len(rows) > size


def version_of(kept: Kept) -> int:
    """The version of an object: when it was changed, else when it came; microseconds UTC."""
    return kept.object.version or kept.added


def raw_of(kept: Kept) -> msgspec.Raw:
    """An object as JSON, as it came where it came as STIX."""
    return msgspec.Raw(kept.object.body.encode() or msgspec.json.encode(to_stix(kept.object, created=kept.added)))


def to_next(seq: int) -> str:
    """The mark of the page after an object."""
    return base64.urlsafe_b64encode(str(seq).encode()).decode().rstrip("=")


def from_next(text: str) -> int:
    """The `seq` of a mark.

    Raises:
        DataError: `taxii.next.invalid`.
    """
    try:
        plain = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except (ValueError, binascii.Error):
        plain = ""
    if not plain.isdecimal() or len(plain) > 18:  # noqa: PLR2004 - an int64
        raise DataError("taxii.next.invalid", "not a `next` of a page before")
    return int(plain)


def keep_status(library: Library, tenant: str, status_id: str, body: bytes) -> None:
    """Notes what became of a post, and forgets what is old."""
    now = library.clock.now()
    with library.database.begin() as connection:
        insert_new(connection, STATUS, tenant=tenant, id=status_id, time=now, body=body.decode())
        connection.execute(STATUS.delete().where(STATUS.c.tenant == tenant, STATUS.c.time < now - STATUS_KEPT))


def kept_status(library: Library, tenant: str, status_id: str) -> bytes:
    """What became of a post.

    Raises:
        NotFoundError: `taxii.status.unknown`.
    """
    here = (STATUS.c.tenant == tenant) & (STATUS.c.id == status_id)
    with library.database.read() as connection:
        body = connection.execute(sa.select(STATUS.c.body).where(here)).scalar()
    if body is None:
        raise NotFoundError("taxii.status.unknown", "no such status", at=status_id[:64])
    return str(body).encode()


def _removed(versions: sa.FromClause) -> sa.ColumnElement[bool]:
    """Versions of what was removed since: kept for what was known when, and no longer given to others."""
    gone, of = OBJECT.alias(), versions.c
    same = (gone.c.tenant == of.tenant) & (gone.c.id == of.id) & (gone.c.collection == of.collection)
    return sa.exists(
        sa.select(sa.literal(1)).select_from(gone).where(same, gone.c.type == REMOVED, gone.c.seq > of.seq)
    )


def _conditions(wanted: Wanted) -> Iterator[sa.ColumnElement[bool]]:
    column = OBJECT.c
    yield column.tlp.in_([str(tlp) for tlp in Tlp if tlp.within(wanted.within)])
    if wanted.added_after:
        yield column.added > wanted.added_after
    for name, values in (("id", wanted.ids), ("type", wanted.types), ("spec", wanted.specs)):
        if values:
            yield column[name].in_(values)
    if ALL not in wanted.versions:
        yield sa.or_(*_versions(wanted.versions))


def _versions(versions: Sequence[str]) -> Iterator[sa.ColumnElement[bool]]:
    if LAST in versions:
        yield OBJECT.c.superseded == NEVER
    if FIRST in versions:
        older = OBJECT.alias("older")
        same = (older.c.tenant == OBJECT.c.tenant) & (older.c.id == OBJECT.c.id)
        same &= older.c.collection == OBJECT.c.collection
        before = (older.c.version < OBJECT.c.version) | (
            (older.c.version == OBJECT.c.version) & (older.c.seq < OBJECT.c.seq)
        )
        yield ~sa.exists(
            sa.select(sa.literal(1)).select_from(older).where(same & before, older.c.type != REMOVED, ~_removed(older))
        )
    times = [int(each) for each in versions if each.isdecimal()]
    if times:
        yield OBJECT.c.version.in_(times) | ((OBJECT.c.version == 0) & OBJECT.c.added.in_(times))


def stamp(micros: int) -> str:
    """A time as TAXII writes it, with microseconds."""
    return to_iso(micros)
