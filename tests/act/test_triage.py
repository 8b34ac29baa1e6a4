"""What people do with alerts: one change over many, its history, undo, and verdicts that become labels."""

from __future__ import annotations

import pytest
from act_world import TIME, make_signal

from vedette.act.alerts import Alerts
from vedette.act.grouping import AlertState, Verdict
from vedette.act.triage import MAX_CHANGE, UNDO_S, Triage
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.audit import Audit

BY = {"operator": "per_ana"}


class Office:
    def __init__(self, database, clock):
        self.alerts = Alerts(database)
        self.told = []
        self.clock = clock
        self.triage = Triage(database, clock, Ids(clock), Audit(self.told.append, clock, Ids(clock)))
        self.alerts.apply([(make_signal(n, rule_id=f"r{n % 3}", event_id=f"ev-{n}"), TIME) for n in range(9)])
        self.ids = [alert.id for alert in self.alerts.find("acme")]

    def states(self):
        return [str(self.alerts.get("acme", alert_id).state) for alert_id in self.ids]

    def labels(self, decided=lambda _tenant, _event: True):
        found = []
        due = self.triage.teach(decided, found.append)
        return due, [(label.event_id, label.fraud, label.kind, label.observed_time) for label in found]


@pytest.fixture
def office(database, clock):
    return Office(database, clock)


def test_many_are_changed_at_once_with_a_record_of_each(office):
    change = office.triage.change("acme", office.ids, state=AlertState.RESOLVED, verdict=Verdict.BENIGN, **BY)
    assert office.states() == ["resolved"] * 3
    assert {alert.verdict for alert in office.alerts.find("acme")} == {Verdict.BENIGN}
    assert sorted(record.target for record in office.told) == sorted(office.ids)
    told = office.told[0]
    assert (told.action, told.actor, told.detail["from"]) == ("alerts.change", "per_ana", "new")
    assert told.detail["to"] == "resolved (benign)"
    assert {turn.id for turn in change.turns} == {change.id}
    (turn,) = office.triage.history("acme", office.ids[0])
    assert (turn.operator, turn.before.state, turn.after.verdict) == ("per_ana", "new", "benign")


def test_one_that_is_unknown_keeps_all_as_they_are(office):
    for tenant, ids in (("acme", [*office.ids, "al_none"]), ("other", office.ids)):
        with pytest.raises(NotFoundError) as caught:
            office.triage.change(tenant, ids, state=AlertState.RESOLVED, **BY)
        assert caught.value.code == "alerts.alert.unknown"
    assert office.states() == ["new"] * 3
    assert office.told == []


@pytest.mark.parametrize(
    ("ids", "change", "code"),
    [
        ([], {"state": AlertState.NEW}, "alerts.change.size"),
        ([f"al_{n}" for n in range(MAX_CHANGE + 1)], {"state": AlertState.NEW}, "alerts.change.size"),
        (["al_1"], {}, "alerts.change.empty"),
        (["al_1"], {"state": AlertState.NEW, "verdict": Verdict.BENIGN}, "alerts.verdict.state"),
        (["al_1"], {"assignee": "x", "verdict": Verdict.BENIGN}, "alerts.verdict.state"),
    ],
)
def test_what_makes_no_sense_is_refused(office, ids, change, code):
    with pytest.raises(DataError) as caught:
        office.triage.change("acme", ids, **change, **BY)
    assert caught.value.code == code


def test_what_stands_already_is_no_change(office):
    office.triage.change("acme", office.ids[:1], state=AlertState.IN_PROGRESS, assignee="per_ana", **BY)
    again = office.triage.change("acme", office.ids[:1], state=AlertState.IN_PROGRESS, assignee="per_ana", **BY)
    assert (again.id, again.turns) == ("", ())
    assert len(office.told) == 1


def test_undo_puts_back_what_was(office):
    office.triage.change("acme", office.ids[:1], state=AlertState.IN_PROGRESS, assignee="per_bob", **BY)
    before = [office.alerts.get("acme", alert_id) for alert_id in office.ids]
    change = office.triage.change("acme", office.ids, state=AlertState.RESOLVED, verdict=Verdict.TRUE_POSITIVE, **BY)
    office.triage.undo("acme", change.id, **BY)
    assert [office.alerts.get("acme", alert_id) for alert_id in office.ids] == before
    assert office.told[-1].action == "alerts.undo"
    office.clock.advance(UNDO_S + 1)
    assert office.labels() == (0, [])


def test_undo_leaves_alone_what_somebody_or_an_event_changed_since(office):
    change = office.triage.change("acme", office.ids, state=AlertState.RESOLVED, **BY)
    office.triage.change("acme", office.ids[:1], state=AlertState.SUPPRESSED, operator="per_bob")
    late = make_signal(50, rule_id=office.alerts.get("acme", office.ids[1]).rule_id)
    office.alerts.apply([(late, TIME)])
    undone = office.triage.undo("acme", change.id, **BY)
    assert [turn.alert_id for turn in undone.turns] == [office.ids[2]]
    assert office.states() == ["suppressed", "new", "new"]
    with pytest.raises(ConflictError) as caught:
        office.triage.undo("acme", change.id, **BY)
    assert caught.value.code == "alerts.undo.overtaken"


def test_undo_has_its_time_and_its_tenant(office):
    change = office.triage.change("acme", office.ids, state=AlertState.RESOLVED, **BY)
    with pytest.raises(NotFoundError):
        office.triage.undo("other", change.id, **BY)
    office.clock.advance(UNDO_S + 1)
    with pytest.raises(ConflictError) as caught:
        office.triage.undo("acme", change.id, **BY)
    assert caught.value.code == "alerts.undo.late"
    assert office.states() == ["resolved"] * 3


def test_a_verdict_on_decisions_becomes_their_label_when_it_can_no_longer_be_undone(office):
    first, second, third = office.ids
    said = office.clock.now()
    office.triage.change("acme", [first], state=AlertState.RESOLVED, verdict=Verdict.TRUE_POSITIVE, **BY)
    office.triage.change("acme", [second], state=AlertState.RESOLVED, verdict=Verdict.FALSE_POSITIVE, **BY)
    office.triage.change("acme", [third], state=AlertState.RESOLVED, **BY)
    assert office.labels() == (0, [])
    office.clock.advance(UNDO_S)
    frauds = {signal.event_id for signal in office.alerts.signals("acme", first)}
    others = {signal.event_id for signal in office.alerts.signals("acme", second)}
    decided = {*frauds, *sorted(others)[:1]}
    due, found = office.labels(lambda tenant, event: tenant == "acme" and event in decided)
    assert due == 2
    assert {each[0]: each[1] for each in found} == dict.fromkeys(frauds, True) | dict.fromkeys(
        sorted(others)[:1], False
    )
    assert {each[2:] for each in found} == {("verdict", said)}
    assert office.labels() == (0, [])


def test_a_verdict_whose_learning_was_killed_is_learned_again(office):
    office.triage.change("acme", office.ids[:1], state=AlertState.RESOLVED, verdict=Verdict.TRUE_POSITIVE, **BY)
    office.clock.advance(UNDO_S)

    def killed(_label):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        office.triage.teach(lambda *_: True, killed)
    assert len(office.labels()[1]) == 3
