"""Groups, merges, likenesses, snoozes, windows, severity, routes and the alarm of age."""

from __future__ import annotations

import random

import msgspec
import pytest
from act_world import TIME, make_signal

from vedette.act.alerts import Alerts
from vedette.act.attention import Ages, Criticality, load_attention, recipient, severity
from vedette.act.grouping import AlertState, Verdict
from vedette.act.groups import CHAIN, STORM, Part, group_parts
from vedette.act.merging import Merging
from vedette.act.queue import AlertFilter
from vedette.act.silence import Silence
from vedette.act.triage import Triage
from vedette.core.clock import DAY, MICROS
from vedette.core.content import shipped
from vedette.core.errors import ConflictError, DataError, DefinitionError, NotFoundError
from vedette.core.event import Entity
from vedette.core.ids import Ids
from vedette.core.signal import Level
from vedette.prove.audit import Audit

HOUR = 3_600 * MICROS


class Room:
    """Alerts with all that stands beside them."""

    def __init__(self, database, clock):
        ids = Ids(clock, random.Random(3).getrandbits)
        self.records, self.clock = [], clock
        audit = Audit(lambda *record: self.records.append(record), clock, ids)
        self.alerts = Alerts(database)
        self.triage = Triage(database, clock, ids, audit)
        self.merging, self.silence = Merging(database, clock, ids, audit), Silence(database, clock, ids, audit)
        self.ages = Ages(database, clock, audit, load_attention(shipped("response") / "attention.yaml"))

    def add(self, number, **changes):
        """An alert of its own, by its id."""
        changes = {"rule_id": f"rule-{number}", "event_time": self.clock.now(), **changes}
        signal = make_signal(number, **changes)
        self.alerts.apply([(signal, self.clock.now())])
        found = self.alerts.page("acme", AlertFilter(rule=(signal.rule_id,)), limit=1_000, now=0).alerts
        return max(found, key=lambda alert: (alert.updated_time, alert.first_time)).id

    def state(self, alert_id):
        return self.alerts.get("acme", alert_id).state


@pytest.fixture
def room(database, clock):
    return Room(database, clock)


def part(number, rule, entity, severity_id=4, **changes):
    values = {"fades": TIME + 5 * DAY, "first_time": TIME + number, "last_time": TIME + number, **changes}
    return Part(f"al_{number}", rule, entity, severity_id=severity_id, title=rule, **values)


def test_a_storm_is_few_groups_and_the_chain_inside_it_leads():
    rng = random.Random(1)
    parts = [part(n, f"broken_{n % 3}", f"host:{n}", severity_id=5) for n in range(600)]
    chain = [part(1_000, "broken_0", "key:k"), part(1_001, "rare", "key:k"), part(1_002, "rarer", "key:k")]
    groups = group_parts([*parts, *chain], TIME)
    assert [(group.kind, group.about, group.count) for group in groups[:1]] == [("entity", "key:k", 3)]
    assert len(groups) == 4
    assert sum(group.count for group in groups) == 603
    mixed = [*parts, *chain]
    rng.shuffle(mixed)
    assert group_parts(mixed, TIME) == groups
    assert group_parts(mixed, TIME, limit=2) == groups[:2]
    assert len(group_parts(parts, TIME)) == 3


def test_storms_alone_make_no_group_of_an_entity_unless_they_are_a_chain():
    rules = [f"storm_{n}" for n in range(CHAIN)]
    parts = [part(n, rules[n % CHAIN], f"host:{n}") for n in range(STORM * CHAIN)]
    two = [part(9_000 + n, rules[n], "key:two") for n in range(2)]
    four = [part(9_100 + n, rules[n], "key:four") for n in range(CHAIN)]
    kinds = {group.about: group.kind for group in group_parts([*parts, *two, *four], TIME)}
    assert "key:two" not in kinds
    assert kinds["key:four"] == "entity"


def test_groups_hold_what_is_open_and_recent(room):
    key = Entity("key", "k-1")
    ids = [room.add(n, entities=(key,)) for n in range(3)]
    (group,) = room.merging.groups("acme")
    assert (group.about, group.count, set(group.alerts)) == ("key:k-1", 3, set(ids))
    assert room.merging.groups("other") == []
    room.triage.change("acme", [ids[0]], operator="ana", state=AlertState.RESOLVED, verdict=Verdict.BENIGN)
    (group,) = room.merging.groups("acme")
    assert set(group.alerts) == set(ids[1:])
    assert [room.state(each) for each in ids[1:]] == [AlertState.NEW] * 2
    room.clock.advance(2 * 86_400)
    assert room.merging.groups("acme") == []


def test_merge_and_unmerge_lose_nothing(room):
    ids = [room.add(n, entities=(Entity("user", f"u{n}"),)) for n in range(4)]
    room.triage.change("acme", [ids[1]], operator="ana", assignee="ana", state=AlertState.IN_PROGRESS)
    before = {each: (room.alerts.get("acme", each), room.alerts.signals("acme", each)) for each in ids}
    one = room.merging.merge("acme", ids[:2], title="one thief", operator="ana")
    both = room.merging.merge("acme", ids[1:3], title="one thief, three users", operator="bob")
    assert both.alerts == tuple(sorted(ids[:3]))
    with pytest.raises(NotFoundError):
        room.merging.get("acme", one.id)
    (group, other) = room.merging.groups("acme")
    assert (group.kind, group.title, group.count, other.count) == ("merge", "one thief, three users", 3, 1)
    room.triage.change("acme", [ids[0]], operator="ana", state=AlertState.RESOLVED, verdict=Verdict.TRUE_POSITIVE)
    assert room.state(ids[1]) is AlertState.IN_PROGRESS
    assert room.merging.groups("acme")[0].count == 2
    room.triage.undo("acme", room.triage.history("acme", ids[0])[0].id, operator="ana")
    assert room.merging.unmerge("acme", [ids[0]], operator="ana") == 1
    assert room.merging.of_alert("acme", ids[0]) is None
    assert room.merging.unmerge("acme", [ids[1]], operator="ana") == 1
    assert room.merging.of_alert("acme", ids[2]) is None
    after = {each: (room.alerts.get("acme", each), room.alerts.signals("acme", each)) for each in ids}
    assert after == before
    with pytest.raises(ConflictError):
        room.merging.unmerge("acme", ids, operator="ana")
    with pytest.raises(DataError):
        room.merging.merge("acme", ids[:1], title="alone", operator="ana")
    with pytest.raises(NotFoundError):
        room.merging.merge("other", ids[:2], title="not mine", operator="eve")


def test_alike_is_what_shares_rare_things(room):
    office = Entity("ip", "10.0.0.1")
    rare = Entity("device", "d-9")
    first = room.add(1, entities=(Entity("user", "a"), office, rare))
    crowd = [room.add(n, entities=(Entity("user", f"u{n}"), office)) for n in range(2, 8)]
    twin = room.add(9, entities=(Entity("user", "b"), rare))
    found = room.merging.similar("acme", first)
    assert found[0].alert_id == twin
    assert found[0].shared == ("device:d-9",)
    assert {each.alert_id for each in found[1:]} == set(crowd)
    with pytest.raises(NotFoundError):
        room.merging.similar("other", first)


def test_a_snooze_ends_by_itself_and_yields_to_people(room):
    one, two = room.add(1), room.add(2)
    until = room.clock.now() + HOUR
    for wrong in (room.clock.now(), room.clock.now() + 31 * DAY):
        with pytest.raises(DataError):
            room.silence.snooze("acme", [one], wrong, operator="ana", reason="known")
    with pytest.raises(DataError):
        room.silence.snooze("acme", [one], until, operator="ana", reason=" ")
    room.triage.change("acme", [two], operator="bob", state=AlertState.IN_PROGRESS, assignee="bob")
    assert room.silence.snooze("acme", [one, two], until, operator="ana", reason="known") == 2
    assert room.silence.snoozed("acme") == {one: until, two: until}
    assert room.state(one) is AlertState.SUPPRESSED
    assert room.silence.wake() == 0
    room.clock.advance(3_601)
    assert (room.silence.wake(), room.silence.wake()) == (2, 0)
    assert (room.state(one), room.state(two)) == (AlertState.NEW, AlertState.IN_PROGRESS)
    assert room.alerts.get("acme", two).assignee == "bob"
    room.silence.snooze("acme", [one], room.clock.now() + HOUR, operator="ana", reason="again")
    room.triage.change("acme", [one], operator="bob", state=AlertState.RESOLVED)
    room.clock.advance(3_601)
    assert room.silence.wake() == 0
    assert room.state(one) is AlertState.RESOLVED


@pytest.mark.parametrize("order", [0, 1])
def test_a_window_keeps_quiet_what_lies_in_it_whatever_the_order(room, order):
    now = room.clock.now() // HOUR * HOUR + HOUR
    room.clock.micros = now
    host = Entity("host", "db-1")
    with pytest.raises(DataError):
        room.silence.maintain("acme", since=now, until=now + HOUR, operator="ana", reason="all of it")
    window = room.silence.maintain(
        "acme", since=now, until=now + HOUR // 2, entity=host, operator="ana", reason="upgrade"
    )
    inside = room.add(1, rule_id="quiet", entities=(host,), event_time=now + 5)
    alert = room.alerts.get("acme", inside)
    assert (alert.state, alert.suppressed_by) == (AlertState.SUPPRESSED, window.id)
    assert room.state(room.add(2, rule_id="other", entities=(Entity("host", "db-2"),), event_time=now + 5)) is (
        AlertState.NEW
    )
    pair = [(11, now + 9), (12, now + HOUR // 2 + 9)]
    for number, at in reversed(pair) if order else pair:
        loud = room.add(number, rule_id="loud", entities=(host,), event_time=at)
    assert room.state(loud) is AlertState.NEW
    assert room.alerts.get("acme", loud).signal_count == 2
    room.silence.end("acme", window.id, operator="ana")
    with pytest.raises(NotFoundError):
        room.silence.end("other", window.id, operator="eve")


def test_severity_says_why(room):
    attention = load_attention(shipped("response") / "attention.yaml")
    alert = room.alerts.get("acme", room.add(1, level=Level.MEDIUM, entities=(Entity("user", "ana"),)))
    assert severity(alert, attention, {}).level is Level.MEDIUM
    graver = severity(alert, attention, {"user:ana": 90.0})
    assert (graver.level, len(graver.reasons)) == (Level.HIGH, 2)
    key = msgspec.structs.replace(alert, entities=(Entity("key", "k"), Entity("user", "ana")))
    assert severity(key, attention, {"user:ana": 90.0}).level is Level.CRITICAL
    lab = msgspec.structs.replace(alert, entities=(Entity("host", "lab-7"),))
    assert severity(lab, attention, {}).level is Level.LOW
    assert Criticality.LOW in {asset.criticality for asset in attention.assets}


def test_routes_know_teams_and_hours(room, clock):
    attention = load_attention(shipped("response") / "attention.yaml")
    card = room.alerts.get("acme", room.add(1, source="decision", entities=(Entity("card", "c"),)))
    monday = 1_750_000_000 * MICROS // DAY * DAY + DAY  # 2025-06-16
    assert recipient(card, attention, monday + 9 * HOUR).team == "risk-operations"
    assert recipient(card, attention, monday + 3 * HOUR).team == "on-call-risk"
    assert recipient(card, attention, monday + 5 * DAY + 9 * HOUR).team == "on-call-risk"
    low = room.alerts.get("acme", room.add(2, level=Level.LOW))
    assert recipient(low, attention, monday).route == "rest"


def test_an_alert_that_waits_too_long_is_told_once(room):
    graves = [room.add(n, level=Level.CRITICAL) for n in range(3)]
    room.add(7, level=Level.LOW)
    assert room.ages.tell("acme") == 0
    room.clock.advance(16 * 60)
    room.triage.change("acme", graves[:1], operator="ana", state=AlertState.IN_PROGRESS)
    assert room.ages.overdue("acme") == {Level.CRITICAL: 2}
    assert (room.ages.tell("acme"), room.ages.tell("acme"), room.ages.tell("other")) == (2, 0, 0)


def test_a_file_that_leaves_alerts_to_nobody_is_refused(tmp_path):
    good = (shipped("response") / "attention.yaml").read_text()
    for change in (("when: {}", "when: {level: [low]}"), ("high: 1h, ", ""), ("critical: 15m", "critical: soon")):
        path = tmp_path / "attention.yaml"
        path.write_text(good.replace(*change))
        with pytest.raises(DefinitionError):
            load_attention(path)
