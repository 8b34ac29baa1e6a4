"""Decisions and entities in a browser: found, explained, and linked to each other."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from console_world import HOSTILE
from explore_world import Explained, ExploreSeed

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    home = tmp_path_factory.mktemp("explore") / "home"
    home.mkdir()
    # In a thread of its own: the browser's driver runs an event loop in this one, where a platform cannot be opened.
    with ThreadPoolExecutor(1) as apart:
        apart.submit(ExploreSeed(home).fill).result()
    served = Explained(home, tmp_path_factory.mktemp("served") / "home")
    yield served
    served.close()


def settle(page):
    """Waits until nothing is asked any more."""
    page.wait_for_load_state("load")
    page.wait_for_function("() => !document.documentElement.classList.contains('busy')")


def entity_path(installation):
    kind, _, name = installation.known["customer"].partition(":")
    return f"/entities/{kind}/{quote(name, safe='')}"


def test_pages_look_right(looks_right, installation):
    looks_right("/decisions")
    looks_right(f"/decisions/{installation.known['block']}", name="decision-block")
    looks_right("/entities")
    looks_right(entity_path(installation), name="entity")


def test_pages_that_have_little_to_show(looks_right, installation):
    looks_right("/decisions?action=block&risk=99&amount=99999", name="decisions-none")
    looks_right(f"/decisions/{installation.known['charged']}", name="decision-charge")
    looks_right("/entities?q=nobody", name="entities-none")
    looks_right(f"/traces/{installation.known['charged']}", name="trace")


def test_from_a_decision_to_what_became_of_it(visit, installation):
    page = visit(f"/decisions/{installation.known['charged']}")
    page.get_by_role("link", name="trace").click()
    settle(page)
    steps = page.get_by_role("table", name="Steps").inner_text().lower()
    assert all(word in steps for word in ("request", "decision", "transfer", "captured"))
    page.get_by_role("link", name="decision", exact=True).click()
    settle(page)
    assert page.url.endswith(f"/decisions/{installation.known['charged']}")


def test_from_the_list_to_what_would_have_changed_it(visit, installation):
    page = visit("/decisions")
    page.get_by_label("block").check()
    page.get_by_role("form", name="Filters").get_by_role("button", name="Filter").click()
    settle(page)
    actions = json.loads(installation.known["actions"])
    assert page.locator(".heading-facts strong").inner_text() == str(actions["block"])
    assert set(page.locator("tbody .action").all_inner_texts()) == {"block"}
    page.locator("tbody [data-open]").first.click()
    settle(page)
    assert "Blocked" in page.locator(".sentence").inner_text()
    page.locator(".whatif").first.wait_for()
    ends = page.locator(".whatif-end .action").all_inner_texts()
    assert ends
    assert set(ends) <= {"allow", "challenge", "review"}
    assert "instead of" in page.locator(".whatif-changes").first.inner_text()
    assert page.locator(".rule-fired").count()
    assert page.locator("svg.range").count() > 10
    assert "yes, bit for bit" in page.locator("main").inner_text()


def test_the_numbers_of_the_waterfall_can_be_read(visit, installation):
    page = visit(f"/decisions/{installation.known['block']}")
    page.get_by_role("button", name=re.compile("Show as a table: What each feature")).click()
    assert page.locator("#chart-waterfall table tbody tr").count() >= 5


def test_the_truth_and_the_money_stand_beside_it(visit, installation):
    page = visit(f"/decisions/{installation.known['labelled']}")
    assert "known fraud" in page.locator(".heading-facts").inner_text()
    assert "dispute" in page.locator("main").inner_text()
    page = visit(f"/decisions/{installation.known['charged']}")
    assert page.get_by_role("region", name="Money").locator(".state").count() == 1


def test_an_entity_with_its_timeline_and_neighbours(visit, installation):
    page = visit(entity_path(installation))
    page.locator("#neighbours").wait_for()
    settle(page)
    page.get_by_role("button", name="Show as a table", exact=True).click()
    assert "198.51.100." in page.locator("#graph-neighbours table").inner_text()
    page.locator("#neighbours .tabs a", has_text="an hour").click()
    page.locator("#neighbours .tabs a[aria-current]", has_text="an hour").wait_for()
    settle(page)
    assert page.url.endswith(entity_path(installation)), "the graph's time is not the page's"
    page.locator(".tabs a", has_text="product").click()
    settle(page)
    assert set(page.locator(".event .tag").all_inner_texts()) == {"product"}
    page.get_by_role("link", name="Next").click()
    settle(page)
    assert page.locator(".event").count() > 1
    page.locator(".event").first.locator("summary").click()
    assert HOSTILE in json.loads(page.locator(".event pre").first.inner_text())["device"]
    assert page.title() != "1"


def test_finding_an_entity(visit, installation):
    page = visit("/entities")
    page.get_by_label("Part of an id").fill("198.51.100")
    page.locator("#found tbody tr").first.wait_for()
    assert page.locator("#found tbody tr").count() >= 5
    page.locator("#found [data-open]").first.click()
    settle(page)
    assert page.locator("h1").inner_text().startswith("ip 198.51.100.")


def test_who_may_not_look_is_told(visit, installation):
    visit("/decisions", who="admin", expect=403)
    visit(entity_path(installation), who="admin", expect=403)
    visit("/decisions/none", expect=404)
    visit("/entities/card/none", expect=404)
    visit("/decisions?risk=many", expect=400)
