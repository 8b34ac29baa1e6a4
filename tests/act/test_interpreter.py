"""The walk through a playbook, on the port in memory: every cut and resume, approvals, failures, compensation."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from act_world import SHIPPED, Office
from memory_steps import CutError, MemorySteps

from vedette.act.playbooks.interpreter import make_interpreters
from vedette.act.playbooks.loader import load_playbook, read_playbook
from vedette.act.playbooks.playbook import to_definition
from vedette.act.playbooks.world import KIND
from vedette.core.db import open_database
from vedette.core.documents import load_yaml
from vedette.core.errors import ConflictError, DeniedError, PermanentError, TransientError

SEQUENCE = [
    "run.start",
    "snapshot",
    "ask.request",
    "wait:approval:ask",
    "ask.settle",
    "revoke",
    "freeze",
    "tell",
    "run.end",
]
"""What a run of the shipped playbook records. Pending runs of released versions hold this: it may not change for them."""


@pytest.fixture
def office(tmp_path, clock):
    database = open_database(tmp_path / "state.db")
    yield Office(database, clock)
    database.close()


@pytest.fixture
def shipped():
    return load_playbook(SHIPPED)


def approve(office, *, by="bob", approve=True):
    (asked,) = office.approvals.find("acme", pending=True)
    return office.approvals.decide("acme", asked.run_id, asked.step, by=by, seen=asked.hash, approve=approve)


def play(office, playbook, steps, request=None):
    request = request or office.request(playbook)
    steps.interpreters = make_interpreters(office.world)
    return steps.interpreters[KIND](steps, to_definition(playbook), request)


def kinds(office):
    (case,) = office.cases.find("acme")
    return [type(entry.body).__name__ for entry in office.cases.timeline("acme", case.id)]


def test_the_shipped_playbook_approved(office, shipped, clock):
    steps = MemorySteps(clock, [{"decided": True}], on_wait=lambda: approve(office))
    result = play(office, shipped, steps)
    assert result["state"] == "completed"
    assert steps.names == SEQUENCE
    assert office.keys.revoked == [("acme", "vk_1", "run_test")]
    assert list(office.payouts.frozen) == ["run_test:freeze"]
    assert [notice["text"] for notice in office.effects.notices("acme")] == [
        "Key vk_1 ended: true. Payouts of acct_1 frozen: true. Run run_test"
    ]
    (case,) = office.cases.find("acme")
    (kept,) = office.cases.evidence("acme", case.id)
    assert office.effects.artefact("acme", kept.digest)
    assert office.effects.artefact("other", kept.digest) is None
    assert [each for each in kinds(office) if each != "PreservationWaived"][2:] == [
        "RunStarted",
        "EvidenceAdded",
        "StepFinished",
        "ApprovalRequested",
        "ApprovalSettled",
        "PhaseChanged",
        "StepFinished",
        "StepFinished",
        "StepFinished",
        "RunFinished",
    ]


@pytest.mark.parametrize("cut", range(len(SEQUENCE)))
@pytest.mark.parametrize("lost", [False, True], ids=["before", "effect-unrecorded"])
def test_cut_at_every_operation_and_resumed(office, shipped, clock, cut, lost):
    request = office.request(shipped)
    messages = [{"decided": True}]
    first = MemorySteps(clock, messages, cut=cut + lost, on_wait=lambda: approve(office))
    # The last cut comes after everything was recorded: there is nothing left to cut.
    with contextlib.suppress(CutError):
        play(office, shipped, first, request)
    recorded = first.recorded[:cut]
    left = first.messages if cut > SEQUENCE.index("wait:approval:ask") else messages
    clock.advance(60)
    pending = lambda: office.approvals.find("acme", pending=True)  # noqa: E731
    second = MemorySteps(clock, left, recorded=recorded, on_wait=lambda: pending() and approve(office))
    assert play(office, shipped, second, request)["state"] == "completed"
    assert second.names == SEQUENCE
    assert len(office.payouts.frozen) == len(office.effects.notices("acme")) == 1
    assert set(office.keys.revoked) == {("acme", "vk_1", "run_test")}
    (case,) = office.cases.find("acme")
    assert len(office.cases.evidence("acme", case.id)) == 1
    assert kinds(office).count("StepFinished") == 4


@pytest.mark.parametrize(("decision", "state"), [("deny", "denied"), ("silence", "expired")])
def test_without_an_approval_nothing_drastic_happens(office, shipped, clock, decision, state):
    act = (lambda: approve(office, approve=False)) if decision == "deny" else (lambda: None)
    messages = [{"decided": True}] if decision == "deny" else []
    result = play(office, shipped, MemorySteps(clock, messages, on_wait=act))
    assert result["state"] == state
    assert office.keys.revoked == []
    assert office.payouts.frozen == {}
    assert "is still live" in office.effects.notices("acme")[0]["text"]


def test_a_forged_message_only_rings_the_bell(office, shipped, clock):
    forged = [{"approved": True, "by": "eve"}] * 3
    steps = MemorySteps(clock, forged)
    assert play(office, shipped, steps)["state"] == "expired"
    assert steps.names.count("ask.settle") == 4


def test_a_storm_of_messages_is_bounded(office, shipped, clock):
    steps = MemorySteps(clock, [{}] * 10_000)
    assert play(office, shipped, steps)["state"] == "expired"
    assert steps.names.count("ask.settle") == 101


def test_a_decision_is_honoured_though_its_message_was_lost(office, shipped, clock):
    steps = MemorySteps(clock, [], on_wait=lambda: approve(office))
    assert play(office, shipped, steps)["state"] == "completed"


def test_four_eyes_the_hash_and_the_deadline(office, shipped, clock):
    refused = {}

    def tries():
        (asked,) = office.approvals.find("acme", pending=True)
        where = ("acme", asked.run_id, asked.step)
        for name, by, seen in (
            ("requester", "ana", asked.hash),
            ("author", "ROB ", asked.hash),
            ("owner", "security", asked.hash),
            ("nobody", " ", asked.hash),
            ("hash", "bob", "0" * 64),
        ):
            with pytest.raises((DeniedError, ConflictError)) as caught:
                office.approvals.decide(*where, by=by, seen=seen, approve=True)
            refused[name] = caught.value.code
        clock.advance(4 * 3600 + 1)
        with pytest.raises(ConflictError) as caught:
            office.approvals.decide(*where, by="bob", seen=asked.hash, approve=True)
        refused["late"] = caught.value.code

    assert play(office, shipped, MemorySteps(clock, [], on_wait=tries))["state"] == "expired"
    involved = "approvals.approver.involved"
    assert refused == {
        "requester": involved,
        "author": involved,
        "owner": involved,
        "nobody": involved,
        "hash": "approvals.hash.changed",
        "late": "approvals.deadline.passed",
    }
    with pytest.raises(ConflictError):
        office.approvals.decide(
            "acme", "run_test", "ask", by="bob", seen=office.approvals.find("acme")[0].hash, approve=True
        )


def test_an_approval_for_other_arguments_is_no_approval(office, shipped, clock, monkeypatch):
    """The row says approved, but for another hash: as if it had been rewritten in the database."""
    settle = office.approvals.settle
    rewritten = lambda *where: msgspec.structs.replace(settle(*where), hash="0" * 64)  # noqa: E731
    monkeypatch.setattr(office.approvals, "settle", rewritten)
    with pytest.raises(PermanentError, match=r"playbook\.approval\.changed"):
        play(office, shipped, MemorySteps(clock, [{}], on_wait=lambda: approve(office)))
    assert office.keys.revoked == []


def test_one_person_decides_once(office, shipped, clock):
    def tries():
        first = approve(office)
        again = office.approvals.decide("acme", "run_test", "ask", by="bob", seen=first.hash, approve=True)
        assert again == first
        for by, yes in (("bob", False), ("carol", True)):
            with pytest.raises(ConflictError) as caught:
                office.approvals.decide("acme", "run_test", "ask", by=by, seen=first.hash, approve=yes)
            assert caught.value.code == "approvals.decision.taken"

    assert play(office, shipped, MemorySteps(clock, [{}], on_wait=tries))["state"] == "completed"


def test_a_passing_failure_is_tried_again_and_the_waits_grow(office, shipped, clock):
    office.payouts.failures = [TransientError("ledger.busy", "later") for _ in range(3)]
    steps = MemorySteps(clock, [{}], on_wait=lambda: approve(office))
    assert play(office, shipped, steps)["state"] == "completed"
    assert steps.names.count("freeze") == 4
    assert steps.slept == 1 + 2 + 4


def test_containment_goes_as_far_as_it_can_and_says_what_failed(office, shipped, clock):
    office.payouts.failures = [PermanentError("ledger.closed", "no")]
    result = play(office, shipped, MemorySteps(clock, [{}], on_wait=lambda: approve(office)))
    assert (result["state"], result["failed"]) == ("incomplete", ["step `freeze` failed with ledger.closed"])
    assert office.keys.revoked == [("acme", "vk_1", "run_test")]
    assert "ended: true. Payouts of acct_1 frozen: false." in office.effects.notices("acme")[0]["text"]


def test_a_lasting_failure_fails_the_run_with_its_code(office, shipped, clock):
    office.payouts.failures = [PermanentError("ledger.closed", "no")]
    text = SHIPPED.read_text().replace("    on_failure: continue\n", "")
    with pytest.raises(PermanentError) as caught:
        play(office, read_playbook(load_yaml(text)), MemorySteps(clock, [{}], on_wait=lambda: approve(office)))
    assert caught.value.code == "playbook.run.failed"
    assert caught.value.message == "step `freeze` failed with ledger.closed: no"
    assert kinds(office)[-2:] == ["StepFinished", "RunFinished"]


def test_a_look_ahead_that_fails_is_told_and_asks_all_the_same(office, shipped, clock):
    def gone(*_):
        raise PermanentError("access.key.unknown", "no")

    office.keys.key = gone
    previews = []

    def look():
        previews.extend(each.preview for each in office.approvals.find("acme", pending=True)[0].actions)
        approve(office)

    assert play(office, shipped, MemorySteps(clock, [{}], on_wait=look))["state"] == "completed"
    assert previews[0] == {"problem": "access.key.unknown"}


CONTROL = """
id: control
version: 1
title: Control words
owner: ops
inputs:
  rounds: {type: integer, required: false}
steps:
  - {id: first, type: action, action: notify, arguments: {text: one},
     compensation: {action: notify, arguments: {text: "undo ${steps.first.channel}"}}}
  - id: which
    type: if-condition
    condition: {all: [["${alert.level}", "=", high], {not: {exists: "${inputs.rounds}"}}]}
    on_true:
      - {id: quiet, type: action, action: notify, arguments: {text: no rounds}}
    on_false:
      - id: loop
        type: while-condition
        condition: ["${inputs.rounds}", ">", 0]
        limit: 3
        delay: 10s
        steps:
          - {id: each, type: action, action: notify, arguments: {text: "round ${inputs.rounds}"}}
"""


def texts(office):
    return sorted(notice["text"] for notice in office.effects.notices("acme"))


def test_if_and_while(office, clock):
    book = read_playbook(load_yaml(CONTROL))
    assert play(office, book, MemorySteps(clock))["state"] == "completed"
    assert texts(office) == ["no rounds", "one"]


def test_a_loop_without_end_stops_at_its_limit_and_is_undone(office, clock):
    book = read_playbook(load_yaml(CONTROL))
    steps = MemorySteps(clock)
    with pytest.raises(PermanentError, match=r"playbook\.while\.limit"):
        play(office, book, steps, office.request(book, rounds=2))
    assert steps.slept == 20
    assert texts(office) == ["one", "round 2", "round 2", "round 2", "undo response"]
    assert [name for name in steps.names if name.startswith("each")] == ["each#1", "each#2", "each#3"]


def test_an_unknown_condition_stops_the_run(office, clock):
    text = CONTROL.replace('{not: {exists: "${inputs.rounds}"}}', '["${inputs.rounds}", ">", 1]')
    with pytest.raises(PermanentError, match=r"playbook\.condition\.unknown"):
        play(office, read_playbook(load_yaml(text)), MemorySteps(clock))
    assert texts(office) == ["one", "undo response"]


def test_a_secret_is_a_name_until_it_is_used(office, clock, tmp_path):
    text = """
id: hook
version: 1
title: Hook
owner: ops
secrets: [siem.hook]
steps:
  - {id: tell, type: action, action: notify, arguments: {text: hi, webhook: "${secrets.siem.hook}"}}
"""
    sent = []
    office.effects._secret = {"siem.hook": "https://siem.example/k/s3cr3t"}.__getitem__
    office.effects._post = lambda url, headers, body: sent.append((url, headers["Idempotency-Key"])) or 200
    book = read_playbook(load_yaml(text))
    steps = MemorySteps(clock)
    assert play(office, book, steps)["state"] == "completed"
    assert sent == [("https://siem.example/k/s3cr3t", "run_test:tell")]
    assert "s3cr3t" not in str(steps.recorded)
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"run_test:tell" in held
    assert b"s3cr3t" not in held
