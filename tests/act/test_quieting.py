"""Suppression and shadow in the store: in any order of arrival what the plain model over event times says."""

from __future__ import annotations

import msgspec
import pytest
from act_world import TIME, make_signal
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.act import quieting
from vedette.act.alerts import Alerts
from vedette.act.grouping import AlertState, group
from vedette.act.suppression import suppression_key
from vedette.core.clock import MICROS
from vedette.core.db import open_database
from vedette.core.event import Entity
from vedette.judge.grouping import Grouping, Missing, Suppression
from vedette.judge.sigma.card import Card

CARD = Card(group=Grouping(window_s=60), suppress=Suppression(span_s=300))
EVENTS = st.lists(st.tuples(st.integers(0, 1_500), st.sampled_from(["a", "b", ""])), min_size=1, max_size=25)


def signals(events):
    return [
        make_signal(
            number,
            event_time=TIME + second * MICROS,
            entities=(Entity("user", who),) if who else (),
            why={"user": who} if who else {},
        )
        for number, (second, who) in enumerate(events)
    ]


def raised(alerts, card):
    """Brute force: an alert is raised when no raised one of its key stands less than the span before it."""
    found = []
    for alert in sorted(alerts, key=lambda one: (one.first_time, one.id)):
        key, span = suppression_key(alert, card.suppress), card.suppress.span_s * MICROS
        if key is None or not any(
            suppression_key(one, card.suppress) == key and alert.first_time < one.first_time + span for one in found
        ):
            found.append(alert)
    return {alert.id for alert in found}


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.randoms(use_true_random=False), st.integers(1, 5), st.sampled_from(list(Missing)))
def test_what_is_raised_depends_on_event_times_alone(events, random, size, missing):
    card = msgspec.structs.replace(CARD, group=Grouping(window_s=60, missing=missing))
    made = signals(events)
    model = group(((one, TIME) for one in made), default=card.group)
    alerts = Alerts(open_database(":memory:"), cards=lambda _rule, _version: card)
    arriving = made * 2
    random.shuffle(arriving)
    for place in range(0, len(arriving), size):
        alerts.apply([(one, TIME) for one in arriving[place : place + size]])
    held = {one.id: one for one in alerts.find("acme", limit=500)}
    assert held.keys() == model.keys()
    wanted = raised(model.values(), card)
    assert {name for name, one in held.items() if one.state is AlertState.NEW} == wanted
    assert {name for name, one in held.items() if not one.suppressed_by} == wanted
    assert all(one.suppressed_by in wanted for one in held.values() if one.suppressed_by)
    assert {name: one.signal_count for name, one in held.items()} == {n: one.signal_count for n, one in model.items()}


def test_a_walk_that_looks_at_the_changed_alert_alone_is_noticed(monkeypatch):
    """The planted mistake: what a late event does to those behind it is not looked at."""
    walk = quieting._Chain.walk

    def late(self, since, last):
        held = self.connection.execute(quieting._QUIET.select()).fetchall()
        if all(row.first_time <= last for row in held):
            walk(self, since, last)

    monkeypatch.setattr(quieting._Chain, "walk", late)
    alerts = Alerts(open_database(":memory:"), cards=lambda _rule, _version: CARD)
    made = signals([(200, "a"), (450, "a"), (0, "a")])
    for one in made:
        alerts.apply([(one, TIME)])
    model = group(((one, TIME) for one in made), default=CARD.group)
    assert {one.id for one in alerts.find("acme") if one.state is AlertState.NEW} != raised(model.values(), CARD)


def test_what_people_did_stays():
    alerts = Alerts(open_database(":memory:"), cards=lambda _rule, _version: CARD)
    late, early = signals([(200, "a"), (0, "a")])
    alerts.apply([(late, TIME)])
    (alert,) = alerts.find("acme")
    with alerts._database.begin() as connection:
        opened = msgspec.structs.replace(alert, state=AlertState.IN_PROGRESS)
        connection.execute(quieting.ALERT.update().values(**quieting.to_row(opened)))
    alerts.apply([(early, TIME)])
    held = alerts.get("acme", alert.id)
    assert (held.state, bool(held.suppressed_by)) == (AlertState.IN_PROGRESS, True)


def test_shadow_signals_are_counted_once_and_raise_nothing():
    alerts = Alerts(open_database(":memory:"), cards=lambda _rule, _version: CARD)
    made = [msgspec.structs.replace(one, shadow=True) for one in signals([(0, "a"), (1, "a"), (100, "b")])]
    for _ in range(2):
        alerts.apply([(one, TIME) for one in made])
    assert alerts.find("acme") == []
    ((_, shadow),) = alerts.shadows("acme").items()
    assert (shadow.signals, shadow.alerts, shadow.first_time) == (3, 2, TIME)
    assert alerts.shadows("other") == {}


@pytest.mark.parametrize(("by", "count"), [(("entity",), 1), (("why.user",), 1), (("why.host",), 3), (("source",), 1)])
def test_parts_of_the_key(by, count):
    """What lacks a part is never suppressed."""
    card = Card(group=Grouping(window_s=60), suppress=Suppression(span_s=900, by=by))
    alerts = Alerts(open_database(":memory:"), cards=lambda _rule, _version: card)
    alerts.apply([(one, TIME) for one in signals([(0, "a"), (100, "a"), (200, "a")])])
    assert sum(one.state is AlertState.NEW for one in alerts.find("acme")) == count
