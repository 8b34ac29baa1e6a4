"""Investigation in a browser: processes of a host, a question kept and asked again, a hunt to its end."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from serve_world import TENANT

from vedette.core.clock import SystemClock, to_iso
from vedette.core.settings import load_settings
from vedette.run.parts import Parts
from vedette.sense.store import Store

pytestmark = pytest.mark.chromium

HOSTILE = '<img src=x onerror="document.title=1">{{7*7}}'
HOST = "WKS-7.example.test"
BEGUN = 1_772_445_600_000_000
START = "2026-03-02T10:00:00Z"
SHELL = "powershell.exe -nop -w hidden -enc " + "SQBFAFgA" * 60


def told(number, seconds, **more):
    time = to_iso(BEGUN + seconds * 1_000_000)[:23].replace("T", " ")
    head = {
        "Channel": "Microsoft-Windows-Sysmon/Operational",
        "Computer": HOST,
        "UtcTime": time,
        "RecordNumber": number,
    }
    return head | more


@pytest.fixture(scope="module")
def stored(installation):
    """Events of one host: a tree of three, a connection, a parent that nobody saw, and a hostile command."""
    events = [
        told(1, 0, EventID=1, ProcessGuid="{A-1}", ProcessId="10", Image=r"C:\\Windows\\explorer.exe", CommandLine="explorer", ParentProcessGuid="{A-0}", ParentProcessId="4"),
        told(2, 5, EventID=1, ProcessGuid="{A-2}", ProcessId="11", Image=r"C:\\Windows\\powershell.exe", CommandLine=SHELL, ParentProcessGuid="{A-1}", ParentProcessId="10", Hashes="SHA256=" + "a" * 64),
        told(3, 6, EventID=3, ProcessGuid="{A-2}", ProcessId="11", Image=r"C:\\Windows\\powershell.exe", DestinationIp="203.0.113.9", DestinationPort="443"),
        told(4, 9, EventID=1, ProcessGuid="{A-3}", ProcessId="12", Image=r"C:\\x\\y.exe", CommandLine=HOSTILE, ParentProcessGuid="{A-2}", ParentProcessId="11"),
    ]  # fmt: skip
    with Parts(load_settings(None, {"VEDETTE_HOME": str(installation.home)}), clock=SystemClock()) as parts:
        source = parts.sources["windows"]
        now = parts.clock.now()
        made = [source.to_event(each, tenant=TENANT, stream=HOST, offset=at, ingest_time=now) for at, each in enumerate(events)]  # fmt: skip
        Store(parts.settings.store_folder).append(source, made)
    return installation


def test_the_processes_of_a_host_look_right(looks_right, visit, stored):
    looks_right(f"/hosts/{HOST}/processes?since={START}&until=2026-03-02T11:00:00Z", name="host-processes")
    page = visit(f"/hosts/{HOST}/processes?since={START}&until=2026-03-02T11:00:00Z")
    assert page.locator("#tree li.process").count() >= 3
    page.locator("#tree summary", has_text="powershell.exe").click()
    expect(page.locator("#tree").get_by_text("203.0.113.9").first).to_be_visible()
    assert page.title() != "1"


def test_a_question_is_kept_and_asked_again(looks_right, visit, axe, stored):
    page = visit("/investigate")
    page.get_by_label("Kind").select_option("sql")
    page.get_by_label("Value, type:id, host, or one SELECT").fill("select count(*) as n from windows")
    page.get_by_role("button", name="Ask").click()
    page.locator("#answer table").wait_for()
    axe(page)
    page.get_by_placeholder("name-of-the-search").fill("how-many")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="how-many").click()
    page.locator("#answer table").wait_for()
    page.get_by_role("button", name="Keep in the case").click()
    page.wait_for_url("**/cases/*")
    page.locator("#steps .artefact").get_by_role("button", name="Ask again").click()
    expect(page.get_by_text("the same rows").first).to_be_visible()
    looks_right("/investigate?kind=sql&q=select+*+from+windows", name="investigate")


def test_a_hunt_from_its_hypothesis_to_its_end(looks_right, visit, axe, stored):
    page = visit("/hunts")
    page.get_by_label("Name").fill("hidden-shells")
    page.get_by_label("Hypothesis").fill(f"Somebody starts hidden shells {HOSTILE}")
    page.get_by_label("ATT&CK techniques").fill("T1059.001")
    page.get_by_label("One SELECT: its rows are hits").fill(
        "select id, event_time from windows where \"CommandLine\" like '%-w hidden%'"
    )
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Run it now").click()
    expect(page.locator("table", has_text="first run")).to_be_visible()
    page.get_by_label("State").select_option("confirmed")
    page.get_by_label("What was found").fill("one host, one afternoon")
    page.get_by_role("button", name="Keep").click()
    expect(page.get_by_text("one host, one afternoon").first).to_be_visible()
    axe(page)
    assert page.title() != "1"
    looks_right("/hunts", name="hunts")
    looks_right("/hunts/hidden-shells", name="hunt")
