"""SQL answers like the reference: rules of SigmaHQ and random expressions, on events made for them.

The questions are those of `test_pairs`, which asks the matcher. A rule is asked about its own events alone: every rule
about every event would take hours.
"""

from __future__ import annotations

import gzip
from collections import Counter
from itertools import islice

import pytest
from sql_engine import fired

from vedette.core.errors import UnsupportedError
from vedette.expr.matcher import Matcher
from vedette.expr.sql.printer import Printer
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.history import runnable
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.logsources import LogSources
from vedette.sense.sources import load_sources
from vedette.testing.expressions import expressions
from vedette.testing.pairs import pairs

SAMPLE = {"rules": 600, "expressions": 200}
SOAK = {"rules": 7_000, "expressions": 3_000}
LEAST = 0.3
"""Of the questions that must be true, and that must be not."""
TOGETHER = 100
"""Rules of one query."""


@pytest.fixture(scope="module")
def rules(shared_data, tmp_path_factory) -> RuleSet:
    places = LogSources({name: source.logsource for name, source in load_sources().items()})
    files = rule_files(shared_data / "sigma" / "rules.tar.gz")
    return load_cached(files, places, tmp_path_factory.getbasetemp() / "compiled", None)


@pytest.fixture(scope="module")
def of_rules(rules):
    return list(dict.fromkeys(node for rule in rules.rules for node in rule.nodes.values()))


def wrong_answers(asked):
    """The questions that SQL answers otherwise, `TOGETHER` rules at a time."""
    of = {}
    for pair in asked:
        of.setdefault(pair.number, []).append(pair)
    groups, wrong = iter(of.values()), []
    while some := list(islice(groups, TOGETHER)):
        held = [(place, pair) for place, about in enumerate(some) for pair in about]
        found = fired([about[0].node for about in some], [pair.event for _, pair in held])
        wrong += [pair for row, (place, pair) in enumerate(held) if (place in found.get(row, [])) is not pair.true]
    return wrong


def balanced(asked):
    true = sum(pair.true for pair in asked)
    assert LEAST * len(asked) <= true <= (1 - LEAST) * len(asked)
    return asked


def runs(node):
    try:
        Printer().condition(node)
    except UnsupportedError:
        return False
    return True


def check(of_rules, sizes, seed):
    nodes = [node for node in expressions(sizes["expressions"] // 2, seed=seed) if runs(node)]
    assert len(nodes) > sizes["expressions"] * 0.45
    assert wrong_answers(balanced(list(pairs(of_rules, sizes["rules"], seed=seed)))) == []
    assert wrong_answers(balanced(list(pairs(nodes, sizes["expressions"], seed=seed)))) == []


def test_a_sample(of_rules):
    check(of_rules, SAMPLE, 7)


@pytest.mark.soak
def test_ten_thousand(of_rules):
    check(of_rules, SOAK, 8)


def test_sql_runs_every_public_rule_that_loads(rules):
    assert runnable(rules)[1] == []


def test_a_wrong_answer_is_seen(of_rules, monkeypatch):
    monkeypatch.setattr("vedette.expr.sql.printer.fold", lambda text: text)
    assert wrong_answers(list(pairs(of_rules, 200, seed=7)))


@pytest.mark.soak
def test_every_public_rule_over_real_events(rules, shared_data):
    """Counts of each rule over recorded attacks, by SQL and by the matcher, on stored rows."""
    source = load_sources()["windows"]
    nodes = [node for _, node in rules.of("windows")]
    with gzip.open(shared_data / "windows" / "evtx_to_mitre.ndjson.gz") as file:
        data = [source.parse(line) for line in file]
    matched = Counter(number for found in Matcher(nodes).match_many(data) for number in found)
    counted: Counter[int] = Counter()
    for start in range(0, len(nodes), TOGETHER):
        found = fired(nodes[start : start + TOGETHER], data)
        counted.update(start + number for numbers in found.values() for number in numbers)
    assert counted == matched
    assert matched.total() > 1_000
