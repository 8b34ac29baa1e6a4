"""Cases: a timeline that only grows, states, evidence, walls."""

from __future__ import annotations

import random
import threading

import pytest

from vedette.act.cases import Cases, CaseState, Phase, Work
from vedette.act.timeline import Noted, RunFinished, StateChanged
from vedette.core.db import sa
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.core.ids import Ids
from vedette.core.signal import Level


@pytest.fixture
def cases(database, clock):
    return Cases(database, clock, Ids(clock, random.Random(7).getrandbits))


@pytest.fixture
def work(database, clock):
    return Work(database, clock, Ids(clock, random.Random(8).getrandbits))


@pytest.fixture
def case(cases):
    return cases.open("acme", "A key is loose", operator="ana", level=Level.HIGH, alert_id="al_1")


def kinds(cases, case):
    return [type(entry.body).__name__ for entry in cases.timeline("acme", case.id)]


def test_a_case_of_an_alert_is_opened_once(cases, case, clock):
    clock.advance(5)
    again = cases.open("acme", "Another title", operator="bob", level=Level.LOW, alert_id="al_1")
    assert again == case
    assert (case.state, case.phase, case.alerts) == (CaseState.NEW, Phase.ANALYSIS, ("al_1",))
    assert kinds(cases, case) == ["Opened", "AlertLinked"]
    assert cases.of_alert("acme", "al_1") == case.id
    assert cases.open("acme", "No alert", operator="ana", level=Level.LOW).id != case.id


def test_states_follow_the_map_and_are_recorded(cases, case, clock):
    with pytest.raises(ConflictError) as caught:
        cases.set_state("acme", case.id, CaseState.CLOSED, operator="ana")
    assert (caught.value.code, caught.value.hint) == (
        "cases.state.forbidden",
        "allowed: in_progress, on_hold, resolved",
    )
    clock.advance(1)
    for state in (CaseState.IN_PROGRESS, CaseState.IN_PROGRESS, CaseState.RESOLVED):
        cases.set_state("acme", case.id, state, operator="ana")
    cases.set_phase("acme", case.id, Phase.CONTAINMENT, operator="ana")
    entries = cases.timeline("acme", case.id, after=2)
    assert entries[0].body == StateChanged("new", "in_progress")
    assert [entry.seq for entry in entries] == [3, 4, 5]
    assert cases.find("acme", states=[CaseState.RESOLVED])[0].phase is Phase.CONTAINMENT


def test_the_database_refuses_to_change_a_timeline(cases, case, database):
    for statement in ("update case_entry set operator = 'eve'", "delete from case_entry"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), database.begin() as connection:
            connection.exec_driver_sql(statement)
    assert kinds(cases, case) == ["Opened", "AlertLinked"]


def test_evidence_tasks_notes_and_keyed_entries(cases, work, case):
    for _ in range(2):
        cases.add_evidence("acme", case.id, digest="d" * 64, reference="ev/1", what="alert_snapshot", operator="run")
        cases.record("acme", case.id, RunFinished("r", "succeeded"), operator="run", key="r:end")
    cases.note("acme", case.id, "looks bad\x1b[2J", operator="ana")
    task = work.add_task("acme", case.id, "call the merchant", operator="ana")
    for _ in range(2):
        work.finish_task("acme", case.id, task.id, operator="ana")
    assert [evidence.digest for evidence in cases.evidence("acme", case.id)] == ["d" * 64]
    assert [task.done for task in work.tasks("acme", case.id)] == [True]
    assert kinds(cases, case)[2:] == ["EvidenceAdded", "RunFinished", "Noted", "TaskAdded", "TaskDone"]
    for text in ("", "  ", "x" * 20_001):
        with pytest.raises(DataError):
            cases.note("acme", case.id, text, operator="ana")
    with pytest.raises(NotFoundError):
        work.finish_task("acme", case.id, "tk_none", operator="ana")


def test_an_alert_is_in_one_case(cases, case):
    other = cases.open("acme", "Other", operator="ana", level=Level.LOW)
    cases.link_alert("acme", other.id, "al_2", operator="ana")
    cases.link_alert("acme", other.id, "al_2", operator="ana")
    with pytest.raises(ConflictError):
        cases.link_alert("acme", other.id, "al_1", operator="ana")
    assert cases.get("acme", other.id).alerts == ("al_2",)


def test_every_read_and_write_is_walled(cases, work, case):
    calls = [
        cases.get,
        cases.timeline,
        cases.evidence,
        work.tasks,
        lambda t, c: cases.note(t, c, "x", operator="eve"),
        lambda t, c: cases.link_alert(t, c, "al_9", operator="eve"),
        lambda t, c: cases.add_evidence(t, c, digest="d", reference="r", what="w", operator="eve"),
        lambda t, c: work.add_task(t, c, "x", operator="eve"),
        lambda t, c: work.finish_task(t, c, "x", operator="eve"),
        lambda t, c: cases.set_state(t, c, CaseState.RESOLVED, operator="eve"),
        lambda t, c: cases.set_phase(t, c, Phase.RECOVERY, operator="eve"),
        lambda t, c: cases.record(t, c, Noted("x"), operator="eve"),
    ]
    for call in calls:
        with pytest.raises(NotFoundError) as caught:
            call("other", case.id)
        assert caught.value.code == "cases.case.unknown"
    assert cases.find("other") == []
    assert cases.of_alert("other", "al_1") is None
    assert kinds(cases, case) == ["Opened", "AlertLinked"]


def test_concurrent_entries_leave_no_gap(cases, case):
    def write(name):
        for n in range(5):
            cases.note("acme", case.id, f"{name}{n}", operator=name)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.seq for entry in cases.timeline("acme", case.id)] == list(range(1, 23))
