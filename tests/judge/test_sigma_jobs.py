"""Several processes find what one finds, in its order."""

from __future__ import annotations

import msgspec
import pytest

from vedette.judge.sigma import detect
from vedette.judge.sigma.detect import Detector, Match
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.sense.files import Stretch, spans
from vedette.sense.sources import load_sources

SOURCES = dict(load_sources())
RULES = b"""
title: Stopped
id: one
name: stopped
logsource: {product: aws, service: cloudtrail}
detection: {s: {eventName: StopLogging}, condition: s}
---
title: Often
id: many
correlation:
  type: event_count
  rules: [stopped]
  group-by: [eventSource]
  timespan: 10m
  condition: {gte: 5}
  generate: true
"""


def line(number):
    if number % 11 == 5:
        return "" if number % 2 else '{"broken'
    name = "StopLogging" if number % 7 == 0 else "GetUser"
    when = f"2026-03-02T12:{number // 60 % 60:02}:{number % 60:02}Z"
    return f'{{"eventSource": "x", "eventTime": "{when}", "eventID": "e{number}", "eventName": "{name}"}}'


def found(path, jobs):
    places = LogSources({name: source.logsource for name, source in SOURCES.items()})
    detector = Detector(build([RuleFile("r.yml", RULES)], places), SOURCES, source=SOURCES["cloudtrail"], jobs=jobs)
    rows = [
        (one.rule.id, one.line, one.offset, one.data["eventID"]) if isinstance(one, Match) else (one.rule_id, one.why)
        for one in detector.run([path])
    ]
    return rows, detector.tally


@pytest.fixture
def events(tmp_path):
    path = tmp_path / "trail.ndjson"
    path.write_text("\ufeff" + "\n".join(map(line, range(500))))
    return path


def plain(monkeypatch):
    monkeypatch.setattr(detect, "SPAN_BYTES", 3_000)
    monkeypatch.setitem(SOURCES, "cloudtrail", _undelivered(SOURCES["cloudtrail"]))


def _undelivered(source):
    return type(source)(msgspec.structs.replace(source.definition, records=""))


def test_jobs_change_nothing(events, monkeypatch):
    plain(monkeypatch)
    rows, tally = found(events, 1)
    assert len(rows) > 50
    assert found(events, 2) == (rows, tally)


def test_a_line_number_that_is_wrong_is_caught(events, monkeypatch):
    plain(monkeypatch)

    class Short(Stretch):
        def chunks(self):
            yield from super().chunks()
            self.lines -= 1

    monkeypatch.setattr(detect, "Stretch", Short)
    assert found(events, 2) != found(events, 1)


def test_spans_cover_a_file_and_cut_no_line(events):
    cut = spans(events, 1_000)
    raw = events.read_bytes()
    assert len(cut) > 1
    assert b"".join(raw[begin:end] for begin, end in cut) == raw
    assert all(raw[begin - 1 : begin] == b"\n" for begin, _ in cut[1:])
