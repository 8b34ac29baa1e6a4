"""Alerts that come after a case was opened join it by what they share, once, and nothing else does."""

from __future__ import annotations

import random

import pytest
from act_world import make_signal

from vedette.act.cases.nouns import CaseState
from vedette.act.cases.phases import Phase
from vedette.act.timeline import AlertLinked
from vedette.core.event import Entity
from vedette.core.settings import Settings
from vedette.core.signal import Level
from vedette.run.cases import joining as module
from vedette.run.cases.joining import OPERATOR, Joining
from vedette.run.parts import Parts

TENANT = "acme"


class Desk:
    """Parts over a folder, with alerts that name what a test says."""

    def __init__(self, folder, clock):
        self.clock = clock
        self.parts = Parts(Settings(home=folder, tenant=TENANT), clock=self.clock)
        self.count = 0

    def alert(self, *entities):
        """An alert about the first of some things, of a rule of its own; gives its id."""
        self.clock.advance(1)
        self.count += 1
        about = tuple(Entity(*name.split(":")) for name in entities)
        made = make_signal(
            self.count, tenant=TENANT, rule_id=f"r{self.count}", entities=about, event_time=self.clock.now(), why={}
        )
        self.parts.alerts.apply([(made, self.clock.now())])
        return self.parts.alerts.of_signal(TENANT, made.id)

    def case(self, *alerts, phase=Phase.ANALYSIS):
        self.clock.advance(1)
        made = self.parts.cases.open(
            TENANT, "what", operator="ana", level=Level.HIGH, alert_id=alerts[0] if alerts else "", phase=phase
        )
        for alert in alerts[1:]:
            self.parts.cases.link_alert(TENANT, made.id, alert, operator="ana")
        return made.id

    def held(self, case_id):
        return set(self.parts.cases.get(TENANT, case_id).alerts)

    def joined(self, case_id):
        """Alert -> why, of those that joined by themselves."""
        entries = self.parts.cases.timeline(TENANT, case_id)
        return {one.body.alert_id: one.body.why for one in entries if one.operator == OPERATOR}


@pytest.fixture
def desk(tmp_path, clock, monkeypatch):
    made = Desk(tmp_path, clock)
    monkeypatch.setattr(made.parts.access, "tenants", lambda: [TENANT])
    yield made
    made.parts.close()


def test_what_comes_later_joins_by_what_it_shares(desk):
    before = desk.alert("user:mara", "ip:203.0.113.7")
    first = desk.alert("user:ada", "ip:203.0.113.7")
    case = desk.case(first)
    joining = Joining(desk.parts)
    assert joining.turn() == 0
    near = desk.alert("device:d1", "ip:203.0.113.7")
    over = desk.alert("card:c1", "device:d1")
    desk.alert("merchant:m1")
    desk.alert("user:eve", "merchant:m1")
    assert joining.turn() == 2
    assert desk.held(case) == {first, near, over}
    assert desk.joined(case) == {near: "ip:203.0.113.7", over: "device:d1"}
    # It came before the case was opened: who opened it left it out.
    assert desk.parts.cases.of_alert(TENANT, before) is None
    assert joining.turn() == 0
    late = desk.alert("card:c1", "user:zoe")
    assert joining.turn() == 1
    assert late in desk.held(case)


def test_a_closed_case_an_exercise_and_a_resolved_alert_gather_nothing(desk):
    drill, done = desk.case(desk.alert("ip:1"), phase=Phase.PREPARATION), desk.case(desk.alert("ip:2"))
    desk.parts.cases.set_state(TENANT, done, CaseState.IN_PROGRESS, operator="ana")
    desk.case(desk.alert("ip:3"))
    later = [desk.alert(f"ip:{number}", f"user:{number}") for number in (1, 2, 3)]
    with desk.parts.state.begin() as connection:
        connection.exec_driver_sql(f"update case_file set state = 'closed' where id = '{done}'")
    assert Joining(desk.parts).turn() == 1
    assert [desk.parts.cases.of_alert(TENANT, name) is None for name in later] == [True, True, False]
    assert desk.held(drill).isdisjoint(later)


def test_the_case_that_was_opened_first_takes_it(desk):
    first, second = (desk.case(desk.alert(f"ip:{number}")) for number in (1, 2))
    shared = desk.alert("ip:1", "ip:2")
    assert Joining(desk.parts).turn() == 1
    assert shared in desk.held(first)
    assert shared not in desk.held(second)


def test_two_who_look_and_one_who_was_cut_off_join_each_alert_once(desk, monkeypatch):
    case = desk.case(desk.alert("ip:1"))
    later = {desk.alert("ip:1", f"user:{number}") for number in range(5)}
    cut = Joining(desk.parts)
    linked = []

    def dying(*args):
        if len(linked) == 2:
            raise KeyboardInterrupt
        linked.append(args)
        Joining._link(cut, *args)

    monkeypatch.setattr(cut, "_link", dying)
    with pytest.raises(KeyboardInterrupt):
        cut.turn()
    one, other = Joining(desk.parts), Joining(desk.parts)
    assert one.turn() + other.turn() == 3
    assert later <= desk.held(case)
    entries = [
        each.body.alert_id for each in desk.parts.cases.timeline(TENANT, case) if isinstance(each.body, AlertLinked)
    ]
    assert len(entries) == len(set(entries)) == 6


def test_an_alert_that_says_more_is_read_again_and_a_long_queue_over_several_turns(desk, monkeypatch):
    monkeypatch.setattr(module, "MAX_FRESH", 4)
    case = desk.case(desk.alert("ip:1"))
    alerts = [desk.alert(f"user:{number}") for number in range(9)]
    joining = Joining(desk.parts)
    assert [joining.turn() for _ in range(4)] == [0] * 4
    desk.clock.advance(120)
    more = make_signal(
        99, tenant=TENANT, rule_id=f"r{desk.count}", entities=(Entity("user", "8"), Entity("ip", "1")),
        event_time=desk.clock.now(), why={},
    )  # fmt: skip
    desk.parts.alerts.apply([(more, desk.clock.now())])
    assert sum(joining.turn() for _ in range(6)) == 1
    assert desk.held(case) >= {alerts[8]}


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_closure_of_what_is_shared(desk, seed):
    """Against a model: everything later that hangs together with the case, whenever turns happen."""
    rng = random.Random(seed)
    names = [f"ip:{number}" for number in range(12)]
    first = desk.alert("ip:0")
    case = desk.case(first)
    joining, made = Joining(desk.parts), {first: {"ip:0"}}
    for _ in range(14):
        picked = rng.sample(names, 2)
        made[desk.alert(*picked)] = set(picked)
        if rng.random() < 0.3:
            joining.turn()
    while joining.turn():
        pass
    expected = {first}
    while more := {a for a in made if a not in expected and any(made[a] & made[e] for e in expected)}:
        expected |= more
    assert desk.held(case) == expected
