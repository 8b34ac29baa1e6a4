"""Tables of the evidence tree in state.db.

`records` only grows. `nodes` keeps the roots of full subtrees of 256, 65,536, ... records, so that a proof reads a few
hundred rows whatever the size. `head` is the one row with the compact range. `cursors` says how far each log partition
has been read; it moves in the transaction that appends.
"""

from __future__ import annotations

from vedette.core.db import Migration, create, sa

_METADATA = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")

records = sa.Table(
    "evidence_records",
    _METADATA,
    sa.Column("seq", _BIG, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("time", _BIG, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("leaf", sa.LargeBinary, nullable=False),
    sa.Column("content", sa.LargeBinary),
    sqlite_strict=True,
)

nodes = sa.Table(
    "evidence_nodes",
    _METADATA,
    sa.Column("level", sa.Integer, primary_key=True),
    sa.Column("place", _BIG, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sqlite_strict=True,
)

head = sa.Table(
    "evidence_head",
    _METADATA,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("size", _BIG, nullable=False),
    sa.Column("peaks", sa.LargeBinary, nullable=False),
    sqlite_strict=True,
)

cursors = sa.Table(
    "evidence_cursors",
    _METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("next", _BIG, nullable=False),
    sqlite_strict=True,
)


def _first(connection: sa.Connection) -> None:
    create(_METADATA)(connection)
    connection.execute(head.insert().values(one=1, size=0, peaks=b""))


MIGRATIONS = (Migration(1, "records, nodes, head, cursors", _first),)
