"""Signals become alerts: grouping law, exactly-once effect, risk, walls."""

from __future__ import annotations

import math

import msgspec
import pytest
from act_world import TIME, ListLog, make_signal
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.act import risk as risks
from vedette.act.alerts import Alerts
from vedette.act.grouping import DEFAULT, MAX_AHEAD, AlertState, group, merge, to_alert
from vedette.act.triage import Triage
from vedette.core.clock import DAY, MICROS
from vedette.core.db import open_database
from vedette.core.errors import NotFoundError
from vedette.core.event import Entity
from vedette.core.ids import Ids
from vedette.core.signal import Level
from vedette.judge.grouping import Grouping, Missing
from vedette.prove.audit import Audit

HOUR = 3_600 * MICROS
KEY = Entity("key", "k-1")


def set_state(database, alert_id, state):
    clock = FixedClock()
    Triage(database, clock, Ids(clock), Audit(None, clock, Ids(clock))).change(
        "acme", [alert_id], operator="per_ana", state=state
    )


class FixedClock:
    def now(self):
        return TIME

    def monotonic(self):
        return 0.0


def one(signals, grouping=DEFAULT):
    (alert,) = group([(signal, TIME) for signal in signals], {}, grouping).values()
    return alert


def test_an_alert_counts_and_keeps_the_extremes():
    alert = one([make_signal(3, level=Level.CRITICAL), make_signal(1), make_signal(2), make_signal(2)])
    assert alert.signal_count == 3
    assert (alert.first_time, alert.last_time) == (TIME + MICROS, TIME + 3 * MICROS)
    assert (alert.level, alert.severity_id, alert.lead) == (Level.CRITICAL, 5, "sig-1")
    assert alert.entity == KEY
    assert alert.age(TIME + 5) == 5


def test_windows_rules_entities_and_tenants_split():
    signals = [
        make_signal(1),
        make_signal(2, event_time=TIME + HOUR),
        make_signal(3, rule_id="rule-2"),
        make_signal(4, entities=(Entity("key", "k-2"),)),
        make_signal(5, tenant="other"),
        make_signal(6, entities=()),
    ]
    assert len(group([(signal, TIME) for signal in signals])) == 6


def test_the_window_is_half_open():
    edge = TIME // HOUR * HOUR
    times = [edge - 1, edge, edge + HOUR - 1, edge + HOUR]
    alerts = group([(make_signal(n, event_time=time), TIME) for n, time in enumerate(times)])
    assert sorted(alert.signal_count for alert in alerts.values()) == [1, 1, 2]
    assert {alert.window_end for alert in alerts.values()} == {edge, edge + HOUR, edge + 2 * HOUR}


@pytest.mark.parametrize(("missing", "count"), [(Missing.GROUP, 1), (Missing.SEPARATE, 2)])
def test_a_missing_key_part_follows_the_policy_and_is_recorded(missing, count):
    grouping = Grouping(by=("entity", "why.user"), missing=missing)
    alerts = group([(make_signal(1), TIME), (make_signal(2), TIME)], {}, grouping)
    assert len(alerts) == count
    assert all(alert.fallbacks == ("alerts.key.missing:why.user",) for alert in alerts.values())


def test_a_missing_part_never_meets_a_value_that_looks_like_it():
    grouping = Grouping(by=("why.user",), missing=Missing.SEPARATE)
    looks = ["", "=", "\x00ev-1", None, "null", 0, False, {}]
    alerts = group([(make_signal(n, why={"user": value}), TIME) for n, value in enumerate(looks)], {}, grouping)
    # The text `null` and JSON null differ; so do `0` and false. Nothing joins.
    assert len(alerts) == len(looks)


def test_titles_are_filled_or_fall_back():
    assert (
        one([make_signal()], Grouping(title="${entity} from ${why.sourceIPAddress}")).title
        == "key:k-1 from 198.51.100.7"
    )
    failed = one([make_signal()], Grouping(title="${why.nothing} ${__class__}"))
    assert (failed.title, failed.fallbacks) == ("API key used from a new place", ("alerts.title.failed",))
    assert len(one([make_signal(title="x" * 9_999)]).title) == 200


def test_a_clock_ten_years_ahead_is_bounded_and_recorded():
    alert = to_alert(make_signal(event_time=TIME + 3_650 * DAY), Grouping(), TIME)
    assert alert.last_time == TIME + MAX_AHEAD
    assert alert.fallbacks == ("alerts.time.ahead",)


signals = st.builds(
    make_signal,
    st.integers(1, 30),
    rule_id=st.sampled_from(["r1", "r2"]),
    tenant=st.sampled_from(["acme", "other"]),
    level=st.sampled_from(list(Level)),
    event_time=st.integers(TIME, TIME + 3 * HOUR),
    entities=st.lists(st.sampled_from([Entity("key", "k-1"), Entity("user", "u"), Entity("ip", "i")]), max_size=3).map(
        tuple
    ),
)


def by_hand(signal):
    """The dedup key as the documentation says it."""
    types = {entity.type: entity.id for entity in signal.entities}
    about = next((f"{name}:{types[name]}" for name in ("key", "user", "ip") if name in types), None)
    return signal.tenant, signal.rule_id, about, signal.event_time // HOUR


def unique(found):
    return list({signal.id: signal for signal in found}.values())


@settings(max_examples=60, deadline=None)
@given(st.lists(signals, max_size=40).map(unique), st.randoms(use_true_random=False), st.integers(1, 9))
def test_any_order_repetition_and_chunking_give_the_same_alerts(tmp_path_factory, found, random, size):
    pairs = [(signal, TIME) for signal in found]
    expected = group(pairs)
    # Brute force: every alert from all its signals at once, by the plain definition.
    assert len(expected) == len({by_hand(signal) for signal in found})
    for alert in expected.values():
        mine = [s for s in found if by_hand(s) == by_hand(next(x for x in found if x.id == alert.lead))]
        assert alert.signal_count == len(mine)
        assert alert.first_time == min(s.event_time for s in mine)
        assert alert.last_time == max(s.event_time for s in mine)
        assert alert.severity_id == max(s.level.severity_id for s in mine)
        assert set(alert.entities) == {e for s in mine for e in s.entities}
    delivered = pairs + random.choices(pairs, k=len(pairs)) if pairs else []
    random.shuffle(delivered)
    assert group(delivered) == expected
    database = open_database(tmp_path_factory.mktemp("a") / "state.db")
    store = Alerts(database)
    applied = sum(store.apply(delivered[at : at + size]) for at in range(0, len(delivered), size))
    stored = {alert.id: alert for tenant in ("acme", "other") for alert in store.find(tenant)}
    database.close()
    assert applied == len(found)
    assert stored == expected


def test_the_order_check_sees_a_merge_that_keeps_the_last_title():
    early, late = (to_alert(make_signal(n, title=f"t{n}"), Grouping(), TIME) for n in (1, 2))
    assert merge(early, late) == merge(late, early)

    def planted(one, other):
        return msgspec.structs.replace(merge(one, other), title=other.title)

    assert planted(early, late) != planted(late, early)


def test_consuming_twice_counts_once(database):
    store, log = Alerts(database), ListLog()
    log.add(*[make_signal(n) for n in range(7)])
    log.values.insert(3, b'{"id": 5}')
    log.values.insert(5, b"\xff not json")
    log.add(make_signal(2))
    totals = [msgspec.structs.astuple(store.consume(log, limit=4)) for _ in range(4)]
    assert totals == [(4, 3, 0, 1), (4, 3, 0, 1), (2, 1, 1, 0), (0, 0, 0, 0)]
    assert (store.place(0), store.place(1)) == (10, 0)
    (alert,) = store.find("acme")
    assert alert.signal_count == 7
    assert [reject["log_offset"] for reject in store.rejects()] == [3, 5]
    assert {reject["code"] for reject in store.rejects()} == {"alerts.signal.malformed"}
    assert [signal.id for signal in store.signals("acme", alert.id)] == [f"sig-{n}" for n in range(7)]


def test_a_failure_in_the_middle_of_a_batch_leaves_nothing(database, monkeypatch):
    store, log = Alerts(database), ListLog()
    log.add(make_signal(1), make_signal(2, rule_id="rule-2"))

    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(store, "_upsert", fail)
    with pytest.raises(RuntimeError):
        store.consume(log)
    monkeypatch.undo()
    assert store.find("acme") == []
    assert store.consume(log).applied == 2


def test_every_read_is_walled(database):
    store = Alerts(database)
    store.apply([(make_signal(), TIME)])
    (alert,) = store.find("acme")
    assert store.find("other") == []
    assert store.signals("other", alert.id) == []
    assert store.risk("other", KEY, TIME) == 0
    with pytest.raises(NotFoundError) as caught:
        store.get("other", alert.id)
    assert caught.value.code == "alerts.alert.unknown"


def test_a_person_closes_one_and_the_group_goes_on(database):
    store = Alerts(database)
    store.apply([(make_signal(5), TIME)])
    (alert,) = store.find("acme")
    set_state(database, alert.id, AlertState.RESOLVED)
    store.apply([(make_signal(4), TIME)])  # happened before what was looked at
    assert store.get("acme", alert.id).state is AlertState.RESOLVED
    store.apply([(make_signal(6), TIME)])
    again = store.get("acme", alert.id)
    assert (again.state, again.reopened, again.signal_count) == (AlertState.NEW, 1, 3)
    set_state(database, alert.id, AlertState.SUPPRESSED)
    store.apply([(make_signal(7), TIME)])
    assert store.get("acme", alert.id).state is AlertState.SUPPRESSED
    assert [a.id for a in store.find("acme", states=[AlertState.NEW])] == []


def test_the_queue_is_by_risk(database):
    store = Alerts(database)
    levels = [Level.LOW, Level.CRITICAL, Level.MEDIUM, Level.CRITICAL]
    store.apply([(make_signal(n, rule_id=f"r{n}", level=level), TIME) for n, level in enumerate(levels)])
    assert [alert.rule_id for alert in store.find("acme")] == ["r3", "r1", "r2", "r0"]
    assert [alert.rule_id for alert in store.find("acme", entity=KEY, limit=1)] == ["r3"]
    assert store.find("acme", entity=Entity("key", "none")) == []


def test_risk_is_bounded_decays_and_follows_verdicts(database):
    store = Alerts(database)
    store.apply([(make_signal(1, event_time=TIME), TIME)])
    assert store.risk("acme", KEY, TIME) == 50.0
    assert store.risk("acme", KEY, TIME + risks.HALF_LIFE) == 29.3
    assert store.risk("acme", KEY, TIME + 11 * risks.HALF_LIFE) == 0.0
    many = [(make_signal(n, rule_id=f"r{n}", level=Level.CRITICAL), TIME) for n in range(2, 60)]
    store.apply(many)
    assert store.risk("acme", KEY, TIME) == 99.9
    for alert in store.find("acme"):
        set_state(database, alert.id, AlertState.SUPPRESSED)
    assert store.risk("acme", KEY, TIME) == 0.0


def test_a_noisy_low_rule_never_looks_like_an_attack():
    alert = one([make_signal(n, level=Level.LOW, event_time=TIME) for n in range(3_000)])
    assert risks.risk([alert], alert.last_time) < 25
    assert math.isclose(risks.points(alert, alert.last_time), 20)


def test_a_signal_that_only_adds_to_risk_makes_no_alert(database):
    alerts = Alerts(database)
    only = make_signal(1, alert=False)
    assert alerts.apply([(only, TIME), (make_signal(2, rule_id="rule-2"), TIME)]) == 2
    assert [alert.rule_id for alert in alerts.find("acme")] == ["rule-2"]
    assert alerts.apply([(only, TIME)]) == 0, "it is known"
