"""The control words beyond the first: parallel, wait, playbook, on_error, escalation, caps, freshness, carrying on."""

from __future__ import annotations

import pytest
from act_world import Office
from memory_steps import CutError, MemorySteps

from vedette.act.playbooks.interpreter import make_interpreters
from vedette.act.playbooks.loader import load_playbook, read_playbook
from vedette.act.playbooks.playbook import from_definition, to_definition
from vedette.act.playbooks.world import KIND
from vedette.core.db import open_database
from vedette.core.documents import load_yaml
from vedette.core.errors import PermanentError, Problems

HEAD = "version: 1\ntitle: T\nowner: ops\n"


@pytest.fixture
def office(tmp_path, clock):
    database = open_database(tmp_path / "state.db")
    yield Office(database, clock)
    database.close()


def book(text):
    return read_playbook(load_yaml(f"id: words\n{HEAD}{text}"))


def play(office, playbook, steps, request=None):
    steps.interpreters = make_interpreters(office.world)
    return steps.interpreters[KIND](steps, to_definition(playbook), request or office.request(playbook))


def texts(office):
    return sorted(notice["text"] for notice in office.effects.notices("acme"))


def decide(office, *, by="bob", approve=True):
    for asked in office.approvals.find("acme", pending=True):
        office.approvals.decide("acme", asked.run_id, asked.step, by=by, seen=asked.hash, approve=approve)


def codes(text):
    with pytest.raises(Problems) as caught:
        book(text)
    return [problem.code for problem in caught.value.problems]


PARALLEL = """
steps:
  - id: both
    type: parallel
    branches:
      - - {id: ask, type: approval, title: end, covers: [end], deadline: 1h}
        - {id: end, type: action, action: revoke_key, arguments: {key_id: k-9}}
      - - {id: left, type: action, action: notify, arguments: {text: left},
           compensation: {action: notify, arguments: {text: undo left}}}
        - {id: rest, type: wait, for: 30s}
        - {id: later, type: action, action: notify, arguments: {text: "after ${steps.left.channel}"}}
  - {id: last, type: action, action: notify, arguments: {text: "${steps.end.ok} ${steps.later.ok}"}}
"""


def test_branches_come_together(office, clock):
    steps = MemorySteps(clock, [{}], on_wait=lambda: decide(office))
    assert play(office, book(PARALLEL), steps)["state"] == "completed"
    assert texts(office) == ["after response", "left", "true true"]
    assert steps.names == ["run.start", "parallel", "last", "run.end"]
    first, second = (steps.inside[f"both.{number}"] for number in (1, 2))
    assert first.names == ["ask.request", "wait:approval:ask", "ask.settle", "end"]
    assert second.names == ["left", "sleep", "later"]
    assert office.keys.revoked == [("acme", "k-9", "run_test")]
    (asked,) = office.approvals.find("acme")
    assert asked.listener == "run_test/both.1"
    assert office.pulses.overdue(grace_s=-1e9) == []


@pytest.mark.parametrize(("approve", "state"), [(False, "denied"), (None, "expired")])
def test_a_branch_that_is_denied_ends_the_run_after_the_others(office, clock, approve, state):
    act = (lambda: decide(office, approve=False)) if approve is False else (lambda: None)
    steps = MemorySteps(clock, [{}] if approve is False else [], on_wait=act)
    assert play(office, book(PARALLEL), steps)["state"] == state
    assert texts(office) == ["after response", "left"]


def test_a_branch_that_fails_undoes_what_the_others_did(office, clock):
    broken = PARALLEL.replace('text: "after ${steps.left.channel}"', 'text: hi, webhook: "${secrets.none}"')
    broken = "secrets: [none]\n" + broken
    with pytest.raises(PermanentError, match=r"step `later` failed"):
        play(office, book(broken), MemorySteps(clock, [{}], on_wait=lambda: decide(office)))
    assert "undo left" in texts(office)


def test_a_branch_sees_nothing_of_the_others():
    text = PARALLEL.replace("after ${steps.left.channel}", "${steps.end.ok}")
    assert codes(text) == ["playbook.reference.unknown"]
    assert codes("steps: [{id: one, type: parallel, branches: [[]]}]") == ["playbook.field.type"]


@pytest.mark.parametrize("cut", range(4))
def test_a_run_with_branches_cut_and_resumed(office, clock, cut):
    playbook = book(PARALLEL)
    request = office.request(playbook)
    first = MemorySteps(clock, [{}], cut=cut, on_wait=lambda: decide(office))
    with pytest.raises(CutError):
        play(office, playbook, first, request)
    second = MemorySteps(clock, [], recorded=first.recorded, on_wait=lambda: decide(office))
    second.inside = first.inside
    assert play(office, playbook, second, request)["state"] == "completed"
    assert texts(office) == ["after response", "left", "true true"]
    assert office.keys.revoked == [("acme", "k-9", "run_test")]


def test_on_error_of_a_step_and_of_the_playbook(office, clock):
    text = """
secrets: [none]
on_error:
  - {id: alarm, type: action, action: notify, arguments: {text: "whole: ${error.step}"}}
steps:
  - id: soft
    type: action
    action: notify
    arguments: {text: a, webhook: "${secrets.none}"}
    on_failure: continue
    on_error: [{id: told, type: action, action: notify, arguments: {text: "soft: ${error.code}"}}]
  - {id: hard, type: action, action: notify, arguments: {text: b, webhook: "${secrets.none}"}}
"""
    with pytest.raises(PermanentError, match="step `hard`"):
        play(office, book(text), MemorySteps(clock))
    assert texts(office) == ["a", "b", "soft: action.webhook.unavailable", "whole: hard"]


def test_nobody_decides_and_others_are_told(office, clock):
    text = """
steps:
  - {id: ask, type: approval, title: "end ${inputs.k}", covers: [end], deadline: 4h, escalate: {after: 1h, to: lead}}
  - {id: end, type: action, action: revoke_key, arguments: {key_id: "${inputs.k}"}}
inputs: {k: {}}
"""
    playbook = book(text)
    seen = []

    def look():
        seen.append([(asked.escalated_time > 0, clock.now()) for asked in office.approvals.find("acme")])
        if len(seen) == 2:
            decide(office)

    steps = MemorySteps(clock, [], on_wait=look)
    assert play(office, playbook, steps, office.request(playbook, k="k-1"))["state"] == "completed"
    assert [told for ((told, _),) in seen] == [False, True]
    (notice,) = office.effects.notices("acme")
    assert (notice["channel"], notice["text"]) == ("lead", "Nobody decides: end k-1 (run run_test)")
    late = text.replace("after: 1h", "after: 5h")
    assert codes(late) == ["playbook.escalate.late"]


def test_an_approval_does_not_keep(office, clock):
    """What was approved begins too late: it is not done. What had begun and was interrupted is finished."""
    text = """
steps:
  - {id: ask, type: approval, title: end, covers: [end], deadline: 4h, valid: 1h}
  - {id: end, type: action, action: revoke_key, arguments: {key_id: k-1}}
"""
    playbook = book(text)
    request = office.request(playbook)
    first = MemorySteps(clock, [{}], cut=4, on_wait=lambda: decide(office))
    with pytest.raises(CutError):
        play(office, playbook, first, request)
    clock.advance(3_601)
    with pytest.raises(PermanentError, match=r"playbook\.approval\.stale"):
        play(office, playbook, MemorySteps(clock, [], recorded=list(first.recorded)), request)
    assert office.keys.revoked == []
    office.caps.take("acme", "run_test", {"key": ("k-1",)}, {})
    again = MemorySteps(clock, [], recorded=list(first.recorded))
    assert play(office, playbook, again, request)["state"] == "completed"


def test_another_playbook_as_a_step(office, clock, tmp_path):
    (tmp_path / "inner.yaml").write_text(
        f"id: inner\n{HEAD.replace('ops', 'sub')}"
        "inputs: {word: {}, alert: {from: '${alert.id}', required: false}}\n"
        "steps:\n  - {id: say, type: action, action: notify, arguments: {text: 'inner ${inputs.word}'}}\n"
    )
    (tmp_path / "outer.yaml").write_text(
        f"id: outer\n{HEAD}steps:\n"
        "  - {id: say, type: action, action: notify, arguments: {text: outer}}\n"
        "  - {id: sub, type: playbook-action, playbook: inner, inputs: {word: '${steps.say.channel}'}}\n"
        "  - {id: end, type: action, action: notify, arguments: {text: 'found ${steps.sub.say.channel}'}}\n"
    )
    playbook = load_playbook(tmp_path / "outer.yaml")
    assert from_definition(to_definition(playbook)) == playbook
    steps = MemorySteps(clock)
    assert play(office, playbook, steps)["state"] == "completed"
    assert texts(office) == ["found response", "inner response", "outer"]
    assert steps.names == ["run.start", "say", "sub/say", "end", "run.end"]
    (tmp_path / "inner.yaml").write_text((tmp_path / "outer.yaml").read_text().replace("outer\n", "inner\n", 1))
    with pytest.raises(Problems, match=r"inside each other"):
        load_playbook(tmp_path / "outer.yaml")


LOOP = """
inputs: {accounts: {type: list}}
caps: {account: 3}
steps:
  - {id: ask, type: approval, title: freeze, covers: [freeze], deadline: 1h}
  - {id: freeze, type: action, action: freeze_payouts, arguments: {account: m-1, reason: r}}
"""


def test_a_cap_is_kept_over_runs_and_branches(office, clock):
    playbook = book(LOOP)
    office.caps.take("acme", "run_test", {"account": ("a", "b", "c")}, {"account": 3})
    with pytest.raises(PermanentError, match=r"playbook\.cap\.exceeded"):
        office.caps.take("acme", "run_test", {"account": ("c", "d")}, {"account": 3})
    steps, request = MemorySteps(clock, [{}], on_wait=lambda: decide(office)), office.request(playbook, accounts=["m"])
    with pytest.raises(PermanentError, match=r"playbook\.cap\.exceeded: 4 of `account`"):
        play(office, playbook, steps, request)
    assert office.payouts.frozen == {}
    assert office.caps.radius("acme", "run_test") == {"account": ["a", "b", "c"]}


def test_two_hundred_runs_are_stopped_as_well(office, clock):
    for number in range(200):
        office.caps.take("acme", f"run_{number}", {"user": (f"u-{number}",)}, {})
    with pytest.raises(PermanentError, match="in an hour"):
        office.caps.take("acme", "run_200", {"user": ("u-200",)}, {})
    office.caps.take("other", "run_200", {"user": ("u-200",)}, {})
    clock.advance(3_601)
    office.caps.take("acme", "run_200", {"user": ("u-200",)}, {})


def test_what_a_run_before_found_is_not_done_again(office, clock):
    playbook = book(PARALLEL)
    request = office.request(playbook) | {"carried": {"left": {"channel": "kept"}, "ask": {"ok": True}}}
    with pytest.raises(PermanentError, match=r"playbook\.approval\.missing"):
        # An approval is never carried without what it covers.
        play(office, playbook, MemorySteps(clock), request)
    request["carried"] = {"left": {"channel": "kept"}}
    steps = MemorySteps(clock, [{}], on_wait=lambda: decide(office))
    steps.run_id = "run_again"
    assert play(office, playbook, steps, request)["state"] == "completed"
    assert [text for text in texts(office) if "left" in text] == ["undo left"]
    assert "after kept" in texts(office)


def test_an_undo_is_the_inverse_that_the_action_declares(office, clock):
    text = """
secrets: [none]
steps:
  - {id: ask, type: approval, title: freeze, covers: [freeze], deadline: 1h}
  - {id: freeze, type: action, action: freeze_payouts, arguments: {account: m-1, reason: r}, compensation: undo}
  - {id: bad, type: action, action: notify, arguments: {text: a, webhook: "${secrets.none}"}}
"""
    undone = book(text).steps[1].compensation
    assert (undone.action, undone.arguments) == (
        "unfreeze_payouts",
        {"account": "m-1", "reason": "r", "changed": "${steps.freeze.changed}"},
    )
    with pytest.raises(PermanentError):
        play(office, book(text), MemorySteps(clock, [{}], on_wait=lambda: decide(office)))
    assert office.payouts.frozen == {}
    office.payouts.freeze("acme", "m-1", "before", "by hand")
    request, steps = office.request(book(text)), MemorySteps(clock, [{}], on_wait=lambda: decide(office))
    steps.run_id = "run_other"
    with pytest.raises(PermanentError):
        play(office, book(text), steps, request)
    assert office.payouts.is_frozen("acme", "m-1")
    assert codes(text.replace("freeze_payouts", "revoke_key").replace("account: m-1, reason: r", "key_id: k")) == [
        "playbook.undo.none"
    ]


def test_a_run_that_is_not_heard_of_is_told(office, clock):
    playbook = book(PARALLEL)
    with pytest.raises(CutError):
        play(office, playbook, MemorySteps(clock, [{}], cut=1, on_wait=lambda: decide(office)))
    assert office.pulses.overdue() == []
    clock.advance(5 * 60 + 61)
    assert {(late.run_id, late.branch, late.step) for late in office.pulses.overdue()} == {
        ("run_test", "both.1", "begin"),
        ("run_test", "both.2", "begin"),
    }
    office.pulses.end("acme", "run_test")
    assert office.pulses.overdue() == []


def test_evidence_comes_before_containment(office, clock):
    text = """
steps:
  - {id: ask, type: approval, title: end, covers: [end], deadline: 1h}
  - {id: end, type: action, action: revoke_key, arguments: {key_id: k-1}}
"""
    request = office.request(book(text), waived=False)
    with pytest.raises(PermanentError, match=r"containment\.evidence\.missing"):
        play(office, book(text), MemorySteps(clock, [{}], on_wait=lambda: decide(office)), request)
    assert office.keys.revoked == []
    first = (
        '  - {id: keep, type: action, action: snapshot_evidence, arguments: {alert_id: "${alert.id}"}}\n  - {id: ask'
    )
    kept = book(text.replace("  - {id: ask", first))
    steps = MemorySteps(clock, [{}], on_wait=lambda: decide(office))
    steps.run_id = "run_two"
    assert play(office, kept, steps, request)["state"] == "completed"
    assert office.keys.revoked == [("acme", "k-1", "run_two")]
