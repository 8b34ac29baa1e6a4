"""Own rules over the labelled events of an open rule pack: the bound of `benchmarks/labelled.py`'s table."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from tests.conftest import ROOT

from vedette.core.content import shipped
from vedette.judge.sigma.load import load
from vedette.judge.sigma.logsources import LogSources
from vedette.sense.sources import load_sources

FOUND = 0.80
"""Share of the positives that some rule finds, over all log types the pack claims; 80.7 % when it was set."""
LEAST_FOUND = 0.50
"""The same for each log type; foreign rules also watch what we do not call an attack."""
STRUCK = 0.02
"""Share of the negatives struck, those too whose operation the file itself calls an attack elsewhere."""


@pytest.fixture(scope="module")
def labelled():
    spec = importlib.util.spec_from_file_location("labelled", ROOT / "benchmarks" / "labelled.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["labelled"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["labelled"]


def tallies(labelled, shared_data, rules):
    sources = load_sources()
    held = load([rules], LogSources({name: one.logsource for name, one in sources.items()}))
    events = shared_data / "labelled" / "rule_tests.ndjson.gz"
    return labelled.judged(events, held, sources, labelled.CLAIMED)


def test_own_rules_find_most_and_strike_little(labelled, shared_data):
    found = tallies(labelled, shared_data, shipped("rules/sigma"))
    assert set(found) == set(labelled.CLAIMED)
    total = labelled.summed(found)
    assert total.positives == 529
    assert total.found / total.positives >= FOUND
    assert {kind: one.missed for kind, one in found.items() if one.found < LEAST_FOUND * one.positives} == {}
    wrong = [text for one in found.values() for text in one.wrong]
    assert total.struck / total.negatives <= STRUCK, wrong


def test_the_table_sees_rules_that_strike_everything_and_nothing(labelled, shared_data, tmp_path):
    document = "title: All\nlevel: low\nlogsource: {product: aws}\ndetection: {s: {eventName: '*'}, condition: s}\n"
    (tmp_path / "all.yml").write_text(document)
    one = tallies(labelled, shared_data, tmp_path)["AWS.CloudTrail"]
    assert one.found > 0.9 * one.positives
    assert one.struck > 0.9 * one.negatives
    (tmp_path / "all.yml").write_text(document.replace("eventName: '*'", "eventName: Nothing"))
    one = tallies(labelled, shared_data, tmp_path)["AWS.CloudTrail"]
    assert (one.found, one.struck) == (0, 0)
