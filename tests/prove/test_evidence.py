"""The stored tree: proofs, checkpoints, exactly-once collection, and every kind of damage found where it was done."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.db import Database
from vedette.core.errors import ConflictError, NotFoundError, PermanentError
from vedette.core.log import SqliteLog
from vedette.prove.evidence import Collector, Damage, Entry, Evidence, FileAnchor, verify
from vedette.prove.evidence.collect import from_log
from vedette.prove.evidence.store import append_to, to_leaf
from vedette.prove.evidence.tables import cursors, head, nodes, records
from vedette.prove.keys import KeyRing
from vedette.prove.verifier import (
    EMPTY_ROOT,
    Range,
    hash_leaf,
    to_canonical,
    verify_consistency,
    verify_inclusion,
    verify_note,
)

SQLITE = pytest.mark.parametrize("db", ["sqlite"], indirect=True)
"""For what does not depend on the database: PostgreSQL is slower to fill."""


def entries(first: int, count: int) -> list[Entry]:
    return [
        Entry(f"snapshot/{i}", "acme", "snapshot", 1_000 + i, b"content %d" % i) for i in range(first, first + count)
    ]


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys", "evidence", "vedette.local/evidence")


@pytest.fixture
def anchor(tmp_path: Path) -> FileAnchor:
    return FileAnchor(tmp_path / "anchor")


@pytest.fixture
def evidence(db: Database, ring: KeyRing, anchor: FileAnchor, clock) -> Evidence:
    return Evidence(db, ring.signer(), anchor, clock)


@given(st.text(), st.text(), st.text(), st.integers(-(2**63), 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_fast_and_plain_canonical_form_are_one(
    record_id: str, tenant: str, kind: str, time: int, digest: bytes
) -> None:
    record = {"v": 1, "id": record_id, "tenant": tenant, "kind": kind, "time": time, "digest": digest.hex()}
    try:
        plain = hash_leaf(to_canonical(record))
    except UnicodeEncodeError:
        return
    assert to_leaf(record_id, tenant, kind, time, digest) == plain


def test_proofs_at_every_size(evidence: Evidence) -> None:
    """Every inclusion and consistency proof up to 70 records, and spot checks over tile borders up to 1,400."""
    roots = [evidence.checkpoint().root]
    for i in range(70):
        evidence.append(entries(i, 1))
        roots.append(evidence.checkpoint().root)
    leaves = [to_leaf(e.id, e.tenant, e.kind, e.time, hashlib.sha256(e.content).digest()) for e in entries(0, 1400)]
    for size in range(1, 71):
        for index in random.Random(size).sample(range(size), min(size, 4)):
            assert verify_inclusion(
                index, size, leaves[index], evidence.inclusion(f"snapshot/{index}", size)[1], roots[size]
            )
        for old in random.Random(size).sample(range(1, size + 1), min(size, 4)):
            assert verify_consistency(old, size, roots[old], roots[size], evidence.consistency(old, size))
    evidence.append(entries(70, 1330))
    plain = Range()
    for leaf in leaves:
        plain.append(leaf)
    root = evidence.checkpoint().root
    assert root == plain.root()
    for index in (0, 255, 256, 511, 1023, 1024, 1399):
        place, proof = evidence.inclusion(f"snapshot/{index}")
        assert place == index
        assert verify_inclusion(index, 1400, leaves[index], proof, root)
    for old in (1, 64, 70):
        assert verify_consistency(old, 1400, roots[old], root, evidence.consistency(old, 1400))
    with pytest.raises(NotFoundError):
        evidence.inclusion("snapshot/71", 70)


def test_append_is_idempotent_and_all_or_nothing(evidence: Evidence) -> None:
    assert evidence.append(entries(0, 3)) == 3
    assert evidence.append([*entries(1, 3), *entries(2, 1)]) == 4
    wrong = Entry("snapshot/2", "acme", "snapshot", 1, b"other")
    with pytest.raises(ConflictError):
        evidence.append([*entries(9, 1), wrong])
    assert evidence.size() == 4


def test_checkpoints_are_signed_notes_and_survive_rotation(
    evidence: Evidence, ring: KeyRing, anchor: FileAnchor, clock
) -> None:
    evidence.append(entries(0, 5))
    first = evidence.checkpoint()
    assert evidence.checkpoint() == first
    assert len(anchor.notes()) == 1
    fresh = Evidence(evidence.db, ring.rotate(), anchor, clock)
    fresh.append(entries(5, 5))
    fresh.checkpoint()
    assert [verify_note(note, ring.verifiers()).size for note in anchor.notes()] == [5, 10]
    assert anchor.keys() == ring.verifiers()
    assert verify(evidence.db, anchor).state == "ok"
    assert anchor.last_note() == anchor.notes()[-1]


def test_a_changed_past_is_not_signed(evidence: Evidence, db: Database) -> None:
    evidence.append(entries(0, 300))
    evidence.checkpoint()
    rewrite(db, lambda rows: rows.pop(7))
    evidence.append(entries(300, 10))
    with pytest.raises(PermanentError) as caught:
        evidence.checkpoint()
    assert caught.value.code == "evidence.checkpoint.inconsistent"


# Damage


def rewrite(db: Database, change: Callable[[list[dict]], object], *, renumber: bool = True) -> None:
    """What somebody with the whole database does: changes rows, then recomputes everything so that it fits together."""
    with db.begin() as connection:
        rows = [dict(row._mapping) for row in connection.execute(records.select().order_by(records.c.seq))]
        change(rows)
        kept = [dict(row._mapping) for row in connection.execute(cursors.select())]
        for table in (records, nodes, head):
            connection.execute(table.delete())
        connection.execute(head.insert().values(one=1, size=0, peaks=b""))
        for row in rows:
            if row["content"] is not None:
                row["digest"] = hashlib.sha256(row["content"]).digest()
        tree, full = Range(), []
        for index, row in enumerate(rows):
            row["leaf"] = to_leaf(row["id"], row["tenant"], row["kind"], row["time"], row["digest"])
            row["seq"] = index if renumber else row["seq"]
            done = tree.append(row["leaf"])
            full += [
                {"level": n, "place": (tree.size >> n) - 1, "hash": done[n - 1]} for n in range(8, len(done) + 1, 8)
            ]
        if rows:
            connection.execute(records.insert(), rows)
        if full:
            connection.execute(nodes.insert(), full)
        connection.execute(head.update().values(size=tree.size, peaks=b"".join(tree.peaks)))
        assert kept == [dict(row._mapping) for row in connection.execute(cursors.select())]


def edit(row: dict, rng: random.Random) -> None:
    field = rng.choice(["content", "time", "tenant", "kind"])
    row[field] = {"content": b"forged", "time": row["time"] + 1, "tenant": "evil", "kind": "other"}[field]


KINDS = ["edit", "deletion", "reorder", "truncation", "insertion"]


@SQLITE
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("with_leaves", [True, False])
def test_consistent_rewrite_is_found_and_placed(  # noqa: PLR0917
    evidence: Evidence, db: Database, anchor: FileAnchor, kind: str, seed: int, with_leaves: bool
) -> None:
    """The whole table is rewritten so that it fits together: only the anchor disagrees, and says where."""
    rng = random.Random(f"{kind}{seed}")
    size, tail = rng.randrange(30, 700), rng.randrange(0, 20)
    for first in range(0, size, 97):
        evidence.append(entries(first, min(97, size - first)))
        evidence.checkpoint()
    evidence.append(entries(size, tail))
    at, other = sorted(rng.sample(range(size), 2))
    cut = rng.randrange(size)

    def change(rows: list[dict]) -> None:
        match kind:
            case "edit":
                edit(rows[at], rng)
            case "deletion":
                del rows[at]
            case "reorder":
                rows[at], rows[other] = rows[other], rows[at]
            case "truncation":
                del rows[cut:]
            case "insertion":
                rows.insert(at, {**rows[at], "id": "forged"})

    rewrite(db, change)
    if not with_leaves:
        (anchor._folder / "leaves").unlink()
    report = verify(db, anchor)
    assert report.state == "tampered"
    places = {(f.damage.value, f.first, f.end) for f in report.findings}
    if not with_leaves:
        wanted = cut if kind == "truncation" else at
        assert any(first <= wanted <= last for _, first, last in places), (places, wanted)
    elif kind == "reorder":
        assert {damage for damage, _, _ in places} == {"reorder"}
        assert {first for _, first, _ in places} & {at, other}
    elif kind == "truncation":
        assert places == {("truncation", cut, size - 1)}
    elif kind == "deletion" and at == size - 1 and tail:
        assert {first for _, first, _ in places} == {at}
    else:
        assert places == {(kind, at, at)}


@SQLITE
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("anchored", [True, False])
def test_plain_damage_is_found_and_placed(
    evidence: Evidence, db: Database, anchor: FileAnchor, seed: int, anchored: bool
) -> None:
    """Somebody changes rows and nothing else: found with and without an anchor."""
    rng = random.Random(seed)
    size = rng.randrange(20, 600)
    evidence.append(entries(0, size))
    if anchored:
        evidence.checkpoint()
    at = rng.randrange(size - 1)
    row = records.c.seq == at
    kind = ["edit", "deletion", "truncation", "content"][seed % 4]
    with db.begin() as connection:
        match kind:
            case "edit":
                connection.execute(records.update().where(row).values(tenant="evil"))
            case "content":
                connection.execute(records.update().where(row).values(content=b"forged"))
            case "deletion":
                connection.execute(records.delete().where(row))
            case "truncation":
                connection.execute(records.delete().where(records.c.seq >= at))
    report = verify(db, anchor if anchored else None)
    found = [(f.damage.value, f.first, f.end) for f in report.findings]
    expected = {"edit": ("edit", at, at), "content": ("edit", at, at), "deletion": ("deletion", at, at)}
    assert found == [expected.get(kind, ("truncation", at, size - 1))]
    assert report.anchor is anchored


def test_swap_of_neighbours_is_placed(evidence: Evidence, db: Database, anchor: FileAnchor) -> None:
    evidence.append(entries(0, 50))
    evidence.checkpoint()
    rewrite(db, lambda rows: rows.insert(20, rows.pop(21)))
    assert [(f.damage.value, f.first) for f in verify(db, anchor).findings] in ([("reorder", 20)], [("reorder", 21)])


def test_several_damages_are_all_placed(evidence: Evidence, db: Database, anchor: FileAnchor) -> None:
    evidence.append(entries(0, 400))
    evidence.checkpoint()

    def change(rows: list[dict]) -> None:
        del rows[-4:]
        rows[300]["time"] = 5
        del rows[200:203]
        rows.insert(203, {**rows[0], "id": "forged"})
        rows[100], rows[101] = rows[101], rows[100]

    rewrite(db, change)
    found = [(f.damage.value, f.first, f.end) for f in verify(db, anchor).findings]
    assert found[0][0] == "reorder"
    assert found[0][1] in {100, 101}
    assert found[1:3] == [("deletion", 200, 202), ("insertion", 203, 203)]
    assert {place for _, place, _ in found[3:]} == {300, 396}


def test_without_anchor_a_rewrite_is_not_found_and_the_report_says_so(evidence: Evidence, db: Database) -> None:
    evidence.append(entries(0, 40))
    rewrite(db, lambda rows: rows[3].update(tenant="evil"))
    report = verify(db, None)
    assert (report.state, report.anchor, report.anchored, report.unanchored) == ("ok", False, 0, 40)


def test_unanchored_tail_is_counted(evidence: Evidence, db: Database, anchor: FileAnchor) -> None:
    evidence.append(entries(0, 10))
    evidence.checkpoint()
    evidence.append(entries(10, 7))
    report = verify(db, anchor)
    assert (report.state, report.anchored, report.unanchored, report.contents) == ("ok", 10, 7, 17)


@SQLITE
@pytest.mark.parametrize("table", ["nodes", "head", "leaf"])
def test_damage_beside_the_records_is_told_apart(
    evidence: Evidence, db: Database, anchor: FileAnchor, table: str
) -> None:
    evidence.append(entries(0, 600))
    evidence.checkpoint()
    with db.begin() as connection:
        match table:
            case "nodes":
                connection.execute(nodes.update().where(nodes.c.place == 1).values(hash=b"\x00" * 32))
            case "head":
                connection.execute(head.update().values(peaks=b"\x00" * 32 * (600).bit_count()))
            case "leaf":
                connection.execute(records.update().where(records.c.seq == 300).values(leaf=b"\x00" * 32))
    found = verify(db, anchor).findings
    assert [f.damage for f in found] == [Damage.TREE]
    assert found[0].first <= 300 <= found[0].end or table == "head"


def test_damaged_anchor_is_told_apart(evidence: Evidence, db: Database, anchor: FileAnchor) -> None:
    evidence.append(entries(0, 20))
    evidence.checkpoint()
    notes = anchor._folder / "checkpoints"
    notes.write_text(notes.read_text().replace("\n20\n", "\n21\n"))
    assert [f.damage for f in verify(db, anchor).findings] == [Damage.ANCHOR]


def test_a_key_beside_the_database_is_not_believed(
    evidence: Evidence, db: Database, anchor: FileAnchor, tmp_path: Path, clock
) -> None:
    """Who owns the database and makes a new key cannot sign into the anchor's history unseen."""
    evidence.append(entries(0, 20))
    evidence.checkpoint()
    forged = KeyRing(tmp_path / "forged", "evidence", "vedette.local/evidence").signer()
    notes = anchor._folder / "checkpoints"
    head_now = verify_note(anchor.notes()[-1], anchor.keys())
    notes.write_text(forged.sign_note(head_now.text()) + "\n")
    assert verify(db, anchor).state == "tampered"


@SQLITE
def test_torn_writes_of_the_anchor_are_healed(evidence: Evidence, db: Database, anchor: FileAnchor) -> None:
    """A crash may leave part of a hash, hashes without their note, or part of a note."""
    evidence.append(entries(0, 20))
    evidence.checkpoint()
    evidence.append(entries(20, 5))
    folder = anchor._folder
    before = {name: (folder / name).read_bytes() for name in ("leaves", "checkpoints")}
    evidence.checkpoint()
    after = {name: (folder / name).read_bytes() for name in ("leaves", "checkpoints")}
    for torn_leaves in range(len(before["leaves"]), len(after["leaves"]) + 1, 13):
        for torn_note in (0, 1, 30, len(after["checkpoints"]) - len(before["checkpoints"]) - 1):
            (folder / "leaves").write_bytes(after["leaves"][:torn_leaves])
            (folder / "checkpoints").write_bytes(after["checkpoints"][: len(before["checkpoints"]) + torn_note])
            evidence.checkpoint()
            # A note that lacks only its empty line is whole: the same note may then stand there twice.
            assert sorted({verify_note(note, anchor.keys()).size for note in anchor.notes()}) == [20, 25]
            assert len(set(anchor.notes())) == 2
            assert (folder / "leaves").read_bytes() == after["leaves"]
            assert verify(db, anchor).state == "ok"


def test_a_diverged_anchor_is_refused(evidence: Evidence, anchor: FileAnchor) -> None:
    evidence.append(entries(0, 20))
    evidence.checkpoint()
    evidence.append(entries(20, 5))
    with (anchor._folder / "leaves").open("ab") as file:
        file.write(b"\x00" * 32)
    with pytest.raises(PermanentError) as caught:
        evidence.checkpoint()
    assert caught.value.code == "evidence.anchor.diverged"


def test_erasure_keeps_the_proof(evidence: Evidence, db: Database, anchor: FileAnchor) -> None:
    evidence.append(entries(0, 5))
    evidence.checkpoint()
    evidence.erase("snapshot/2", by="per_1", reason="request of the data subject")
    evidence.erase("snapshot/2", by="per_1", reason="again")
    evidence.checkpoint()
    report = verify(db, anchor)
    assert (report.state, report.size, report.erased, report.contents) == ("ok", 6, 1, 5)
    with db.begin() as connection:
        connection.execute(records.update().where(records.c.seq == 3).values(content=None))
    found = verify(db, anchor).findings
    assert [(f.damage, f.first, f.detail) for f in found] == [(Damage.EDIT, 3, "erased without a record")]
    with pytest.raises(NotFoundError):
        evidence.erase("snapshot/99", by="x", reason="y")


# The log


def test_log_records_are_collected_exactly_once(
    evidence: Evidence, db: Database, anchor: FileAnchor, clock, tmp_path: Path
) -> None:
    with SqliteLog(tmp_path / "log", clock, partitions=2) as log:
        for i in range(40):
            log.append("decision", f"card:{i}", [json.dumps({"tenant": "acme", "i": i}).encode()])
            log.append("audit", "acme", [b"not json"])
        assert Collector(evidence, log, clock).collect() == 0, "not settled yet"
        clock.advance(2)
        collectors = [Collector(evidence, log, clock), Collector(evidence, log, clock)]
        taken = [collector.collect(7) for _ in range(20) for collector in collectors]
        assert sum(taken) == evidence.size() == 80
        evidence.checkpoint()
        report = verify(db, anchor, content=from_log(log))
        assert (report.state, report.contents) == ("ok", 80)
        with db.read() as connection:
            rows = connection.execute(records.select()).all()
        assert {row.tenant for row in rows} == {"acme", ""}
        assert len({row.id for row in rows}) == 80
        forged = from_log(log)
        report = verify(db, anchor, content=lambda i: b"forged" if i == "audit/0/3" else forged(i))
        assert report.findings == [] or [(f.damage, f.id) for f in report.findings] == [(Damage.EDIT, "audit/0/3")]
        report = verify(db, anchor, content=lambda i: None if i.startswith("audit") else forged(i))
        assert {f.damage for f in report.findings} == {Damage.DELETION}
        assert len(report.findings) == 40


def test_planted_faults_would_be_seen(
    evidence: Evidence, db: Database, anchor: FileAnchor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the anchor not asked, the rewritten table would pass: the tests above can fail."""
    evidence.append(entries(0, 30))
    evidence.checkpoint()
    rewrite(db, lambda rows: edit(rows[4], random.Random(1)))
    assert verify(db, None).state == "ok"
    assert verify(db, anchor).state == "tampered"


def test_append_to_is_part_of_the_callers_transaction(evidence: Evidence, db: Database) -> None:
    def fail() -> None:
        with db.begin() as connection:
            append_to(connection, entries(0, 3), keep=True)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert evidence.size() == 0
    assert evidence.checkpoint().root == EMPTY_ROOT


def test_a_row_that_is_no_text_is_placed(evidence: Evidence, anchor: FileAnchor, tmp_path: Path) -> None:
    evidence.append(entries(0, 20))
    evidence.checkpoint()
    if not evidence.db.is_sqlite:
        return
    with evidence.db.begin() as connection:
        connection.exec_driver_sql("update evidence_records set tenant = cast(x'ff41' as text) where seq = 7")
    report = verify(evidence.db, anchor)
    assert report.state == "tampered"
    assert report.findings[0].first <= 7 <= report.findings[0].end


def test_damaged_anchor_files_never_raise(evidence: Evidence, db: Database, anchor: FileAnchor) -> None:
    evidence.append(entries(0, 20))
    evidence.checkpoint()
    rng = random.Random(7)
    kept = {path: path.read_bytes() for path in anchor._folder.iterdir()}
    for _ in range(60):
        path = rng.choice(sorted(kept))
        data = bytearray(kept[path])
        at = rng.randrange(len(data))
        data[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
        path.write_bytes(bytes(data))
        verify(db, anchor)
        path.write_bytes(kept[path])
    assert verify(db, anchor).state == "ok"


@SQLITE
def test_a_changed_log_file_is_found_and_placed(
    evidence: Evidence, db: Database, anchor: FileAnchor, clock, tmp_path: Path
) -> None:
    """Somebody edits, breaks or removes a batch in the log's own file."""
    with SqliteLog(tmp_path / "log", clock) as log:
        for i in range(30):
            log.append("decision", "k", [b'{"tenant":"acme","n":%d}' % (3 * i + k) for k in range(3)])
        clock.advance(2)
        Collector(evidence, log, clock, topics=["decision"]).collect()
        evidence.checkpoint()
    path = tmp_path / "log" / "decision.db"
    whole = path.read_bytes()
    changes = {
        "update batch set payload = replace(payload, '\"n\":30', '\"n\":99') where place = 30": Damage.EDIT,
        "update batch set payload = x'c1' where place = 30": Damage.EDIT,
        "delete from batch where place = 30": Damage.DELETION,
    }
    for change, damage in changes.items():
        path.write_bytes(whole)
        with sqlite3.connect(path) as connection:
            if "replace" in change:
                payload = connection.execute("select payload from batch where place = 30").fetchone()[0]
                forged = payload.replace(b'"n":30', b'"n":99')
                assert forged != payload
                connection.execute("update batch set payload = ? where place = 30", (forged,))
            else:
                assert connection.execute(change).rowcount == 1
        connection.close()
        with SqliteLog(tmp_path / "log", clock) as log:
            found = verify(db, anchor, content=from_log(log)).findings
        assert (found[0].damage, found[0].id) == (damage, "decision/0/30"), change
        assert {f.id for f in found} <= {f"decision/0/{i}" for i in (30, 31, 32)}


def test_writers_at_once_keep_one_order(evidence: Evidence, db: Database, anchor: FileAnchor) -> None:
    """Four threads append overlapping batches while one signs: each id once, every checkpoint consistent."""
    failures: list[BaseException] = []

    def write(offset: int) -> None:
        try:
            for first in range(offset, 60, 2):
                evidence.append(entries(first, 5))
                if offset == 0 and first % 10 == 0:
                    evidence.checkpoint()
        except Exception as error:  # noqa: BLE001 -- reported below, in the main thread
            failures.append(error)

    threads = [threading.Thread(target=write, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    evidence.checkpoint()
    report = verify(db, anchor)
    assert (report.state, report.size, report.unanchored) == ("ok", 64, 0)
