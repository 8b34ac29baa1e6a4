"""Webhooks of other systems: proven by their own signatures, each delivery starts its playbook once."""

from __future__ import annotations

import hmac
import json
import uuid

import pytest
from serve_world import OTHER, TENANT, code_of

from vedette.act.playbooks.loader import read_playbook
from vedette.core.documents import load_yaml
from vedette.core.errors import Problems
from vedette.move.webhooks.signature import sign

SECRETS = {
    "timestamped": "a secret of the tests, long enough",
    "standard": "whsec_" + "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "sha256": "another secret of the tests",
}
BOOK = """
id: {id}
version: {version}
title: T
owner: ops
inputs: {{host: {{from: "${{trigger.data.host}}"}}}}
triggers: [{{type: webhook, scheme: {scheme}, secret: hook_{scheme}}}]
steps: [{{id: tell, type: action, action: notify, arguments: {{text: "look at ${{inputs.host}}"}}}}]
"""


def book(scheme, version=1):
    return read_playbook(load_yaml(BOOK.format(id=f"on_{scheme}", scheme=scheme, version=version)))


@pytest.fixture
def hooked(world, monkeypatch):
    """A platform with a playbook for each scheme, and the secrets of one tenant."""
    platform = world.platform
    books = {f"on_{scheme}": book(scheme) for scheme in SECRETS}
    monkeypatch.setattr(platform, "playbooks", {**platform.playbooks, **books})
    for scheme, secret in SECRETS.items():
        monkeypatch.setenv(f"VEDETTE_SECRET_HOOK_{scheme.upper()}_{TENANT.upper()}", secret)
        monkeypatch.setitem(platform.secrets._environ, f"VEDETTE_SECRET_HOOK_{scheme.upper()}_{TENANT.upper()}", secret)
    return platform


def signed(platform, scheme, delivery, body, *, secret="", age=0):
    secret = secret or SECRETS[scheme]
    if scheme == "sha256":
        digest = hmac.digest(secret.encode(), body, "sha256").hex()
        return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Delivery": delivery}
    now = platform.clock.now() // 1_000_000 - age
    return sign(body, secret=secret, timestamp=now, message_id=delivery, scheme=scheme)


def send(world, scheme, body, headers, tenant=TENANT):
    path = f"/v1/playbooks/hooks/{tenant}/on_{scheme}"
    return world.send("POST", path, content=body, headers={"content-type": "application/json", **headers})


def body_of(delivery, host="web-7"):
    return json.dumps({"id": delivery, "host": host}).encode()


def runs(platform, scheme):
    return [run.id for run in platform.responder.find(TENANT, playbook=f"on_{scheme}", limit=500)]


@pytest.mark.parametrize("scheme", SECRETS)
def test_a_delivery_starts_its_playbook_once(world, hooked, scheme, monkeypatch):
    delivery = uuid.uuid4().hex
    body, before = body_of(delivery), set(runs(hooked, scheme))
    first = send(world, scheme, body, signed(hooked, scheme, delivery, body))
    assert first.status_code == 202, first.text
    for age in (0, 5, 60):
        again = send(world, scheme, body, signed(hooked, scheme, delivery, body, age=age))
        assert (again.status_code, again.json()) == (200, {"status": "repeated"})
    assert set(runs(hooked, scheme)) - before == {first.json()["run"]}
    assert hooked.responder.detail(TENANT, first.json()["run"]).request.inputs == {"host": "web-7"}
    # A later version of the playbook does not answer it again.
    monkeypatch.setitem(hooked.playbooks, f"on_{scheme}", book(scheme, version=2))
    assert send(world, scheme, body, signed(hooked, scheme, delivery, body)).json() == {"status": "repeated"}
    other = uuid.uuid4().hex
    assert send(world, scheme, body_of(other), signed(hooked, scheme, other, body_of(other))).status_code == 202
    assert len(set(runs(hooked, scheme)) - before) == 2


def test_what_was_recorded_is_no_other_delivery_under_another_id(world, hooked):
    delivery = uuid.uuid4().hex
    body = body_of(delivery)
    headers = signed(hooked, "sha256", delivery, body)
    assert send(world, "sha256", body, headers).status_code == 202
    assert send(world, "sha256", body, headers | {"X-GitHub-Delivery": uuid.uuid4().hex}).json()["status"] == "repeated"


@pytest.mark.parametrize("scheme", SECRETS)
def test_what_is_forged_starts_nothing_and_learns_nothing(world, hooked, scheme):
    delivery = uuid.uuid4().hex
    body, before = body_of(delivery), runs(hooked, scheme)
    good = signed(hooked, scheme, delivery, body)
    wrong = "whsec_" + "A" * 43 + "=" if scheme == "standard" else "not the secret of the tests"
    answers = [
        send(world, scheme, body + b" ", good),
        send(world, scheme, body, signed(hooked, scheme, delivery, body, secret=wrong)),
        send(world, scheme, body, {}),
        send(world, scheme, body, dict.fromkeys(good, "x")),
        send(world, scheme, body, good, tenant=OTHER),
        send(world, scheme, body, good, tenant="nobody"),
        world.send("POST", f"/v1/playbooks/hooks/{TENANT}/compromised_api_key", content=body, headers=good),
        world.send("POST", f"/v1/playbooks/hooks/{TENANT}/none", content=body, headers=good),
    ]
    if scheme != "sha256":
        answers.append(send(world, scheme, body, signed(hooked, scheme, delivery, body, age=400)))
    assert {(each.status_code, code_of(each)) for each in answers} == {(403, "playbook.hook.refused")}
    assert len({each.text for each in answers}) == 1, "every refusal is the same"
    assert runs(hooked, scheme) == before
    told = hooked.meters.failures("trigger")
    assert told[f"on_{scheme}", "webhooks.signature.mismatch"] >= 2


def test_a_proven_body_that_does_not_fit_is_told(world, hooked):
    for body, status in ((b"[1]", 400), (b'{"id": "x1", "other": 1}', 422), (b'{"host": "4111111111111111"}', 400)):
        answer = send(world, "sha256", body, signed(hooked, "sha256", "d", body))
        assert answer.status_code == status, answer.text
        assert "4111" not in answer.text


@pytest.mark.parametrize(
    "trigger", ["{type: webhook, scheme: none, secret: a}", "{type: webhook, scheme: sha256}", "{type: webhook, secret: a}",
                "{type: webhook, scheme: sha256, secret: ../a}", "{type: alert, scheme: sha256, secret: a}"],
)  # fmt: skip
def test_a_trigger_that_is_half_is_refused_with_its_place(trigger):
    text = BOOK.format(id="x", scheme="sha256", version=1).replace(
        "{type: webhook, scheme: sha256, secret: hook_sha256}", trigger
    )
    with pytest.raises(Problems) as refused:
        read_playbook(load_yaml(text))
    assert "$.triggers[0]" in str(refused.value.problems[0].at)
