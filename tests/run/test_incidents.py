"""Incidents from raw events to the closed case: one case each, the course, the money, containment, the review, a test."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from importlib.resources import files

import pytest
from serve_world import MERCHANT, TENANT, World, charge, fresh, wait_for

from vedette.act.cases.file import pace
from vedette.act.cases.reports import Kind, make_report, to_markdown
from vedette.core.clock import MICROS, to_iso
from vedette.core.content import shipped
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.logsources import LogSources
from vedette.prove.access import Mode
from vedette.prove.access.policy import Level as Reach
from vedette.run.casefile import read_case
from vedette.run.detection import load_detection
from vedette.run.fixtures import add_to_rule, events_of, to_test
from vedette.run.rule_tests import RuleTests
from vedette.sense.sources import load_sources

SIGMA = shipped("rules/sigma")
SOURCES = load_sources()
PLACES = LogSources({name: source.logsource for name, source in SOURCES.items()})
ROLE = "arn:aws:sts::1:assumed-role/onboarding/onboarding-3"
SPY = "198.51.100.66"


class Incident:
    """An installation with the shipped rules, and people who answer."""

    def __init__(self, folder):
        self.world = World(folder, detection=load_detection([SIGMA]))
        self.platform = platform = self.world.platform
        self.ana, self.ana_token = self.world.person("responder")
        self.bob, self.bob_token = self.world.person("risk")
        self.start = platform.clock.now() - 1_200 * MICROS

    def close(self):
        self.world.close()

    def ask(self, method, path, who, body=None, status=(200, 201)):
        answer = self.world.send(method, path, who, json_body=body)
        assert answer.status_code in status, (path, answer.status_code, answer.text[:500])
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def send(self, source, *records):
        body = "\n".join(json.dumps(record) for record in records).encode()
        sent = {"source": source, "batch": uuid.uuid4().hex}
        answer = self.world.send("POST", "/v1/events", self.world.full, content=body, params=sent)
        assert answer.is_success, answer.text

    def called(self, at, service, name, *, address=SPY, agent="aws-cli/2.15", **more):
        """A CloudTrail record, some seconds after the start."""
        return {
            "eventVersion": "1.09",
            "eventID": uuid.uuid4().hex,
            "eventTime": to_iso(self.start + at * MICROS),
            "eventSource": f"{service}.amazonaws.com",
            "eventName": name,
            "awsRegion": "eu-west-1",
            "sourceIPAddress": address,
            "userAgent": agent,
            "userIdentity": {"type": "AssumedRole", "arn": ROLE},
            **more,
        }


@pytest.fixture
def incident(tmp_path):
    made = Incident(tmp_path)
    yield made
    made.close()


def unmet(text):
    """What is wrong with the tests of a rule file."""
    results = list(RuleTests([RuleFile("rule.yml", text.encode())], PLACES, SOURCES).run())
    assert results
    return [one.problem for one in results if not one.passed]


RULE = """\
title: Secret read by a command line under a program's role
id: 7d0a1c1e-3a8e-4a53-8d60-1f6f0d0a6a01
status: test
logsource: {product: aws, service: cloudtrail}
detection:
  selection:
    eventSource: secretsmanager.amazonaws.com
    eventName: GetSecretValue
    userAgent|startswith: AGENTS
  condition: selection
level: high
vedette:
  owner: cloud-security
  tests:
    - name: it happens
      event: {eventSource: secretsmanager.amazonaws.com, eventName: GetSecretValue, userAgent: curl/8.1}
"""


def test_a_stolen_api_key_from_raw_events_to_the_closed_case(incident, tmp_path):
    platform, ask, ana = incident.platform, incident.ask, incident.ana_token
    stolen = platform.access.issue_key(TENANT, scopes={"charges": Reach.WRITE}, mode=Mode.LIVE)
    key_id, secret = stolen.key.id, stolen.secret.reveal()
    noise = [incident.called(n, "s3", "GetObject", address="10.0.0.7", agent="aws-sdk-java/2.25") for n in range(60)]
    incident.send(
        "cloudtrail",
        *noise,
        incident.called(100, "sts", "GetCallerIdentity"),
        incident.called(130, "secretsmanager", "ListSecrets"),
        incident.called(160, "secretsmanager", "GetSecretValue", requestParameters={"secretId": key_id}),
    )
    # Cards are tested with the key: nine declined, two pass, and one of these is given back.
    passed = []
    for number in range(11):
        amount = 900 if number in {3, 7} else 45_000
        body = charge(amount, currency="USD", source=f"tok_{number:04x}")
        answer = incident.world.post("/v1/charges", secret, body, key=fresh())
        assert answer.status_code == 201, answer.text
        passed += [answer.json()["id"]] if answer.json()["status"] == "captured" else []
    assert len(passed) == 2
    incident.world.post(f"/v1/charges/{passed[0]}/refunds", incident.world.full, {"amount_minor": 900}, key=fresh())
    platform.drain()

    # Three groups hold all that was raised; the case is opened from one, and the others are of the same incident.
    groups = ask("GET", "/v1/alert-groups", ana)["data"]
    abouts = {one["about"]: one for one in groups}
    assert (
        {f"user:{ROLE}", f"key:{key_id}"} <= abouts.keys() <= {f"user:{ROLE}", f"key:{key_id}", f"merchant:{MERCHANT}"}
    )
    group = abouts[f"key:{key_id}"]
    case = ask("POST", "/v1/cases", ana, {"title": "x", "group_id": group["id"]})["id"]
    assert ask("POST", "/v1/cases", ana, {"title": "x", "group_id": group["id"]})["id"] == case
    for alert in [alert for other in groups for alert in other["alerts"]]:
        ask("POST", f"/v1/cases/{case}/alerts", ana, {"alert_id": alert})
    assert len(platform.cases.find(TENANT)) == 1

    # What happened, in order, with what was not seen, and what it cost by the ledger.
    file = read_case(platform, TENANT, case)
    assert "credential-access" in file.tactics
    assert file.tactics == tuple(dict.fromkeys(file.tactics))
    assert set(file.gaps).isdisjoint(file.tactics)
    assert any(stage in {"attack.t1555.006", "attack.t1078.004"} for stage in file.stages)
    (money,) = file.money
    assert (money.currency, money.payments, money.attempted) == ("USD", 11, 9 * 45_000 + 2 * 900)
    assert (money.stopped, money.moved, money.returned) == (9 * 45_000, 1_800, 900)

    # Evidence first, then containment, approved by somebody else.
    alert = next(each.id for each in file.alerts if each.entity and each.entity.key == f"key:{key_id}")
    book = platform.playbook("compromised_api_key")
    run = platform.responder.start(
        TENANT, book, alert, requester=incident.ana, inputs={"key_id": key_id, "account": MERCHANT}
    )
    waiting = wait_for(lambda: platform.responder.show(TENANT, run.id), lambda one: one.approval)
    platform.responder.decide(
        TENANT, run.id, by=incident.bob, approve=True, seen=waiting.approval.hash, reason="it is not theirs"
    )
    done = wait_for(lambda: platform.responder.show(TENANT, run.id), lambda one: one.state in {"completed", "failed"})
    assert done.state == "completed"
    assert incident.world.post("/v1/charges", secret, charge(900), key=fresh()).status_code == 401
    assert platform.payouts.is_frozen(TENANT, MERCHANT)
    kinds = [type(entry.body).__name__ for entry in platform.cases.timeline(TENANT, case)]
    assert kinds.index("EvidenceAdded") < kinds.index("ApprovalSettled")

    # A cause with its first event, whom to tell, the review: nothing is closed before it is whole.
    cause = ask("POST", f"/v1/cases/{case}/hypotheses", ana, {"title": "the role's credentials leaked"})["id"]
    root = next(event for event in events_of(platform, TENANT, case) if event.data.get("eventName") == "GetSecretValue")
    weight = {"speaks": "for", "reference": root.id, "confidence": 90}
    ask("POST", f"/v1/cases/{case}/hypotheses/{cause}/evidence", ana, weight)
    ask("POST", f"/v1/cases/{case}/hypotheses/{cause}/state", ana, {"state": "confirmed", "root": root.id})
    ask("POST", f"/v1/cases/{case}/clocks", ana, {"notice": "merchant_notice"})
    ask("PUT", f"/v1/cases/{case}/members/{incident.bob}/communications", ana)
    ask("POST", f"/v1/cases/{case}/clocks/merchant_notice", ana, {"move": "draft"})
    ask("POST", f"/v1/cases/{case}/clocks/merchant_notice", ana, {"move": "approve"}, (403,))
    ask("POST", f"/v1/cases/{case}/clocks/merchant_notice", incident.bob_token, {"move": "approve"})
    ask("POST", f"/v1/cases/{case}/clocks/merchant_notice", ana, {"move": "send", "reference": "mail 17"})
    ask("PATCH", f"/v1/cases/{case}", ana, {"phase": "recovery", "state": "resolved", "owner": incident.ana})
    ask("PATCH", f"/v1/cases/{case}", ana, {"state": "closed"}, (409,))
    ask("PATCH", f"/v1/cases/{case}", ana, {"phase": "post_incident"})
    for part in ("happened", "contained", "found", "changed"):
        ask("PATCH", f"/v1/cases/{case}", ana, {"state": "closed"}, (409,))
        ask("PUT", f"/v1/cases/{case}/review/{part}", ana, {"text": f"what was {part}", "evidence": [root.id]})

    # The rule of before misses it, the fixture says so; the mended one finds it, and the change is what closes the case.
    before = RULE.replace("AGENTS", "[curl/, python-requests/]")
    fixture = ask("GET", f"/v1/cases/{case}/fixture?source=cloudtrail", ana)
    assert fixture == to_test(
        events_of(platform, TENANT, case), platform.sources.values(), f"case {case}", only=["cloudtrail"]
    )
    assert unmet(before) == []
    assert unmet(add_to_rule(before, fixture)) == ["it did not fire"]
    after = RULE.replace("AGENTS", "[curl/, python-requests/, aws-cli/]")
    assert unmet(add_to_rule(after, fixture)) == []
    change = {"what": "detection", "reference": "7d0a1c1e-3a8e-4a53-8d60-1f6f0d0a6a01"}
    ask("POST", f"/v1/cases/{case}/changes", ana, change)
    assert ask("PATCH", f"/v1/cases/{case}", ana, {"state": "closed"})["state"] == "closed"

    # Reports without retyping, times from events, and evidence that stands up elsewhere.
    closed = read_case(platform, TENANT, case)
    brief, technical = (to_markdown(make_report(closed, kind)) for kind in (Kind.BRIEF, Kind.TECHNICAL))
    assert "18.00 USD moved" in brief
    assert "the role's credentials leaked" in brief
    assert "Nothing seen of" in technical or not closed.gaps
    found = pace(closed.alerts, closed.entries)
    assert found.detect_s is not None
    assert found.contain_s is not None
    bundle = incident.world.send("GET", f"/v1/cases/{case}/bundle?to=the+auditor", ana)
    (tmp_path / "case.bundle").write_bytes(bundle.content)
    (tmp_path / "verifier.py").write_bytes(files("vedette.prove").joinpath("verifier.py").read_bytes())
    command = [sys.executable, "-E", "-s", "verifier.py", "case.bundle", "--key", platform.evidence.key]
    told = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout
    assert f"chain of custody of case {case}" in told.stdout
