"""The evidence tree in SQL: append in batches, sign the head, give it to the anchor, prove."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from vedette.core.clock import Clock
from vedette.core.db import Connection, Database, sa
from vedette.core.errors import ConflictError, NotFoundError, PermanentError
from vedette.prove.evidence.anchor import Anchor
from vedette.prove.evidence.stored import TILE, StoredTree
from vedette.prove.evidence.tables import MIGRATIONS, head, nodes, records
from vedette.prove.keys import Signer
from vedette.prove.verifier import HASH_BYTES, Checkpoint, Range, hash_leaf, verify_inclusion, verify_note

VERSION = 1
"""`v` of the canonical record."""

MAX_PUBLISH = 65_536
"""Most leaf hashes that one checkpoint carries to the anchor; a larger backlog takes several."""


ERASURE = "erasure"
"""Kind of the record that says that kept content was erased."""


ORIGIN = "vedette.local/evidence"
"""Name of the tree and of its keys, unless a signer brings another."""


class Entry(NamedTuple):
    """One thing to keep evidence of."""

    id: str
    """Unique in the tree. Of a log record: `topic/partition/offset`."""
    tenant: str
    kind: str
    """What it is: the log's topic, or a kind of the caller's such as `snapshot`."""
    time: int
    """When it was recorded, microseconds UTC."""
    content: bytes
    """The stored bytes. The tree holds only their SHA-256."""


class Checked(NamedTuple):
    """What a second look at a record found."""

    place: int
    """Its index in the tree."""
    intact: bool
    """Its bytes have the digest, and its leaf stands where the checkpoint says."""
    anchored: bool
    """A signed checkpoint covers it; the next one will where it does not."""
    kept: bool
    """Its bytes are here; else only their digest was looked at."""


class _Leaf(msgspec.Struct):
    """The canonical record: fields in the order that sorted JSON keys have, so encoding it is the canonical form."""

    digest: str
    id: str
    kind: str
    tenant: str
    time: int
    v: int


_encoder = msgspec.json.Encoder()


def to_leaf(record_id: str, tenant: str, kind: str, time: int, digest: bytes) -> bytes:
    """Leaf hash of a record: of the same bytes as `verifier.to_canonical` writes, ten times as fast."""
    return hash_leaf(_encoder.encode(_Leaf(digest.hex(), record_id, kind, tenant, time, VERSION)))


class Evidence:
    """One append-only tree over everything that happened.

    Args:
        db: state.db; its tables are made when missing.
        signer: Signs checkpoints; its name is the origin of the tree.
        anchor: Keeps them outside the database; None keeps none, and then a rewrite of the whole database cannot be
            found out.
        clock: Time of what this class itself records; entries bring their own.
    """

    def __init__(self, db: Database, signer: Signer, anchor: Anchor | None, clock: Clock) -> None:
        db.migrate("evidence", MIGRATIONS)
        self.db = db
        self.anchor = anchor
        self._signer = signer
        self._clock = clock

    @property
    def key(self) -> str:
        """The verifier key of its checkpoints, as `key` lines name it."""
        return str(self._signer.verifier)

    def append(self, entries: Sequence[Entry], *, keep: bool = True) -> int:
        """Appends in one transaction; the records are in the tree, and synced, when it returns.

        An entry whose id is there already with the same content is passed over, so a repeated call does no harm.

        Args:
            entries: In the order they are to stand.
            keep: Keeps their content beside the tree; False when it is stored elsewhere.

        Returns:
            Size of the tree afterwards.

        Raises:
            ConflictError: `evidence.id.exists` when an id is there with other content. Nothing is appended.
        """
        with self.db.begin() as connection:
            read_head(connection, lock=True)  # so that no other writer adds one of these ids after the look
            known = _digests(connection, [entry.id for entry in entries])
            fresh = []
            for entry in entries:
                digest = hashlib.sha256(entry.content).digest()
                if entry.id not in known:
                    known[entry.id] = digest
                    fresh.append(entry)
                elif known[entry.id] != digest:
                    raise ConflictError("evidence.id.exists", "an entry of this id has other content", at=entry.id)
            return append_to(connection, fresh, keep=keep)

    def erase(self, record_id: str, *, by: str, reason: str) -> None:
        """Erases kept content for good. Its digest stands in the tree, and so does the record that it was erased.

        Erasing again changes nothing.

        Raises:
            NotFoundError: `evidence.record.unknown`.
        """
        with self.db.begin() as connection:
            read_head(connection, lock=True)
            row = connection.execute(records.select().where(records.c.id == record_id)).one_or_none()
            if row is None:
                raise NotFoundError("evidence.record.unknown", "no record of that id in the tree", at=record_id)
            if row.content is None:
                return
            connection.execute(records.update().where(records.c.id == record_id).values(content=None))
            content = msgspec.json.encode({"by": by, "erased": record_id, "reason": reason})
            made = Entry(f"{ERASURE}/{record_id}", row.tenant, ERASURE, self._clock.now(), content)
            append_to(connection, [made], keep=True)

    def size(self) -> int:
        """Records in the tree."""
        with self.db.read() as connection:
            return read_head(connection).size

    def checkpoint(self) -> Checkpoint:
        """Signs the head of the tree and gives it to the anchor. Call it every 10 s; without news it does nothing.

        Before it signs, it makes sure that what was signed last is still the beginning of the tree.

        Raises:
            PermanentError: `evidence.checkpoint.inconsistent` when it is not: the database was changed behind our back;
                `evidence.anchor.diverged`.
        """
        while True:
            with self.db.read() as connection:
                tree, size = StoredTree(connection), read_head(connection).size
                last = self._last()
                if last.size > size or tree.root_of(last.size) != last.root:
                    raise PermanentError(
                        "evidence.checkpoint.inconsistent",
                        f"the tree of {size} records does not continue the signed one of {last.size}",
                        hint="run `vedette audit verify`",
                    )
                until = min(size, last.size + MAX_PUBLISH)
                now = Checkpoint(self._signer.name, until, tree.root_of(until))
                leaves = tree.leaves(last.size, until - last.size)
            if self.anchor is not None and until > last.size:
                self.anchor.publish(self._signer.sign_note(now.text()), last.size, leaves, self._signer.verifier)
            if until == size or self.anchor is None:
                return now

    def inclusion(self, record_id: str, size: int | None = None) -> tuple[int, list[bytes]]:
        """Index of a record and its proof in the tree of `size` records, the whole tree by default.

        Raises:
            NotFoundError: `evidence.record.unknown`, also when it came after `size`.
        """
        with self.db.read() as connection:
            index = connection.scalar(sa.select(records.c.seq).where(records.c.id == record_id))
            size = read_head(connection).size if size is None else size
            if index is None or index >= size:
                raise NotFoundError("evidence.record.unknown", "no record of that id in the tree", at=record_id)
            return index, StoredTree(connection).inclusion_of(index, size)

    def check(self, record_id: str, digest: str) -> Checked:
        """Looks at one record again: its bytes, its leaf, and its place under the last signed checkpoint.

        Args:
            record_id: Which.
            digest: SHA-256 that whoever refers to it remembers, hex.

        Raises:
            NotFoundError: `evidence.record.unknown`.
        """
        with self.db.read() as connection:
            row = connection.execute(records.select().where(records.c.id == record_id)).one_or_none()
        if row is None:
            raise NotFoundError("evidence.record.unknown", "no record of that id in the tree", at=record_id)
        content = None if row.content is None else bytes(row.content)
        same = row.digest.hex() == digest and (content is None or hashlib.sha256(content).hexdigest() == digest)
        last = self._last()
        anchored = row.seq < last.size
        leaf = to_leaf(row.id, row.tenant, row.kind, row.time, bytes(row.digest))
        proven = not anchored or verify_inclusion(
            row.seq, last.size, leaf, self.inclusion(record_id, last.size)[1], last.root
        )
        return Checked(
            row.seq, intact=same and proven and leaf == row.leaf, anchored=anchored, kept=content is not None
        )

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Proof that the tree of `old` records is the beginning of the tree of `size`; 0 < old <= size <= `size()`."""
        with self.db.read() as connection:
            return StoredTree(connection).consistency_of(old, size)

    def _last(self) -> Checkpoint:
        note = self.anchor.last_note() if self.anchor is not None else None
        if self.anchor is None or note is None:
            return Checkpoint(self._signer.name, 0, Range().root())
        return verify_note(note, [*self.anchor.keys(), self._signer.verifier])


def read_head(connection: Connection, *, lock: bool = False) -> Range:
    """The compact range of the whole tree. `lock` keeps other writers out until the transaction ends."""
    query = sa.select(head.c.size, head.c.peaks)
    size, peaks = connection.execute(query.with_for_update() if lock else query).one()
    return Range(size, [peaks[i : i + HASH_BYTES] for i in range(0, len(peaks), HASH_BYTES)])


def append_to(connection: Connection, entries: Sequence[Entry], *, keep: bool) -> int:
    """Appends new entries within the caller's transaction, and gives the size afterwards."""
    tree = read_head(connection, lock=True)
    rows, full = [], []
    for record_id, tenant, kind, time, content in entries:
        digest = hashlib.sha256(content).digest()
        leaf = to_leaf(record_id, tenant, kind, time, digest)
        rows.append((tree.size, record_id, tenant, kind, time, digest, leaf, content if keep else None))
        done = tree.append(leaf)
        full += [(level, (tree.size >> level) - 1, done[level - 1]) for level in range(TILE, len(done) + 1, TILE)]
    if rows:
        _insert(connection, records, rows)
        if full:
            _insert(connection, nodes, full)
        connection.execute(head.update().values(size=tree.size, peaks=b"".join(tree.peaks)))
    return tree.size


def _insert(connection: Connection, table: sa.Table, rows: Sequence[tuple[object, ...]]) -> None:
    names = [column.name for column in table.columns]
    connection.execute(table.insert(), [dict(zip(names, row, strict=True)) for row in rows])


def _digests(connection: Connection, ids: Sequence[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for start in range(0, len(ids), 500):
        query = sa.select(records.c.id, records.c.digest).where(records.c.id.in_(ids[start : start + 500]))
        found.update((row.id, row.digest) for row in connection.execute(query))
    return found
