"""Source files: each is checked by the samples beside it, and by the public logs it was made for."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.clock import to_iso
from vedette.core.content import shipped
from vedette.core.errors import DataError, DefinitionError, Problems
from vedette.sense.ocsf import view
from vedette.sense.sources import computed_id, load_source, load_sources, sniff
from vedette.sense.store import promoted

SOURCES = load_sources()
NOW = 1_800_000_000_000_000


def samples() -> list[Any]:
    found = []
    for file in sorted((shipped("sources") / "tests").glob("*.ndjson")):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            found.append(pytest.param(file.stem, json.loads(line), id=f"{file.stem}-{number}"))
    return found


def raw_of(record: object) -> bytes:
    return record.encode() if isinstance(record, str) else json.dumps(record).encode()


@pytest.mark.parametrize(("name", "sample"), samples())
def test_sample(name: str, sample: dict[str, Any]) -> None:
    source, expect = SOURCES[name], sample["expect"]
    raw = raw_of(sample["record"])
    data = source.parse(raw)
    assert source.parse_many([raw]) == [data]
    assert source.recognises(data)
    event = source.to_event(data, tenant="acme", stream="f", offset=7, ingest_time=NOW)
    seen = {
        "id": event.id,
        "event_time": to_iso(event.event_time),
        "class_uid": event.class_uid,
        "entities": [entity.key for entity in event.entities],
    }
    ocsf = view(event, source)
    for what, value in expect.items():
        if what == "data":
            assert {key: data.get(key) for key in value} == value
        elif what == "without":
            assert not set(value) & set(data)
        elif what == "ocsf":
            assert {path: ocsf.get(path) for path in value} == value
        else:
            assert seen[what] == value
    if not source.definition.id:
        assert event.id == computed_id("acme", name, "f", 7)


def test_every_source_has_samples_and_columns() -> None:
    tested = {file.stem for file in (shipped("sources") / "tests").glob("*.ndjson")}
    assert tested == set(SOURCES)
    for source in SOURCES.values():
        promoted(source)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_sniff_knows_its_own_samples(name: str) -> None:
    records = [raw_of(param.values[1]["record"]) for param in samples() if param.values[0] == name]
    assert sniff(records, SOURCES).name == name


@pytest.mark.parametrize(("name", "sample"), samples())
def test_no_other_source_claims_a_record_as_well(name: str, sample: dict[str, Any]) -> None:
    raw = raw_of(sample["record"])
    claims = {}
    for other, source in SOURCES.items():
        (data,) = source.parse_many([raw])
        claims[other] = 0 if isinstance(data, DataError) else source.recognises(data)
    own = claims.pop(name)
    assert own > max(claims.values()), claims


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("windows/evtx_to_mitre", "windows"),
        ("windows/captures", "windows"),
        ("sigma/regression", "windows"),
        ("aws/cloudtrail_campaign", "cloudtrail"),
        ("linux/auditd", "auditd"),
        ("linux/log4shell", "syslog"),
        ("network/zeek", "zeek"),
        ("network/suricata_alerts", "suricata"),
    ],
)
def test_public_logs_are_recognised_and_read(shared_data: Path, path: str, name: str) -> None:
    with gzip.open(shared_data / f"{path}.ndjson.gz") as file:
        records = [line.rstrip(b"\n") for line in islice(file, 2_000)]
    source = sniff(records, SOURCES)
    assert source.name == name
    for data in source.parse_many(records):
        assert isinstance(data, dict)
        source.to_event(data, tenant="t", stream="s", offset=0, ingest_time=NOW)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Okta.SystemLog", "identity"),
        ("AWS.CloudTrail", "cloudtrail"),
        ("Osquery.Differential", "osquery"),
        ("Azure.MonitorActivity", "azure"),
        ("Azure.Audit", "azure"),
        ("GCP.AuditLog", "gcp"),
        ("GSuite.ActivityEvent", "google_workspace"),
        ("GitHub.Audit", "github"),
        ("GitHub.Webhook", "github_webhook"),
        ("Slack.AuditLogs", "slack"),
        ("OneLogin.Events", "onelogin"),
        ("Notion.AuditLogs", "notion"),
        ("Auth0.Events", "auth0"),
        ("Databricks.Audit", "databricks"),
    ],
)
def test_public_schemas_are_recognised(shared_data: Path, kind: str, name: str) -> None:
    with gzip.open(shared_data / "labelled" / "rule_tests.ndjson.gz") as file:
        rows = [json.loads(line) for line in file]
    records = [json.dumps(row["event"]).encode() for row in rows if row["_log_types"] == [kind]]
    assert len(records) >= 8
    assert sniff(records, SOURCES).name == name


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "sources.json.syntax"),
        (b"{", "sources.json.syntax"),
        (b'{"a": NaN}', "sources.json.syntax"),
        (b'{"a": 1e999}', "sources.json.syntax"),
        (b'{"a": "\\ud800"}', "sources.json.syntax"),
        (b'{"a": "\xff"}', "sources.json.encoding"),
        (b"[1]", "sources.json.not_object"),
        (b"null", "sources.json.not_object"),
        (b"7", "sources.json.not_object"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "sources.json.depth"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "sources.json.depth"),
        (b'{"a":' + b"[" * 5_000_000, "sources.json.depth"),
    ],
)
@pytest.mark.parametrize("name", ["windows", "cloudtrail"])
def test_bad_records_are_coded_and_alone(raw: bytes, code: str, name: str) -> None:
    good = b'{"a": 1}'
    first, error, last = SOURCES[name].parse_many([good, raw, good])
    assert first == last == {"a": 1}
    assert isinstance(error, DataError)
    assert error.code == code
    with pytest.raises(DataError) as caught:
        SOURCES[name].parse(raw)
    assert caught.value.code == code


def test_depth_limit_is_exact_and_brackets_in_text_do_not_count() -> None:
    source = SOURCES["cloudtrail"]
    assert isinstance(source.parse_many([b'{"a":' * 100 + b"1" + b"}" * 100])[0], dict)
    assert source.parse_many([json.dumps({"a": "[{" * 500}).encode()]) == [{"a": "[{" * 500}]


def test_last_of_equal_names_counts() -> None:
    assert SOURCES["cloudtrail"].parse(b'{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({}, "event.time.unparsable"),
        ({"eventTime": "soon"}, "event.time.unparsable"),
        ({"eventTime": ["2020-01-01"]}, "event.time.unparsable"),
        ({"eventTime": {"a": 1}}, "event.time.unparsable"),
        ({"eventTime": True}, "event.time.unparsable"),
        ({"eventTime": "2037-01-16T00:00:00Z"}, "event.time.future"),
        ({"eventTime": "1969-12-31T23:59:59Z"}, "event.time.unparsable"),
    ],
)
def test_bad_times(data: dict[str, Any], code: str) -> None:
    with pytest.raises(DataError) as caught:
        SOURCES["cloudtrail"].to_event(data, tenant="t", stream="s", offset=0, ingest_time=NOW)
    assert caught.value.code == code


@pytest.mark.parametrize("own", [None, "", True, 1.5, [1], {"a": 1}, "x" * 300])
def test_an_unusable_own_id_gives_the_computed_one(own: object) -> None:
    data = {"eventID": own, "eventTime": "2020-01-01T00:00:00Z"}
    event = SOURCES["cloudtrail"].to_event(data, tenant="t", stream="s", offset=3, ingest_time=NOW)
    assert event.id == computed_id("t", "cloudtrail", "s", 3)


def test_computed_ids_come_from_the_place_only() -> None:
    places = [("t", "a", "s", 1), ("t", "a", "s", 11), ("t", "a", "s1", 1), ("ta", "", "s", 1), ("u", "a", "s", 1)]
    assert len({computed_id(*place) for place in places}) == len(places)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    [
        "EventID",
        "event_id",
        "event_data",
        "winlog",
        "user_data",
        "Threat Name",
        "UtcTime",
        "@timestamp",
        "target",
        "actor",
    ]
) | st.text(max_size=6)


@given(
    name=st.sampled_from(sorted(SOURCES)),
    records=st.lists(st.dictionaries(names, values, max_size=6), max_size=5),
    junk=st.binary(max_size=20),
)
def test_no_record_ends_the_stream(name: str, records: list[dict[str, Any]], junk: bytes) -> None:
    source = SOURCES[name]
    lines = [json.dumps(record).encode() for record in records] + [junk]
    parsed = source.parse_many(lines)
    assert len(parsed) == len(lines)
    for line, data in zip(lines, parsed, strict=True):
        if isinstance(data, DataError):
            continue
        assert data == source.parse(line)
        try:
            event = source.to_event(data, tenant="t", stream="s", offset=0, ingest_time=NOW)
        except DataError as error:
            assert error.code.startswith("event.time.")  # noqa: PT017 - either outcome is right
        else:
            view(event, source).to_dict()


@given(st.dictionaries(st.text(max_size=8), values, max_size=8))
def test_flat_records_of_most_sources_stay_untouched(record: dict[str, Any]) -> None:
    assert SOURCES["cloudtrail"].parse(json.dumps(record).encode()) == record


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"name: [", "documents.yaml."),
        (b"name: a\nfoo: 1", "sources.file.invalid"),
        (b"x: 1\n" * 31, "sources.file.too_long"),
        (
            b"name: A b\nabout: x\norigin: real samples\nlogsource: {}\ndetect: [[a]]\ntime: {t: iso}",
            "sources.file.invalid",
        ),
        (b"name: a\nabout: x\norigin: real samples\nlogsource: {}\ndetect: []\ntime: {t: iso}", "sources.file.invalid"),
        (
            b"name: a\nabout: x\norigin: real samples\nlogsource: {}\ndetect: [[a]]\ntime: {t: tomorrow}",
            "sources.file.invalid",
        ),
    ],
)
def test_bad_source_files(text: bytes, code: str, tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        load_source(text, path="x.yaml")
    assert caught.value.code.startswith(code)
    assert "x.yaml" in str(caught.value)
    (tmp_path / "x.yaml").write_bytes(text)
    with pytest.raises(Problems):
        load_sources(tmp_path)


def test_a_folder_of_ones_own_adds_and_replaces(tmp_path: Path) -> None:
    text = "name: {}\nabout: mine\norigin: built from documentation\nlogsource: {{product: p}}\ndetect: [[a]]\ntime: {{t: epoch_ms}}"
    for name in ("zeek", "mine"):
        (tmp_path / f"{name}.yaml").write_text(text.format(name))
    sources = load_sources(tmp_path)
    assert set(sources) == {*SOURCES, "mine"}
    assert sources["zeek"].definition.about == "mine"


def test_two_fields_of_one_column_are_refused() -> None:
    text = "name: a\nabout: x\norigin: real samples\nlogsource: {}\ndetect: [[a]]\ntime: {t: iso}\npromote: [x.y, x-y]"
    with pytest.raises(DefinitionError) as caught:
        promoted(load_source(text.encode(), path="a.yaml"))
    assert caught.value.code == "sources.file.column"


def test_sniff_says_when_it_does_not_know() -> None:
    with pytest.raises(DataError) as caught:
        sniff([b'{"nothing": 1}', b"junk"], SOURCES)
    assert caught.value.code == "sources.sniff.unknown"
