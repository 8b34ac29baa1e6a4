"""Intelligence in a browser: find, believe, hold back, actors, feeds and hunts; wide and narrow, light and dark."""

from __future__ import annotations

import pytest
from serve_world import TENANT

from vedette.core.clock import DAY, SystemClock
from vedette.core.settings import load_settings
from vedette.run.parts import Parts
from vedette.sense.intel.attack import Attack, Group, Tactic, Technique
from vedette.sense.intel.bundle import Imported, keep_attack
from vedette.sense.intel.indicator import Indicator, Tlp, indicator_id
from vedette.sense.intel.stix import Object, Refused

pytestmark = pytest.mark.chromium

HOSTILE = '<img src=x onerror="document.title=1">{{7*7}}'


def thing(value, **more):
    now = SystemClock().now()
    told = {"formula": ((value,),), "valid_from": now - 20 * DAY, "confidence": 80, **more}
    own = Indicator(id=indicator_id("partner", value), **told)
    return Object(id=own.id, type="indicator", indicator=own, tlp=own.tlp)


@pytest.fixture(scope="module")
def known(installation):
    """Indicators of a partner, one of them seen, a feed that fails, a hunt, an actor."""
    with Parts(load_settings(None, {"VEDETTE_HOME": str(installation.home)}), clock=SystemClock()) as parts:
        fill(parts.library, TENANT)
    brute = Technique("T1110", "Brute Force", ("credential-access",))
    tactic = Tactic("TA0006", "Credential Access", "credential-access")
    group = Group("G0016", "Some Bear", (HOSTILE,), ("T1110",))
    attack = Attack("18.1", "", {brute.id: brute}, (tactic,), {group.id: group})
    keep_attack(installation.home, Imported(attack, "here", 1))
    return indicator_id("partner", "evil.example")


def fill(library, tenant):
    now = library.clock.now()
    library.collection(tenant, "partner", url="https://taxii.example/api/collections/1", every=0)
    objects = [thing("evil.example", name=HOSTILE, labels=("attack.t1110", "actor:Some Bear"))]
    objects += [thing(f"{number}.example.net", confidence=20 + number) for number in range(60)]
    objects += [thing("203.0.113.0/24", tlp=Tlp.RED)]
    library.put(tenant, "partner", objects, [Refused("line 4", "intel.value.invalid", HOSTILE)])
    library.collection(tenant, "partner", polled=now - DAY, problem="the server answered 503")
    own = indicator_id("partner", "evil.example")
    told = {"event_id": "e-1", "source": "proxy", "entities": ["ip:192.0.2.1", f"user:{HOSTILE}"]}
    library.sight(tenant, [("s-1", own, now - DAY, told)])
    hunted = {"id": "hunt_1", "indicators": 3, "found": 1, "events": 10_000, "hits": 7, "fresh": 7, "case": "case-1"}
    library.keep_hunt(tenant, "hunt_1", {**hunted, "start": now - 90 * DAY, "end": now})


@pytest.mark.parametrize("path", ["/intel", "/intel?value=nothing", "/intel/actors", "/intel/actors/G0016", "/intel/collections", "/intel/hunts"])  # fmt: skip
def test_pages_look_right(looks_right, known, path):
    looks_right(path, expect=400 if "nothing" in path else 200)


def test_an_indicator_is_found_held_back_and_let_go(visit, looks_right, axe, known):
    page = visit("/intel")
    page.get_by_label("Value").fill("https://login.evil.example/a")
    page.get_by_role("button", name="Find").click()
    page.wait_for_url("**/intel?*")
    row = page.locator("tbody[data-rows] tr")
    assert row.count() == 1
    row.locator("a").click()
    page.wait_for_url("**/intel/indicators/*")
    assert page.get_by_text("matching").is_visible()
    assert page.get_by_text("proxy").is_visible()
    assert page.title() != "1"
    looks_right(f"/intel/indicators/{known}", name="intel-indicator")
    page.get_by_label("Why").fill("our own proxy")
    page.get_by_role("button", name="Hold back").click()
    page.wait_for_url("**/intel/indicators/*")
    assert page.get_by_text("by hand: our own proxy").first.is_visible()
    axe(page)
    page.get_by_role("button", name="Let it match again").click()
    page.get_by_text("matching").wait_for()


def test_a_list_goes_on(visit, known):
    page = visit("/intel?collection=partner")
    assert page.locator("tbody[data-rows] tr").count() == 50
    page.get_by_role("link", name="Next").click()
    page.wait_for_url("**after=*")
    assert page.locator("tbody[data-rows] tr").count() == 12


def test_what_failed_is_told(visit, known):
    page = visit("/intel/collections", width=390)
    assert page.get_by_text("the server answered 503").is_visible()
    assert page.get_by_text("intel.value.invalid").is_visible()
    assert page.locator("img").count() == 0
