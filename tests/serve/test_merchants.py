"""A merchant at the API: its own payments, disputes, refunds and rules, and nothing of another merchant of its tenant."""

from __future__ import annotations

import pytest
from forged import Field
from serve_world import ALL_SCOPES, HOST, MERCHANT, OTHER, STRANGER, TENANT, charge, code_of, fresh

from vedette.core.clock import DAY, to_iso
from vedette.core.label import Label
from vedette.judge.decisions.rebuild import rebuild
from vedette.prove.access import Role
from vedette.prove.access.sessions import csrf_token
from vedette.run.payments.merchants import Merchants
from vedette.serve import console
from vedette.serve.console import merchants as merchant_pages
from vedette.serve.routes import merchants

OWN = """
- id: no_gifts
  text: "block if ::kind:: = 'gift' and :amount_in_eur: > 10"
  reason: we sell no large gift cards
- text: "review if :customer: in @regulars"
"""
LISTS = [{"alias": "regulars", "item_type": "customer_id", "items": ["cus_mine"]}]
BODY = {"rules": OWN, "lists": LISTS}


@pytest.fixture(scope="module")
def mine(world):
    return world.key(ALL_SCOPES, accounts=[MERCHANT])


@pytest.fixture(scope="module")
def theirs(world):
    return world.key(ALL_SCOPES, accounts=[STRANGER])


def pay(world, amount=5_000, merchant=MERCHANT, **metadata):
    made = world.post("/v1/charges", world.full, charge(amount, merchant=merchant, metadata=metadata), key=fresh())
    return made.json()


def disputed(world, charge_id):
    due = to_iso(world.platform.clock.now() + 10 * DAY)
    opened = {"charge": charge_id, "reason": "fraudulent", "evidence_due": due}
    return world.post("/v1/disputes", world.full, opened, key=fresh()).json()


def of(merchant, rest=""):
    return f"/v1/merchants/{merchant}/{rest}"


def ship(world, secret, merchant=MERCHANT, **more):
    made = world.post(of(merchant, "rules"), secret, {**BODY, **more})
    assert made.status_code == 201, made.text
    world.platform.desk.relist()
    return made.json()


def withdraw(world):
    for merchant in (MERCHANT, STRANGER):
        world.post(of(merchant, "rules"), world.full, {"rules": ""})
    world.platform.desk.relist()


def test_a_rule_blocks_its_own_merchants_payments_only(world, mine):
    withdraw(world)
    assert pay(world, kind="gift")["decision"]["action"] == "allow"
    ship(world, mine, reason="fraud with gift cards")
    own, other = pay(world, kind="gift"), pay(world, merchant=STRANGER, kind="gift")
    assert (own["decision"]["action"], other["decision"]["action"]) == ("block", "allow")
    assert pay(world, kind="gift", amount=900)["decision"]["action"] == "allow"
    record = world.platform.desk.find(TENANT, own["decision"]["event_id"])
    other_record = world.platform.desk.find(TENANT, other["decision"]["event_id"])
    assert not any(result.id.startswith("own.") for result in other_record.rules)
    # Both are made again bit for bit, also once the rules are gone.
    withdraw(world)
    for one in (record, other_record):
        assert rebuild(one, model=None, rules=world.platform.desk.rules_of(one)) == one
    seen = world.send("GET", of(MERCHANT, f"payments/{own['decision']['event_id']}"), mine).json()
    assert seen["reasons"] == [{"code": "rule.own.no_gifts", "text": "we sell no large gift cards"}]
    assert pay(world, kind="gift")["decision"]["action"] == "allow"


def test_a_decision_in_plain_words_without_score_or_threshold(world, mine):
    paid = pay(world, 50_000)
    world.platform.turn()
    listed = world.send("GET", of(MERCHANT, "payments"), mine).json()["data"]
    assert paid["decision"]["event_id"] in {one["event_id"] for one in listed}
    assert set(listed[0]) == {"event_id", "time", "action", "amount_minor", "currency"}
    view = world.send("GET", of(MERCHANT, f"payments/{paid['decision']['event_id']}"), mine).json()
    assert set(view) == {"event_id", "action", "risk_level", "reasons", "by_policy"}


def test_the_answer_to_a_charge_tells_a_bound_key_no_score(world, mine):
    key, body = fresh(), charge(60_000, merchant=MERCHANT, currency="USD")
    made = world.post("/v1/charges", mine, body, key=key)
    again = world.post("/v1/charges", mine, body, key=key)
    read = world.send("GET", f"/v1/charges/{made.json()['id']}", mine).json()
    assert again.content == made.content
    for found in (made.json(), read):
        assert (found["decision"]["risk_score"], found["decision"]["reasons"]) == (None, [])
    full = world.send("GET", f"/v1/charges/{read['id']}", world.full).json()
    assert full["decision"]["reasons"]
    assert full | {"decision": read["decision"]} == read


def test_the_list_of_decisions_tells_a_bound_key_no_score_either(world, mine):
    pay(world, 60_000)
    world.platform.turn()
    rows = world.send("GET", "/v1/decisions", mine, params={"risk": 1, "reason": "rule.nothing"}).json()["data"]
    assert rows
    assert all(
        (row["score"], row["risk_score"], row["reasons"], row["model"]) == (None, None, [], None) for row in rows
    )


def test_pages_of_payments_join(world, mine):
    for _ in range(5):
        pay(world)
    world.platform.turn()
    whole = [one["event_id"] for one in world.send("GET", of(MERCHANT, "payments"), mine).json()["data"]]
    found, after = [], ""
    while True:
        page = world.send("GET", of(MERCHANT, "payments"), mine, params={"limit": 2, "after": after}).json()
        found += [one["event_id"] for one in page["data"]]
        after = page["next"]
        if not page["has_more"]:
            break
    assert found == whole
    none = world.send("GET", of(MERCHANT, "payments"), mine, params={"action": "block", "until": "2001-01-01"}).json()
    assert none["data"] == []


def test_disputes_with_their_clock_and_evidence(world, mine, theirs):
    dispute = disputed(world, pay(world)["id"])
    listed = world.send("GET", of(MERCHANT, "disputes"), mine).json()["data"]
    assert [one["id"] for one in listed if one["id"] == dispute["id"]] == [dispute["id"]]
    assert listed[0]["evidence_due"] == dispute["evidence_due"]
    sent = world.post(f"/v1/disputes/{dispute['id']}/evidence", mine, {"evidence": {"receipt": "signed"}}, key=fresh())
    assert sent.json()["status"] == "submitted"
    again = world.send("GET", of(MERCHANT, "disputes"), mine, params={"status": "opened"}).json()["data"]
    assert dispute["id"] not in {one["id"] for one in again}
    assert dispute["id"] not in world.send("GET", of(STRANGER, "disputes"), theirs).text


def test_refunds(world, mine, theirs):
    paid = pay(world, 4_000)
    made = world.post(f"/v1/charges/{paid['id']}/refunds", world.full, {"amount_minor": 1_500}, key=fresh()).json()
    listed = world.send("GET", of(MERCHANT, "refunds"), mine).json()["data"]
    assert (listed[0]["charge"], listed[0]["amount_minor"]) == (paid["id"], 1_500)
    assert paid["id"] not in world.send("GET", of(STRANGER, "refunds"), theirs).text
    assert made["id"]


def test_check_says_what_is_wrong_with_its_place(world, mine):
    good = world.post(of(MERCHANT, "rules/check"), mine, BODY).json()
    assert good["rules"][0] == "no_gifts"
    bad = world.post(of(MERCHANT, "rules/check"), mine, {"rules": "block if :risk_score: > 60"})
    assert bad.status_code == 422
    assert "payment.merchant.attribute" in bad.text


def test_a_backtest_counts_what_then_happens(world):
    """Its own past payments: disputed, refunded, blocked and succeeded, in counts and money."""
    shop = "m_backtest"
    secret = world.key(ALL_SCOPES, accounts=[shop])
    gifts = [pay(world, 2_000, shop, kind="gift") for _ in range(4)]
    pay(world, 2_000, shop)
    pay(world, 2_000, "m_beside", kind="gift")
    fraud = Label(event_id=gifts[0]["decision"]["event_id"], tenant=TENANT, fraud=True, observed_time=1)
    world.wait(world.platform.desk.learn(fraud))
    world.post(f"/v1/charges/{gifts[1]['id']}/refunds", world.full, {}, key=fresh())
    world.platform.drain()
    before = world.post(of(shop, "rules/backtest"), secret, BODY)
    report = before.json()
    assert report["payments"] == 5
    [move] = report["moves"]
    assert (move["before"], move["after"]) == ("allow", "block")
    counted = {name: one["payments"] for name, one in move["counted"].items()}
    assert counted == {"all": 4, "disputed": 1, "refunded": 1, "blocked": 0, "succeeded": 2}
    assert move["counted"]["all"]["amounts"] == {"EUR": 8_000}
    fired = {rule["id"]: rule["fired"]["all"]["payments"] for rule in report["rules"]}
    assert fired["no_gifts"] == 4
    assert all("risk" not in name and "score" not in name for name in words(report))
    assert "builtin" not in before.text
    ship(world, secret, shop)
    for _ in range(4):
        pay(world, 2_000, shop, kind="gift")
    world.platform.drain()
    live = world.post(of(shop, "rules/backtest"), secret, BODY).json()
    assert live["now"]["block"]["all"]["payments"] == 8
    assert live["moves"] == []
    assert live["rules"][0]["change"] == "same"


def words(value):
    """Every name in a JSON value."""
    if isinstance(value, dict):
        return {*value, *(name for each in value.values() for name in words(each))}
    return {name for each in value for name in words(each)} if isinstance(value, list) else set()


def test_one_backtest_at_a_time(world, mine):
    merchant_room: Merchants = world.platform.merchants
    with merchant_room._trying:
        busy = world.post(of(MERCHANT, "rules/backtest"), mine, BODY)
    assert (busy.status_code, code_of(busy)) == (503, "payment.backtest.busy")


def test_versions_and_a_ship_that_comes_late(world, mine):
    number = ship(world, mine)["number"]
    late = world.post(of(MERCHANT, "rules"), mine, {**BODY, "after": number - 1})
    assert (late.status_code, code_of(late)) == (409, "payment.merchant.changed_since")
    listed = world.send("GET", of(MERCHANT, "rules/versions"), mine).json()["data"]
    assert listed[0]["number"] == number
    assert "rules" in listed[0]
    assert world.send("GET", of(MERCHANT, "rules"), mine).json()["rules"] == OWN
    withdraw(world)


# Nothing of another merchant


PATHS = [
    (method, route.path)
    for route in merchants.router.routes
    for method in sorted(route.methods)
]  # fmt: skip


@pytest.fixture(scope="module")
def rich(world):
    """A merchant of the same tenant that has something of everything; words and ids that are in nothing else."""
    shop = "m_rich"
    secret = world.key(ALL_SCOPES, accounts=[shop])
    lists = [{"alias": "secret_list", "item_type": "customer_id", "items": ["cus_of_rich"]}]
    text = "block if ::kind:: = 'rich only' and :customer: in @secret_list"
    ship(world, secret, shop, rules=text, lists=lists, reason="reason of rich")
    paid = pay(world, 7_777, shop, kind="rich only", customer="cus_of_rich")
    second = pay(world, 7_778, shop)
    refunded = pay(world, 7_779, shop)
    world.post(f"/v1/charges/{refunded['id']}/refunds", world.full, {}, key=fresh())
    dispute = disputed(world, second["id"])
    world.platform.drain()
    assert paid["decision"]["action"] == "block"
    ids = {paid["decision"]["event_id"], second["id"], refunded["id"], dispute["id"]}
    marks = {"rich only", "secret_list", "cus_of_rich", "reason of rich", "7777", "7778", "7779", *ids}
    return {"secret": secret, "marks": marks, "event_id": paid["decision"]["event_id"], "merchant": shop}


def leaks(world, rich, secret, merchant):
    """What a caller is told of the rich merchant by the routes, asked about another and about it."""
    found, answered = [], 0
    for method, path in PATHS:
        for asked in (merchant, rich["merchant"]):
            filled = path.format(merchant=asked, event_id=rich["event_id"])
            body = None if method == "GET" else {"rules": "block if ::kind:: = 'x'"}
            answer = world.send(method, filled, secret, json_body=body)
            answered += answer.is_success
            told = {mark for mark in rich["marks"] if mark in answer.text and mark not in filled}
            if told or (answer.is_success and asked == rich["merchant"]):
                found.append((method, filled, answer.status_code, told))
    assert answered >= len(PATHS) - 1
    return found


def test_nothing_of_another_merchant_is_told(world, rich, theirs):
    """Every route, asked warm: the merchant itself sees all of it, another of the same tenant none."""
    own = [
        world.send("GET", path.format(merchant=rich["merchant"], event_id=rich["event_id"]), rich["secret"]).text
        for method, path in PATHS
        if method == "GET"
    ]
    assert sum(any(mark in text for mark in rich["marks"]) for text in own) == len(own)
    assert leaks(world, rich, theirs, STRANGER) == []
    person, token = world.person("merchant", accounts=[STRANGER])
    assert leaks(world, rich, token, STRANGER) == []
    assert person


def test_a_tenants_merchant_of_the_same_name_is_another(world, rich):
    stranger = world.key(ALL_SCOPES, OTHER)
    for method, path in PATHS:
        filled = path.format(merchant=rich["merchant"], event_id=rich["event_id"])
        body = None if method == "GET" else {"rules": ""}
        answer = world.send(method, filled, stranger, json_body=body)
        assert not {mark for mark in rich["marks"] if mark in answer.text and mark not in filled}


def test_a_look_that_forgot_the_merchant_is_found(world, rich, theirs, monkeypatch):
    payments = Merchants.payments
    monkeypatch.setattr(
        Merchants, "payments", lambda self, tenant, _merchant, **more: payments(self, tenant, "m_rich", **more)
    )
    assert leaks(world, rich, theirs, STRANGER)


def test_a_rule_shipped_for_everybody_would_be_found(world, mine, monkeypatch):
    """Planted: the decider takes any merchant's rules for every payment."""
    ship(world, mine)
    decider = world.platform.desk._opened(TENANT, "")[0].recorder.decider
    assert pay(world, merchant="m_victim", kind="gift")["decision"]["action"] == "allow"
    monkeypatch.setattr(type(decider), "_own", lambda self, _event: next(iter(self._merchants.values()), None))
    assert pay(world, merchant="m_victim", kind="gift")["decision"]["action"] == "block"
    monkeypatch.undo()
    withdraw(world)


# The pages


@pytest.fixture(scope="module")
def pages(world):
    made = Field(world, console.ROUTERS)
    yield made
    made.close()


def session(world, merchant):
    """Of a person who is bound to a merchant."""
    access = world.platform.access
    person = access.people.create(TENANT, "shopkeeper", accounts=[merchant])
    access.people.grant(TENANT, person.id, Role.MERCHANT, by="system")
    return access.sessions.open(TENANT, person.id, proven=True).secret.reveal()


def ask(world, pages, secret, path, data=None):
    headers = {"accept": "text/html", "host": "api", "cookie": f"vedette={secret}", "origin": HOST}
    method = "GET" if data is None else "POST"
    fields = None if data is None else {**data, "csrf": csrf_token(secret)}
    return world.wait(pages.client.request(method, HOST + path, headers=headers, data=fields))


def test_a_bound_person_lands_on_its_own_page_and_reaches_no_other(world, pages, rich):
    secret = session(world, MERCHANT)
    for path, way in (("/", "/merchants"), ("/merchants", f"/merchants/{MERCHANT}")):
        answer = ask(world, pages, secret, path)
        assert (answer.status_code, answer.headers["location"]) == (303, way)
    own = console_paths(MERCHANT)
    assert {ask(world, pages, secret, path).status_code for path in own} == {200}
    home = ask(world, pages, secret, own[0]).text
    assert 'href="/merchants"' in home
    assert 'href="/decisions"' not in home
    for path in console_paths(rich["merchant"]):
        assert ask(world, pages, secret, path).status_code == 404
    for path in ("/decisions", "/alerts", "/rules", "/people", "/audit", "/models", f"/decisions/{rich['event_id']}"):
        assert ask(world, pages, secret, path).status_code == 403, path


def console_paths(merchant):
    return [f"/merchants/{merchant}{rest}" for rest in ("", "/disputes", "/refunds", "/rules")]


def test_no_page_tells_of_another_merchant(world, pages, rich):
    """Each page of the merchants, with every form, asked by somebody of another merchant of the same tenant."""
    secret, found, asked = session(world, STRANGER), [], 0
    mark = next(one for one in rich["marks"] if one.startswith("dp_"))
    for merchant in (STRANGER, rich["merchant"]):
        for path in (*console_paths(merchant), f"/merchants/{merchant}/payments/{rich['event_id']}",
                     f"/merchants/{merchant}/disputes/{mark}"):  # fmt: skip
            for data in (None, {"rules": "block if ::kind:: = 'x'", "name": "receipt", "text": "x", "once": "1"}):
                answer = ask(world, pages, secret, path, data)
                asked += answer.is_success
                told = {each for each in rich["marks"] if each in answer.text and each not in path}
                if told or (merchant != STRANGER and answer.status_code < 400):
                    found.append((path, data is not None, answer.status_code, told))
    assert found == []
    assert asked >= 4
    assert world.platform.disputes.get(TENANT, mark).status == "opened"


def test_a_page_that_forgot_whose_it_is_is_found(world, pages, rich, monkeypatch):
    secret = session(world, STRANGER)
    path = f"/merchants/{rich['merchant']}/rules"
    assert ask(world, pages, secret, path).status_code == 404
    monkeypatch.setattr(merchant_pages, "own", lambda *_args: None)
    assert "secret_list" in ask(world, pages, secret, path).text


def test_the_editor_tries_and_ships_and_the_answer_is_sent_once(world, pages):
    shop = "m_editor"
    secret = session(world, shop)
    pay(world, 2_000, shop, kind="gift")
    dispute = disputed(world, pay(world, 3_000, shop)["id"])
    world.platform.drain()
    rules = f"/merchants/{shop}/rules"
    wrong = ask(world, pages, secret, f"{rules}/try", {"rules": "block if :risk_score: > 3"})
    assert (wrong.status_code, "payment.merchant.attribute" in wrong.text) == (422, True)
    form = {"rules": "block if ::kind:: = 'gift'", "lists": "regulars customer_id: cus_1, cus_2", "days": "365"}
    tried = ask(world, pages, secret, f"{rules}/try", form)
    assert "Tried on 2 past payments" in tried.text
    assert "allow to block" in tried.text
    assert world.platform.owned.standing(TENANT, shop) is None
    assert ask(world, pages, secret, rules, {**form, "after": "0", "reason": "gifts"}).status_code == 303
    assert ask(world, pages, secret, rules, {**form, "after": "0"}).status_code == 409
    assert world.platform.owned.standing(TENANT, shop).lists[0]["items"] == ["cus_1", "cus_2"]
    world.platform.desk.relist()
    assert pay(world, 2_000, shop, kind="gift")["decision"]["action"] == "block"
    place = f"/merchants/{shop}/disputes/{dispute['id']}"
    assert ask(world, pages, secret, place, {"name": "", "text": "x", "once": "1"}).status_code == 400
    sent = {"name": "receipt", "text": "signed on May 2", "once": "abc"}
    assert [ask(world, pages, secret, place, sent).status_code for _ in range(2)] == [303, 303]
    assert ask(world, pages, secret, place, {**sent, "once": "later"}).status_code >= 400
    assert "signed on May 2" in ask(world, pages, secret, place).text
