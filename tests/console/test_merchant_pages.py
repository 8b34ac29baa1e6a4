"""The pages of a merchant in a browser: how they look, and that it does its three jobs by the keyboard."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

import pytest
from serve_world import ALL_SCOPES, MERCHANT, TENANT, charge, fresh

from vedette.core.clock import DAY, SystemClock, to_iso
from vedette.core.db import open_database
from vedette.core.ids import Ids
from vedette.prove.access import Access, Mode, Role

HOME = f"/merchants/{MERCHANT}"


@pytest.fixture(scope="module")
def shop(installation):
    """A shopkeeper, who is bound to one merchant, with a dispute and a refund; made beside the running server."""
    clock = SystemClock()
    database = open_database(installation.home / "state.db")
    access = Access(database, clock, Ids(clock))
    person = access.people.create(TENANT, "Sam Shop", accounts=[MERCHANT])
    access.people.grant(TENANT, person.id, Role.MERCHANT, by="system")
    installation.sessions["shop"] = access.sessions.open(TENANT, person.id, proven=True).secret.reveal()
    key = access.issue_key(TENANT, scopes=ALL_SCOPES, mode=Mode.TEST).secret.reveal()
    database.close()

    def post(path, body):
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "idempotency-key": fresh()}
        with urlopen(Request(installation.url + path, json.dumps(body).encode(), headers), timeout=300) as answer:
            return json.load(answer)

    paid = [post("/v1/charges", charge(4_200 + n, metadata={"kind": "gift"}))["id"] for n in range(3)]
    post(f"/v1/charges/{paid[0]}/refunds", {"amount_minor": 1_000})
    due = to_iso(clock.now() + 9 * DAY)
    opened = {"charge": paid[1], "reason": "fraudulent", "evidence_due": due}
    return post("/v1/disputes", opened)["id"]


@pytest.mark.parametrize("rest", ["", "/disputes", "/refunds", "/rules"])
def test_the_pages(looks_right, shop, rest):
    looks_right(HOME + rest, who="shop", name=f"merchant{rest.replace('/', '-')}")


def test_a_dispute(looks_right, shop):
    looks_right(f"{HOME}/disputes/{shop}", who="shop", name="merchant-dispute")


def test_for_the_platforms_people(looks_right, shop):
    looks_right("/merchants", name="merchants")


def test_sees_a_reason_writes_a_rule_and_answers_a_dispute(visit, axe, shop):
    page = visit("/", who="shop")
    page.wait_for_url(f"**{HOME}")
    page.locator("nav.tabs").get_by_role("link", name="Rules").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/rules")
    page.get_by_label("Rules, one a line").fill("block if ::kind:: = 'gift' and :amount_in_eur: > 5")
    page.get_by_role("button", name="Try on past payments").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="What would change").wait_for()
    assert "allow to block" in page.locator("main").inner_text()
    axe(page)
    page.get_by_label("Why", exact=True).fill("gift cards are resold")
    page.get_by_role("button", name="Ship").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Version 1").wait_for()
    page.get_by_text("gift cards are resold").wait_for()
    page.locator("nav.tabs").get_by_role("link", name="Payments").click()
    page.locator("tbody a").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Why").wait_for()
    axe(page)
    page.goto(f"{HOME}/disputes/{shop}")
    page.get_by_label("What it is").fill("receipt")
    page.get_by_label("What it says").fill("signed on May 2")
    page.get_by_role("button", name="Send the evidence").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="What you answered").wait_for()
    assert page.locator(".state").first.inner_text().lower() == "submitted"
    axe(page)
