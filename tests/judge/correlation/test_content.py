"""The shipped correlations: each fires on what it is for, and on nothing that only looks like it."""

from __future__ import annotations

import re

import pytest

from vedette.core.content import shipped
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.logsources import LogSources
from vedette.run.pipeline.detection import load_detection
from vedette.run.rules.rule_tests import RuleTests

RULES = shipped("rules/sigma")


@pytest.fixture(scope="module")
def detection():
    return load_detection([RULES])


def test_the_tests_of_every_rule_pass(detection):
    places = LogSources({name: source.logsource for name, source in detection.sources.items()})
    results = list(RuleTests(rule_files(RULES), places, detection.sources).run())
    assert [one for one in results if not one.passed] == []
    assert len(results) > 50


def test_every_correlation_that_alerts_has_a_test_that_fires_and_one_that_is_quiet(detection):
    for one in detection.rules.correlations:
        assert one.card.proven or one.id in detection.correlator.quiet, one.title


def test_every_correlation_that_alerts_says_why_and_when_it_is_wrong(detection):
    for one in detection.rules.correlations:
        if one.id not in detection.correlator.quiet:
            text = (RULES / one.path).read_text()
            document = next(part for part in text.split("\n---\n") if one.id in part)
            assert "falsepositives: [" in document
            assert re.search(r"^(description|# )", document, re.MULTILINE) or text.startswith("#")
            assert one.level.severity_id >= 3


def test_ids_and_names_are_unique():
    text = "\n".join(path.read_text() for path in RULES.rglob("*.yml"))
    for word in ("id", "name"):
        found = re.findall(rf"^{word}: (\S+)$", text, re.MULTILINE)
        assert len(found) == len(set(found))
