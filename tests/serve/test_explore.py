"""Lists of decisions and entities over HTTP: filters, paging, and who sees what."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from serve_world import ALL_SCOPES, MERCHANT, OTHER, STRANGER, TENANT, card, charge, code_of, fresh

from vedette.core.event import Entity
from vedette.prove.access import Role
from vedette.serve.console import neighbours

FIRST = 600_000
ODD = "a/b ?#%é\n<script>"


@pytest.fixture(scope="module")
def decided(world):
    """Card events of one terminal, every third one large enough to be blocked."""
    for number in range(7):
        amount = 500 if number % 3 == 0 else 10
        body = {"event": card(FIRST + number, amount, TERMINAL_ID=777, TX_DATETIME=f"2026-03-02 10:0{number}:00")}
        assert world.post("/v1/decisions", world.full, body).status_code == 200
    paid = world.post("/v1/charges", world.full, charge(1_000, source="tok_explore"), key=fresh())
    assert paid.status_code == 201, paid.text
    odd = {"id": "odd-1", "type": "refund", "time": "2026-03-02T10:00:00Z", "merchant": MERCHANT, "customer": ODD}
    sent = {"source": "product", "batch": "explore"}
    assert world.send("POST", "/v1/events", world.full, content=json.dumps(odd).encode(), params=sent).is_success
    world.platform.drain()
    return [str(FIRST + number) for number in range(7)]


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [each["event_id"] for each in answer.json()["data"]]


def listed(world, secret=None, **params):
    return world.send("GET", "/v1/decisions", secret or world.full, params=params)


def test_newest_first_and_page_by_page(world, decided):
    whole = ids(listed(world, entity="terminal:777"))
    assert whole == decided[::-1]
    pages, after = [], ""
    while True:
        page = listed(world, entity="terminal:777", limit=3, after=after)
        pages += ids(page)
        after = page.json()["next"]
        assert page.json()["has_more"] is bool(after)
        if not after:
            break
    assert pages == whole


def test_filters(world, decided):
    def found(**params):
        return ids(listed(world, entity="terminal:777", **params))

    assert found(action="block") == [decided[6], decided[3], decided[0]]
    assert found(action=["block", "allow"]) == decided[::-1]
    assert found(amount=50_000, currency="USD") == [decided[6], decided[3], decided[0]]
    assert found(amount=50_000, currency="EUR") == []
    assert found(since="2026-03-02T10:02:00Z", until="2026-03-02 10:04:00") == [decided[3], decided[2]]
    assert found(fallback="true") == []
    assert found(risk=0) == [], "without a model there is no risk"
    reasons = {
        reason
        for each in listed(world, action="block").json()["data"]
        for reason in (one["code"] for one in each["reasons"])
    }
    assert found(reason=min(reasons)) == [decided[6], decided[3], decided[0]]
    assert found(reason="rule.none") == []


def test_a_row_tells_what_a_list_shows(world, decided):
    row = listed(world, entity="terminal:777", limit=1).json()["data"][0]
    assert (row["amount_minor"], row["currency"], row["action"]) == (50_000, "USD", "block")
    assert {"type": "terminal", "id": "777"} in row["entities"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"after": "junk"}, "request.cursor.invalid"),
        ({"after": f"{1 << 70}.1"}, "request.cursor.invalid"),
        ({"entity": "nocolon"}, "request.entity.invalid"),
        ({"since": "yesterday"}, "event.time.unparsable"),
        ({"action": "explode"}, "request.field.invalid"),
        ({"risk": "101"}, "request.field.invalid"),
        ({"amount": str(1 << 70)}, "request.field.invalid"),
        ({"limit": "0"}, "request.field.invalid"),
    ],
)
def test_what_is_no_filter_is_refused(world, params, code):
    answer = listed(world, **params)
    assert (answer.status_code, code_of(answer)) == (400, code)


def test_a_bound_key_lists_its_own_merchant_only(world, decided):
    mine = listed(world, world.key(ALL_SCOPES, accounts=[MERCHANT]))
    assert ids(mine)
    assert {each["merchant"] for each in mine.json()["data"]} == {MERCHANT}
    assert ids(listed(world, world.key(ALL_SCOPES, accounts=[STRANGER]))) == []
    assert not set(ids(listed(world, world.key(ALL_SCOPES, OTHER)))) & set(decided)


def entity(world, path, secret=None, **params):
    return world.send("GET", f"/v1/entities/{path}", secret or world.full, params=params)


def test_an_entity_at_a_glance(world, decided):
    found = entity(world, "terminal/777").json()
    assert (found["type"], found["id"], found["risk"]) == ("terminal", "777", 0.0)
    assert (found["events"], found["decisions"], found["sources"]) == (7, 7, {"card_transactions": 7})
    assert found["last_time"] - found["first_time"] == 6 * 60_000_000


def test_its_events_page_by_page(world, decided):
    pages, after = [], ""
    while True:
        page = entity(world, "terminal/777/events", limit=3, after=after).json()
        pages += [each["id"] for each in page["data"]]
        after = page["next"]
        if not after:
            break
    assert pages == decided[::-1]
    assert entity(world, "terminal/777/events", source="cloudtrail").json()["data"] == []


def test_an_id_may_hold_anything(world, decided):
    path = f"customer/{quote(ODD, safe='')}"
    assert entity(world, path).json()["id"] == ODD
    assert [each["id"] for each in entity(world, f"{path}/events").json()["data"]] == ["odd-1"]


def test_what_nobody_saw_is_not_found(world, decided):
    for path in ("terminal/none", "terminal/none/events", "card/777"):
        answer = entity(world, path)
        assert (answer.status_code, code_of(answer)) == (404, "entities.entity.unknown")
    assert entity(world, "terminal/777", world.key(ALL_SCOPES, OTHER)).status_code == 404
    assert entity(world, "terminal/777", world.key(ALL_SCOPES, TENANT, [MERCHANT])).status_code == 403


# Pages, without a browser


@pytest.fixture(scope="module")
def look(world, decided):
    """Asks for a page as somebody with every role."""
    person = world.platform.access.people.create(TENANT, "Ada Byron")
    for role in Role:
        world.platform.access.people.grant(TENANT, person.id, role, by="system")
    secret = world.platform.access.sessions.open(TENANT, person.id, proven=True).secret.reveal()

    def ask(path, **params):
        sent = {"cookie": f"vedette={secret}", "accept": "text/html"}
        return world.send("GET", path, headers=sent, params=params)

    return ask


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({}, 200),
        ({"risk": "", "amount": "", "entity": "", "reason": "", "currency": "", "action": ""}, 200),
        ({"risk": "200", "amount": "0.01", "currency": "jpy", "span": "7d", "fallback": "1"}, 200),
        ({"risk": "nan"}, 400),
        ({"risk": "inf"}, 400),
        ({"amount": "-1"}, 400),
        ({"amount": "1e300"}, 400),
        ({"action": "explode"}, 400),
        ({"span": "century"}, 400),
        ({"since": "yesterday"}, 400),
        ({"entity": "nobody"}, 400),
        ({"after": "x"}, 400),
        ({"reason": "'; drop table register_row; --"}, 200),
    ],
)
def test_the_page_of_decisions_takes_any_form(look, params, status):
    assert look("/decisions", **params).status_code == status


def test_what_others_wrote_is_text_on_every_page(look):
    page = look(f"/entities/customer/{quote(ODD, safe='')}")
    assert page.status_code == 200
    assert "&lt;script&gt;" in page.text
    found = look("/entities", q="<SCRIPT>")
    assert "&lt;script&gt;" in found.text
    for text in (page.text, found.text, look("/console/data/neighbours", entity=f"customer:{ODD}").text):
        assert "\n<script>" not in text.partition("<main")[2]


def test_a_page_asks_for_its_parts_under_its_own_policy(world, look, decided):
    assert look("/console/data/whatif", event=decided[0]).status_code == 200
    assert look("/console/data/whatif", event="none").status_code == 404
    assert look("/console/data/neighbours", entity="terminal:777").status_code == 200
    for bounds in ({"since": -1}, {"until": "x"}, {"since": 1 << 62}):
        assert look("/console/data/neighbours", entity="terminal:777", **bounds).status_code == 400


def test_a_graph_is_of_the_time_that_is_asked_for(world, look, decided):
    """Against a model: the entities of the events of [since, until), and nobody else's."""
    about = Entity("terminal", "777")
    page = world.platform.sightings.timeline(TENANT, about, limit=1_000)
    times = sorted({each.time for each in page})
    assert len(times) > 2
    low, high = times[1], times[-1]
    events = neighbours.recent_events(world.platform, TENANT, about, since=low, until=high)
    assert sorted(each.event_time for each in events) == sorted(each.time for each in page if low <= each.time < high)
    assert neighbours.recent_events(world.platform, TENANT, about, since=high + 1) == []
    text = look("/console/data/neighbours", entity=about.key, since=low, until=high).text
    assert f"From {len(events)} of its events" in text
    assert "Nobody else" in look("/console/data/neighbours", entity=about.key, since=high + 1).text
    for path in (f"/decisions/{decided[0]}", "/entities/terminal/777", "/console/data/neighbours?entity=terminal:777"):
        assert world.send("GET", path, world.full).status_code == 303, "a key opens no page"
