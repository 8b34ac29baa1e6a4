"""The frame around every page, the overview and the search, in a real browser."""

from __future__ import annotations

import re
from urllib.parse import quote

from console_world import HOSTILE
from playwright.sync_api import expect


def test_overview(looks_right):
    looks_right("/")


def test_search(looks_right):
    looks_right("/search?q=person", name="search-found")
    looks_right(f"/search?q={quote(HOSTILE)}", name="search-hostile")


def test_search_that_finds_nothing(visit, axe):
    for path, told in (("/search", "What are you looking for?"), ("/search?q=zzzz", "Nothing holds")):
        page = visit(path, width=390)
        assert told in page.locator(".empty-title").inner_text()
        axe(page)


def test_error_pages(looks_right):
    looks_right("/nothing-here", expect=404, name="error-404")


def test_what_is_not_ones_own_is_told_in_the_frame(visit):
    page = visit("/people", who="analyst", expect=403)
    assert page.locator("h1").inner_text() == "Not yours to see"
    assert page.locator("nav.side").is_visible()


def test_an_id_leads_to_its_page(visit, installation):
    page = visit("/")
    known = installation.known
    for name, path in (("alert", "/alerts/"), ("case", "/cases/"), ("decision", "/decisions/")):
        answer = page.request.get(f"/search?q={quote(known[name])}", max_redirects=0)
        assert (answer.status, answer.headers["location"]) == (303, path + quote(known[name], safe=""))
    for text, start in (
        (known["charge"], "/decisions/evt_"),
        (known["key"], "/entities/key/"),
        (installation.people["risk"], "/people/"),
    ):
        answer = page.request.get(f"/search?q={text}", max_redirects=0)
        assert answer.headers["location"].startswith(start)
        assert page.request.get(answer.headers["location"]).status == 200
    # Who may not see the thing is not told that it is there.
    other = visit("/search", who="model")
    assert "Nothing holds" in other.request.get(f"/search?q={known['case']}").text()
    answer = page.request.get(f"/search?q={quote(known['hostile_entity'])}", max_redirects=0)
    assert answer.status == 303
    assert answer.headers["location"].startswith("/entities/user/a%2Fb%3Fc%23d%20%3Cimg")


def test_a_page_runs_no_script_but_ours(visit):
    page = visit("/")
    assert page.title() == "Overview · Vedette"
    policy = page.request.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert page.evaluate("() => htmx.config.allowEval") is False
    assert page.evaluate("() => document.querySelectorAll('script:not([src]), [onclick]').length") == 0
    # The check itself must be able to fail: a script that is put in is refused, and told.
    page.evaluate("() => document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = 1\">')")
    while not visit.complaints:
        page.wait_for_timeout(50)
    assert page.evaluate("() => window.owned") is None
    assert all("Content Security Policy" in each for each in visit.complaints)
    visit.complaints.clear()


def test_theme_is_the_systems_until_one_is_chosen(visit):
    ground = "() => getComputedStyle(document.body).backgroundColor"
    page = visit("/search", theme="dark")
    dark = page.evaluate(ground)
    page.keyboard.press("t")
    page.locator("html[data-theme=light]").wait_for()
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "light"
    assert page.evaluate(ground) == light
    # It is in the page as it comes: nothing flashes before a script has run.
    assert 'data-theme="light"' in page.request.get("/search").text()


def test_charts_change_with_the_theme(visit):
    page = visit("/")
    color = "() => echarts.getInstanceByDom(document.querySelector('#chart-actions .chart-plot')).getOption().series[0].color"
    before = page.evaluate(color)
    page.keyboard.press("t")
    page.wait_for_function(f"before => ({color})() !== before", arg=before)


def test_a_chart_can_be_read_as_a_table(visit, axe):
    page = visit("/")
    page.get_by_role("button", name="Show as a table: Alerts an hour by level").click()
    rows = page.locator("#chart-alerts table tbody tr")
    assert rows.count() >= 1
    assert page.locator("#chart-alerts thead th").all_inner_texts()[1:] == [
        "informational",
        "low",
        "medium",
        "high",
        "critical",
    ]
    axe(page)


def test_keyboard_goes_everywhere(visit):
    page = visit("/")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert (
        page.locator("[data-rows] > .cursor")
        .inner_text()
        .startswith(page.evaluate("() => document.activeElement.textContent"))
    )
    page.keyboard.press("k")
    first = page.locator("[data-rows] > li").first
    assert "cursor" in (first.get_attribute("class") or "")
    page.keyboard.press("/")
    assert page.evaluate("() => document.activeElement.name") == "q"
    page.keyboard.type("gd?")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#help[open]").get_by_text("Next and previous row").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#help[open]").count() == 0
    with page.expect_navigation():
        page.keyboard.press("g")
        page.keyboard.press("o")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"


def test_search_is_reached_and_left_by_keyboard(visit, installation):
    page = visit("/")
    page.keyboard.press("/")
    page.keyboard.type("password spray")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=password+spray")
    assert page.locator(".lines-main").first.inner_text() == "Password spray"


def test_overview_keeps_itself_up_to_date(visit, installation):
    page = visit("/")
    assert page.request.get("/", headers={"hx-request": "true"}).text().count("data-part") == 6
    page.evaluate("() => document.querySelector('#part-stats .stat-value').textContent = 'old'")
    page.wait_for_function("() => document.querySelector('#part-stats .stat-value').textContent !== 'old'")
    expect(page.locator("[data-live-age]")).to_have_text("Live")
    page.get_by_role("button", name="Pause updates").click()
    assert page.locator("[data-live-age]").inner_text() == "Paused"


def test_a_lost_server_is_told_and_found_again(visit):
    page = visit("/")
    page.route("**/*", lambda route: route.abort())
    page.locator(".offline-note").wait_for()
    page.unroute("**/*")
    page.locator(".offline-note").wait_for(state="detached")
    visit.complaints.clear()


def test_every_number_leads_to_what_it_counts(visit):
    page = visit("/")
    links = page.locator("a.stat").evaluate_all("each => each.map(one => one.getAttribute('href'))")
    assert len(links) == 6
    known = {path for path in ("/alerts", "/cases", "/decisions") if page.request.get(path).status == 200}
    for link in links:
        assert link.partition("?")[0] in {"/alerts", "/cases", "/decisions"}
        assert link.partition("?")[0] not in known or page.request.get(link).status == 200, link


def test_narrow_pages_have_a_bar_and_a_drawer(visit, axe):
    page = visit("/", width=390)
    assert page.locator("nav.side").is_hidden()
    page.get_by_role("button", name="More").click()
    assert page.locator("#drawer[open] a").count() == page.locator("nav.side a").count() >= 12
    axe(page)
    page.locator("#drawer").get_by_role("link", name="Alerts").wait_for()


def test_only_what_one_may_see_is_in_the_navigation(visit):
    names = visit("/", who="risk").locator("nav.side a > span").all_inner_texts()
    assert "Decisions" in names
    assert "People" not in names


def test_times_are_told_in_the_readers_zone(visit):
    page = visit("/search?q=Password")
    told = page.locator("time[data-ago]").first
    assert re.fullmatch(r"(now|\d+\u00a0(s|min|h|d) ago)", told.inner_text())
    assert (told.get_attribute("title") or "").endswith(" UTC")
