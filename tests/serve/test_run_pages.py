"""The pages of runs and playbooks without a browser: what they say, what their buttons do, and what they hide."""

from __future__ import annotations

import re
import uuid

import httpx
import pytest
from serve_world import MERCHANT, READ_SCOPES, TENANT, signal, wait_for
from test_triage_pages import Console

from vedette.core.signal import Level

HIDDEN = "4111111111111111"


@pytest.fixture(scope="module")
def ana(world):
    console = Console(world, ["analyst", "responder", "risk"])
    console.get("/account")
    return console


@pytest.fixture
def alert(world):
    """An alert about a key of its own."""
    number, key = uuid.uuid4().hex, world.issue(READ_SCOPES).key.id
    world.platform.alerts.apply([(signal(number, key, MERCHANT), world.platform.clock.now())])
    found = next(a for a in world.platform.alerts.find(TENANT, limit=500) if a.rule_id == f"rule-{number}")
    return found.id, key


def run_of(answer):
    return re.fullmatch(r"/runs/(run_\w+)", answer.headers["location"])[1]


def start(ana, **fields):
    return run_of(ana.post("/playbooks/compromised_api_key/runs", **fields))


def reaches(world, run_id, *states):
    return wait_for(lambda: world.platform.responder.show(TENANT, run_id), lambda view: view.state in states)


def test_a_dry_run_shows_the_plan_and_what_it_would_touch_and_starts_nothing(world, ana, alert):
    before = len(world.platform.responder.find(TENANT, limit=1_000))
    answer = ana.post("/playbooks/compromised_api_key/runs", 200, alert=alert[0], dry="true")
    assert "nothing is done" in answer.text
    assert "1 key" in answer.text
    assert alert[1] in answer.text
    assert f'value="{alert[0]}"' in answer.text, "the form keeps what was given"
    assert len(world.platform.responder.find(TENANT, limit=1_000)) == before


def test_inputs_that_do_not_fit_are_told_beside_their_fields(ana):
    answer = ana.post("/playbooks/compromised_api_key/runs", 400, key="k", **{"input.account": "m_9", "input.x": "1"})
    assert "input `key_id` is missing" in answer.text
    assert "the playbook has no input `x`" in answer.text
    assert 'value="m_9"' in answer.text
    ana.post("/playbooks/no_such/runs", 404)
    ana.get("/playbooks/no_such", 404)
    ana.get("/runs/run_none", 404)


def test_the_same_form_sent_twice_is_one_run(world, ana):
    wanted = {"key": uuid.uuid4().hex, "input.key_id": "key_none", "input.account": "m_hand"}
    first = ana.post("/playbooks/compromised_api_key/runs", **wanted)
    assert run_of(ana.post("/playbooks/compromised_api_key/runs", **wanted)) == run_of(first)
    view = world.platform.responder.show(TENANT, run_of(first))
    assert (view.requester, view.trigger["type"]) == (ana.id, "hand")
    reaches(world, view.id, "failed", "waiting")
    world.platform.responder.show(TENANT, view.id)


def test_a_run_is_cancelled_resumed_and_begun_again(world, ana, alert):
    run_id = start(ana, alert=alert[0])
    reaches(world, run_id, "waiting")
    page = ana.get(f"/runs/{run_id}")
    assert "asks about revoke, freeze" in page or "freeze the payouts" in page
    for told in ("snapshot evidence", "revoke key", alert[1], MERCHANT):
        assert told in page, told
    ana.post(f"/runs/{run_id}/cancel")
    assert reaches(world, run_id, "cancelled").approvals == ()
    assert "Resume" in ana.get(f"/runs/{run_id}")
    ana.post(f"/runs/{run_id}/resume")
    seen = reaches(world, run_id, "waiting").approval.hash
    bob = Console(world, ["responder"], name="Bob")
    bob.get(f"/runs/{run_id}")
    bob.post(f"/runs/{run_id}/decision", seen=seen, approve="no", reason="a+test")
    reaches(world, run_id, "denied")
    page = ana.raw(f"/runs/{run_id}")
    assert "<option selected>ask</option>" in page, "it is begun again where it ended"
    again = run_of(ana.post(f"/runs/{run_id}/again", step="ask"))
    assert again != run_id
    reaches(world, again, "waiting")
    page = ana.get(f"/runs/{again}")
    assert "carried" in page, "the snapshot is not taken again"
    assert "rerun" in page
    ana.post(f"/runs/{again}/cancel")
    ana.post(f"/runs/{again}/again", 404, step="no_such")


def test_the_list_tells_states_and_errors(world, ana, alert):
    run_id = start(ana, **{"key": uuid.uuid4().hex, "input.key_id": "none", "input.account": "m_9"})
    failed = reaches(world, run_id, "failed")
    assert failed.error
    world.platform.meters.failure("trigger.look_at_host", "playbook.input.missing")
    page = ana.get("/runs?view=wrong")
    assert failed.error.split("\n")[0][:60] in page
    assert "playbook.input.missing" in page
    waiting = start(ana, alert=alert[0])
    reaches(world, waiting, "waiting")
    assert f"/runs/{waiting}" in ana.raw("/runs?view=waiting&playbook=compromised_api_key")
    assert f"/runs/{waiting}" not in ana.raw("/runs?view=wrong")
    assert f"/runs/{waiting}" not in ana.raw("/runs?playbook=look_at_host")
    assert f"/runs/{waiting}" in ana.raw("/runs?view=no+such+view")
    ana.post(f"/runs/{waiting}/cancel")


def test_who_may_only_read_gets_no_buttons_and_is_refused(world, ana, alert):
    run_id = start(ana, alert=alert[0])
    reaches(world, run_id, "waiting")
    cleo = Console(world, ["compliance"], name="Cleo")
    cleo.csrf = ""
    cleo.get("/account")
    assert f"/runs/{run_id}/cancel" not in cleo.raw(f"/runs/{run_id}")
    assert "/playbooks/compromised_api_key/runs" not in cleo.raw("/playbooks/compromised_api_key")
    for path in (f"/runs/{run_id}/cancel", f"/runs/{run_id}/again", "/playbooks/compromised_api_key/runs"):
        cleo.post(path, 403, step="ask")
    ana.post(f"/runs/{run_id}/cancel")


def test_a_card_number_given_by_hand_is_refused(ana):
    fields = {"key": "k", "input.key_id": HIDDEN, "input.account": "m_9"}
    assert HIDDEN not in ana.post("/playbooks/compromised_api_key/runs", 400, **fields).text


def test_a_file_comes_in_over_the_form_and_its_name_is_looked_at(world, ana):
    case = world.platform.cases.open(TENANT, "A file", operator=ana.id, level=Level.LOW)
    headers = {**ana.cookie, "origin": "http://api", "accept": "text/html"}
    for name, status in (("netstat.txt", 303), (f"{HIDDEN}.txt", 400)):
        form = {"csrf": ana.csrf, "how": "by hand"}
        asked = httpx.Request("POST", "http://api", data=form, files={"file": (name, b"198.51.100.7")})
        sent = {**headers, "content-type": asked.headers["content-type"]}
        answer = world.send("POST", f"/cases/{case.id}/evidence", headers=sent, content=asked.read())
        assert answer.status_code == status, answer.text[:300]
    assert [link.name for link in world.platform.custody.links(TENANT, case.id)] == ["netstat.txt"]
