"""Finds damage in the evidence and says where it is.

Three things are compared. Each row with its own digest and leaf hash; the rows together with the stored nodes and head;
and, what an attacker on the database cannot reach, the tree that follows from the rows with the signed checkpoints and
leaf hashes of the anchor. The last one also finds a table that was rewritten as a whole and fits together.

Where the anchor keeps leaf hashes, damage is placed at the record; where it keeps checkpoints only, between the last
checkpoint that agrees and the first that does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from vedette.core.db import Connection, Database, sa
from vedette.prove.evidence.anchor import Anchor
from vedette.prove.evidence.place import Damage, Finding, place
from vedette.prove.evidence.store import ERASURE, read_head, to_leaf
from vedette.prove.evidence.stored import TILE
from vedette.prove.evidence.tables import cursors, nodes, records
from vedette.prove.verifier import HASH_BYTES, Checkpoint, Invalid, Range, VerifierKey, verify_note

__all__ = ["Damage", "Finding", "Report", "State", "verify"]

MAX_FINDINGS = 1_000
"""Findings that a report lists; it counts the rest."""

_CHUNK = 4_096


class State(StrEnum):
    """The verdict."""

    OK = "ok"
    TAMPERED = "tampered"


@dataclass(slots=True)
class Report:
    """What was found."""

    size: int = 0
    """Records in the table."""
    findings: list[Finding] = field(default_factory=list)
    """In order of their place, at most `MAX_FINDINGS`."""
    more_findings: int = 0
    """Findings beyond that."""
    anchor: bool = False
    """True when there is an anchor with at least one checkpoint."""
    checkpoints: int = 0
    """Signed checkpoints that were compared."""
    anchored: int = 0
    """Records covered by the newest signed checkpoint."""
    contents: int = 0
    """Records whose content was compared with its digest."""
    erased: int = 0
    """Records whose content was erased by the book."""
    root: str = ""
    """Root of the tree that follows from the rows, hexadecimal."""

    @property
    def unanchored(self) -> int:
        """Records that no checkpoint covers yet; a rewrite of these alone would not be found out."""
        return max(0, self.size - self.anchored)

    @property
    def state(self) -> State:
        """The verdict: one finding is enough."""
        return State.TAMPERED if self.findings else State.OK

    def to_json(self) -> dict[str, Any]:
        """The report as `vedette audit verify --json` prints it."""
        return {
            "state": str(self.state),
            "records": self.size,
            "root": self.root,
            "anchor": self.anchor,
            "checkpoints": self.checkpoints,
            "anchored": self.anchored,
            "unanchored": {"count": self.unanchored, "first": self.anchored if self.unanchored else None},
            "contents": self.contents,
            "erased": self.erased,
            "findings": [
                {"damage": str(f.damage), "first": f.first, "last": f.end, "id": f.id, "detail": f.detail}
                for f in self.findings
            ],
            "more_findings": self.more_findings,
        }

    def add(self, finding: Finding) -> None:
        """Notes a finding once, in bounded memory."""
        if len(self.findings) >= MAX_FINDINGS:
            self.more_findings += 1
        elif (finding.damage, finding.first) not in {(held.damage, held.first) for held in self.findings}:
            self.findings.append(finding)


def verify(
    db: Database,
    anchor: Anchor | None,
    *,
    trusted: list[VerifierKey] | None = None,
    content: Callable[[str], bytes | None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Reads the whole tree and compares. Changes nothing; memory is bounded unless much is damaged.

    Args:
        db: With the evidence tables.
        anchor: What is believed; None compares the table with itself only.
        trusted: Keys that may have signed; the anchor's own by default, never those beside the database.
        content: Finds content that is kept in the log by record id; None compares no such content.
        progress: Called with records done and records in all.

    Returns:
        A report whose `state` is the verdict.
    """
    report = Report()
    checkpoints = _checkpoints(anchor, trusted, report)
    with db.read() as connection:
        if not sa.inspect(connection).has_table(records.name):
            if report.anchored:
                report.add(Finding(Damage.TRUNCATION, 0, report.anchored - 1, detail="there is no table of records"))
            return report
        scan = _Scan(connection, report, checkpoints, anchor, content, progress)
        scan.run()
    report.findings.sort(key=lambda finding: (finding.first, finding.damage))
    return report


def _checkpoints(anchor: Anchor | None, trusted: list[VerifierKey] | None, report: Report) -> list[Checkpoint]:
    """The signed heads in the order of their sizes; one that does not verify is damage to the anchor."""
    if anchor is None:
        return []
    keys = anchor.keys() if trusted is None else trusted
    found: list[Checkpoint] = []
    for number, note in enumerate(anchor.notes()):
        try:
            found.append(verify_note(note, keys))
        except Invalid as error:
            report.add(Finding(Damage.ANCHOR, 0, 0, detail=f"checkpoint {number}: {error}"))
    report.anchor = bool(found)
    report.checkpoints = len(found)
    found.sort(key=lambda checkpoint: checkpoint.size)
    report.anchored = found[-1].size if found else 0
    return found


@dataclass(slots=True)
class _Scan:
    """One pass over the rows."""

    connection: Connection
    report: Report
    checkpoints: list[Checkpoint]
    anchor: Anchor | None
    content: Callable[[str], bytes | None] | None
    progress: Callable[[int, int], None] | None
    tree: Range = field(default_factory=Range)
    roots: dict[int, bytes] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    erasures: set[str] = field(default_factory=set)
    rows_damaged: list[Finding] = field(default_factory=list)
    topics: frozenset[str] = frozenset()
    expected: int = 0
    unreadable: bool = False

    def run(self) -> None:
        self.topics = frozenset(self.connection.scalars(sa.select(cursors.c.topic)))
        wanted = {checkpoint.size for checkpoint in self.checkpoints}
        head = read_head_or_none(self.connection)
        total = self.connection.scalar(sa.select(sa.func.count()).select_from(records)) or 0
        for row in self._readable():
            self._row(row)
            if self.tree.size in wanted:
                self.roots[self.tree.size] = self.tree.root()
            if self.progress is not None and self.tree.size % _CHUNK == 0:
                self.progress(self.tree.size, total)
        self.report.size = self.tree.size
        self.report.root = self.tree.root().hex()
        if self.unreadable:
            return
        if head is not None and head.size > self.expected:
            self._damaged(Finding(Damage.TRUNCATION, self.expected, head.size - 1, detail="the table ends early"))
        self._against_anchor()
        for finding in self.rows_damaged:
            self.report.add(finding)
        if not self.report.findings and (head is None or head.root() != self.tree.root()):
            self.report.add(Finding(Damage.TREE, 0, self.tree.size, detail="the stored head is not that of the rows"))
        for record_id in sorted(self.erased - self.erasures):
            self.report.add(Finding(Damage.EDIT, self._seq(record_id), id=record_id, detail="erased without a record"))

    def _readable(self) -> Iterator[Any]:
        """The rows, up to the first that the database itself cannot give (text that is no UTF-8, a broken page)."""
        try:
            yield from _rows(self.connection)
        except sa.exc.DBAPIError:
            self.unreadable = True
            last = self.expected + _CHUNK - 1
            self.report.add(Finding(Damage.EDIT, self.expected, last, detail="a row in here cannot be read"))

    def _damaged(self, finding: Finding) -> None:
        if len(self.rows_damaged) <= MAX_FINDINGS:
            self.rows_damaged.append(finding)

    def _row(self, row: Any) -> None:
        if row.seq > self.expected:
            self._damaged(Finding(Damage.DELETION, self.expected, row.seq - 1, detail="no such rows"))
        self.expected = row.seq + 1
        leaf = to_leaf(row.id, row.tenant, row.kind, row.time, row.digest)
        if leaf != row.leaf:
            self._damaged(Finding(Damage.EDIT, row.seq, id=row.id, detail="the row does not have its leaf hash"))
        self._content(row)
        if row.kind == ERASURE:
            self.erasures.add(row.id.removeprefix(f"{ERASURE}/"))
        done = self.tree.append(leaf)
        for level in range(TILE, len(done) + 1, TILE):
            self._node(level, done[level - 1])

    def _content(self, row: Any) -> None:
        content = row.content
        in_log = content is None and row.kind in self.topics
        if in_log and self.content is None:
            return
        if in_log and self.content is not None:
            content = self.content(row.id)
            if content is None:
                self.report.add(Finding(Damage.DELETION, row.seq, id=row.id, detail="its content is gone from the log"))
                return
        if content is None:
            self.report.erased += 1
            self.erased.add(row.id)
            return
        self.report.contents += 1
        if hashlib.sha256(content).digest() != row.digest:
            self.report.add(Finding(Damage.EDIT, row.seq, id=row.id, detail="its content does not have its digest"))

    def _node(self, level: int, computed: bytes) -> None:
        if level > TILE or any(found.damage is not Damage.TREE for found in self.rows_damaged[:1]):
            return  # what stands above a damaged record differs as a consequence
        number = (self.tree.size >> level) - 1
        query = sa.select(nodes.c.hash).where(nodes.c.level == level, nodes.c.place == number)
        if self.connection.scalar(query) != computed:
            first = number << level
            detail = "the stored node over these records is another"
            self._damaged(Finding(Damage.TREE, first, first + 2**level - 1, detail=detail))

    def _against_anchor(self) -> None:
        """Compares with the anchor; where it places damage, what the rows say of themselves is dropped."""
        agreed = 0
        for checkpoint in self.checkpoints:
            root = Range().root() if checkpoint.size == 0 else self.roots.get(checkpoint.size)
            if root == checkpoint.root:
                agreed = checkpoint.size
                continue
            found = self._place() or [self._between(agreed, checkpoint)]
            for finding in found:
                self.report.add(finding)
            covered = self.report.anchored
            self.rows_damaged = [finding for finding in self.rows_damaged if finding.first >= covered]
            return
        # All checkpoints agree: below them the records are right, and what does not fit was stored beside them.
        self.rows_damaged = [
            replace(found, damage=Damage.TREE) if found.first < agreed and found.end < self.tree.size else found
            for found in self.rows_damaged
        ]

    def _between(self, agreed: int, checkpoint: Checkpoint) -> Finding:
        if self.tree.size < checkpoint.size:
            return Finding(Damage.TRUNCATION, self.tree.size, checkpoint.size - 1, detail="the anchor has more records")
        detail = "between these two checkpoints of the anchor"
        return Finding(Damage.EDIT, agreed, checkpoint.size - 1, detail=detail)

    def _place(self) -> list[Finding]:
        """Damage at the record, from the anchor's leaf hashes, once they are known to be those that were signed."""
        if self.anchor is None or self.anchor.leaf_count() < self.report.anchored:
            return []
        kept = _anchor_leaves(self.anchor, self.report.anchored, self.checkpoints)
        if kept is None:
            self.report.add(Finding(Damage.ANCHOR, 0, 0, detail="its leaf hashes are not those that were signed"))
            return []
        here = bytearray()
        names: list[tuple[int, str]] = []
        for row in _rows(self.connection):
            here += to_leaf(row.id, row.tenant, row.kind, row.time, row.digest)
            names.append((row.seq, row.id))
        return place(kept, bytes(here), names)

    def _seq(self, record_id: str) -> int:
        return self.connection.scalar(sa.select(records.c.seq).where(records.c.id == record_id)) or 0


def read_head_or_none(connection: Connection) -> Range | None:
    """The stored head, or None when it is gone or no compact range."""
    try:
        return read_head(connection)
    except (Invalid, sa.exc.NoResultFound, sa.exc.MultipleResultsFound):
        return None


def _rows(connection: Connection) -> Iterator[Any]:
    query = records.select().order_by(records.c.seq)
    return iter(connection.execution_options(yield_per=_CHUNK).execute(query))


def _anchor_leaves(anchor: Anchor, size: int, checkpoints: list[Checkpoint]) -> bytes | None:
    """The anchor's leaf hashes up to `size`, or None when they do not give the signed roots."""
    wanted = {checkpoint.size: checkpoint.root for checkpoint in checkpoints}
    tree, kept = Range(), bytearray()
    for first in range(0, size, _CHUNK):
        for leaf in anchor.leaves(first, min(_CHUNK, size - first)):
            tree.append(leaf)
            kept += leaf
            if tree.size in wanted and tree.root() != wanted[tree.size]:
                return None
    return bytes(kept) if len(kept) == size * HASH_BYTES else None
