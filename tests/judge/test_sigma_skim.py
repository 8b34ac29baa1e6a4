"""Lines that are ruled out before they are decoded change nothing of what is found in a file."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from vedette.expr.matcher import flat, scan
from vedette.judge.sigma import detect
from vedette.judge.sigma.detect import Detector, Match, judge_chunk
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.ready import Ready
from vedette.sense.files import Limits, read_lines
from vedette.sense.sources import load_sources

SOURCES = dict(load_sources())
WINDOWS = SOURCES["windows"]
RULES = b"""
title: Shell
id: shell
logsource: {product: windows, category: process_creation}
detection: {s: {Image|endswith: '\\cmd.exe'}, f: {User: SYSTEM}, condition: s and not f}
---
title: Message
id: message
logsource: {product: windows}
detection: {s: {Message|contains: evil}, condition: s}
---
title: No computer
id: absent
logsource: {product: windows, service: security}
detection: {s: {EventID: 7, Computer: null}, condition: s}
---
title: Name without a space
id: squeezed
logsource: {product: windows}
detection: {s: {ThreatName: evil}, condition: s}
---
title: Word
id: word
logsource: {product: windows}
detection: {k: ['a wicked word'], condition: k}
"""
PLACES = LogSources({name: source.logsource for name, source in SOURCES.items()})
SET = build([RuleFile("r.yml", RULES)], PLACES)

text = st.sampled_from(["evil", "good", "a Wicked word", "C:\\x\\CMD.exe", "x\\y", "SYSTEM", "1", "", "é", "\u212a"])
number = st.sampled_from([1, 7, 1.5, -3, 10**20])
plain = text | number | st.none() | st.booleans()
value = plain | st.lists(plain, max_size=2) | st.dictionaries(st.sampled_from(["id", "in", "Image"]), plain, max_size=2)
channel = st.sampled_from(["Security", "security", "Microsoft-Windows-Sysmon/Operational", "Other"])
known = {
    "EventID": st.sampled_from([1, 7, "1", 4]),
    "Channel": channel,
    "Image": text,
    "Message": value,
    "Threat Name": text,
    "ThreatName": text,
    "Computer": value,
    "User": text,
    "host": value,
    "other": value,
}
inner = st.fixed_dictionaries({}, optional={**known, "event_id": number, "channel": channel, "message": text})
shipped = st.fixed_dictionaries(
    {},
    optional={
        **known,
        "event_id": st.sampled_from([1, 7]),
        "log_name": channel,
        "channel": channel,
        "computer_name": text,
        "message": text,
        "event_data": inner | plain,
        "user_data": inner,
    },
)
records = st.one_of(
    st.fixed_dictionaries({}, optional=known),
    shipped,
    st.builds(lambda record, winlog: {**record, "winlog": winlog}, shipped, shipped | plain),
)
lines = st.lists(
    st.one_of(
        records.map(lambda record: json.dumps(record, separators=(",", ":"))),
        records.map(lambda record: json.dumps(record, ensure_ascii=False)),
        st.sampled_from(["{}", '{"a":', "[1]", '{"EventID":1,"EventID":7,"Channel":"Security"}', '{"x":"\\ud800"}']),
    ),
    min_size=1,
    max_size=6,
).map(lambda some: "\n".join(some).encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("skim")


def found(ready, path, limits):
    chunks = list(read_lines(path, limits=limits))
    parts = [judge_chunk(ready, WINDOWS, chunk) for chunk in chunks]
    hits = [(hit.line, hit.offset, hit.data, hit.numbers) for part in parts for hit in part.hits]
    return sum(part.events for part in parts), sum(part.quarantined for part in parts), hits


def skimming_changes_nothing(folder):
    plainly = Ready(SET)
    plainly.of("windows")

    def check(raw, size):
        path = folder / "lines.ndjson"
        path.write_bytes(raw)
        skims = Ready(SET)
        skims.skims = True
        limits = Limits(chunk_bytes=size)
        wanted = found(plainly, path, limits)
        for _ in range(3):
            assert found(skims, path, limits) == wanted

    return check


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_shaped_records_are_skimmed_as_they_are_matched(data, folder):
    skimming_changes_nothing(folder)(data.draw(lines), data.draw(st.sampled_from([40, 200, 1 << 18])))


def _without(column, blank):
    names = flat._names

    def planted(*given):
        made = names(*given)
        made.kind[:, column] = blank
        return made

    return lambda patch: patch.setattr(flat, "_names", planted)


@pytest.mark.parametrize("column", [scan.K_ALIAS, scan.K_LIFT])
def test_a_shape_that_is_forgotten_is_caught(column, folder, monkeypatch):
    _without(column, -1)(monkeypatch)
    quick = settings(
        max_examples=1_500,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises((AssertionError, ExceptionGroup)):
        quick(given(lines, st.just(1 << 18))(skimming_changes_nothing(folder)))()


def line(place):
    if place % 50 == 17:
        return '{"broken'
    image = "C:\\\\Windows\\\\cmd.exe" if place % 7 == 0 else f"C:\\\\p{place % 30}.exe"
    return (
        f'{{"EventID":1,"Channel":"Microsoft-Windows-Sysmon/Operational","Image":"{image}","User":"u{place % 5}",'
        f'"@timestamp":"2026-03-02T12:{place // 60 % 60:02}:{place % 60:02}Z"}}'
    )


def run(path, jobs):
    detector = Detector(SET, SOURCES, jobs=jobs)
    rows = [(one.rule.id, one.line, one.offset) for one in detector.run([path]) if isinstance(one, Match)]
    return rows, detector.tally, detector


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("jobs", [1, 2])
def test_large_files_are_skimmed_and_found_equal(tmp_path, monkeypatch, packed, jobs):
    path = tmp_path / ("events.ndjson" + ".gz" * packed)
    raw = "\n".join(map(line, range(2_000))).encode()
    path.write_bytes(gzip.compress(raw) if packed else raw)
    rows, tally, detector = run(path, 1)
    assert not detector._ready.skims
    assert len(rows) == 280
    monkeypatch.setattr(detect, "SKIM_BYTES", 1_000)
    monkeypatch.setattr(detect, "SPAN_BYTES", 40_000)
    skimmed, counts, detector = run(path, jobs)
    assert detector._ready.skims
    assert (skimmed, counts) == (rows, tally)
