"""The shipped correlations: each fires on what it is for, and on nothing that only looks like it."""

from __future__ import annotations

import json
import re

import pytest

from vedette.core.clock import MICROS, to_iso
from vedette.core.content import shipped
from vedette.judge.correlation.correlator import Correlator
from vedette.run.detecting import load_detection

RULES = shipped("rules/sigma")
START = 1_772_000_000
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['case']}")
    for path in sorted((RULES / "tests").glob("*.json"))
    for case in json.loads(path.read_text())["cases"]
]
_NUMBER = re.compile(r"\{n(?:%(\d+))?\}")


@pytest.fixture(scope="module")
def detection():
    return load_detection([RULES])


@pytest.fixture(scope="module")
def names(detection):
    """Id of each correlation -> its name in the file."""
    text = "\n---\n".join(path.read_text() for path in RULES.glob("*.yml"))
    pairs = re.findall(r"^id: (\S+)\nname: (\S+)$", text, re.MULTILINE)
    known = {one.id for one in detection.rules.correlations}
    return {rule: name for rule, name in pairs if rule in known}


def filled(value, number):
    if isinstance(value, str):
        return _NUMBER.sub(lambda place: str(number % int(place[1]) if place[1] else number), value)
    if isinstance(value, dict):
        return {name: filled(each, number) for name, each in value.items()}
    return value


def events(case, sources):
    found = []
    for place, step in enumerate(case["steps"]):
        source = sources[step["source"]]
        (field, _), *_ = source.definition.time.items()
        for number in range(step["count"]):
            time = (START + step["at"] + number * step["every"]) * MICROS
            data = filled(step["data"], number) | {field: to_iso(time), source.definition.id: f"{place}-{number}"}
            found.append(source.to_event(data, tenant="t", stream="test", offset=0, ingest_time=time))
    return sorted(found, key=lambda event: event.event_time)


@pytest.mark.parametrize("case", CASES)
def test_a_case(case, detection, names):
    correlator = Correlator(detection.rules.correlations, detection.sources)
    fired = {}
    for event in events(case, detection.sources):
        _, contributions = detection.judge(event)
        for signal in correlator.take("t", contributions):
            fired.setdefault(names[signal.rule_id], set()).update(one.key for one in signal.entities)
        correlator.advance("t", event.event_time)
    for signal in correlator.finish("t"):
        fired.setdefault(names[signal.rule_id], set()).update(one.key for one in signal.entities)
    assert fired == {name: set(entities) for name, entities in case["fires"].items()}


def test_every_correlation_that_alerts_has_a_case_that_fires_and_one_that_is_quiet(detection, names):
    cases = [case.values[0] for case in CASES]
    alerting = {names[one.id] for one in detection.rules.correlations if one.id not in detection.correlator.quiet}
    assert alerting == {name for case in cases for name in case["fires"]}
    for path in (RULES / "tests").glob("*.json"):
        assert any(not case["fires"] for case in json.loads(path.read_text())["cases"])


def test_every_correlation_that_alerts_says_why_and_when_it_is_wrong(detection):
    for one in detection.rules.correlations:
        if one.id not in detection.correlator.quiet:
            text = (RULES / one.path).read_text()
            document = next(part for part in text.split("\n---\n") if one.id in part)
            assert "falsepositives: [" in document
            assert re.search(r"^(description|# )", document, re.MULTILINE) or text.startswith("#")
            assert one.level.severity_id >= 3


def test_ids_and_names_are_unique():
    text = "\n".join(path.read_text() for path in RULES.glob("*.yml"))
    for word in ("id", "name"):
        found = re.findall(rf"^{word}: (\S+)$", text, re.MULTILINE)
        assert len(found) == len(set(found))
