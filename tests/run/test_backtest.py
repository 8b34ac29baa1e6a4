"""Backtest: what it counts is what the grouping and suppression laws give, and its diff is that of the alerts."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.act.grouping import group
from vedette.act.suppression import suppressed, suppression_key
from vedette.cli.main import main
from vedette.core.clock import DAY, MICROS, to_iso
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.run.pipeline.detection import Detection
from vedette.run.rules.backtest import backtest
from vedette.run.rules.records import Batch
from vedette.sense.sources import load_sources

SOURCES = load_sources()
PLACES = LogSources({name: source.logsource for name, source in SOURCES.items()})
START = 20_500 * DAY
RULE = """title: Failed
id: 6b2f4d8e-3c5e-4f7a-9b0c-1d2e3f4a5b6c
logsource: {product: okta, service: okta}
detection: {failed: {outcome.result: FAILURE}, condition: failed}
vedette:
  group: {by: [entity], entity: user, window: 10m}
  suppress: {by: [entity], for: 1h}
  budget: 3
"""


def rules(text=RULE):
    found = build([RuleFile("a.yml", text.encode())], PLACES)
    assert not found.skipped
    return found


def record(number, minute, who, result="FAILURE"):
    time = to_iso(START + minute * 60 * MICROS)
    return {"uuid": f"u{number}", "published": time, "actor": {"alternateId": who}, "outcome": {"result": result}}


def batch(records):
    source = SOURCES["identity"]

    def event(place):
        return source.to_event(dict(records[place]), tenant="default", stream="s", offset=place, ingest_time=1 << 60)

    return Batch(source, records, event)


def of(report, place=0):
    return report.rules[place]


ATTEMPTS = st.lists(
    st.tuples(st.integers(0, 500), st.sampled_from("abc"), st.sampled_from(["FAILURE", "SUCCESS"])), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(ATTEMPTS, st.randoms(use_true_random=False), st.integers(1, 20))
def test_alerts_are_those_of_the_laws_in_any_order_and_batches(attempts, random, size):
    records = [record(number, *attempt) for number, attempt in enumerate(attempts)]
    made = rules()
    law = made.rules[0].card
    detection = Detection(made, SOURCES)
    whole = batch(records)
    signals = [signal for place in range(len(records)) for signal in detection.judge(whole.event(place))[0]]
    alerts = group(((signal, signal.event_time) for signal in signals), default=law.group)
    keyed = {}
    for alert in alerts.values():
        keyed.setdefault(suppression_key(alert, law.suppress), []).append((alert.first_time, alert.id))
    quiet = {name for held in keyed.values() for name in suppressed(held, law.suppress.span_s)}
    random.shuffle(records)
    parts = [batch(records[place : place + size]) for place in range(0, len(records), size)]
    counted = of(backtest(made, parts, SOURCES)).now
    assert (counted.signals, counted.alerts, counted.suppressed) == (len(signals), len(alerts) - len(quiet), len(quiet))


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 9).map(str)), unique_by=lambda one: one[1]),
    st.integers(1, 40),
)
def test_suppression_is_that_of_the_plain_model(alerts, span):
    """Brute force: an alert is raised when no raised one stands less than the span before it."""
    raised = []
    for alert in sorted(alerts):
        if not any(one[0] <= alert[0] < one[0] + span for one in raised):
            raised.append(alert)
    held = [(time * MICROS, name) for time, name in alerts]
    assert {name for _, name in alerts} - set(suppressed(held, span)) == {name for _, name in raised}


def test_what_a_change_gains_and_loses_is_told_with_examples():
    narrowed = RULE.replace("outcome.result: FAILURE", "outcome.result: FAILURE, actor.alternateId: [b, c]")
    widened = narrowed.replace("[b, c]", "[b, c]").replace("result: FAILURE,", "result: [FAILURE, DENY],")
    records = [record(1, 0, "a"), record(2, 0, "b"), record(3, 100, "c", "DENY"), record(4, 1, "b")]
    report = backtest(rules(widened), [batch(records)], SOURCES, old=rules())
    row = of(report)
    assert (row.change, row.gained, row.lost, row.same) == ("changed", 1, 1, 1)
    assert [one.entity for one in row.gained_examples] == ["user:c"]
    assert [(one.entity, one.event_id) for one in row.lost_examples] == [("user:a", "u1")]
    assert (row.now.alerts, row.before.alerts) == (2, 2)


def test_added_and_removed_rules_and_those_that_stay():
    other = RULE.replace("6b2f", "7b2f").replace("Failed", "Other")
    both = build([RuleFile("a.yml", RULE.encode()), RuleFile("b.yml", other.encode())], PLACES)
    records = [batch([record(1, 0, "a")])]
    added = {row.title: row for row in backtest(both, records, SOURCES, old=rules()).rules}
    assert (added["Failed"].change, added["Failed"].same, added["Failed"].before.alerts) == ("same", 1, 1)
    assert (added["Other"].change, added["Other"].gained, added["Other"].before) == ("added", 1, None)
    removed = {row.title: row for row in backtest(rules(), records, SOURCES, old=both).rules}
    assert (removed["Other"].change, removed["Other"].lost, removed["Other"].version) == ("removed", 1, "")


def test_a_wider_window_is_the_same_alerts_where_they_share_events():
    report = backtest(rules(RULE.replace("10m", "20m")), [batch([record(1, 0, "a")])], SOURCES, old=rules())
    assert (of(report).gained, of(report).lost, of(report).same) == (0, 0, 1)


def test_a_period_leaves_out_what_is_not_in_it():
    records = [batch([record(n, 120 * n, "a") for n in range(10)])]
    since, until = START + 240 * 60 * MICROS, START + 480 * 60 * MICROS
    assert of(backtest(rules(), records, SOURCES, since=since, until=until)).now.signals == 2


def test_a_rule_over_its_budget_is_told():
    records = [batch([record(n, 120 * n, "a") for n in range(4)])]
    report = backtest(rules(), records, SOURCES)
    assert (of(report).now.per_day, [row.title for row in report.over_budget]) == (4.0, ["Failed"])


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["rules", "backtest", *map(str, arguments)])
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err

    return call


def write(path, records):
    path.write_bytes(b"\n".join(msgspec.json.encode({"eventType": "x", "client": {}, **one}) for one in records))


def test_the_verb_over_files(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.yml").write_text(RULE)
    (tmp_path / "old.yml").write_text(RULE.replace("FAILURE", "DENY"))
    write(tmp_path / "signins.ndjson", [record(n, 120 * n, "a") for n in range(4)])
    code, out, _ = run("--rules", "new.yml", "--against", "old.yml", "signins.ndjson", "--json")
    report = json.loads(out)
    assert (code, report["records"], report["days"], report["rules"][0]["gained"]) == (1, 4, 1.0, 4)
    code, out, _ = run("--rules", "new.yml", "--against", "old.yml", "signins.ndjson")
    assert "Failed (changed): 4 gained, 0 lost, 0 the same" in out
    assert "over budget: Failed: 4.00 alerts a day, 3 allowed" in out
    assert "an alert takes 10 minutes (assumed)" in out


def test_an_exception_beside_the_rules_counts(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exceptions").mkdir()
    (tmp_path / "exceptions" / "a.yml").write_text(
        "title: Robots\nlogsource: {product: okta, service: okta}\n"
        "filter: {rules: any, robot: {actor.alternateId: a}, condition: not robot}\n"
        "vedette: {owner: it, reason: nightly job, expires: 2099-01-01}\n"
    )
    (tmp_path / "new.yml").write_text(RULE)
    write(tmp_path / "signins.ndjson", [record(1, 0, "a"), record(2, 0, "b")])
    report = json.loads(run("--rules", "new.yml", "signins.ndjson", "--json")[1])
    assert report["now"]["alerts"] == 1
    text = (tmp_path / "exceptions" / "a.yml").read_text()
    (tmp_path / "exceptions" / "a.yml").write_text(text.replace("2099", "2026"))
    report = json.loads(run("--rules", "new.yml", "signins.ndjson", "--json")[1])
    assert report["now"]["alerts"] == 2


def test_nothing_to_run_over_is_told(run, tmp_path):
    (tmp_path / "new.yml").write_text(RULE)
    code, _, err = run("--rules", tmp_path / "new.yml", "--home", tmp_path / "home")
    assert (code, "rules.records.missing" in err) == (2, True)
    code, _, err = run("--rules", tmp_path / "new.yml", "--home", tmp_path, "--from", "soon")
    assert (code, "rules.period.invalid" in err) == (2, True)
