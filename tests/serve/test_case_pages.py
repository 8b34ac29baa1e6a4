"""Pages of groups, pace and reports, and the forms of a case, without a browser."""

from __future__ import annotations

import pytest
from serve_world import TENANT, code_of
from test_triage_pages import Console, raise_alert

from vedette.act.cases import CaseRole
from vedette.core.event import Entity
from vedette.core.signal import Level


@pytest.fixture(scope="module")
def ana(world):
    console = Console(world, ["analyst", "responder", "risk"])
    console.get("/account")
    return console


@pytest.fixture
def case(world, ana):
    alert = raise_alert(world, entities=(Entity("key", "key_9"), Entity("ip", "198.51.100.9")))
    return ana.post(f"/alerts/{alert}/case").headers["location"].split("/")[2].split("#")[0]


def test_groups_merge_snooze_and_windows(world, ana):
    one, two = (raise_alert(world, entities=(Entity("device", "twin"),)) for _ in range(2))
    assert "device:twin" in ana.get("/alerts/groups")
    ana.post("/alerts/merge", alert=[one, two], title="Two+of+one")
    assert "Two of one" in ana.get("/alerts/groups")
    assert "Merged: Two of one" in ana.get(f"/alerts/{one}")
    ana.post("/alerts/unmerge", alert=[one])
    assert "Merged" not in ana.get(f"/alerts/{one}")
    ana.post("/alerts/snooze", alert=[one], hours="4", reason="known")
    assert "quiet until" in ana.get(f"/alerts/{one}")
    ana.post("/alerts/snooze", alert=[two], hours="9999", reason="known", status=400)
    ana.post("/alerts/windows", about="host:db-1", hours="1", reason="upgrade")
    assert "upgrade" in ana.get("/alerts/groups")
    window = world.platform.silence.windows(TENANT)[0].id
    ana.post("/alerts/windows", end=window, about="-", reason="-")


def test_a_case_is_worked_on_from_its_page(world, ana, case):
    page = f"/cases/{case}"
    ana.post(f"{page}/tasks", title="call+them", owner=ana.id, hours="4")
    ana.post(f"{page}/tasks", title="too+late", hours="-1", status=400)
    ana.post(f"{page}/hypotheses", title="a+build+log")
    cause = world.platform.work.hypotheses(TENANT, case)[0].id
    ana.post(f"{page}/hypotheses/{cause}", speaks="for", reference="ev-1", confidence="80")
    ana.post(f"{page}/hypotheses/{cause}", state="confirmed", root="ev-1")
    ana.post(f"{page}/people", person=ana.id, case_role="legal")
    ana.post(f"{page}/notes", text="counsel+says", privileged="true")
    ana.post(f"{page}/clocks", notice="gdpr_33")
    ana.post(f"{page}/clocks/gdpr_33", move="draft")
    ana.post(f"{page}/clocks/gdpr_33", move="approve")
    ana.post(f"{page}/clocks/gdpr_33", move="send", reference="R-17")
    ana.post(f"{page}/clocks/gdpr_33", move="burn", status=400)
    ana.post(f"{page}/review", part="happened", text="it+did")
    ana.post(f"{page}/changes", what="detection", reference="rule-17")
    shown = ana.get(page)
    for text in ("call them", "a build log", "80 % sure", "counsel says", "R-17", "it did", "rule-17", "analyst"):
        assert text in shown, text
    for kind in ("brief", "technical", "handover", "review"):
        assert "key_9" in ana.get(f"{page}/report?kind={kind}") or kind in {"brief", "handover", "review"}
    assert ana.raw(f"{page}/report?kind=technical&markdown=true").startswith("# Report")
    assert "Time to detect" in ana.get("/cases/pace")
    bundle = ana.post(f"{page}/bundle", to="auditor", status=200)
    assert bundle.text.startswith('{"format"')
    other = Console(world, ["analyst"], name="Cid")
    assert "counsel says" not in other.get(page)
    assert "wrote something privileged" in other.get(page)
    assert world.platform.circle.holds(TENANT, case, ana.id, CaseRole.LEGAL)


def test_evidence_that_is_no_base64_is_refused(world):
    case = world.platform.cases.open(TENANT, "a case", operator="system", level=Level.LOW)
    for content in ("%%%", "\x80", "é", "a"):
        body = {"name": "shell.log", "how": "copied by hand", "content": content}
        answer = world.post(f"/v1/cases/{case.id}/evidence", world.full, body)
        assert (answer.status_code, code_of(answer)) == (400, "request.field.invalid"), content
