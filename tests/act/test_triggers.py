"""What starts playbooks by itself: once for each occasion, only for what came after, whatever version they have."""

from __future__ import annotations

import pytest
from act_world import TIME, Office, make_signal
from test_responder import FakeRuns

from vedette.act.playbooks.loader import read_playbook
from vedette.act.playbooks.triggers import Triggers
from vedette.core.documents import load_yaml
from vedette.core.errors import Problems
from vedette.core.signal import Level

TEXT = """
id: auto
version: {version}
title: T
owner: ops
triggers:
  - {trigger}
steps:
  - {{id: tell, type: action, action: notify, arguments: {{text: hi}}}}
"""


def book(trigger, version=1):
    return read_playbook(load_yaml(TEXT.format(trigger=trigger, version=version)))


@pytest.fixture
def office(database, clock):
    return Office(database, clock)


@pytest.fixture
def world(office):
    runs = FakeRuns()
    told = []
    responder = office.responder(runs)
    tell = lambda tenant, name, error: told.append((tenant, name, error.code))  # noqa: E731
    triggers = Triggers(
        responder, office.database, alerts=office.alerts, cases=office.cases, clock=office.clock, tell=tell
    )
    return responder, triggers, told


def raise_alert(office, number, **changes):
    office.alerts.apply([(make_signal(number, rule_id=f"rule-{number}", **changes), office.clock.now())])


def test_new_alerts_of_a_rule_and_level(office, world, clock):
    responder, triggers, _ = world
    playbook = book("{type: alert, rules: [rule-1, rule-2], levels: [high]}")
    raise_alert(office, 1)
    assert triggers.turn(["acme"], {"auto": playbook}) == 1
    clock.advance(60)
    raise_alert(office, 2)
    raise_alert(office, 3)
    raise_alert(office, 2, level=Level.LOW, event_time=TIME * 2)
    assert triggers.turn(["acme"], {"auto": playbook}) == 1
    assert triggers.turn(["acme"], {"auto": playbook}) == 0
    again = book("{type: alert, rules: [rule-1, rule-2], levels: [high]}", version=2)
    assert triggers.turn(["acme"], {"auto": again}) == 0
    assert {view.requester for view in responder.find("acme")} == {"trigger"}
    assert {view.trigger["type"] for view in responder.find("acme")} == {"alert"}


def test_what_was_there_before_the_trigger_is_left(office, world, clock):
    _, triggers, _ = world
    raise_alert(office, 1)
    office.cases.open("acme", "old", operator="ana", level=Level.HIGH)
    clock.advance(60)
    for trigger in ("{type: alert}", "{type: case}"):
        assert triggers.turn(["acme"], {"auto": book(trigger)}) == 0


def test_new_cases(office, world, clock):
    responder, triggers, _ = world
    playbook = book("{type: case, levels: [high]}")
    assert triggers.turn(["acme"], {"auto": playbook}) == 0
    clock.advance(1)
    case = office.cases.open("acme", "new", operator="ana", level=Level.HIGH)
    office.cases.open("acme", "small", operator="ana", level=Level.LOW)
    assert triggers.turn(["acme"], {"auto": playbook}) == 1
    (view,) = responder.find("acme")
    assert (view.case_id, view.trigger["id"]) == (case.id, case.id)


def test_a_schedule_starts_once_in_each_interval(world, clock):
    _, triggers, _ = world
    playbook = book("{type: schedule, every: 1h}")
    started = []
    for _ in range(40):
        started.append(triggers.turn(["acme"], {"auto": playbook}))
        clock.advance(300)
    assert sum(started) == 3


def test_a_playbook_that_cannot_start_is_told_and_the_others_go_on(office, world):
    _, triggers, told = world
    bad = read_playbook(load_yaml(TEXT.format(trigger="{type: alert}", version=1) + "inputs: {x: {}}\n"))
    good = read_playbook(load_yaml(TEXT.format(trigger="{type: alert}", version=1).replace("auto", "good")))
    raise_alert(office, 1)
    assert triggers.turn(["acme"], {"auto": bad, "good": good}) == 1
    assert told == [("acme", "auto", "core.definitions.invalid")]


@pytest.mark.parametrize(
    "trigger",
    ["{type: never}", "{type: schedule}", "{type: schedule, every: 1s}", "{type: alert, levels: [loud]}", "x"],
)
def test_a_wrong_trigger_is_a_problem_with_its_place(trigger):
    with pytest.raises(Problems):
        book(trigger)
