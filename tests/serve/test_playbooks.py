"""The response over HTTP: plan, start, approve by somebody else; then the key is ended and the payouts are frozen."""

from __future__ import annotations

import uuid

import pytest
from serve_world import ALL_SCOPES, MERCHANT, TENANT, Objects, charge, code_of, fresh, signal, wait_for

RUNS = "/v1/playbooks/runs"


@pytest.fixture
def attack(world):
    """A merchant of its own, its stolen key, a scheduled payout, and the alert that names both."""
    merchant = f"m_{uuid.uuid4().hex[:8]}"
    stolen = world.issue(ALL_SCOPES)
    secret = stolen.secret.reveal()
    assert world.post("/v1/charges", secret, charge(merchant=merchant), key=fresh()).status_code == 201
    wanted = {"amount_minor": 500, "currency": "EUR", "merchant": merchant}
    payout = world.post("/v1/payouts", secret, wanted, key=fresh()).json()
    number = uuid.uuid4().hex
    world.platform.alerts.apply([(signal(number, stolen.key.id, merchant), 1_700_000_000_000_000)])
    alert = next(a for a in world.platform.alerts.find(TENANT, limit=500) if a.rule_id == f"rule-{number}")
    return {"merchant": merchant, "key": stolen.key.id, "secret": secret, "payout": payout["id"], "alert": alert.id}


def start(world, attack, secret, **more):
    return world.post(RUNS, secret, {"playbook": "compromised_api_key", "alert_id": attack["alert"], **more})


def waiting(world, secret, run_id):
    return wait_for(lambda: world.send("GET", f"{RUNS}/{run_id}", secret).json(), lambda run: run.get("approval"))


def frozen(world, attack):
    return world.platform.payouts.is_frozen(TENANT, attack["merchant"])


def test_a_plan_changes_nothing_and_names_what_would_be_touched(world, attack):
    _, analyst = world.person("analyst")
    answer = start(world, attack, analyst, dry_run=True)
    assert answer.status_code == 200, answer.text
    plan = answer.json()["plan"]
    text = answer.text
    done = [step["action"] for step in plan if step.get("action") and step.get("branch") != "on_denied"]
    assert done == ["snapshot_evidence", "revoke_key", "freeze_payouts", "notify"]
    assert attack["key"] in text
    assert attack["merchant"] in text
    assert attack["alert"] not in world.send("GET", RUNS, analyst).text
    assert world.send("GET", f"/v1/payouts/{attack['payout']}", attack["secret"]).json()["status"] == "scheduled"


def test_the_whole_response(world, attack):
    _, analyst = world.person("analyst")
    responder_id, responder = world.person("responder")
    run = start(world, attack, analyst)
    assert run.status_code == 201
    run_id = run.json()["id"]
    asked = waiting(world, analyst, run_id)
    assert asked["state"] == "waiting"
    assert not frozen(world, attack)
    decided = world.post(f"{RUNS}/{run_id}/approvals", responder, {"approve": True, "seen": asked["approval"]["hash"]})
    assert decided.status_code == 200, decided.text
    assert decided.json()["decided_by"] == responder_id
    done = wait_for(
        lambda: world.send("GET", f"{RUNS}/{run_id}", analyst).json(),
        lambda run: run["state"] not in {"waiting", "running", "queued"},
    )
    assert done["state"] == "completed", done
    refused = world.send("GET", f"/v1/payouts/{attack['payout']}", attack["secret"])
    assert (refused.status_code, code_of(refused)) == (401, "access.key.invalid")
    assert frozen(world, attack)
    paid = world.send("POST", f"/v1/payouts/{attack['payout']}/pay", world.full, key=fresh())
    assert paid.status_code in {402, 409}, paid.text
    assert world.send("GET", f"/v1/payouts/{attack['payout']}", world.full).json()["status"] == "frozen"
    listed = {each["id"]: each for each in world.send("GET", "/v1/keys", responder).json()["data"]}
    assert listed[attack["key"]]["revoked"]
    again = start(world, attack, analyst)
    assert again.json()["id"] == run_id


@pytest.mark.parametrize("who", ["the requester", "an API key", "an analyst", "another tenant's responder"])
def test_who_may_not_approve(world, attack, who):
    _, responder = world.person("responder")
    run_id = start(world, attack, responder).json()["id"]
    seen = waiting(world, responder, run_id)["approval"]["hash"]
    secret, status = {
        "the requester": (responder, 403),
        "an API key": (world.full, 403),
        "an analyst": (world.person("analyst")[1], 403),
        "another tenant's responder": (world.person("responder", "globex")[1], 404),
    }[who]
    answer = world.post(f"{RUNS}/{run_id}/approvals", secret, {"approve": True, "seen": seen})
    assert answer.status_code == status, answer.text
    assert world.send("GET", f"{RUNS}/{run_id}", responder).json()["state"] == "waiting"
    assert not frozen(world, attack)


@pytest.mark.parametrize(("seen", "status"), [("", 400), ("0" * 64, 409)])
def test_nobody_approves_what_they_have_not_seen(world, attack, seen, status):
    _, analyst = world.person("analyst")
    _, responder = world.person("responder")
    run_id = start(world, attack, analyst).json()["id"]
    waiting(world, analyst, run_id)
    answer = world.post(f"{RUNS}/{run_id}/approvals", responder, {"approve": True, "seen": seen})
    assert answer.status_code == status, answer.text


def test_denied_means_nothing_is_ended(world, attack):
    _, analyst = world.person("analyst")
    _, risk = world.person("risk")
    run_id = start(world, attack, analyst).json()["id"]
    seen = waiting(world, analyst, run_id)["approval"]["hash"]
    assert world.post(f"{RUNS}/{run_id}/approvals", risk, {"approve": False, "seen": seen}).status_code == 200
    done = wait_for(
        lambda: world.send("GET", f"{RUNS}/{run_id}", analyst).json(),
        lambda run: run["state"] not in {"waiting", "running", "queued"},
    )
    assert done["state"] == "denied"
    assert not frozen(world, attack)
    assert world.send("GET", "/v1/alerts", attack["secret"]).status_code == 200


def test_freezes_and_keys_are_for_people(world):
    objects = Objects(world).make()
    _, responder = world.person("responder")
    _, admin = world.person("admin")
    freeze = f"/v1/merchants/{MERCHANT}_x/freeze"
    assert world.post(freeze, world.full, {"reason": "x"}, key=fresh()).status_code == 403
    assert world.post(freeze, responder, {"reason": "x"}, key=fresh()).status_code == 200
    assert world.post(freeze.replace("freeze", "unfreeze"), responder, {"reason": "y"}, key=fresh()).status_code == 200
    assert world.post("/v1/keys", world.full, {"scopes": "charges:write"}).status_code == 403
    assert world.post("/v1/keys", admin, {"scopes": "charges:write"}).status_code == 201
    assert world.send("DELETE", f"/v1/keys/{objects['key_id']}", responder).status_code == 200


def test_people_over_http(world):
    _, admin = world.person("admin")
    made = world.post("/v1/people", admin, {"name": "Ada Byron"})
    assert made.status_code == 201
    path = f"/v1/people/{made.json()['id']}"
    assert world.send("PUT", f"{path}/roles/risk", admin).json()["roles"] == ["risk"]
    token = world.token(TENANT, made.json()["id"])
    assert world.send("GET", "/v1/cases", token).status_code == 200
    assert world.send("DELETE", f"{path}/roles/risk", admin).json()["roles"] == []
    assert world.send("GET", "/v1/cases", token).status_code == 403
    shown = world.send("GET", path, admin).json()
    assert len(shown["tokens"]) == 1
    assert token not in str(shown)
    assert world.send("DELETE", f"{path}/tokens/{shown['tokens'][0]['id']}", admin).json()["revoked"]
    assert world.send("GET", "/v1/cases", token).status_code == 401
    assert world.send("DELETE", path, admin).json()["disabled"] is True
    assert world.send("GET", "/v1/people/per_none", admin).status_code == 404


def test_nobody_gives_a_role_to_oneself(world):
    person, admin = world.person("admin")
    answer = world.send("PUT", f"/v1/people/{person}/roles/risk", admin)
    assert (answer.status_code, code_of(answer)) == (403, "access.grant.self")


def test_a_webhook_starts_its_playbook_once(world):
    _, analyst = world.person("analyst")
    send = {"params": {"playbook": "look_at_host"}}
    first = world.send(
        "POST", "/v1/playbooks/webhook", analyst, json_body={"data": {"host": "web-7"}}, key="d-1", **send
    )
    again = world.send(
        "POST", "/v1/playbooks/webhook", analyst, json_body={"data": {"host": "web-7"}}, key="d-1", **send
    )
    other = world.send(
        "POST", "/v1/playbooks/webhook", analyst, json_body={"data": {"host": "web-7"}}, key="d-2", **send
    )
    assert first.status_code == 202, first.text
    assert again.json()["id"] == first.json()["id"] != other.json()["id"]
    assert first.json()["trigger"]["data"] == {"host": "web-7"}
    missing = world.send("POST", "/v1/playbooks/webhook", analyst, json_body={}, key="d-3", **send)
    assert missing.status_code == 422
    never = {"params": {"playbook": "compromised_api_key"}}
    refused = world.send("POST", "/v1/playbooks/webhook", analyst, json_body={}, key="d-4", **never)
    assert (refused.status_code, code_of(refused)) == (404, "playbook.trigger.none")
    ended = wait_for(
        lambda: world.send("GET", f"{RUNS}/{first.json()['id']}", analyst).json(),
        lambda run: run["state"] not in ("queued", "running"),
        60,
    )
    assert ended["state"] == "incomplete"
    assert "secrets.name.unknown" in ended["error"]


def test_a_run_is_cancelled_resumed_and_begun_again(world, attack):
    _, analyst = world.person("analyst")
    _, responder = world.person("responder")
    run_id = start(world, attack, analyst).json()["id"]
    asked = waiting(world, analyst, run_id)
    stopped = world.post(f"{RUNS}/{run_id}/cancel", analyst)
    assert stopped.json()["state"] == "cancelled"
    assert run_id not in [each.run_id for each in world.platform.approvals.find(TENANT, pending=True, limit=500)]
    late = world.post(f"{RUNS}/{run_id}/approvals", responder, {"approve": True, "seen": asked["approval"]["hash"]})
    assert code_of(late) == "approvals.request.withdrawn"
    assert code_of(world.post(f"{RUNS}/{run_id}/cancel", analyst)) == "playbook.run.over"
    assert world.post(f"{RUNS}/{run_id}/resume", analyst).status_code == 200
    waiting(world, analyst, run_id)
    said = {"approve": False, "seen": asked["approval"]["hash"], "reason": "not yet"}
    assert world.post(f"{RUNS}/{run_id}/approvals", responder, said).status_code == 200
    look = lambda: world.send("GET", f"{RUNS}/{run_id}", analyst).json()  # noqa: E731
    assert wait_for(look, lambda run: run["state"] == "denied")
    assert not frozen(world, attack)
    listed = world.send("GET", RUNS, analyst, params={"state": "denied", "playbook": "compromised_api_key"}).json()
    assert run_id in [each["id"] for each in listed["data"]]
    fresh_run = world.post(f"{RUNS}/{run_id}/rerun", analyst, {"step": "ask"})
    assert fresh_run.status_code == 201, fresh_run.text
    second = waiting(world, analyst, fresh_run.json()["id"])
    # What was kept before is carried: the snapshot is not taken again.
    assert "snapshot" not in [step["name"] for step in second["steps"]]
    assert second["approval"]["evidence"]["snapshot"]["digest"]
    agreed = {"approve": True, "seen": second["approval"]["hash"], "reason": "now"}
    assert world.post(f"{RUNS}/{second['id']}/approvals", responder, agreed).status_code == 200
    done = wait_for(
        lambda: world.send("GET", f"{RUNS}/{second['id']}", analyst).json(), lambda run: run["state"] == "completed"
    )
    assert done["trigger"] == {"type": "rerun", "run": run_id, "step": "ask"}
    assert frozen(world, attack)
    unknown = world.post(f"{RUNS}/{run_id}/rerun", analyst, {"step": "nothing"})
    assert (unknown.status_code, code_of(unknown)) == (404, "playbook.step.unknown")


def test_recorded_runs_go_the_same_way_under_this_code_and_not_under_another(world, attack, monkeypatch):
    from vedette.act.playbooks import interpreter
    from vedette.act.playbooks.replay import replay_runs

    _, analyst = world.person("analyst")
    run_id = start(world, attack, analyst).json()["id"]
    asked = lambda run: "ask.request" in [step["name"] for step in run["steps"]]  # noqa: E731
    wait_for(lambda: world.send("GET", f"{RUNS}/{run_id}", analyst).json(), asked)
    wanted = list(world.platform.runs.find([run_id]).values())
    (found,) = replay_runs(world.platform.world, world.platform.runs, wanted)
    assert (found.divergence, found.finished, found.operations > 2) == ("", False, True)
    monkeypatch.setattr(interpreter.Asking, "decision", lambda self, asked: self._hands.step("other", dict))
    (found,) = replay_runs(world.platform.world, world.platform.runs, wanted)
    assert "`ask.request` in the record, `other` is asked for" in found.divergence


def test_what_can_be_done_is_told(world):
    _, analyst = world.person("analyst")
    known = {each["name"]: each for each in world.send("GET", "/v1/playbooks/actions", analyst).json()}
    assert known["okta_suspend_user"]["undo"] == "okta_unsuspend_user"
    assert known["okta_suspend_user"]["arguments"]["connection"] == {"type": "str", "required": True, "secret": True}
    books = {each["id"]: each for each in world.send("GET", "/v1/playbooks", analyst).json()}
    assert books["look_at_host"]["triggers"][0]["type"] == "webhook"
