"""Alerts and cases in a browser: triage by keyboard alone, from alert to case, and an approval on a phone."""

from __future__ import annotations

import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from console_world import HOSTILE
from playwright.sync_api import expect
from serve_world import TENANT, wait_for

from vedette.act.alerts import Alerts
from vedette.core.db import open_database
from vedette.core.event import Entity
from vedette.core.signal import Level, Signal

OPEN = "/alerts?state=new&state=in_progress&sort=severity"


def ids(page):
    """The alerts of the queue, in order."""
    return page.locator("#alert-rows tbody tr").evaluate_all("rows => rows.map(row => row.dataset.id)")


def cursor(page):
    """The alert under the cursor."""
    return page.locator("#alert-rows tr.cursor").get_attribute("data-id")


def total(page):
    return int(page.locator(".heading-facts strong").inner_text())


def raise_alert(installation, title, level=Level.CRITICAL):
    """An alert that comes while somebody looks."""
    at = round(time.time() * 1_000_000)
    signal = Signal(
        id=uuid.uuid4().hex,
        tenant=TENANT,
        rule_id=f"late-{uuid.uuid4().hex}",
        rule_version="v1",
        title=title,
        level=level,
        event_id=uuid.uuid4().hex,
        event_time=at,
        source="cloudtrail",
        entities=(Entity("user", "late@acme.example"),),
    )

    def apply():
        database = open_database(installation.home / "state.db")
        Alerts(database).apply([(signal, at)])
        database.close()

    with ThreadPoolExecutor(1) as apart:
        apart.submit(apply).result()


@pytest.mark.parametrize(
    "path",
    [
        "/alerts",
        "/alerts/{alert}",
        "/cases",
        "/cases/{case}",
        "/cases/{case}/report",
        "/cases/pace",
        "/alerts/groups",
        "/approvals",
        "/reviews",
        "/reports",
    ],
)
def test_the_pages(looks_right, installation, path):
    looks_right(
        path.format_map(installation.known), name=path.strip("/").translate(str.maketrans("/", "-", "{}")) + "-page"
    )


def test_what_an_attacker_wrote_is_text(looks_right, visit, installation):
    page = visit(OPEN + "&q=%3Cimg")
    (alert_id,) = ids(page)
    expect(page.get_by_role("link", name=HOSTILE, exact=True)).to_be_visible()
    assert page.locator("main img").count() == 0
    looks_right(f"/alerts/{alert_id}", name="hostile")


def test_nothing_fits_and_nothing_is_there(looks_right, visit):
    page = visit("/alerts?q=nothing+at+all")
    expect(page.get_by_text("No alert fits")).to_be_visible()
    looks_right("/alerts/al_none", expect=404, name="no-alert")
    looks_right("/alerts?level=grave", expect=400, name="bad-filter")


def test_triage_by_keyboard_alone(visit, axe):
    page = visit("/alerts", who="analyst")
    before, first = total(page), ids(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert cursor(page) == first[1]
    page.keyboard.press("k")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator(".bulk [data-picked]")).to_have_text("2")
    axe(page)
    page.keyboard.press("a")
    expect(page.locator(".toasts")).to_contain_text("2 alerts taken by you")
    assert page.locator("#alert-rows").get_by_text("Ana Silva").count() == 2
    # The cursor stands where it stood, so the next key acts on what is there.
    expect(page.locator("#alert-rows tr.cursor")).to_have_count(1)
    here = cursor(page)
    page.keyboard.press("e")
    expect(page.get_by_role("heading", name="What was it?")).to_be_visible()
    axe(page)
    page.keyboard.press("b")
    expect(page.locator(".toasts")).to_contain_text("1 alert resolved: benign")
    assert here not in ids(page)
    assert total(page) == before - 1
    assert cursor(page) in first
    page.keyboard.press("u")
    expect(page.locator(".toasts")).to_contain_text("as before")
    assert here in ids(page)
    assert total(page) == before
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("Resolve, with a verdict")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("cards tested")
    page.keyboard.press("Enter")
    expect(page.locator("#alert-rows tbody tr").first).to_contain_text("Cards tested")
    page.wait_for_url(re.compile(r"q=cards(\+|%20)tested"))
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("o")
    expect(page.get_by_role("heading", level=1)).to_have_text("Cards tested in small amounts")
    page.keyboard.press("c")
    page.wait_for_url("**/cases/**")
    expect(page.get_by_role("heading", level=1)).to_have_text("Cards tested in small amounts")
    expect(page.get_by_text("Ana Silva opened the case")).to_be_visible()


def test_a_key_without_a_row_changes_nothing(visit):
    page = visit("/alerts")
    before = ids(page)
    page.keyboard.press("e")
    expect(page.locator(".toasts")).to_contain_text("Choose an alert first")
    assert ids(page) == before


def test_filters_are_addresses(visit):
    page = visit("/alerts")
    page.locator("#facets").get_by_role("link", name=re.compile("high")).click()
    page.wait_for_url("**level=high**")
    expect(page.locator("#alert-rows tbody tr")).not_to_have_count(20)
    shown = ids(page)
    assert shown
    again = visit(page.url)
    assert ids(again) == shown
    page.go_back()
    page.wait_for_url(lambda url: "level=high" not in url)
    expect(page.locator("#alert-rows tbody tr")).not_to_have_count(len(shown))


def test_what_is_new_waits_for_a_click(visit, installation):
    page = visit(OPEN, who="risk")
    page.keyboard.press("j")
    here, before = cursor(page), ids(page)
    raise_alert(installation, "Came while somebody looked")
    pill = page.locator(".pill")
    expect(pill).to_have_text("1 new")
    assert (cursor(page), ids(page)) == (here, before), "no row moves under the cursor"
    pill.click()
    expect(page.get_by_role("link", name="Came while somebody looked")).to_be_visible()
    expect(page.locator(".pill")).to_have_count(0)


def test_who_may_only_look_gets_no_buttons(visit, installation):
    page = visit(f"/alerts/{installation.known['alert']}", who="compliance")
    assert page.get_by_role("button", name=re.compile("Resolve|Start|Open a case")).count() == 0
    page = visit(f"/cases/{installation.known['case']}", who="compliance")
    assert page.get_by_role("button", name=re.compile("Take it|Add|Approve")).count() == 0


def test_work_on_a_case(visit, installation):
    page = visit(f"/cases/{installation.known['case']}", who="responder")
    page.get_by_role("button", name="Take it").click()
    expect(page.get_by_text("gave it to Ravi Patel")).to_be_visible()
    page.get_by_label("Task", exact=True).fill("Call the merchant")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("button", name="Done").click()
    expect(page.locator(".task-done")).to_contain_text("Call the merchant")
    page.get_by_label("Note", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="Add note").click()
    expect(page.locator(".entry-note")).to_have_text(HOSTILE)
    page.get_by_role("link", name="Notes").click()
    expect(page.locator(".entries li")).to_have_count(1)
    page.get_by_role("link", name="Verify").first.click()
    expect(page.get_by_text("intact")).to_be_visible()


def test_approved_on_a_phone_the_key_is_ended_and_the_payouts_are_frozen(visit, installation, axe):
    known = installation.known
    stolen = {"authorization": f"Bearer {known['stolen']}"}
    full = {"authorization": f"Bearer {known['full']}"}
    with httpx.Client(base_url=installation.url) as api:
        assert api.get("/v1/charges/none", headers=stolen).status_code == 404
        page = visit(f"/cases/{known['case']}", who="analyst")
        expect(page.get_by_text("Your role may not decide this")).to_be_visible()
        assert page.get_by_role("button", name="Approve").count() == 0
        page = visit("/approvals", who="responder", width=390)
        panel = page.locator(".approval")
        expect(panel).to_contain_text(known["key"])
        expect(panel).to_contain_text("Ana Silva")
        approve = panel.get_by_role("button", name="Approve")
        box = approve.bounding_box()
        assert box["height"] >= 44, "a thumb needs 44 px"
        panel.get_by_label("Why").fill("The merchant says it is not them")
        approve.click()
        page.wait_for_url(f"**/cases/{known['case']}**")
        run = page.locator(f"#{known['run']}")
        expect(run.locator(".panel-head .state")).to_have_text("completed")
        for label in ("revoke key", "freeze payouts", "notify"):
            line = run.locator(".step", has_text=label)
            expect(line.first).to_have_class("step step-done")
        expect(run).to_contain_text("approved by Ravi Patel: The merchant says it is not them")
        assert page.locator(".approval").count() == 0
        axe(page)
        refused = api.get("/v1/charges/none", headers=stolen)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "access.key.invalid")
        frozen = wait_for(
            lambda: api.get(f"/v1/payouts/{known['payout']}", headers=full).json(), lambda it: it.get("status")
        )
        assert frozen["status"] == "frozen"
    page = visit("/approvals", who="responder")
    expect(page.get_by_text("Nothing waits for a decision")).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("^End key"))).to_be_visible()
