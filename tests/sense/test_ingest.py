"""Every record is accounted for: read = stored + quarantined + duplicate, per source."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import FakeClock

from vedette.sense import ingest
from vedette.sense.files import Limits
from vedette.sense.ingest import Counts, Ingest
from vedette.sense.quarantine import Quarantine, Refused
from vedette.sense.sources import load_sources
from vedette.sense.store import Store

SOURCES = load_sources()
NOW = 1_800_000_000_000_000


def work(home: Path, tenant: str = "acme", **limits: int) -> Ingest:
    return Ingest(
        Store(home),
        Quarantine(Store(home).folder),
        SOURCES,
        tenant=tenant,
        clock=FakeClock(NOW),
        limits=Limits(**limits),
    )


def quarantined(home: Path, tenant: str = "acme") -> list[dict[str, object]]:
    dataset = Quarantine(home).table.dataset([tenant])
    return [] if dataset is None else dataset.to_table().to_pylist()


def stored(home: Path, name: str, tenant: str = "acme") -> list[dict[str, object]]:
    dataset = Store(home).table(name).dataset([tenant])
    return [] if dataset is None else [json.loads(text) for text in dataset.to_table()["data"].to_pylist()]


record = st.one_of(
    st.builds(
        lambda n: b'{"eventID": "id%d", "eventTime": "2024-01-01T00:00:00Z", "eventName": "x"}' % n, st.integers(0, 5)
    ),
    st.builds(lambda n: b'{"eventTime": "2024-01-%02dT00:00:00Z", "eventName": "x"}' % n, st.integers(1, 40)),
    st.sampled_from(
        [
            b"junk",
            b"[]",
            b'{"eventTime": 5}',
            b'{"eventTime": "2099-01-01T00:00:00Z"}',
            b"",
            b"z" * 200,
            b'{"a": "\xff"}',
        ]
    ),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=15, deadline=None
)
@given(records=st.lists(record, max_size=25), packed=st.booleans(), cut=st.integers(0, 30), batch=st.integers(1, 10))
def test_the_identity_holds_and_a_second_reading_adds_nothing(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], packed: bool, cut: int, batch: int
) -> None:
    home = tmp_path_factory.mktemp("home")
    content = b"\n".join(records)
    if packed:
        content = gzip.compress(content, mtime=0)
        content = content[: max(len(content) - cut, 3)]
    (home / "f.log").write_bytes(content)
    before = ingest.BATCH_RECORDS
    ingest.BATCH_RECORDS = batch
    try:
        first = work(home / "s", line_bytes=100, chunk_bytes=64).run([home / "f.log"], source=SOURCES["cloudtrail"])
        second = work(home / "s", line_bytes=100, chunk_bytes=64).run([home / "f.log"], source=SOURCES["cloudtrail"])
    finally:
        ingest.BATCH_RECORDS = before
    for counts in (*first.values(), *second.values()):
        assert counts.read == counts.stored + counts.quarantined + counts.duplicate
    read = first["cloudtrail"] if first else Counts()
    assert len(stored(home / "s", "cloudtrail")) == read.stored
    assert len(quarantined(home / "s")) == read.quarantined
    assert {name: asdict(each) for name, each in second.items()} == {
        name: {"read": each.read, "stored": 0, "quarantined": 0, "duplicate": each.read} for name, each in first.items()
    }
    if not packed:
        assert read.read == sum(line != b"" for line in records)


def test_quarantine_tells_reason_place_and_bytes(tmp_path: Path) -> None:
    lines = [
        b'{"eventTime": "2024-01-01T00:00:00Z"}',
        b"\xff\xfejunk",
        b'{"eventTime": "2037-02-01T00:00:00Z"}',
        b"y" * 300,
    ]
    (tmp_path / "f.log").write_bytes(b"\n".join(lines))
    counts = work(tmp_path / "s", line_bytes=200).run([tmp_path / "f.log"], source=SOURCES["cloudtrail"])
    assert counts == {"cloudtrail": Counts(read=4, stored=1, quarantined=3)}
    found = sorted(quarantined(tmp_path / "s"), key=lambda row: str(row["line"]))
    assert [(row["code"], row["line"], row["offset"], row["raw"]) for row in found] == [
        ("sources.json.encoding", 2, 38, lines[1]),
        ("event.time.future", 3, 45, lines[2]),
        ("files.line.too_long", 4, 83, lines[3]),
    ]
    assert {(row["source"], row["tenant"]) for row in found} == {("cloudtrail", "acme")}
    assert all(str(row["stream"]).startswith(str(tmp_path / "f.log")) for row in found)
    assert quarantined(tmp_path / "s", "other") == []


def test_honest_repeats_are_events_and_own_ids_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b'{"eventTime": "2024-01-01T00:00:00Z"}\n' * 3)
    (tmp_path / "b.log").write_bytes(b'{"eventTime": "2024-01-01T00:00:00Z", "eventID": "x"}\n' * 3)
    counts = work(tmp_path / "s").run([tmp_path / "a.log", tmp_path / "b.log"], source=SOURCES["cloudtrail"])
    assert counts == {"cloudtrail": Counts(read=6, stored=4, duplicate=2)}


def test_a_file_that_grows_gives_its_new_records_and_a_rotated_one_all(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    line = b'{"eventTime": "2024-01-01T00:00:00Z", "n": %d}\n'
    path.write_bytes(line % 1 + line % 2)
    work(tmp_path / "s").run([path], source=SOURCES["cloudtrail"])
    path.write_bytes(line % 1 + line % 2 + line % 3)
    assert work(tmp_path / "s").run([path], source=SOURCES["cloudtrail"])["cloudtrail"] == Counts(3, 1, 0, 2)
    path.write_bytes(line % 4 + line % 5)
    assert work(tmp_path / "s").run([path], source=SOURCES["cloudtrail"])["cloudtrail"] == Counts(2, 2, 0, 0)
    moved = path.rename(tmp_path / "moved.log")
    again = work(tmp_path / "s").run([moved], source=SOURCES["cloudtrail"], stream=str(path))
    assert again["cloudtrail"] == Counts(2, 0, 0, 2)


def test_sources_are_recognised_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.log").write_bytes(b'type=CWD msg=audit(1604996384.965:1): cwd="/"\n')
    (tmp_path / "in" / "b.json").write_bytes(b'{"_path": "conn", "ts": 1}\n')
    (tmp_path / "in" / "c.txt").write_bytes(b"who knows\n")
    (tmp_path / "in" / "d.log.gz").write_bytes(b"no gzip")
    counts = work(tmp_path / "s").run(sorted((tmp_path / "in").iterdir())[:3])
    assert counts == {"auditd": Counts(1, 1), "zeek": Counts(1, 1), "unknown": Counts(1, 0, 1)}
    counts = work(tmp_path / "s2").run([tmp_path / "in"])
    assert counts["unknown"] == Counts(2, 0, 2)
    assert sorted(str(row["code"]) for row in quarantined(tmp_path / "s2")) == [
        "files.gzip.not_gzip",
        "sources.sniff.unknown",
    ]


def test_tenants_do_not_share_rows(tmp_path: Path) -> None:
    (tmp_path / "f.log").write_bytes(b'{"eventTime": "2024-01-01T00:00:00Z"}\njunk')
    for tenant in ("acme", "other"):
        assert work(tmp_path / "s", tenant).run([tmp_path / "f.log"], source=SOURCES["cloudtrail"])[
            "cloudtrail"
        ] == Counts(2, 1, 1)
        assert len(stored(tmp_path / "s", "cloudtrail", tenant)) == len(quarantined(tmp_path / "s", tenant)) == 1


def test_a_refused_record_is_not_printed() -> None:
    row = Refused("acme", "x", NOW, "c", "m", "s", 1, 0, b"4111111111111111")
    assert "4111" not in repr(row)


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("aws/cloudtrail_campaign", 2_900),
        ("linux/auditd", 18),
        ("linux/log4shell", 148),
        ("network/suricata_alerts", 548),
        ("windows/evtx_to_mitre", 10_011),
    ],
)
def test_public_logs_are_stored_whole(shared_data: Path, tmp_path: Path, path: str, count: int) -> None:
    counts = work(tmp_path).run([shared_data / f"{path}.ndjson.gz"])
    assert list(counts.values()) == [Counts(read=count, stored=count)]


@pytest.mark.soak
@pytest.mark.parametrize(("path", "count"), [("network/zeek", 134_828), ("windows/captures", 361_100)])
def test_big_public_logs_are_stored_whole(shared_data: Path, tmp_path: Path, path: str, count: int) -> None:
    counts = work(tmp_path).run([shared_data / f"{path}.ndjson.gz"])
    assert list(counts.values()) == [Counts(read=count, stored=count)]


def test_a_delivered_document_gives_its_records(tmp_path: Path) -> None:
    records = [
        {"eventTime": "2024-01-01T00:00:00Z", "eventSource": "s3", "eventName": f"e{n}", "awsRegion": "x"}
        for n in range(5)
    ]
    documents = [{"Records": [*records, 7]}, {"Records": records[:2]}, records[0], {"Records": {}}]
    content = b"\n".join(
        [
            *(json.dumps(each).encode() for each in documents),
            b'{"Records":[{]}',
            b'{"Records":[' + b"[" * 500 + b"]" * 501 + b"}",
        ]
    )
    (tmp_path / "f.json.gz").write_bytes(gzip.compress(content))
    counts = work(tmp_path / "s").run([tmp_path / "f.json.gz"])
    assert counts == {"cloudtrail": Counts(read=12, stored=8, quarantined=4)}
    assert work(tmp_path / "s").run([tmp_path / "f.json.gz"])["cloudtrail"] == Counts(12, 0, 0, 12)
    codes = sorted(str(row["code"]) for row in quarantined(tmp_path / "s"))
    assert codes == ["event.time.unparsable", "sources.json.depth", "sources.json.not_object", "sources.json.syntax"]


def test_card_numbers_in_logs_are_kept_nowhere(tmp_path):
    """The record stays, the number goes: from events, whether text, number or key, and from what is refused."""
    number = "4242424242424242"
    pretty = "4242 4242 4242 4242"
    record = {
        "eventVersion": "1.08", "eventTime": "2023-07-10T11:42:36Z", "eventSource": "s3.amazonaws.com",
        "eventName": "GetObject", "awsRegion": "eu-west-1", "eventID": "e-1",
        "requestParameters": {"note": f"card {pretty} declined", "pan": int(number), number: 1, "list": [number]},
    }  # fmt: skip
    file = tmp_path / "trail.ndjson"
    file.write_text(json.dumps(record) + f"\n{{broken {number}\n")
    ingest = work(tmp_path / "store")
    ingest.run([file])
    assert asdict(ingest.counts["cloudtrail"]) == {"read": 2, "stored": 1, "quarantined": 1, "duplicate": 0}
    rows = Store(tmp_path / "store").table("cloudtrail").dataset(["acme"]).to_table().to_pylist()
    kept = json.loads(rows[0]["data"])["requestParameters"]
    mark = "[card number: visa]"
    assert kept == {"note": f"card {mark} declined", "pan": mark, mark: 1, "list": [mark]}
    (refused,) = Store(tmp_path / "store").table("quarantine").dataset(["acme"]).to_table().to_pylist()
    assert (number.encode() in refused["raw"], mark.encode() in refused["raw"]) == (False, True)
