"""The pages of logging in, people, keys and one's own account, asked as a browser asks them."""

from __future__ import annotations

import re
from base64 import b32decode
from html import unescape

import httpx
import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from serve_world import ALL_SCOPES, HOST, OTHER, TENANT

from vedette.prove.access import Mode, Role

GOOD = "seven grey herons stood 7 deep"


class Browser:
    """Keeps cookies, follows nothing, sends forms as the page has them."""

    def __init__(self, world, origin="198.51.100.7"):
        self.world = world
        transport = httpx.ASGITransport(world.app, raise_app_exceptions=False, client=(origin, 4711))
        self.client = httpx.AsyncClient(transport=transport, base_url=HOST, headers={"accept": "text/html"})
        self.page = ""

    def get(self, path, **headers):
        answer = self.world.wait(self.client.get(path, headers=headers))
        self.page = answer.text
        return answer

    def post(self, path, csrf=None, **fields):
        token = csrf if csrf is not None else self.csrf()
        answer = self.world.wait(
            self.client.post(path, data={"csrf": token, **fields}, headers={"origin": HOST, "referer": f"{HOST}/here"})
        )
        if answer.status_code != 303:
            self.page = answer.text
        return answer

    def csrf(self):
        found = re.search(r'name="csrf" value="(\w+)"', self.page)
        return found[1] if found else ""

    def cookie(self):
        return self.client.cookies.get("vedette")

    def close(self):
        self.world.wait(self.client.aclose())


@pytest.fixture
def browser(world):
    opened = []

    def make(origin="198.51.100.7"):
        opened.append(Browser(world, origin))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def staff(world, name, *roles, tenant=TENANT):
    person = world.platform.access.people.create(tenant, name)
    for role in roles:
        world.platform.access.people.grant(tenant, person.id, role, by="system")
    return person


def enter(world, browser, name, *roles):
    """Somebody logged in with a password of their own."""
    person = staff(world, name, *roles)
    issued = world.platform.access.logins.issue(TENANT, person.id, by="system")
    one = browser()
    one.get("/login")
    assert (
        one.post("/login", name=issued.login, password=issued.password.reveal())
        .headers["location"]
        .startswith("/password")
    )
    one.get("/password")
    assert one.post("/password", password=GOOD, again=GOOD, next="/account").headers["location"] == "/account"
    assert one.get("/account").status_code == 200
    return one, person, issued.login


def code(key):
    """What a device shows now; taken for half a minute more, however slow the machine is."""
    import time

    return TOTP(b32decode(key), 6, SHA1(), 30).generate(int(time.time())).decode()


def enrol(one):
    one.get("/account/factor")
    one.post("/account/factor", password=GOOD)
    key = re.search(r"<code>([A-Z2-7]{32})</code>", one.page)[1]
    answer = one.post("/account/factor/confirm", code=code(key), next="/account")
    assert answer.status_code == 200
    return key, re.findall(r"<code>((?:[a-z2-7]{4}-){3}[a-z2-7]{4})</code>", one.page)


def test_the_first_login_sets_a_password_and_nothing_else(world, browser):
    person = staff(world, "Grace Hopper", Role.ADMIN)
    issued = world.platform.access.logins.issue(TENANT, person.id, by="system")
    one = browser()
    assert "Log in to Vedette" in one.get("/login?next=/people").text
    first = one.post("/login", name=issued.login, password=issued.password.reveal(), next="/people")
    assert first.headers["location"] == "/password?next=/people"
    flags = first.headers["set-cookie"]
    assert "HttpOnly" in flags
    assert "SameSite=strict" in flags
    assert "Path=/" in flags
    assert "Secure" not in flags, "plain HTTP on loopback"
    before = one.cookie()
    for path in ("/people", "/keys", "/account", "/account/factor"):
        assert one.get(path).headers["location"].startswith("/password?next="), path
    one.get("/password?next=/people")
    assert one.post("/people", name="Mallory").headers["location"].startswith("/password")
    assert "Mallory" not in {each.name for each in world.platform.access.people.list(TENANT)}
    # One in some hundreds is drawn without a digit, and refused for that first.
    repeated = "used before" if any(each.isdigit() for each in issued.password.reveal()) else "too easy"
    for password, again, why in (
        ("short 1", "short 1", "too easy"),
        (GOOD, "x", "differ"),
        (issued.password.reveal(), issued.password.reveal(), repeated),
    ):
        refused = one.post("/password", password=password, again=again)
        assert refused.status_code == 400
        assert why in refused.text
    assert one.post("/password", password=GOOD, again=GOOD, next="/people").headers["location"] == "/people"
    assert one.cookie() != before, "a new session"
    assert one.get("/people").status_code == 200
    assert one.get("/login?next=/keys").headers["location"] == "/keys"
    assert one.get("/password").headers["location"] == "/account"


def test_a_wrong_login_says_nothing_and_later_to_wait(world, browser):
    _, _, login = enter(world, browser, "Joan Clarke", Role.ANALYST)
    told, one = set(), browser("203.0.113.80")
    for name, password in ((login, "wrong"), ("nobody at all", "wrong"), (login, ""), ("", "")):
        answer = one.post("/login", "", name=name, password=password)
        assert answer.status_code == 401
        assert "www-authenticate" not in answer.headers
        told.add(re.search(r'role="alert".*', answer.text)[0])
        assert password == "" or f'value="{password}"' not in answer.text
    assert len(told) == 1
    for _ in range(3):
        answer = one.post("/login", "", name=login, password=GOOD + "x")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert "Wait" in answer.text or "wait" in answer.text
    assert one.cookie() is None


def test_a_login_takes_the_place_of_the_session_before(world, browser):
    one, person, login = enter(world, browser, "Mary Keller", Role.ANALYST)
    before = one.cookie()
    one.post("/login", name=login, password=GOOD)
    assert one.cookie() != before
    assert world.platform.access.sessions.find(before) is None
    assert len(world.platform.access.sessions.list(TENANT, person.id)) == 1


def test_a_session_that_a_stranger_chose_is_never_taken(world, browser):
    """Fixation: the cookie that was there before the login is not the session afterwards."""
    one = browser()
    one.client.cookies.set("vedette", "A" * 43)
    person = staff(world, "Radia", Role.ANALYST)
    issued = world.platform.access.logins.issue(TENANT, person.id, by="system")
    one.post("/login", "", name=issued.login, password=issued.password.reveal())
    assert "A" * 43 not in [cookie.value for cookie in one.client.cookies.jar if cookie.value != "A" * 43]
    assert world.platform.access.sessions.find("A" * 43) is None


def test_the_second_factor_from_none_to_used(world, browser):
    one, _, login = enter(world, browser, "Hedy Lamarr", Role.ADMIN)
    other = staff(world, "Somebody", Role.ANALYST)
    one.get(f"/people/{other.id}")
    asked = one.post(f"/people/{other.id}/grant", role="risk")
    assert asked.headers["location"] == "/confirm?next=/here"
    assert world.platform.access.people.get(TENANT, other.id).roles == {Role.ANALYST}
    assert one.get("/confirm?next=/people").headers["location"] == "/account/factor?next=/people"
    one.get("/account/factor?next=/people")
    wrong = one.post("/account/factor", password="wrong", next="/people")
    assert wrong.status_code == 401
    assert one.get("/account/factor.svg").status_code == 404
    begun = one.post("/account/factor", password=GOOD, next="/people")
    key = re.search(r"<code>([A-Z2-7]{32})</code>", begun.text)[1]
    picture = one.get("/account/factor.svg")
    assert picture.headers["content-type"] == "image/svg+xml"
    assert picture.text.startswith("<svg")
    assert picture.headers["cache-control"] == "no-store"
    assert "default-src 'self'" in picture.headers["content-security-policy"]
    one.get("/account/factor?next=/people")
    before = one.cookie()
    assert one.post("/account/factor/confirm", code="000000").status_code == 403
    used = code(key)
    done = one.post("/account/factor/confirm", code=used, next="/people")
    codes = re.findall(r"<code>((?:[a-z2-7]{4}-){3}[a-z2-7]{4})</code>", done.text)
    assert len(codes) == 10
    assert one.cookie() != before, "more may be done now: a new session"
    assert world.platform.access.sessions.find(before) is None
    assert one.get("/account/factor.svg").status_code == 404
    for each in codes:
        assert each not in one.get("/account").text
    one.get(f"/people/{other.id}")
    assert one.post(f"/people/{other.id}/grant", role="risk").status_code == 303
    assert world.platform.access.people.get(TENANT, other.id).roles == {Role.ANALYST, Role.RISK}
    # From now on a login needs it.
    again = browser()
    assert (
        again.post("/login", "", name=login, password=GOOD, next="/people").headers["location"]
        == "/confirm?next=/people"
    )
    assert again.get("/people").headers["location"] == "/confirm?next=/people"
    again.get("/confirm?next=/people")
    assert again.post("/confirm", code="000000", next="/people").status_code == 403
    assert again.post("/confirm", code=used, next="/people").status_code == 403, "used for the enrolment"
    assert again.post("/confirm", code=codes[0], next="/people").headers["location"] == "/people"
    assert again.get("/people").status_code == 200


def test_a_second_device_needs_the_first(world, browser):
    one, person, _ = enter(world, browser, "Vera Rubin", Role.ANALYST)
    _, codes = enrol(one)
    access = world.platform.access
    stale = browser()
    stale.client.cookies.set("vedette", access.sessions.open(TENANT, person.id).secret.reveal())
    assert stale.get("/account/factor").headers["location"].startswith("/confirm")
    stale.get("/confirm")
    assert stale.post("/account/factor", password=GOOD).headers["location"].startswith("/confirm")
    assert stale.post("/account/codes").headers["location"].startswith("/confirm")
    assert not access.factors.state(TENANT, person.id).pending
    stale.post("/confirm", code=codes[1])
    stale.get("/account/factor")
    assert "Scan, then type" in stale.post("/account/factor", password=GOOD).text


def test_recovery_codes_alone_are_a_second_factor_but_no_step_of_the_login(world, browser):
    _, person, login = enter(world, browser, "Lise Meitner", Role.ADMIN)
    codes = world.platform.access.factors.issue_codes(TENANT, person.id, by="system")
    again = browser()
    assert again.post("/login", "", name=login, password=GOOD, next="/keys").headers["location"] == "/keys"
    again.get("/confirm?next=/keys")
    assert "recovery codes" in again.page
    assert again.post("/confirm", code=codes[0].reveal(), next="/keys").headers["location"] == "/keys"
    assert again.get("/account").text.count("9 left") == 1
    fresh = again.post("/account/codes")
    assert "Shown this once" in fresh.text


def test_the_account(world, browser):
    one, person, login = enter(world, browser, "Emmy Noether", Role.ANALYST)
    access = world.platform.access
    other = access.sessions.open(TENANT, person.id, origin="192.0.2.1")
    strange = access.sessions.open(TENANT, staff(world, "Bob").id)
    assert "192.0.2.1" in one.get("/account").text
    assert one.post(f"/account/sessions/{strange.session.id}/end").status_code == 404
    assert access.sessions.find(strange.secret.reveal())
    assert one.post(f"/account/sessions/{other.session.id}/end").headers["location"] == "/account"
    assert access.sessions.find(other.secret.reveal()) is None
    one.get("/account")
    assert one.post("/account/password", current="wrong", password=GOOD + "!", again=GOOD + "!").status_code == 401
    assert one.post("/account/password", current=GOOD, password=GOOD, again=GOOD).status_code == 400
    before = one.cookie()
    assert one.post("/account/password", current=GOOD, password=GOOD + "!", again=GOOD + "!").status_code == 303
    assert access.sessions.find(before) is None
    assert one.get("/account").status_code == 200
    assert browser().post("/login", "", name=login, password=GOOD).status_code == 401
    assert browser().post("/login", "", name=login, password=GOOD + "!").status_code == 303


def test_somebody_without_a_role_sees_the_account_and_nothing_else(world, browser):
    one, _, _ = enter(world, browser, "New Hire")
    assert one.get("/account").status_code == 200
    for path in ("/people", "/keys"):
        refused = one.get(path)
        assert refused.status_code == 403
        assert "access.denied" in refused.text


def test_people(world, browser):
    one, me, _ = enter(world, browser, "Ada Admin", Role.ADMIN)
    enrol(one)
    access = world.platform.access
    one.get("/people")
    made = one.post("/people", name="  Rosa   Lind ")
    person = unescape(made.headers["location"].rpartition("/")[2])
    assert access.people.get(TENANT, person).name == "Rosa Lind"
    for bad in ("", " ", "x" * 201, "a\x00b", "4242 4242 4242 4242"):
        one.get("/people")
        assert one.post("/people", name=bad).status_code == 400
    page = f"/people/{person}"
    one.get(page)
    assert one.post(f"{page}/grant", role="risk").headers["location"] == page
    assert one.post(f"{page}/grant", role="emperor").status_code == 400
    one.get(page)
    issued = one.post(f"{page}/password").text
    password = re.search(r"<code>((?:\w{4}-){4}\w{4})</code>", issued)[1]
    assert password not in one.get(page).text, "shown once"
    theirs = access.logins.log_in("rosa.lind", password)
    assert access.sessions.find(theirs.secret.reveal()).must_change
    one.get(page)
    assert one.post(f"{page}/sessions/end").status_code == 303
    assert access.sessions.find(theirs.secret.reveal()) is None
    token = access.issue_token(TENANT, person, by="system")
    one.get(page)
    assert token.id in one.page
    assert one.post(f"{page}/tokens/{token.id}/revoke").status_code == 303
    one.get(page)
    assert one.post(f"{page}/withdraw", role="risk").status_code == 303
    assert access.people.get(TENANT, person).roles == set()
    one.get(page)
    assert one.post(f"{page}/disable").status_code == 303
    assert access.people.get(TENANT, person).disabled
    one.get("/people")
    for act, fields, code_shown in (
        ("grant", {"role": "risk"}, "access.grant.self"),
        ("password", {}, "access.password.self"),
    ):
        refused = one.post(f"/people/{me.id}/{act}", **fields)
        assert refused.status_code == 403
        assert code_shown in refused.text
    assert access.people.get(TENANT, me.id).roles == {Role.ADMIN}


def test_nobody_reaches_another_tenants_people_and_keys(world, browser):
    one, _, _ = enter(world, browser, "Eve Outside", Role.ADMIN, Role.RESPONDER)
    enrol(one)
    theirs = staff(world, "Stranger", Role.RISK, tenant=OTHER)
    key = world.issue(ALL_SCOPES, OTHER).key.id
    access = world.platform.access
    assert one.get(f"/people/{theirs.id}").status_code == 404
    one.get("/people")
    for path, fields in (
        (f"/people/{theirs.id}/grant", {"role": "admin"}),
        (f"/people/{theirs.id}/withdraw", {"role": "risk"}),
        (f"/people/{theirs.id}/password", {}),
        (f"/people/{theirs.id}/sessions/end", {}),
        (f"/people/{theirs.id}/disable", {}),
        (f"/keys/{key}/revoke", {}),
        (f"/keys/{key}/roll", {"overlap": "0"}),
    ):
        one.get("/people")
        assert one.post(path, **fields).status_code == 404, path
    assert access.people.get(OTHER, theirs.id).roles == {Role.RISK}
    assert not access.people.get(OTHER, theirs.id).disabled
    assert access.key(OTHER, key).revoked is None


def test_keys(world, browser):
    one, _, _ = enter(world, browser, "Kay Keys", Role.ADMIN)
    access = world.platform.access
    one.get("/keys")
    assert one.post("/keys", scope="charges:write").headers["location"].startswith("/confirm")
    enrol(one)
    one.get("/keys")
    made = one.post(
        "/keys", scope=["charges:write", "", "decisions:read"], mode="test", name="till", days="90", accounts="m-1, m-2"
    )
    secret = re.search(r"<code>(vk_test_[\w-]{43})</code>", made.text)[1]
    principal = access.authenticate(secret)
    assert principal.accounts == {"m-1", "m-2"}
    key = access.key(TENANT, principal.id)
    assert (key.name, key.expires - key.created) == ("till", pytest.approx(90 * 86_400e6, abs=5e6))
    assert secret not in one.get("/keys").text
    for fields in (
        {"scope": ""},
        {"scope": "people:write"},
        {"scope": "charges:fly"},
        {"scope": "charges:read", "days": "7"},
        {"scope": "charges:read", "name": "x" * 101},
        {"scope": "charges:read", "name": "4242 4242 4242 4242"},
    ):
        one.get("/keys")
        before = len(access.keys(TENANT))
        assert one.post("/keys", **fields).status_code in {400, 422}, fields
        assert len(access.keys(TENANT)) == before
    one.get("/keys")
    rolled = one.post(f"/keys/{key.id}/roll", overlap="3600")
    assert re.search(r"<code>vk_test_[\w-]{43}</code>", rolled.text)
    one.get("/keys")
    assert one.post(f"/keys/{key.id}/revoke").headers["location"] == "/keys"
    assert access.key(TENANT, key.id).revoked
    one.get("/keys")
    assert one.post(f"/keys/{key.id}/roll", overlap="0").status_code == 409


def test_texts_of_strangers_stay_text(world, browser):
    hostile = "<img src=x onerror=alert(1)>"
    one, _, _ = enter(world, browser, "Xena", Role.ADMIN)
    staff(world, hostile)
    world.platform.access.issue_key(TENANT, scopes=ALL_SCOPES, mode=Mode.TEST, name=hostile)
    for path in ("/people", "/keys"):
        assert hostile not in one.get(path).text
        assert "&lt;img" in one.page
    answer = browser("203.0.113.81").post("/login", "", name='"><script>alert(1)</script>', password="x")
    assert "<script>alert" not in answer.text


def test_over_https_the_cookie_is_bound_to_the_host(world, monkeypatch):
    from vedette.serve.app import build_app

    settings = type(world.platform.settings)(
        **{name: getattr(world.platform.settings, name) for name in world.platform.settings.__struct_fields__}
        | {"addresses": ("https://vedette.example",)}
    )
    monkeypatch.setattr(world.platform, "settings", settings)
    app = build_app(world.platform)
    person = staff(world, "Sally Secure", Role.ANALYST)
    issued = world.platform.access.logins.issue(TENANT, person.id, by="system")
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://vedette.example")
    fields = {"name": issued.login, "password": issued.password.reveal()}
    answer = world.wait(client.post("/login", data=fields, headers={"origin": "https://vedette.example"}))
    assert answer.headers["set-cookie"].startswith("__Host-vedette=")
    assert "Secure" in answer.headers["set-cookie"]
    assert "domain" not in answer.headers["set-cookie"].lower()
    secret = client.cookies["__Host-vedette"]
    plain = {"cookie": f"vedette={secret}"}
    client.cookies.clear()
    assert world.wait(client.get("/password", headers=plain)).headers["location"].startswith("/login")
    assert (
        world.wait(client.post("/login", data=fields, headers={"origin": "http://vedette.example"})).status_code == 403
    )
    world.wait(client.aclose())
