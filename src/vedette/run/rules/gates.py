"""What a rule, or a model, must pass before it is shipped.

A rule: a whole specification, no lint, its own tests, its budget over the past. A specification is the rule's document:
its goal (`goal`, else `description`), its data (`logsource`), its technique (an ATT&CK tag), what it may cost
(`budget`), and tests that make it fire and leave it quiet. A model: a report of its own (`vedette model report`) that
judges it by what it catches and never by accuracy, finds no leak, and keeps its budget of latency.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from vedette.judge.correlation.definition import Correlation
from vedette.judge.shipments import Document, Shipped
from vedette.judge.sigma.documents import Written, read
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.lints import Finding, Severity
from vedette.judge.sigma.load import RuleSet, all_of
from vedette.judge.sigma.rules import Rule
from vedette.run.rules.backtest import Report
from vedette.run.rules.rule_tests import Tested

_CHANGE = re.compile(rb"CHANGE[ -]ME")
"""What `rules new` leaves to be written."""


NAIVE = 3.0
"""Times the base rate that average precision must surely reach."""
MOST_ERROR = 0.01
"""Largest expected calibration error: thresholds in money rest on probabilities."""
MOST_LATENCY_US = 2_000
"""Largest 99th percentile of a score with its reasons."""


class Gate(StrEnum):
    """What is asked."""

    CHECK = "check"
    """It loads, and no lint warns: it has an owner, a technique, a runbook, tests of both kinds."""
    SPEC = "spec"
    """It says what it is after and what it may cost."""
    TEST = "test"
    BACKTEST = "backtest"
    """It stays within its budget."""
    REPORT = "report"
    """Somebody judged this very model, by more than accuracy."""
    QUALITY = "quality"
    """It is better than calling everything genuine, and not worse than what serves."""
    CALIBRATION = "calibration"
    LEAK = "leak"
    LATENCY = "latency"


class Obstacle(msgspec.Struct, frozen=True):
    """Why a rule is not shipped."""

    gate: Gate
    rule: str
    message: str


def check_obstacles(findings: Iterable[Finding]) -> Iterator[Obstacle]:
    """Errors and warnings of `rules check`; and rules without a card, which have no owner and no tests."""
    for one in findings:
        if one.severity is not Severity.NOTE or one.code == "sigma.lint.card_missing":
            yield Obstacle(Gate.CHECK, one.rule or one.path, f"{one.message} [{one.code}]")


def spec_obstacles(rules: RuleSet, files: Sequence[RuleFile]) -> Iterator[Obstacle]:
    """What the specification of a rule that alerts leaves out."""
    unfinished = {file.path for file in files if b"CHANGE" in file.content and _CHANGE.search(file.content)}
    described = {str(one.document.get("id")) for one in written_of(files) if one.document.get("description")}
    for one in alerting(rules):
        if not one.card.goal and one.id not in described:
            yield Obstacle(Gate.SPEC, one.title, "says nowhere what it is after (`goal` or `description`)")
        if one.path in unfinished:
            yield Obstacle(Gate.SPEC, one.title, "still says `CHANGE ME`")
        if one.card.budget is None:
            yield Obstacle(Gate.SPEC, one.title, "has no `budget`: how many alerts a day it may cost")


def test_obstacles(results: Iterable[Tested]) -> Iterator[Obstacle]:
    """Tests that failed."""
    return (
        Obstacle(Gate.TEST, one.title, f"{one.test}: {'; '.join((one.problem, *one.why[:2]))}")
        for one in results
        if not one.passed
    )


def backtest_obstacles(report: Report, ids: Iterable[str]) -> Iterator[Obstacle]:
    """Rules that cost more than they may."""
    wanted = set(ids)
    for one in report.over_budget:
        if one.rule_id in wanted:
            yield Obstacle(Gate.BACKTEST, one.title, f"{one.now.per_day:,.2f} alerts a day, {one.budget:g} allowed")


def model_obstacles(model: str, report: Mapping[str, Any], *, sha256: str, serving: str = "") -> Iterator[Obstacle]:
    """What a model's report says against shipping it.

    Args:
        model: Its id.
        report: What `vedette model report` wrote.
        sha256: Of the model's arrays.
        serving: SHA-256 of the model that serves; when the report holds it as a candidate, the two are compared.
    """
    candidates = {one.get("sha256"): one for one in report.get("candidates", [])}
    own = candidates.get(sha256)
    if report.get("model", {}).get("sha256") != sha256 or own is None:
        yield Obstacle(Gate.REPORT, model, "the report is of another model")
        return
    found = report.get("metrics", {}).get("ap", {})
    if "low" not in found:
        yield Obstacle(Gate.REPORT, model, "judged without average precision and its interval: accuracy says nothing")
        return
    base = report["test"]["base_rate"]
    if found["low"] <= NAIVE * base:
        yield Obstacle(Gate.QUALITY, model, f"average precision may be {found['low']:.4f}, all genuine has {base:.4f}")
    other = candidates.get(serving)
    if other and other is not own and found["value"] < other["ap"]["low"]:
        yield Obstacle(
            Gate.QUALITY, model, f"average precision {found['value']:.4f}, what serves has {other['ap']['value']:.4f}"
        )
    error = report["reliability"]["ece"]
    if error > MOST_ERROR:
        yield Obstacle(Gate.CALIBRATION, model, f"expected calibration error {error:.4f}, {MOST_ERROR:g} allowed")
    if not report["probes"]:
        yield Obstacle(Gate.LEAK, model, "the report was made without probes")
    for name, one in report["probes"].items():
        if not one["passed"]:
            yield Obstacle(Gate.LEAK, model, f"probe `{name}` failed")
    if own["p99_us"] > MOST_LATENCY_US:
        yield Obstacle(Gate.LATENCY, model, f"p99 of a score {own['p99_us']:.0f} us, {MOST_LATENCY_US} allowed")


def alerting(rules: RuleSet) -> list[Rule | Correlation]:
    """Rules that give signals of their own."""
    parts = {part.id for one in rules.correlations if not one.generate for part in one.parts}
    return [one for one in all_of(rules) if one.id not in parts]


def written_of(files: Iterable[RuleFile]) -> list[Written]:
    """The documents of rule files."""
    return [one for file in files for one in read(file) if isinstance(one, Written)]


def documents_of(
    rules: RuleSet, files: Sequence[RuleFile], pipelines: Sequence[Shipped] = ()
) -> Mapping[str, Document]:
    """Path of each rule file -> the unit it is shipped as: the file, and the exceptions that narrow its rules.

    Args:
        rules: Those of the files.
        files: Whose rules are shipped.
        pipelines: That the rules go through.
    """
    contents = {file.path: file for file in files}
    found: dict[str, Document] = {}
    for path in dict.fromkeys(one.path for one in all_of(rules)):
        own = [one for one in all_of(rules) if one.path == path]
        ids = tuple(one.id for one in own)
        narrowing = [one.path for one in rules.filters if one.applies and set(one.rules) & set(ids)]
        paths = dict.fromkeys([path, *narrowing])
        shipped = tuple(Shipped(each, contents[each].content) for each in paths)
        found[path] = Document(ids=ids, title=own[0].title, files=shipped, pipelines=tuple(pipelines))
    for each in rules.detectors:
        found[each.id] = Document(ids=(each.id,), title=each.title, files=(), detector=each.version)
    return found
