"""The pages of logging in, people, keys and accounts, in a browser: how they look, and that a person gets through them."""

from __future__ import annotations

import time
from base64 import b32decode

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from playwright.sync_api import expect
from serve_world import TENANT

from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.ids import Ids
from vedette.prove.access import Access, Role

GOOD = "seven grey herons stood 7 deep"


@pytest.fixture
def newcomer(installation):
    """Login name and one-time password of an admin who never logged in; made as the command line makes them."""
    clock = SystemClock()
    database = open_database(installation.home / "state.db")
    access = Access(database, clock, Ids(clock))
    person = access.people.create(TENANT, "Nora Newcomer")
    access.people.grant(TENANT, person.id, Role.ADMIN, by="system")
    issued = access.logins.issue(TENANT, person.id, by="system")
    database.close()
    return issued.login, issued.password.reveal()


@pytest.mark.parametrize("path", ["/login", "/login?next=/alerts"])
def test_the_door(looks_right, path):
    looks_right(path, who="", name="login")


@pytest.mark.parametrize("path", ["/people", "/keys", "/connections", "/account", "/account/factor"])
def test_the_pages(looks_right, path):
    looks_right(path)


def test_a_person(looks_right, installation):
    looks_right(f"/people/{installation.people['analyst']}", name="person")
    looks_right(f"/people/{installation.people['chief']}", name="person-self")


@pytest.mark.parametrize("path", ["/people", "/keys", "/connections"])
def test_a_page_that_is_not_for_everybody(looks_right, path):
    looks_right(path, who="model", expect=403, name="forbidden")


def test_from_a_one_time_password_to_a_key(visit, newcomer, axe):
    login, password = newcomer
    page = visit("/login?next=/keys", who="", width=390)
    page.get_by_label("Name", exact=True).fill(login)
    page.get_by_label("Password", exact=True).fill(password)
    page.keyboard.press("Enter")
    page.wait_for_url("**/password?next=**")
    axe(page)
    page.get_by_label("New password", exact=True).fill(GOOD)
    page.get_by_label("New password again").fill(GOOD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/keys")
    page.get_by_label("Charges").select_option("charges:write")
    page.get_by_role("button", name="Make key").click()
    page.wait_for_url("**/account/factor?next=**")
    page.get_by_label("Password", exact=True).fill(GOOD)
    page.keyboard.press("Enter")
    picture = page.locator("img.enrol-picture")
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("each => each.naturalWidth") > 100
    axe(page)
    key = page.locator(".enrol code").inner_text()
    shown = TOTP(b32decode(key), 6, SHA1(), 30).generate(int(time.time())).decode()
    page.get_by_label("Code that it shows").fill(shown)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Your recovery codes").wait_for()
    assert page.locator(".codes li").count() == 10
    axe(page)
    page.get_by_role("link", name="I have kept them").click()
    page.wait_for_url("**/keys")
    page.get_by_label("Charges").select_option("charges:write")
    page.get_by_label("Name").fill("till")
    page.get_by_role("button", name="Make key").click()
    page.get_by_text("shown this once").wait_for()
    assert page.locator(".panel-warn code").first.inner_text().startswith("vk_test_")
    page.get_by_label("Account of Nora Newcomer").click()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    page.goto("/keys")
    assert "/login?next=" in page.url
    page.goto("/login?next=/keys")
    page.get_by_label("Name", exact=True).fill(login)
    page.get_by_label("Password", exact=True).fill("not the right 1")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    axe(page)
    page.get_by_label("Password", exact=True).fill(GOOD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/confirm?next=**")
    axe(page)


def test_a_key_is_revoked_after_the_question(visit, installation):
    page = visit("/keys")
    row = page.locator("tr", has_text=installation.known["key"])
    row.get_by_role("button", name="Revoke").click()
    page.locator("#confirm").get_by_role("button", name="Cancel").click()
    assert row.locator(".state").inner_text().lower() == "active"
    row.get_by_role("button", name="Revoke").click()
    page.locator("#confirm .button-danger, #confirm .button-primary").click()
    page.wait_for_url("**/keys")
    assert page.locator("tr", has_text=installation.known["key"]).locator(".state").inner_text().lower() == "revoked"


def test_a_platform_is_let_in_and_out_again(visit, looks_right):
    page = visit("/connections", width=390)
    give = page.locator("#give")
    give.get_by_label("Platform").fill("market")
    give.get_by_label("Charges").select_option("charges:write")
    give.get_by_role("button", name="Let it act").click()
    row = page.locator("tr", has_text="market")
    row.wait_for()
    assert row.locator(".state").inner_text().lower() == "active"
    new = page.locator("#new")
    new.get_by_label("Name").fill("till")
    new.get_by_label("Payouts").select_option("payouts:read")
    new.get_by_role("button", name="Make app").click()
    page.get_by_text("shown this once").wait_for()
    assert page.locator(".panel-warn code").first.inner_text().startswith("vs_")
    looks_right("/connections", name="connections-filled")
    page.goto("/connections")
    page.locator("tr", has_text="market").get_by_role("button", name="Take back").click()
    page.locator("#confirm .button-danger, #confirm .button-primary").click()
    page.wait_for_function("() => document.querySelector('tbody .state').innerText.toLowerCase() === 'revoked'")


def test_a_keys_page_says_what_it_reaches_before_it_is_ended(visit, axe, looks_right):
    page = visit("/keys")
    page.get_by_role("link", name="reach").first.click()
    reach = page.get_by_role("region", name="Reach")
    expect(reach).to_contain_text("Breaks when it ends")
    expect(reach.get_by_text("Routes", exact=True)).to_be_visible()
    axe(page)
    looks_right("/entities" + page.url.partition("/entities")[2], name="entity-key")
