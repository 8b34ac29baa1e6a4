"""Starting, deciding and showing runs: one per alert and version, four eyes, walls; on both databases."""

from __future__ import annotations

import threading

import msgspec
import pytest
from act_world import KEY_SIGNAL, SHIPPED, TIME, Office, make_signal

from vedette.act.approvals import Approval, ApprovalState, Covered, binding
from vedette.act.playbooks.loader import load_playbook
from vedette.act.playbooks.plan import make_plan
from vedette.act.playbooks.responder import alert_scope, bind
from vedette.core.errors import ConflictError, DeniedError, NotFoundError, Problems, VedetteError
from vedette.core.execute import Run, State


class FakeRuns:
    """Remembers what it is told."""

    def __init__(self):
        self.runs = {}
        self.sent = []

    def start(self, run_id, kind, definition, inputs):
        held = self.runs.setdefault(run_id, (kind, definition, inputs))
        assert held == (kind, definition, inputs)

    def status(self, run_id):
        if run_id not in self.runs:
            raise NotFoundError("execute.run.unknown", "no such run")
        return Run(run_id, *self.runs[run_id][:1], State.RUNNING, *self.runs[run_id][1:], None, "", 0, 0)

    def find(self, run_ids):
        return {each: self.status(each) for each in run_ids if each in self.runs}

    def branches(self, run_id):
        return []

    def send(self, run_id, topic, message, *, key):
        self.sent.append((run_id, topic, key))

    def history(self, run_id):
        return []


@pytest.fixture
def office(database, clock):
    return Office(database, clock)


@pytest.fixture
def runs():
    return FakeRuns()


@pytest.fixture
def responder(office, runs):
    return office.responder(runs)


@pytest.fixture
def shipped():
    return load_playbook(SHIPPED)


def asked(clock, number=1, **changes):
    actions = (Covered("revoke", "revoke_key", {"key_id": f"k-{number}"}),)
    values = {
        "tenant": "acme",
        "run_id": f"run_{number}",
        "step": "ask",
        "title": "t",
        "actions": actions,
        "evidence": {},
        "requester": "ana",
        "authors": ("rob",),
        "requested_time": clock.now(),
        "deadline": clock.now() + 60_000_000,
        "hash": binding(f"run_{number}", "ask", actions, {}),
        **changes,
    }
    return Approval(**values)


def test_one_run_for_an_alert_and_version_though_the_alert_grows(office, responder, runs, shipped):
    alert = office.alert()
    first = responder.start("acme", shipped, alert.id, requester="ana", authors=("rob",))
    office.alerts.apply([(make_signal(2, **KEY_SIGNAL), TIME)])
    again = responder.start("acme", shipped, alert.id, requester="eve")
    assert (again, len(runs.runs)) == (first, 1)
    assert (first.requester, first.state, first.case_id) == ("ana", "running", office.cases.of_alert("acme", alert.id))
    assert runs.runs[first.id][2]["authors"] == ["rob", "security"]
    next_version = msgspec.structs.replace(shipped, version=2)
    assert responder.start("acme", next_version, alert.id, requester="ana").id != first.id
    with pytest.raises(ConflictError) as caught:
        responder.start("acme", msgspec.structs.replace(shipped, title="x"), alert.id, requester="ana")
    assert caught.value.code == "playbook.version.changed"
    assert [view.version for view in responder.find("acme")] in ([1, 2], [2, 1])


def test_a_start_that_died_between_the_two_files_goes_on(office, responder, runs, shipped):
    alert = office.alert()
    first = responder.start("acme", shipped, alert.id, requester="ana")
    runs.runs.clear()
    assert responder.show("acme", first.id).state == "queued"
    assert responder.start("acme", shipped, alert.id, requester="ana").state == "running"


def test_runs_are_walled(office, responder, shipped):
    run = responder.start("acme", shipped, office.alert().id, requester="ana")
    assert responder.find("other") == []
    for call in (
        lambda: responder.show("other", run.id),
        lambda: responder.decide("other", run.id, by="bob", approve=True),
        lambda: responder.start("other", shipped, run.alert_id, requester="ana"),
        lambda: responder.decide("acme", run.id, by="bob", approve=True),
    ):
        with pytest.raises(NotFoundError):
            call()


def test_inputs_are_typed_and_every_problem_is_told(office, shipped):
    scope = alert_scope(office.alert())
    assert bind(shipped, scope, {"account": "m-9"}) == {"key_id": "vk_1", "account": "m-9"}
    with pytest.raises(Problems) as caught:
        bind(shipped, {**scope, "entities": {}}, {"account": 5, "acount": "m"})
    codes = [problem.code for problem in caught.value.problems]
    assert codes == ["playbook.input.unknown", "playbook.input.missing", "playbook.input.type"]


def test_a_decision_rings_the_bell_each_time_and_counts_once(office, responder, runs, shipped, clock):
    run = responder.start("acme", shipped, office.alert().id, requester="ana")
    office.approvals.request(asked(clock, run_id=run.id))
    assert responder.show("acme", run.id).state == "waiting"
    first = responder.decide("acme", run.id, by="bob", approve=True)
    assert responder.decide("acme", run.id, by="bob", approve=True) == first
    assert responder.show("acme", run.id).state == "running"
    assert runs.sent == [(run.id, "approval:ask", f"{run.id}:ask:approved")] * 2


def test_of_many_decisions_one_counts(office, clock):
    approval = office.approvals.request(asked(clock))
    ready, outcomes = threading.Barrier(8), []

    def decide(number):
        ready.wait()
        try:
            office.approvals.decide(
                "acme", "run_1", "ask", by=f"p{number}", seen=approval.hash, approve=number % 2 == 0
            )
            outcomes.append(number)
        except VedetteError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("approvals.decision.taken") == 7
    (winner,) = [each for each in outcomes if isinstance(each, int)]
    assert office.approvals.get("acme", "run_1", "ask").decided_by == f"p{winner}"


def test_the_deadline_belongs_to_the_decision_and_the_first_request_stays(office, clock):
    first = office.approvals.request(asked(clock))
    clock.advance(60)
    assert office.approvals.request(asked(clock)) == first
    where = ("acme", "run_1", "ask")
    assert office.approvals.settle(*where).state is ApprovalState.PENDING
    assert office.approvals.find("acme", pending=True) == [first]
    clock.advance(0.000001)
    assert office.approvals.find("acme", pending=True) == []
    assert office.approvals.settle(*where).state is ApprovalState.EXPIRED
    clock.advance(-30)  # the clock was set back: expired stays expired
    with pytest.raises(ConflictError) as caught:
        office.approvals.decide(*where, by="bob", seen=first.hash, approve=True)
    assert caught.value.code == "approvals.deadline.passed"


@pytest.mark.parametrize("by", ["ana", "rob", " ANA ", "", "\t"])
def test_the_involved_may_not_even_deny(office, clock, by):
    approval = office.approvals.request(asked(clock))
    with pytest.raises(DeniedError):
        office.approvals.decide("acme", "run_1", "ask", by=by, seen=approval.hash, approve=False)


def test_the_hash_covers_run_step_action_arguments_and_evidence():
    base = (Covered("s", "revoke_key", {"key_id": "k"}),)
    first = binding("r", "ask", base, {"snapshot": {"digest": "d"}})
    others = [
        binding("r2", "ask", base, {"snapshot": {"digest": "d"}}),
        binding("r", "ask2", base, {"snapshot": {"digest": "d"}}),
        binding("r", "ask", (Covered("s", "freeze_payouts", {"key_id": "k"}),), {"snapshot": {"digest": "d"}}),
        binding("r", "ask", (Covered("s", "revoke_key", {"key_id": "k2"}),), {"snapshot": {"digest": "d"}}),
        binding("r", "ask", base, {"snapshot": {"digest": "e"}}),
        binding("r", "ask", base * 2, {"snapshot": {"digest": "d"}}),
    ]
    assert len({first, *others}) == 7
    assert first == binding(
        "r", "ask", (msgspec.structs.replace(base[0], preview={"n": 1}),), {"snapshot": {"digest": "d"}}
    )


def test_the_plan_fills_what_is_known_and_touches_nothing(office, shipped):
    scope = alert_scope(office.alert())
    steps = make_plan(
        shipped,
        tenant="acme",
        run_id="run_x",
        requester="ana",
        alert=scope,
        inputs=bind(shipped, scope, {}),
        actions=office.actions,
    )
    assert [(step.id, step.needs_approval) for step in steps] == [
        ("snapshot", ""),
        ("ask", ""),
        ("tell_denied", ""),
        ("revoke", "ask"),
        ("freeze", "ask"),
        ("tell", ""),
    ]
    assert steps[3].preview == {"id": "vk_1", "mode": "live"}
    assert steps[4].preview == {"account": "acct_1", "frozen_already": False}
    assert (office.keys.revoked, office.payouts.frozen, office.effects.notices("acme")) == ([], {}, [])
