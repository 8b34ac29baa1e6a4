"""Rules, models, pipelines and audit, in a browser."""

from __future__ import annotations

import sqlite3

import pytest

pytestmark = pytest.mark.chromium


@pytest.mark.parametrize("path", ["/rules", "/rules/payment", "/rules/skipped", "/models", "/pipelines", "/audit"])
def test_pages_look_right(looks_right, path):
    looks_right(path)


def test_a_sigma_rule_is_read_from_the_list(visit, axe):
    page = visit("/rules")
    page.get_by_label("Search rules").fill("secret")
    page.get_by_role("button", name="Filter").click()
    rows = page.locator("tbody[data-rows] tr")
    assert rows.count() >= 1
    page.keyboard.press("j")
    page.keyboard.press("o")
    page.wait_for_url("**/rules/*")
    for told in ("When it is wrong", "Versions that ran here", "Condition", "runs now"):
        assert page.get_by_text(told).first.is_visible(), told
    axe(page)


def test_a_correlation_names_what_it_counts_and_rests_on(visit, looks_right):
    page = visit("/rules?q=spray")
    link = page.locator("tbody[data-rows] tr a").first
    path = link.get_attribute("href")
    link.click()
    page.wait_for_url("**/rules/*")
    assert page.get_by_text("What it counts").is_visible()
    assert page.get_by_role("table", name="Rules it rests on").locator("tbody tr").count() >= 1
    looks_right(path, name="correlation")


def test_a_payment_rule_shows_its_decisions_and_its_versions(visit, looks_right):
    page = visit("/rules/payment")
    link = page.locator("tbody[data-rows] tr a").first
    path = link.get_attribute("href")
    link.click()
    page.wait_for_url("**/rules/payment/*")
    assert page.get_by_text("runs now").is_visible()
    assert page.get_by_text("amount_in_usd").first.is_visible()
    looks_right(path, name="payment-rule")


def test_an_unknown_rule_is_a_page_that_says_so(visit):
    for path in ("/rules/none", "/rules/payment/none"):
        page = visit(path, expect=404)
        assert page.get_by_text("rules.rule.unknown").is_visible()


def test_the_audit_is_verified_in_front_of_the_visitor(visit, axe):
    page = visit("/audit")
    assert page.get_by_text("under a signed checkpoint outside the database").is_visible()
    page.get_by_role("button", name="Verify now").click()
    page.get_by_text("Nothing was changed.").wait_for()
    page.reload()
    assert page.locator("#trail").get_by_text("audit.verify").first.is_visible()
    axe(page)


def test_damage_is_shown_with_its_place(visit, installation):
    page = visit("/audit")
    with sqlite3.connect(installation.home / "state.db") as database:
        (held,) = database.execute("select digest from evidence_records where seq = 3").fetchone()
        database.execute("update evidence_records set digest = zeroblob(32) where seq = 3")
    try:
        page.get_by_role("button", name="Verify now").click()
        page.get_by_text("The evidence was changed").wait_for()
        assert page.get_by_role("table", name="Findings").get_by_text("edit").first.is_visible()
    finally:
        with sqlite3.connect(installation.home / "state.db") as database:
            database.execute("update evidence_records set digest = ? where seq = 3", (held,))


def test_the_trail_is_filtered_by_action_and_outcome(visit):
    page = visit("/audit?action=people.")
    texts = page.locator("#trail td[data-label=Action]").all_inner_texts()
    assert texts
    assert all(text.startswith("people.") for text in texts)
    page = visit("/audit?outcome=denied&action=nothing.")
    assert page.get_by_text("No record like this").is_visible()


def test_who_may_not_read_the_audit_is_refused(visit):
    page = visit("/audit", who="analyst", expect=403)
    assert page.get_by_text("access.denied").is_visible()
