"""Jobs that responders do in a browser, from beginning to end, on one installation.

Triage by keyboard and the approval at phone width stand in `test_triage.py`, exploring a decision in
`test_explore_pages.py`. What the pages are made of is asked without a browser in `tests/serve`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.resources import files
from urllib.parse import quote

import pytest
from playwright.sync_api import expect
from pypdf import PdfReader

pytestmark = pytest.mark.chromium

TITLE = "Refund to another card"


def case_of(page, title):
    """Takes an alert of this title to a case of its own; gives the address of the case."""
    page.goto(f"/alerts?state=new&q={quote(title)}")
    page.locator("#alert-rows tbody tr a.title, #alert-rows tbody tr a").first.click()
    page.get_by_role("button", name="Open a case").click()
    page.wait_for_url("**/cases/**")
    return page.url


def panel(page, name):
    return page.locator(f"section.panel[aria-label='{name}']")


@pytest.mark.parametrize("path", ["/runs", "/playbooks", "/playbooks/compromised_api_key", "/runs/{run}"])
def test_the_pages(looks_right, installation, path):
    looks_right(path.format_map(installation.known), name=path.strip("/").translate(str.maketrans("/", "-", "{}")))


def test_pivot_from_an_alert_to_what_else_its_entity_did(visit, installation, axe):
    page = visit(f"/alerts/{installation.known['alert']}", who="analyst")
    panel(page, "Entities").get_by_role("link", name=re.compile("account")).click()
    page.wait_for_url("**/entities/account/**")
    page.goto("/alerts?q=Password+spray")
    page.locator("#alert-rows tbody tr a").first.click()
    panel(page, "Entities").get_by_role("link", name=re.compile("merchant")).first.click()
    page.wait_for_url("**/entities/merchant/**")
    page.locator("#neighbours").wait_for()
    axe(page)
    others = page.locator("main a[href^='/alerts/']")
    assert others.count() >= 2, "the entity's other alerts are one click away"
    others.nth(1).click()
    page.wait_for_url("**/alerts/al_*")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_merge_and_take_apart(visit, axe):
    page = visit("/alerts/groups", who="analyst")
    groups = page.get_by_role("table", name="Groups").locator("tbody tr")
    before = groups.count()
    chosen = next(row for row in groups.all() if row.locator("form[action='/alerts/merge']").count())
    chosen.locator("summary").click()
    counted = chosen.locator("td[data-label=Alerts]").inner_text()
    chosen.get_by_label("Title of the merge").fill("One attack")
    axe(page)
    chosen.get_by_role("button", name="Merge").click()
    merged = page.get_by_role("table", name="Groups").locator("tbody tr", has_text="merged:")
    expect(merged).to_contain_text("One attack")
    assert merged.locator("td[data-label=Alerts]").inner_text() == counted, "nothing is lost"
    merged.locator("summary").click()
    merged.locator(".related a").first.click()
    expect(page.get_by_text(re.compile(rf"Merged: One attack \({counted}\)"))).to_be_visible()
    page.go_back()
    merged = page.get_by_role("table", name="Groups").locator("tbody tr", has_text="merged:")
    if not merged.get_by_role("button", name="Take apart").is_visible():
        merged.locator("summary").click()
    merged.get_by_role("button", name="Take apart").click()
    page.wait_for_load_state("load")
    expect(page.get_by_text("merged:")).to_have_count(0)
    assert groups.count() == before


def test_a_playbook_is_planned_started_cancelled_resumed_and_approved(visit, installation, axe):
    known = installation.known
    page = visit("/playbooks", who="analyst")
    page.get_by_role("link", name="Contain a compromised API key").click()
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_text("input `key_id` is missing")).to_be_visible()
    page.get_by_label("key id", exact=True).fill(known["key"])
    page.get_by_label("account", exact=True).fill("m_by_hand")
    page.get_by_role("button", name="Dry run").click()
    plan = panel(page, "Plan")
    # It answers no alert, so there is nothing to take a snapshot of: the plan says so before anything is begun.
    expect(plan).to_contain_text("playbook.reference.missing")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url("**/runs/run_*")
    state = page.locator("section.run .panel-head .state")
    expect(state).not_to_have_text(re.compile("queued|running"))
    return_to = page.url
    assert state.inner_text() == "failed"
    expect(page.locator(".step-failed").first).to_be_visible()

    page.goto("/alerts?q=Cards+tested")
    page.locator("#alert-rows tbody tr a").first.click()
    alert = page.url.rpartition("/")[2]
    page.goto("/playbooks/suspect_merchant")
    page.get_by_label("Alert", exact=True).fill(alert)
    page.get_by_role("button", name="Dry run").click()
    expect(plan).to_contain_text("1 account: m_9")
    expect(plan).to_contain_text("frozen already false")
    axe(page)
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url("**/runs/run_*")
    assert page.url != return_to
    expect(page.locator("section.approval")).to_be_visible()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.locator("dialog[open]").get_by_role("button", name="Cancel").last.click()
    expect(state).to_have_text("cancelled")
    assert page.locator("section.approval").count() == 0
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("section.approval")).to_be_visible()
    axe(page)
    other = visit(page.url, who="responder", width=390)
    other.get_by_label("Why").fill("Looked at what it sold")
    other.get_by_role("button", name="Approve").click()
    other.wait_for_url("**/cases/**")
    expect(state).to_have_text("completed")
    expect(panel(page, "What it touched")).to_contain_text("1 account")
    page.get_by_label("Again from").select_option("freeze")
    page.get_by_role("button", name="Begin again").click()
    expect(page.get_by_text("carried").first).to_be_visible()
    page.goto("/runs?view=wrong")
    expect(page.get_by_role("table", name="Runs of playbooks")).to_contain_text("compromised api key")


def test_evidence_is_kept_exported_and_verified_elsewhere(visit, tmp_path, axe):
    page = visit("/alerts", who="responder")
    case = case_of(page, TITLE)
    found = panel(page, "Evidence")
    found.get_by_label("File").set_input_files(
        {"name": "netstat.txt", "mimeType": "text/plain", "buffer": b"198.51.100.7"}
    )
    found.get_by_label("How it was taken").fill("copied by hand")
    found.get_by_role("button", name="Keep").click()
    expect(found.get_by_text("Chain of custody, 1 link")).to_be_visible()
    axe(page)
    found.get_by_label("Who gets it").fill("the auditor")
    with page.expect_download() as started:
        found.get_by_role("button", name="Export").click()
    started.value.save_as(tmp_path / "case.bundle")
    shutil.copy(str(files("vedette.prove").joinpath("verifier.py")), tmp_path / "verifier.py")
    command = [sys.executable, "-E", "-s", "verifier.py", "case.bundle"]
    told = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout
    assert "to the auditor" in told.stdout
    page.goto(f"{case}/report?kind=technical")
    assert "netstat.txt" in page.locator("main").inner_text()
    with page.expect_download() as printed:
        page.get_by_role("link", name="PDF").click()
    printed.value.save_as(tmp_path / "report.pdf")
    text = "".join(each.extract_text() for each in PdfReader(tmp_path / "report.pdf").pages)
    assert "netstat.txt" in text
    assert TITLE in text


def test_people_are_notified_behind_a_gate(visit, installation, axe):
    page = visit("/alerts", who="chief")
    case_of(page, TITLE)
    notices, people = panel(page, "Who must be told"), panel(page, "People")
    notices.get_by_label("Notice").select_option("gdpr_33")
    notices.get_by_role("button", name="Start").click()
    notices.get_by_role("button", name="Draft").click()
    notices.get_by_text("Draft", exact=True).last.click()
    expect(notices.locator("pre")).to_contain_text("Lead supervisory authority")
    assert notices.get_by_role("button", name="Approve").count() == 0, "only legal approves"
    people.get_by_label("Person").select_option(installation.people["chief"])
    people.get_by_label("Role").select_option("legal")
    people.get_by_role("button", name="Give").click()
    notices.get_by_role("button", name="Approve").click()
    axe(page)
    notices.get_by_label("Reference").fill("DPA 2026-118")
    notices.get_by_role("button", name="Sent").click()
    expect(notices).to_contain_text("DPA 2026-118")
    expect(notices.locator(".tag-good")).to_have_text("sent")


def test_an_incident_is_reviewed_before_it_is_closed(visit, axe):
    page = visit("/alerts", who="responder")
    case = case_of(page, "Secret read from a new place")
    phases = panel(page, "Phase")
    for phase in ("containment", "recovery"):
        phases.get_by_label("Phase").select_option(phase)
        phases.get_by_role("button", name="Set").click()
        expect(phases.locator(".tasks")).to_contain_text(phase)
    page.get_by_role("button", name="Resolve").click()
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("main")).to_contain_text("cases.review")
    page.goto(case)
    review = panel(page, "Review")
    for part in ("happened", "contained", "found", "changed"):
        review.get_by_label("Part").select_option(part)
        review.get_by_label("Text").fill(f"What was {part}, told by who saw it.")
        review.get_by_role("button", name="Write").click()
        expect(review.locator(".artefact", has_text=f"What was {part}").first).to_be_visible()
    review.get_by_label("What changed").select_option("detection")
    review.get_by_label(re.compile("Rule, control")).fill("rule-3")
    review.get_by_role("button", name="Link").click()
    axe(page)
    phases.get_by_label("Phase").select_option("post_incident")
    phases.get_by_role("button", name="Set").click()
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator(".heading-facts .state")).to_have_text("closed")
    page.goto(f"{case}/report?kind=review")
    assert "rule-3" in page.locator("main").inner_text()
