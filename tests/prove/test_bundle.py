"""A bundle verifies on a machine that has nothing but Python and `cryptography`; any change of it does not."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from vedette.core.db import Database, open_database
from vedette.core.errors import NotFoundError
from vedette.prove import verifier
from vedette.prove.evidence import Entry, Evidence, FileAnchor
from vedette.prove.evidence.bundle import Choice, to_bundle
from vedette.prove.keys import KeyRing
from vedette.prove.verifier import Invalid, verify_bundle


@pytest.fixture
def evidence(tmp_path: Path, clock) -> Evidence:
    signer = KeyRing(tmp_path / "keys", "evidence", "vedette.local/evidence").signer()
    made = Evidence(open_database(tmp_path / "state.db"), signer, FileAnchor(tmp_path / "anchor"), clock)
    for first in (0, 40, 300):
        count = 30 if first < 300 else 500
        made.append([Entry(f"s/{i}", f"t{i % 2}", "s", i, b"content %d" % i) for i in range(first, first + count)])
        made.checkpoint()
    return made


def lines(evidence: Evidence, choice: Choice, *, content: bool = True) -> list[str]:
    found = to_bundle(evidence.db, evidence.anchor, choice, content=(lambda _: None) if content else None)
    return [line.decode() for line in found]


def test_whole_bundle_verifies(evidence: Evidence) -> None:
    report = verify_bundle(iter(lines(evidence, Choice())), evidence.anchor.keys())
    assert (report.records, report.contents, report.checkpoint.size, report.earlier.size) == (560, 560, 560, 30)
    assert not report.own_key
    report = verify_bundle(iter(lines(evidence, Choice(), content=False)))
    assert (report.contents, report.own_key) == (0, True)


def test_choice_keeps_tenants_apart(evidence: Evidence) -> None:
    chosen = lines(evidence, Choice(tenant="t1", first=10, last=50))
    records = [json.loads(line) for line in chosen[1:]]
    assert {entry["record"]["tenant"] for entry in records} == {"t1"}
    assert min(entry["index"] for entry in records) >= 10
    assert '"t0"' not in "".join(chosen)
    assert verify_bundle(iter(chosen)).records == len(records)
    assert len(lines(evidence, Choice(id="s/7"))) == 2
    with pytest.raises(NotFoundError):
        lines(evidence, Choice(id="nothing"))


@pytest.mark.parametrize("seed", range(40))
def test_any_change_is_found(evidence: Evidence, seed: int) -> None:
    rng = random.Random(seed)
    chosen = lines(evidence, Choice(first=20, last=60))
    entry = json.loads(chosen[5])
    match seed % 8:
        case 0:
            entry["record"]["time"] += 1
        case 1:
            entry["content"] = base64.b64encode(b"forged").decode()
        case 2:
            entry["index"] += 1
        case 3:
            entry["proof"].pop(rng.randrange(len(entry["proof"])))
        case 4:
            at = rng.randrange(len(entry["proof"]))
            entry["proof"][at] = base64.b64encode(rng.randbytes(32)).decode()
        case 5:
            entry["record"]["extra"] = 1
        case 6:
            del chosen[7]
        case 7:
            header = json.loads(chosen[0])
            header["earlier"]["proof"][0] = base64.b64encode(rng.randbytes(32)).decode()
            chosen[0] = json.dumps(header)
    chosen[5] = json.dumps(entry)
    with pytest.raises(Invalid):
        verify_bundle(iter(chosen))


def test_another_key_is_refused(evidence: Evidence, tmp_path: Path) -> None:
    other = KeyRing(tmp_path / "other", "evidence", "vedette.local/evidence").signer()
    with pytest.raises(Invalid, match="no trusted key"):
        verify_bundle(iter(lines(evidence, Choice())), [other.verifier])


def test_the_program_stands_alone(evidence: Evidence, tmp_path: Path) -> None:
    """Copied elsewhere, isolated from the product's own path, it verifies, and it says no with exit code 1."""
    program = tmp_path / "alone" / "verifier.py"
    program.parent.mkdir()
    program.write_bytes(Path(verifier.__file__).read_bytes())
    path = tmp_path / "a.bundle"
    path.write_text("".join(lines(evidence, Choice(first=3, last=4))))
    block = "import sys, runpy; sys.modules['vedette'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-c", block, str(program), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "alone", check=False)

    good = run(str(path), "--key", str(evidence.anchor.keys()[0]))
    assert (good.returncode, good.stdout.split("\n")[0]) == (
        0,
        "verified: 2 records (2 with content) in the tree of vedette.local/evidence",
    )
    path.write_text(path.read_text().replace('"time":3', '"time":4'))
    bad = run(str(path))
    assert bad.returncode == 1
    assert bad.stdout.startswith("NOT VERIFIED: line 2: record 3 (s/3) is not in the signed tree")
    for broken in ("", "{}", "[]", "[" * 100_000, '{"format":"vedette.evidence.bundle/1"}', "\x00"):
        path.write_text(broken)
        assert run(str(path)).returncode == 1


def test_nothing_anchored(db: Database, tmp_path: Path, clock) -> None:
    signer = KeyRing(tmp_path / "keys", "evidence", "vedette.local/evidence").signer()
    empty = Evidence(db, signer, FileAnchor(tmp_path / "none"), clock)
    with pytest.raises(NotFoundError):
        lines(empty, Choice())
