"""The review queue in a browser: from the list to a verdict and on to the next item, by keyboard alone."""

from __future__ import annotations

import re

from playwright.sync_api import expect


def test_one_item_after_the_other_by_keyboard(visit, axe):
    page = visit("/reviews", who="risk")
    first = page.locator("tbody tr a.title").first.get_attribute("href")
    page.keyboard.press("e")
    expect(page).to_have_url(re.compile(re.escape(first)))
    axe(page)
    page.keyboard.press("w")
    page.keyboard.type("the card was new")
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    page.wait_for_url(lambda url: not url.endswith(first))
    page.goto(page.url.split("/reviews")[0] + first)
    expect(page.get_by_text("the card was new")).to_be_visible()
    expect(page.get_by_role("button", name="Fraud")).to_have_count(0)
    page.get_by_label("Why it stands no more").fill("it was another card")
    page.get_by_role("button", name="Take the verdict back").click()
    expect(page.get_by_role("region", name="Taken back")).to_contain_text("it was another card")
    expect(page.get_by_role("button", name="Claim it")).to_be_visible()
    axe(page)


def test_an_item_on_a_phone_can_be_given_back(visit, axe):
    page = visit("/reviews", who="risk", width=390)
    page.get_by_role("button", name="Look at the next one").click()
    page.get_by_role("button", name="Give it back").wait_for()
    axe(page)
    page.get_by_role("button", name="Give it back").click()
    page.wait_for_url(re.compile("/reviews$"))
