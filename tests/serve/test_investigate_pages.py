"""Pages of investigation, without a browser: ask, save, keep in a case, ask again; hunts; processes of a host."""

from __future__ import annotations

import pytest
from serve_world import TENANT, Objects
from test_triage_pages import Console

from vedette.core.signal import Level
from vedette.prove.access.policy import Level as Reach
from vedette.run.investigation.steps import Steps


@pytest.fixture(scope="module")
def ana(world):
    console = Console(world, ["analyst", "responder", "risk"])
    console.get("/account")
    return console


@pytest.fixture(scope="module")
def host(world):
    return Objects(world).host()


@pytest.fixture
def case(world):
    return world.platform.cases.open(TENANT, "Somebody stopped it", operator="system", level=Level.LOW).id


def test_a_question_is_asked_saved_kept_and_asked_again(world, ana, case):
    page = ana.get("/investigate?kind=sql&q=select+id+from+cloudtrail")
    assert "e-1" in page
    assert "Keep in the case" in page
    ana.post(
        "/investigate/searches",
        name="trail",
        kind="sql",
        q="select+id+from+cloudtrail",
        title="All+of+it",
        shared="true",
    )
    assert "All of it" in ana.get("/investigate")
    other = Console(world, ["analyst"])
    other.get("/account")
    assert "All of it" in other.get("/investigate")
    ana.post("/investigate/steps", case=case, kind="sql", q="select+id+from+cloudtrail")
    page = ana.get(f"/cases/{case}")
    assert "select id from cloudtrail" in page
    step = Steps(world.platform, world.platform.store).all(TENANT, case)[0].id
    other.post(f"/cases/{case}/steps/{step}/again")
    assert "the same rows from the tables as they were; the same rows" in other.get(f"/cases/{case}")
    ana.post("/investigate/searches/trail/delete")
    assert "All of it" not in ana.get("/investigate")


def test_what_cannot_be_asked_is_told_on_the_page(ana):
    assert "query.text.not_select" in ana.get("/investigate?kind=sql&q=drop+table+x")
    assert "questions.question.invalid" in ana.get("/investigate?kind=entity&q=nobody")
    assert "hosts.host.unknown" in ana.get("/investigate?kind=host&q=nobody")
    assert "No row" in ana.get("/investigate?q=there+is+no+such+text")


def test_pivots_lead_on(ana, host):
    page = ana.get(f"/search?q=host:{host}")
    assert all(words in page for words in ("Events that hold it", "Events about it", "Who else is in them"))


def test_processes_of_a_host(ana, host):
    page = ana.get(f"/hosts/{host}/processes")
    assert f"a {host}" in page
    assert "1 row" in ana.get(f"/investigate?kind=host&q={host}")


def test_a_hunt_from_its_page(ana, case):
    ana.post(
        "/hunts", name="stopped", hypothesis="somebody+stops+it", sql="select+1+as+one+where+false", techniques="T1562"
    )
    assert "somebody stops it" in ana.get("/hunts")
    ana.post("/hunts/stopped/run")
    assert "evidence that it was not there" in ana.get("/hunts/stopped")
    ana.post("/hunts/stopped/change", state="refuted", status=422)
    ana.post("/hunts/stopped/change", state="refuted", found="nobody+did", case=case, rule="r-1")
    page = ana.get("/hunts/stopped")
    assert "nobody did" in page
    assert case in page


def test_over_http(world, case):
    asked = world.post("/v1/questions", world.full, {"kind": "sql", "text": "select 1 as one"})
    assert asked.json()["rows"] == [{"one": 1}]
    made = world.post(f"/v1/cases/{case}/steps", world.full, {"question": {"kind": "sql", "text": "select 1 as one"}})
    assert (made.status_code, made.json()["rows"]) == (201, 1)
    again = world.post(f"/v1/cases/{case}/steps/{made.json()['id']}/runs", world.full).json()
    assert (again["again"]["then"], again["again"]["same"]) == ("same", True)
    only = world.key({"cases": Reach.WRITE, "query": Reach.READ})
    assert (
        world.post(f"/v1/cases/{case}/steps", only, {"question": {"kind": "sql", "text": "select 1"}}).status_code
        == 403
    )
    assert world.post("/v1/hunts", only, {"name": "h", "hypothesis": "x", "sql": "select 1"}).status_code == 403
