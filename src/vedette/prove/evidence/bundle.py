"""Bundles: chosen records with their proofs, in one file that `vedette.prove.verifier` verifies anywhere.

A header line, then one line a record. Content goes with a record while it is there; without it the record still proves
that bytes of that digest were recorded at that place.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from vedette.core.db import Connection, Database, sa
from vedette.core.errors import NotFoundError
from vedette.prove.evidence.anchor import Anchor
from vedette.prove.evidence.store import VERSION
from vedette.prove.evidence.stored import StoredTree
from vedette.prove.evidence.tables import records
from vedette.prove.verifier import BUNDLE_FORMAT, Checkpoint, verify_note

MAX_IDS = 500


@dataclass(frozen=True, slots=True)
class Choice:
    """Which records go into a bundle: all that every given condition fits."""

    tenant: str | None = None
    """Only this tenant's; None: every tenant's, for the operator's own auditor."""
    first: int = 0
    """Lowest index."""
    last: int | None = None
    """Highest index."""
    id: str | None = None
    """One record."""
    ids: tuple[str, ...] | None = None
    """These records, such as the evidence of a case."""


def to_bundle(
    db: Database, anchor: Anchor, choice: Choice, *, content: Callable[[str], bytes | None] | None = None
) -> Iterator[bytes]:
    """Lines of a bundle, proven against the newest checkpoint of the anchor.

    Args:
        db: With the evidence tables.
        anchor: Whose newest checkpoint is proven against; its oldest one goes along with a consistency proof.
        choice: Records to take.
        content: Finds content that is kept in the log; None leaves all content out.

    Raises:
        NotFoundError: `evidence.checkpoint.none` when nothing is anchored yet, `evidence.record.unknown` when no
            anchored record fits the choice.
    """
    notes = anchor.notes()
    if not notes:
        raise NotFoundError(
            "evidence.checkpoint.none", "nothing is anchored yet", hint="run `vedette audit checkpoint`"
        )
    keys = anchor.keys()
    oldest, newest = verify_note(notes[0], keys), verify_note(notes[-1], keys)
    with db.read() as connection:
        tree = StoredTree(connection)
        where = _where(choice, newest.size)
        count = connection.scalar(sa.select(sa.func.count()).select_from(records).where(*where)) or 0
        if not count:
            raise NotFoundError("evidence.record.unknown", "no anchored record fits", hint="widen the choice")
        yield _line(
            {
                "format": BUNDLE_FORMAT,
                "keys": [str(key) for key in keys],
                "checkpoint": notes[-1],
                "earlier": _earlier(tree, notes[0], oldest, newest),
                "records": count,
            }
        )
        yield from _entries(connection, tree, where, newest.size, content)


def _entries(
    connection: Connection,
    tree: StoredTree,
    where: Sequence[sa.ColumnElement[bool]],
    size: int,
    content: Callable[[str], bytes | None] | None,
) -> Iterator[bytes]:
    query = records.select().where(*where).order_by(records.c.seq)
    for row in connection.execution_options(yield_per=1_000).execute(query):
        held = None if content is None else row.content if row.content is not None else content(row.id)
        yield _line(
            {
                "index": row.seq,
                "record": _record(row),
                "proof": [base64.b64encode(part).decode() for part in tree.inclusion_of(row.seq, size)],
                "content": None if held is None else base64.b64encode(held).decode(),
            }
        )


def _where(choice: Choice, size: int) -> list[sa.ColumnElement[bool]]:
    last = size - 1 if choice.last is None else min(choice.last, size - 1)
    where = [records.c.seq >= choice.first, records.c.seq <= last]
    if choice.tenant is not None:
        where.append(records.c.tenant == choice.tenant)
    if choice.ids is not None:
        # In parts: a database takes only so many values in one list.
        parts = [choice.ids[start : start + MAX_IDS] for start in range(0, max(1, len(choice.ids)), MAX_IDS)]
        where.append(sa.or_(*(records.c.id.in_(part) for part in parts)))
    if choice.id is not None:
        where.append(records.c.id == choice.id)
    return where


def _earlier(tree: StoredTree, note: str, oldest: Checkpoint, newest: Checkpoint) -> dict[str, Any] | None:
    if not 0 < oldest.size < newest.size:
        return None
    proof = tree.consistency_of(oldest.size, newest.size)
    return {"checkpoint": note, "proof": [base64.b64encode(part).decode() for part in proof]}


def _record(row: Any) -> dict[str, Any]:
    return {
        "digest": row.digest.hex(),
        "id": row.id,
        "kind": row.kind,
        "tenant": row.tenant,
        "time": row.time,
        "v": VERSION,
    }


def _line(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"
