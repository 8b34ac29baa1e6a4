"""From fired rules to signals: groups, aliases, chains, entities, tenants, and what is refused at load."""

from __future__ import annotations

import msgspec
import pytest

from vedette.core.clock import MICROS, to_iso
from vedette.judge.correlation.correlator import Contribution, Correlator, condition_text
from vedette.judge.correlation.definition import Kind
from vedette.judge.correlation.explain import correlation_clause, explain_fired
from vedette.judge.correlation.moments import Moment
from vedette.judge.correlation.patterns import Pattern
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.ready import Ready
from vedette.sense.sources import load_sources

SOURCES = load_sources()
PLACES = LogSources({name: source.logsource for name, source in SOURCES.items()})
START = 1_772_000_000 * MICROS
BASE = """
title: Failed
id: 00000000-0000-4000-8000-000000000001
name: failed
logsource: {product: payments, category: product}
detection: {s: {type: login.failed}, condition: s}
---
title: Entered
id: 00000000-0000-4000-8000-000000000002
name: entered
logsource: {product: payments, category: product}
detection: {s: {type: login.succeeded}, condition: s}
---
title: Staff failed
id: 00000000-0000-4000-8000-000000000003
name: staff
logsource: {product: okta, service: okta}
detection: {s: {outcome.result: FAILURE}, condition: s}
"""


def correlation(number, body, **more):
    lines = "".join(f"{name}: {value}\n" for name, value in more.items())
    return f"---\ntitle: C{number}\nid: 00000000-0000-4000-8000-0000000001{number:02d}\nname: c{number}\n{lines}correlation: {body}\n"


def load(*correlations):
    return build([RuleFile("r.yml", (BASE + "".join(correlations)).encode())], PLACES)


def product(number, at, kind="login.failed", **data):
    record = {"id": f"p{number}", "type": kind, "time": to_iso(START + at * MICROS), **data}
    return SOURCES["product"].to_event(record, tenant="t", stream="s", offset=0, ingest_time=START + at * MICROS)


def run(rules, events, tenant="t"):
    correlator, ready, found = Correlator(rules.correlations, SOURCES), Ready(rules), []
    for event in events:
        fired = [rule.id for rule, _ in ready.fired(event.source, event.data)]
        found += correlator.take(tenant, correlator.contributions(event, fired))
    return correlator, found + correlator.finish(tenant)


COUNT = correlation(
    1, "{type: event_count, rules: [failed], group-by: [ip], timespan: 1m, condition: {gte: 2}}",
    level="high", tags="[attack.t1110]",
)  # fmt: skip


def test_a_signal_names_group_events_and_rule():
    _, (signal,) = run(load(COUNT), [product(n, n, ip="203.0.113.7", customer=f"c{n}") for n in range(2)])
    assert (signal.rule_id[-3:], signal.title, signal.level, signal.tags) == ("101", "C1", "high", ("attack.t1110",))
    assert (signal.event_id, signal.event_time, signal.source) == ("p1", START + MICROS, "product")
    assert [one.key for one in signal.entities] == ["ip:203.0.113.7"]
    assert signal.why["event_count"] == 2
    assert [(one["id"], one["rule"]) for one in signal.why["events"]] == [("p0", "failed"), ("p1", "failed")]


def test_the_same_group_in_another_tenant_is_another_group():
    rules = load(COUNT)
    correlator, ready = Correlator(rules.correlations, SOURCES), Ready(rules)
    found = []
    for number, tenant in enumerate(["a", "b", "a", "b"]):
        event = product(number, number, ip="203.0.113.7")
        fired = [rule.id for rule, _ in ready.fired("product", event.data)]
        found += correlator.take(tenant, correlator.contributions(event, fired))
    assert [signal.tenant for signal in found] == ["a", "b"]
    assert found[0].id != found[1].id


def test_an_event_without_the_field_is_in_no_group_and_is_counted():
    correlator, found = run(load(COUNT), [product(1, 1, user="x"), product(2, 2, ip=None), product(3, 3, ip="")])
    assert found == []
    assert dict(correlator.dropped()) == {("00000000-0000-4000-8000-000000000101", "ungrouped"): 3}


def test_a_list_is_in_a_group_for_each_value():
    _, found = run(load(COUNT), [product(1, 1, ip=["a", "b"]), product(2, 2, ip="b"), product(3, 3, ip="a")])
    assert [signal.why["ip"] for signal in found] == ["b", "a"]


def test_aliases_and_ocsf_join_sources():
    staff = {
        "uuid": "i1", "published": to_iso(START), "eventType": "x", "actor": {"alternateId": "ada"},
        "client": {"ipAddress": "203.0.113.7"}, "outcome": {"result": "FAILURE"},
    }  # fmt: skip
    event = SOURCES["identity"].to_event(staff, tenant="t", stream="s", offset=0, ingest_time=START)
    both = [event, product(1, 1, ip="203.0.113.7")]
    aliased = "{type: temporal, rules: [failed, staff], group-by: [who], timespan: 1m,"
    aliased += " aliases: {who: {failed: ip, staff: client.ipAddress}}}"
    mapped = "{type: temporal, rules: [failed, staff], group-by: [ocsf.src_endpoint.ip], timespan: 1m}"
    for body in (aliased, mapped):
        _, (signal,) = run(load(correlation(1, body)), both)
        assert [one.key for one in signal.entities] == ["ip:203.0.113.7"]


def test_a_chain_over_a_count():
    first = correlation(2, "{type: temporal_ordered, rules: [c1, entered], group-by: [ip], timespan: 5m}")
    burst = [product(n, n, ip="203.0.113.7") for n in range(3)]
    entered = product(9, 100, "login.succeeded", ip="203.0.113.7")
    rules = load(first, COUNT)
    assert [one.title for one in rules.correlations] == ["C1", "C2"], "what others refer to comes first"
    _, found = run(rules, [*burst, entered])
    assert [signal.title for signal in found] == ["C2"], "what it refers to gives no signal of its own"
    assert found[0].why["events"][0]["id"] in {"p1", "p2"}
    _, found = run(load(first.replace("{type", "{generate: true, type"), COUNT), [*burst, entered])
    assert [signal.title for signal in found] == ["C1", "C2"]
    _, found = run(
        rules,
        [product(9, 0, "login.succeeded", ip="203.0.113.7"), *[product(n, n + 1, ip="203.0.113.7") for n in range(3)]],
    )
    assert found == [], "in the other order"


def test_a_group_that_is_no_entity_is_kept_apart():
    body = "{type: event_count, rules: [failed], group-by: [user_agent], timespan: 1m, condition: {gte: 2}}"
    _, (signal,) = run(load(correlation(1, body)), [product(n, n, user="x", user_agent="curl/8") for n in range(2)])
    assert [one.key for one in signal.entities] == ["group:user_agent=curl/8"]


def test_counted_entities_stand_in_for_a_group_that_is_none():
    body = "{type: value_count, rules: [failed], group-by: [user_agent], timespan: 1m, condition: {gte: 2, field: ip}}"
    events = [product(n, n, user="x", user_agent="curl/8", ip=f"203.0.113.{n}") for n in range(2)]
    _, (signal,) = run(load(correlation(1, body)), events)
    assert [one.key for one in signal.entities] == ["ip:203.0.113.0", "ip:203.0.113.1"]


def test_what_is_no_number_is_counted_and_not_used():
    body = "{type: value_sum, rules: [failed], group-by: [ip], timespan: 1m, condition: {gt: 10, field: amount_minor}}"
    amounts = ["x", None, True, float("inf"), 4, 5, 2]
    correlator, (signal,) = run(
        load(correlation(1, body)), [product(n, n, ip="a", amount_minor=one) for n, one in enumerate(amounts)]
    )
    assert signal.why["value_sum"] == 11
    assert list(correlator.dropped().values()) == [4]


def test_card_numbers_are_not_shown():
    _, (signal,) = run(load(COUNT), [product(n, n, ip="4111111111111111") for n in range(2)])
    assert "4111111111111111" not in msgspec.json.encode(signal.why).decode()


def test_a_signal_explains_itself():
    _, (signal,) = run(load(COUNT), [product(n, n, ip="203.0.113.7") for n in range(2)])
    clause = correlation_clause(signal)
    assert clause.text == "event_count gte 2 within 60 s by ip"
    assert len(clause.children) == 2
    assert explain_fired(signal).result == "fired"
    assert correlation_clause(msgspec.structs.replace(signal, why={"a": 1})) is None


def test_contributions_survive_being_written():
    one = Contribution("c@v", ("a", "b"), Moment(5, "e", 1, 2.5, "product", 9))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Contribution) == one


def test_the_cache_keeps_correlations(tmp_path):
    files = [RuleFile("r.yml", (BASE + COUNT).encode())]
    fresh, again = load_cached(files, PLACES, tmp_path), load_cached(files, PLACES, tmp_path)
    assert again.correlations == fresh.correlations
    assert [rule.name for rule in again.rules] == ["failed", "entered", "staff"]


def test_a_changed_rule_changes_the_version():
    one, other = (
        load(COUNT),
        build([RuleFile("r.yml", (BASE + COUNT).replace("login.failed", "login.x").encode())], PLACES),
    )
    assert one.correlations[0].version != other.correlations[0].version


def test_ranges_and_every_type_are_read():
    bodies = [
        "{type: event_count, rules: [failed], group-by: [ip], timespan: 1h, condition: {gt: 100, lte: 200}}",
        "{type: value_percentile, rules: failed, group-by: ip, timespan: 2d, condition: {lt: 3, field: a, percentile: 95}}",
        "{type: temporal, condition: failed and (entered or staff), group-by: [ip], timespan: 90s}",
        "{type: temporal_ordered, rules: [failed, entered, staff], group-by: [ip], timespan: 1w, condition: {gte: 2}}",
    ]
    loaded = load(*(correlation(number, body) for number, body in enumerate(bodies, 1)))
    assert loaded.skipped == ()
    first, second, third, fourth = (one.measure for one in loaded.correlations)
    assert first.condition.bounds == {"gt": 100, "lte": 200}
    assert (second.kind, second.percentile, second.span) == (Kind.VALUE_PERCENTILE, 95, 2 * 86_400 * MICROS)
    assert set(third.patterns) == {Pattern(frozenset({0, 1})), Pattern(frozenset({0, 2}))}
    assert fourth.condition.bounds == {"gte": 2}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{type: event_count, rules: [failde], group-by: [ip], timespan: 1h, condition: {gte: 2}}", "unknown_rule"),
        ("{type: event_count, rules: [c1], group-by: [ip], timespan: 1h, condition: {gte: 2}}", "cycle"),
        ("{type: event_count, rules: [failed], group-by: [ip], timespan: 1h, condition: {gte: 9001}}", "too_large"),
        ("{type: temporal, rules: [failed], group-by: [ip], timespan: 1h, condition: {gte: 2}}", "unreachable"),
        ("{type: temporal, condition: not entered, group-by: [ip], timespan: 1h}", "unsupported"),
        ("{type: temporal, condition: failed or not entered, group-by: [ip], timespan: 1h}", "unsupported"),
        ("{type: temporal, condition: failed and not failed, group-by: [ip], timespan: 1h}", "unreachable"),
        ("{type: value_count, rules: [failed], group-by: [ip], timespan: 1h, condition: {gte: 2}}", "invalid"),
        ("{type: value_sum, rules: [failed], group-by: [ip], timespan: 1h, condition: {gte: x, field: a}}", "invalid"),
        ("{type: event_count, rules: [failed], group-by: [ip], timespan: 0s, condition: {gte: 2}}", "invalid"),
        ("{type: event_count, rules: [failed], group-by: [ip], condition: {gte: 2}}", "invalid"),
        ("{type: event_count, rules: [failed], group-by: [ip], timespan: 1h, condition: 7}", "invalid"),
        ("{type: event_count, rules: [failed], group-by: [ip], timespan: 1h}", "invalid"),
        ("{type: event_count, rules: [], group-by: [ip], timespan: 1h, condition: {gte: 2}}", "invalid"),
        ("{type: dance, rules: [failed], group-by: [ip], timespan: 1h, condition: {gte: 2}}", "invalid"),
        ("3", "invalid"),
    ],
)
def test_what_cannot_run_is_named_with_its_reason(body, code):
    loaded = load(correlation(1, body))
    assert loaded.correlations == ()
    assert f"[sigma.correlation.{code}]" in loaded.skipped[0].reason
    assert len(loaded.rules) == 3
    assert Correlator(loaded.correlations, SOURCES).quiet == frozenset(), "its rules alert by themselves"


def test_a_chain_needs_the_groups_of_what_it_is_over():
    other = correlation(2, "{type: temporal, rules: [c1, entered], group-by: [customer], timespan: 5m}")
    loaded = load(COUNT, other)
    assert "[sigma.correlation.field]" in loaded.skipped[0].reason


def test_conditions_are_written_out():
    body = "{type: temporal, condition: not (entered or not failed) or staff, group-by: [ip], timespan: 1h}"
    (one,) = load(correlation(1, body)).correlations
    assert condition_text(one) == "failed and not entered or staff"
    body = "{type: temporal_ordered, rules: [failed, entered], condition: entered and failed, timespan: 1h}"
    assert load(correlation(1, body)).correlations[0].measure.patterns == (), "all of them, as without a condition"


def test_a_rule_that_does_not_fire_is_told_once_it_cannot_come_any_more():
    body = "{type: temporal_ordered, rules: [failed, entered], condition: failed and not entered, timespan: 1m}"
    _, (signal,) = run(load(correlation(1, body)), [product(1, 0, "login.succeeded"), product(2, 5)])
    assert signal.why["condition"] == "failed and not entered"
    assert [one["id"] for one in signal.why["events"]] == ["p2"], "one before is in no place of the order"
    _, found = run(load(correlation(1, body)), [product(2, 5), product(1, 64, "login.succeeded")])
    assert found == []
    _, found = run(load(correlation(1, body)), [product(2, 5), product(1, 65, "login.succeeded")])
    assert len(found) == 1


def test_a_correlation_over_a_rule_that_cannot_match_says_so():
    text = (
        BASE + COUNT.replace("[failed]", "[odd]") + "---\ntitle: o\nid: odd\nname: odd\nlogsource: {product: nowhere}\n"
    )
    text += "detection: {s: {a: b}, condition: s}\n"
    loaded = build([RuleFile("r.yml", text.encode())], PLACES)
    assert any("[sigma.correlation." in one.reason for one in loaded.skipped)
