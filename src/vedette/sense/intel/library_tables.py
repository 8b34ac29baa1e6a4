"""The tables of the library, and rows of them as values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from vedette.core.db import LONG, Migration, create, sa
from vedette.sense.intel.indicator import FOREVER, Indicator, Tlp
from vedette.sense.intel.patterns import Formula
from vedette.sense.intel.stix import Object

NEVER = FOREVER
"""`superseded` of what is current."""

REMOVED = "removed"
"""`type` of the row that tells of an object's end."""

_METADATA = sa.MetaData()
OBJECT = sa.Table(
    "intel_object",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("seq", LONG, primary_key=True),
    sa.Column("collection", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("version", LONG, nullable=False),
    sa.Column("added", LONG, nullable=False),
    sa.Column("superseded", LONG, nullable=False),
    sa.Column("replaces", LONG, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("tlp", sa.Text, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("confidence", sa.Integer, nullable=False),
    sa.Column("valid_from", LONG, nullable=False),
    sa.Column("valid_until", LONG, nullable=False),
    sa.Column("until", LONG, nullable=False),
    sa.Column("seen", LONG, nullable=False),
    sa.Column("held", sa.Text, nullable=False),
    sa.Column("formula", sa.Text, nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("intel_object_id", "tenant", "id"),
    sa.Index("intel_object_value", "tenant", "value"),
    sa.Index("intel_object_collection", "tenant", "collection", "seq"),
    sqlite_strict=True,
)
FURTHER = sa.Table(
    "intel_further",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("seq", LONG, primary_key=True),
    sqlite_strict=True,
)
"""Values of an indicator besides its first."""
COLLECTION = sa.Table(
    "intel_collection",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)
PLACE = sa.Table(
    "intel_place",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("seq", LONG, nullable=False),
    sa.Column("added", LONG, nullable=False),
    sqlite_strict=True,
)
"""The newest of a tenant: what is added next comes after it."""
SIGHTING = sa.Table(
    "intel_sighting",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("indicator", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("intel_sighting_of", "tenant", "indicator", "time"),
    sqlite_strict=True,
)
REFUSED = sa.Table(
    "intel_refused",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("number", LONG, primary_key=True),
    sa.Column("collection", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)
STATUS = sa.Table(
    "intel_status",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("time", LONG, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)
"""What became of what was posted over TAXII."""
CURSOR = sa.Table(
    "intel_cursor",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("next_offset", LONG, nullable=False),
    sqlite_strict=True,
)
_HUNTS = sa.MetaData()
HUNT = sa.Table(
    "intel_hunt",
    _HUNTS,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("time", LONG, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)
"""What became of hunts in the past."""
MIGRATIONS = (Migration(1, "library", create(_METADATA)), Migration(2, "hunts", create(_HUNTS)))


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an object, as the library has it."""

    seq: int
    """Place among the tenant's versions, rising."""
    collection: str
    added: int
    """When it came to be known here, microseconds UTC; rising strictly with `seq`."""
    superseded: int
    """When another version took its place; `NEVER` for a current one."""
    object: Object


def digest_of(one: Object) -> str:
    """Equal for equal content, whenever it came."""
    own = one.indicator
    told = one.body or (
        msgspec.json.encode(
            [own.formula, own.name, own.valid_until, own.confidence, own.tlp, own.labels, own.seen] if own else []
        ).decode()
    )
    held = own.held if own else ""
    return hashlib.sha256(f"{held}\n{own.seen if own else 0}\n{told}".encode()).hexdigest()[:32]


def to_row(one: Object, tenant: str, collection: str, digest: str) -> dict[str, Any]:
    """The columns of a version, but for its place and times."""
    own = one.indicator or Indicator(id=one.id, formula=(), tlp=one.tlp)
    several = sum(map(len, own.formula)) > 1
    return {
        "tenant": tenant,
        "collection": collection,
        "id": one.id,
        "type": one.type,
        "spec": one.spec,
        "version": one.version,
        "digest": digest,
        "tlp": str(own.tlp),
        "value": own.value,
        "kind": str(own.kind or ""),
        "name": own.name,
        "confidence": own.confidence,
        "valid_from": own.valid_from,
        "valid_until": own.valid_until,
        "until": own.until,
        "seen": own.seen,
        "held": own.held,
        "formula": msgspec.json.encode(own.formula).decode() if several else "",
        "labels": "\n".join(own.labels),
        "body": one.body,
    }


def to_kept(row: Any) -> Kept:
    """The version of a row."""
    formula: Formula = ((row.value,),) if row.value else ()
    if row.formula:
        formula = msgspec.json.decode(row.formula, type=Formula)
    tlp = Tlp(row.tlp)
    indicator = None
    if row.type == "indicator":
        indicator = Indicator(
            id=row.id,
            formula=formula,
            name=row.name,
            valid_from=row.valid_from,
            valid_until=row.valid_until,
            confidence=row.confidence,
            tlp=tlp,
            labels=tuple(row.labels.split("\n")) if row.labels else (),
            held=row.held,
            seen=row.seen,
            version=row.version,
        )
    return Kept(
        seq=row.seq,
        collection=row.collection,
        added=row.added,
        superseded=row.superseded,
        object=Object(
            id=row.id,
            type=row.type,
            version=row.version,
            spec=row.spec,
            body=row.body,
            indicator=indicator,
            tlp=tlp,
        ),
    )


def further(one: Object) -> Iterable[str]:
    """Values of an object besides its first."""
    own = one.indicator
    if own is None or sum(map(len, own.formula)) <= 1:
        return ()
    return {value for values in own.formula for value in values} - {own.value}
