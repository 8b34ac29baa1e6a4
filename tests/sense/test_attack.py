"""ATT&CK as imported: ids old and new, order of tactics from the matrix, and bundles that are no bundles."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from vedette.cli.main import build, verbs
from vedette.core.errors import DataError, NotFoundError
from vedette.sense.intel import bundle
from vedette.sense.intel.attack import Attack, Technique, parent, tactic_of, technique_of
from vedette.sense.intel.bundle import Imported, keep_attack, kept_attack, load_attack, need_attack, parse_attack

TACTICS = [("TA0043", "Reconnaissance"), ("TA0001", "Initial Access"), ("TA0006", "Credential Access")]


def pattern(own: str, name: str, *phases: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "attack-pattern",
        "id": f"attack-pattern--{own}",
        "name": name,
        "modified": "2026-01-02T00:00:00Z",
        "external_references": [{"source_name": "mitre-attack", "external_id": own}],
        "kill_chain_phases": [{"kill_chain_name": "mitre-attack", "phase_name": phase} for phase in phases],
        **more,
    }


def relation(kind: str, source: str, target: str, **more: Any) -> dict[str, Any]:
    return {"type": "relationship", "relationship_type": kind, "source_ref": source, "target_ref": target, **more}


def document(*extra: dict[str, Any]) -> bytes:
    tactics = [
        {
            "type": "x-mitre-tactic",
            "id": f"x-mitre-tactic--{own}",
            "name": name,
            "x_mitre_shortname": name.lower().replace(" ", "-"),
            "external_references": [{"source_name": "mitre-attack", "external_id": own}],
        }
        # Not in the order of the matrix, as in the real file.
        for own, name in reversed(TACTICS)
    ]
    group = {
        "type": "intrusion-set",
        "id": "intrusion-set--1",
        "name": "Grey Fox",
        "aliases": ["Grey Fox", "UNC1"],
        "external_references": [{"source_name": "mitre-attack", "external_id": "G0001"}],
    }
    objects = [
        *tactics,
        {"type": "x-mitre-matrix", "tactic_refs": [f"x-mitre-tactic--{own}" for own, _ in TACTICS]},
        pattern("T1595", "Active Scanning", "reconnaissance"),
        pattern("T1078", "Valid Accounts", "credential-access", "initial-access"),
        pattern("T1110", "Brute Force", "credential-access"),
        pattern("T1110.003", "Password Spraying", "credential-access"),
        pattern("T1562", "Impair Defenses", "credential-access", revoked=True),
        pattern("T1685", "Disable or Modify Tools", "credential-access"),
        pattern("T1064", "Scripting", "initial-access", x_mitre_deprecated=True),
        relation("revoked-by", "attack-pattern--T1562", "attack-pattern--T1685"),
        group,
        relation("uses", "intrusion-set--1", "attack-pattern--T1562"),
        relation("uses", "intrusion-set--1", "attack-pattern--T1110.003"),
        *extra,
    ]
    return json.dumps({"type": "bundle", "id": "bundle--1", "objects": objects}).encode()


@pytest.fixture(scope="session")
def small() -> Attack:
    return parse_attack(document())


@pytest.fixture(scope="session")
def real(shared_data: Path) -> Attack:
    intel = shared_data / "intel"
    return load_attack(intel / "attack-enterprise-18.1-trim.stix21.json.gz", intel / "attack-v19-crosswalk.tsv")


def test_revoked_by_of_the_bundle(small: Attack) -> None:
    assert small.current("t1562") == "T1685"
    assert small.techniques["T1562"].revoked_by == "T1685"
    assert small.techniques["T1064"].deprecated
    assert small.current("T9999") == "T9999"
    assert not small.knows("T9999")
    assert small.knows("t1562")


def test_revoked_without_an_heir_is_withdrawn() -> None:
    attack = parse_attack(document(pattern("T1000", "Gone", revoked=True)))
    assert attack.techniques["T1000"].deprecated
    assert attack.current("T1000") == "T1000"


def test_a_circle_of_revocations_ends() -> None:
    one, other = pattern("T1001", "a", revoked=True), pattern("T1002", "b", revoked=True)
    circle = [relation("revoked-by", one["id"], other["id"]), relation("revoked-by", other["id"], one["id"])]
    assert parse_attack(document(one, other, *circle)).current("T1001") in {"T1001", "T1002"}


def test_crosswalk_over_an_older_bundle(real: Attack) -> None:
    assert real.version == "18.1"
    assert len(real.tactics) == 14
    assert real.current("T1562.008") == "T1685.002"
    assert real.current("T1562") == real.current("T1562.001") == "T1685"
    # The bundle does not know these: what they are is taken from what they replace.
    assert real.techniques["T1685.002"].name == "Disable or Modify Cloud Logs"
    assert real.techniques["T1685"].name == "Disable or Modify Tools"
    assert real.knows("T1686")
    assert all(real.knows(parent(name)) for name, one in real.techniques.items() if parent(name) and not one.revoked_by)
    assert not real.knows("T1699")


def test_the_bundle_wins_over_the_crosswalk() -> None:
    assert parse_attack(document(), {"T1562": "T1110"}).current("T1562") == "T1685"


@given(st.dictionaries(st.sampled_from("ABCDEF"), st.sampled_from("ABCDEF"), max_size=6))
def test_current_is_the_end_of_the_chain(pairs: dict[str, str]) -> None:
    techniques = {name: Technique(name, name, revoked_by=pairs.get(name, "")) for name in "ABCDEF"}
    attack = Attack("", "", techniques)
    for name in "ABCDEF":
        seen, at = [name], name
        while pairs.get(at) and pairs[at] not in seen:
            at = pairs[at]
            seen.append(at)
        found = attack.current(name)
        assert found == at if not pairs.get(at) else found in seen
        assert attack.current(name.lower()) == found


def test_tags(small: Attack) -> None:
    assert technique_of("attack.t1110.003") == "T1110.003"
    assert technique_of("attack.credential-access") == technique_of("cve.t1110") == ""
    assert tactic_of("attack.credential_access") == tactic_of("attack.Credential-Access") == "credential-access"
    assert small.ids(["attack.t1562", "attack.t1685", "attack.t1110", "car.2013"]) == ("T1685", "T1110")
    assert small.alike("T1110.003", "T1110")
    assert small.alike("T1562", "T1685")
    assert not small.alike("T1110", "T1078")


def test_stage_is_the_tactic_told_else_the_first_of_the_technique(small: Attack) -> None:
    assert small.stage(["attack.t1078"]) == 1  # of its two tactics, the one that stands first in the matrix
    assert small.stage(["attack.t1078", "attack.credential-access"]) == 2
    assert small.stage(["attack.t1110.003"]) == 2
    assert small.stage(["attack.stealth", "cve.2021"]) is None


def test_chain_shows_gaps_and_keeps_what_has_no_stage(small: Attack) -> None:
    items = [("attack.t1110", 3), ("attack.t1595", 9), ("attack.t1110", 1), ("other", 2)]
    chain = small.chain(items, tags=lambda one: [one[0]], time=lambda one: one[1])
    assert [(link.tactic.short if link.tactic else "", [time for _, time in link.found]) for link in chain] == [
        ("reconnaissance", [9]),
        ("initial-access", []),
        ("credential-access", [1, 3]),
        ("", [2]),
    ]
    assert small.chain([], tags=lambda _: [], time=lambda _: 0) == ()


def test_groups(small: Attack, real: Attack) -> None:
    fox = small.group("unc1")
    assert fox
    assert fox.techniques == ("T1110.003", "T1562")
    assert small.group("g0001") is fox
    assert small.group("nobody") is None
    north = real.group("APT38")
    assert north
    assert "T1562.004" in north.techniques or len(north.techniques) > 20


def test_version_by_collection_else_name_else_day() -> None:
    said = {"type": "x-mitre-collection", "x_mitre_version": "19.1"}
    assert parse_attack(document(said), name="enterprise-attack-18.0.json").version == "19.1"
    assert parse_attack(document(), name="enterprise-attack-18.0.json").version == "18.0"
    assert parse_attack(document(), name="attack-enterprise-18.1-trim.json.gz").version == "18.1"
    assert parse_attack(document(), name="bundle.json").version == "2026-01-02"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "intel.attack.invalid"),
        (b"[1]", "intel.attack.invalid"),
        (b'{"type": "bundle", "objects": 3}', "intel.attack.invalid"),
        (b'{"type": "bundle", "objects": []}', "intel.attack.empty"),
        (document().replace(b'"bundle"', b'"bindle"', 1), "intel.attack.empty"),
        (gzip.compress(document())[:-9], "intel.attack.invalid"),
        (b"\x1f\x8bnot gzip", "intel.attack.invalid"),
        (b"[" * 100_000, "intel.attack.invalid"),
    ],
)
def test_what_is_no_bundle(content: bytes, code: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_attack(content)
    assert caught.value.code == code


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_BYTES", 10_000)
    with pytest.raises(DataError) as caught:
        parse_attack(gzip.compress(b" " * 20_000))
    assert caught.value.code == "intel.attack.too_large"


def test_crosswalk_lines() -> None:
    assert bundle.parse_crosswalk(b"revoked\treplaced_by\nT1562\tT1685\n\n") == {"T1562": "T1685"}
    with pytest.raises(DataError) as caught:
        bundle.parse_crosswalk(b"T1562\tT1685\nT1562 T1685\n")
    assert caught.value.code == "intel.crosswalk.invalid"
    assert "line 2" in str(caught.value)


def test_kept_in_the_home(tmp_path: Path, small: Attack) -> None:
    assert kept_attack(tmp_path) is None
    with pytest.raises(NotFoundError):
        need_attack(tmp_path)
    keep_attack(tmp_path, Imported(small, "here", 7))
    assert need_attack(tmp_path) == small
    (tmp_path / "intel" / "attack.json").write_bytes(b"{")
    with pytest.raises(DataError) as caught:
        kept_attack(tmp_path)
    assert caught.value.code == "intel.attack.damaged"


@pytest.fixture
def server() -> Iterator[str]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if "attack" in self.path else 404)
            self.end_headers()
            self.wfile.write(gzip.compress(document()))

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
        thread.join()


def run(*words: str) -> Any:
    return CliRunner().invoke(build(words, verbs()), list(words))


def test_import_from_a_url_goes_through_egress(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("intel", "import", "attack", f"{server}/enterprise-attack-19.2.json", "--home", str(tmp_path), "--json")
    refused = run(*words)
    assert getattr(refused.exception, "code", "") == "egress.scheme.refused"
    assert kept_attack(tmp_path) is None
    monkeypatch.setenv("VEDETTE_EGRESS_ALLOW", "127.0.0.1")
    done = run(*words)
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["version"] == "19.2"
    assert need_attack(tmp_path).current("T1562") == "T1685"
    lost = run("intel", "import", "attack", f"{server}/missing", "--home", str(tmp_path))
    assert getattr(lost.exception, "code", "") == "intel.attack.refused"


def test_show(tmp_path: Path, small: Attack) -> None:
    keep_attack(tmp_path, Imported(small, "here", 7))
    shown = json.loads(run("intel", "show", "t1562", "--home", str(tmp_path), "--json").stdout)
    assert (shown["id"], shown["tactics"], shown["groups"]) == ("T1685", ["Credential Access"], ["Grey Fox"])
    assert json.loads(run("intel", "show", "--home", str(tmp_path), "--json").stdout)["groups"] == 1
    assert "Grey Fox" in run("intel", "show", "T1685", "--home", str(tmp_path)).stdout
    missing = run("intel", "show", "T9999", "--home", str(tmp_path))
    assert getattr(missing.exception, "code", "") == "intel.technique.unknown"
