"""Incidents from raw events to the closed case: one case each, the course, the money, containment, the review, a test."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import pytest
from incident_scenes import EXPECTED, SOURCES, Incident, money_of, rule_of, systems, unmet
from serve_world import MERCHANT, TENANT, charge, fresh

from vedette.act.cases.file import TACTICS, pace
from vedette.act.cases.reports import Kind, make_report, to_markdown
from vedette.run.cases.casefile import read_case
from vedette.run.cases.fixtures import add_to_rule, events_of, to_test
from vedette.run.cases.incidents import stories

MARA, ADA = "mara.lind@northpay.example", "ada.moreau@northpay.example"


def test_every_shipped_incident_is_played_here():
    assert stories().keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_incident_from_raw_events_to_the_closed_case(name, tmp_path):
    with systems(MARA, ADA) as (okta, aws, secrets):
        incident = Incident(tmp_path, name, secrets)
        try:
            case = comes_together(incident, EXPECTED[name])
            contained(incident, case, okta, aws)
            root = closed(incident, EXPECTED[name], case)
            told(incident, case, root, tmp_path)
        finally:
            incident.close()


def comes_together(incident, expected):
    """One case from the first group, with all that was raised in it; its course and its money."""
    platform, ask, ana = incident.platform, incident.ask, incident.ana_token
    assert {one.answer["status"] for one in incident.played.payments} == expected.answers
    groups = ask("GET", "/v1/alert-groups", ana)["data"]
    raised = {alert for group in groups for alert in group["alerts"]}
    assert {group["about"].partition(":")[0] for group in groups} == expected.about
    case = ask("POST", "/v1/cases", ana, {"title": "x", "group_id": groups[0]["id"]})["id"]
    for group in groups:
        assert ask("POST", "/v1/cases", ana, {"title": "x", "group_id": group["id"]})["id"] == case
    assert len(platform.cases.find(TENANT)) == 1
    file = read_case(platform, TENANT, case)
    assert {alert.id for alert in file.alerts} == raised

    assert [stage for stage in file.stages if stage in expected.stages] == expected.stages
    times = [alert.first_time for alert in file.alerts]
    assert times == sorted(times)
    assert set(file.gaps) >= expected.gaps
    assert set(file.gaps).isdisjoint(file.tactics)
    assert set(file.gaps) | set(file.tactics) <= set(TACTICS)

    found = {
        each.currency: {
            "payments": each.payments,
            "attempted": each.attempted,
            "stopped": each.stopped,
            "moved": each.moved,
            "returned": each.returned,
        }
        for each in file.money
    }
    assert found == {
        currency: {"returned": 0} | sums for currency, sums in money_of(incident.played, expected.honest).items()
    }
    return case


def contained(incident, case, okta, aws):
    """Evidence first, then containment that somebody else approved; and it holds."""
    platform, alerts = incident.platform, read_case(incident.platform, TENANT, case).alerts
    name, play = incident.story.id, incident.played.play
    cloud = None
    if name == "phishing_to_cloud_admin":
        import boto3

        keys = {
            "aws_access_key_id": aws["key_id"],
            "aws_secret_access_key": aws["secret"],
            "region_name": aws["region"],
        }
        cloud = boto3.client("iam", endpoint_url=aws["url"], **keys)
        cloud.create_user(UserName=f"svc-backup-{play}")
    run, alert = incident.answer(alerts)
    assert run.state == "completed"
    kinds = [type(entry.body).__name__ for entry in platform.cases.timeline(TENANT, case)]
    assert kinds.index("EvidenceAdded") < kinds.index("ApprovalSettled")
    match name:
        case "stolen_api_key":
            assert (
                incident.world.post("/v1/charges", incident.secrets["shop"], charge(900), key=fresh()).status_code
                == 401
            )
            assert platform.payouts.is_frozen(TENANT, MERCHANT)
        case "card_testing":
            platform.desk.relist()
            pays = {"amount_minor": 100, "currency": "EUR", "source": "tok_new", "merchant": "m_bikes"}
            bot = {"device": alert.entity.id, "ip": "192.0.2.200", "cvc_check": "pass"}
            behind = {"device": "another", "ip": "203.0.113.77", "cvc_check": "pass"}
            honest = {"device": f"home_{play}_1", "ip": "192.0.2.1", "cvc_check": "pass"}
            said = [incident.charge("shop", pays | {"metadata": each})["status"] for each in (bot, behind, honest)]
            assert said == ["blocked", "blocked", "captured"]
        case "insider_export":
            assert (okta.users[MARA], okta.sessions[MARA]) == ("SUSPENDED", 0)
            assert okta.users[ADA] == "ACTIVE"
        case _:
            assert (okta.users[ADA], okta.sessions[ADA]) == ("SUSPENDED", 0)
            assert cloud.list_user_policies(UserName=f"svc-backup-{play}")["PolicyNames"] == ["VedetteQuarantine"]
            cloud.close()


def closed(incident, expected, case):
    """A cause with its first event, whom to tell, the review, a rule that learned: nothing is closed before."""
    platform, ask, ana = incident.platform, incident.ask, incident.ana_token
    cause = ask("POST", f"/v1/cases/{case}/hypotheses", ana, {"title": "the credentials leaked"})["id"]
    name, _, value = expected.root.partition("=")
    root = next(event for event in events_of(platform, TENANT, case) if event.data.get(name) == value)
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
    source = expected.source
    fixture = ask("GET", f"/v1/cases/{case}/fixture?source={source}", ana)
    assert fixture == to_test(events_of(platform, TENANT, case), SOURCES.values(), f"case {case}", only=[source])
    before, after = (rule_of(expected, values) for values in (expected.broken, expected.mended))
    assert unmet(before) == []
    assert unmet(add_to_rule(before, fixture)) == ["it did not fire"]
    assert unmet(add_to_rule(after, fixture)) == []
    change = {"what": "detection", "reference": "7d0a1c1e-3a8e-4a53-8d60-1f6f0d0a6a01"}
    ask("POST", f"/v1/cases/{case}/changes", ana, change)
    assert ask("PATCH", f"/v1/cases/{case}", ana, {"state": "closed"})["state"] == "closed"
    return root


def told(incident, case, root, folder):
    """Reports without retyping, times from events, and evidence that stands up elsewhere."""
    platform = incident.platform
    file = read_case(platform, TENANT, case)
    brief, technical = (to_markdown(make_report(file, kind)) for kind in (Kind.BRIEF, Kind.TECHNICAL))
    assert "the credentials leaked" in brief
    for money in file.money:
        assert f"{money.moved / 100:.2f} {money.currency} moved" in brief
    assert "Nothing seen of" in technical
    assert root.id in technical.replace("\\", "")
    found = pace(file.alerts, file.entries)
    assert found.detect_s is not None
    assert found.contain_s is not None
    bundle = incident.world.send("GET", f"/v1/cases/{case}/bundle?to=the+auditor", incident.ana_token)
    (folder / "case.bundle").write_bytes(bundle.content)
    (folder / "verifier.py").write_bytes(files("vedette.prove").joinpath("verifier.py").read_bytes())
    command = [sys.executable, "-E", "-s", "verifier.py", "case.bundle", "--key", platform.evidence.key]
    said = subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout
    assert f"chain of custody of case {case}" in said.stdout
