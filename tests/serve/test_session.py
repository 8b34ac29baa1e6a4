"""Sessions of the console: who gets in, where they are sent, and what a browser is told."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import APIRouter
from serve_world import HOST, OTHER, TENANT

from vedette.prove.access import Role
from vedette.serve import console
from vedette.serve.app import build_app
from vedette.serve.session import Visitor, act, local, look

probe = APIRouter()
done = []


@probe.get("/probe")
def read_probe(visitor: Annotated[Visitor, look("alerts", "read")]) -> dict:
    return {"name": visitor.name, "csrf": visitor.csrf, "may": visitor.may("people", "write")}


@probe.post("/probe")
def write_probe(visitor: Annotated[Visitor, act("alerts", "write")]) -> dict:
    done.append(visitor.principal.id)
    return {}


@probe.post("/probe/approve")
def approve_probe(visitor: Annotated[Visitor, act("playbooks", "approve", fresh=True)]) -> dict:
    done.append(visitor.principal.id)
    return {}


@pytest.fixture
def app(world, monkeypatch):
    monkeypatch.setattr(console, "ROUTERS", (*console.ROUTERS, probe))
    done.clear()
    return build_app(world.platform)


@pytest.fixture
def ask(world, app):
    import httpx

    client = httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url=HOST)

    def ask(method, path, secret="", **more):
        headers = {"accept": "text/html"} | ({"origin": HOST} if method == "POST" else {})
        headers |= {"cookie": f"vedette={secret}"} if secret else {}
        headers |= more.pop("headers", {})
        return world.wait(client.request(method, path, headers=headers, **more))

    yield ask
    world.wait(client.aclose())


def sign_in(world, *roles, tenant=TENANT, **more):
    access = world.platform.access
    person = access.people.create(tenant, "Ada")
    for role in roles:
        access.people.grant(tenant, person.id, role, by="system")
    return access.sessions.open(tenant, person.id, **more)


def test_a_page_is_for_who_has_a_session_and_the_role(world, ask):
    analyst, admin = (sign_in(world, role).secret.reveal() for role in (Role.ANALYST, Role.ADMIN))
    seen = ask("GET", "/probe", analyst)
    assert seen.status_code == 200
    assert seen.json()["name"] == "Ada"
    assert seen.json()["may"] is False
    assert ask("GET", "/probe", admin).status_code == 403
    gone = ask("GET", "/probe?state=new&x=%2F")
    assert gone.status_code == 303
    assert gone.headers["location"] == "/login?next=/probe%3Fstate%3Dnew%26x%3D%252F"
    fragment = ask("GET", "/probe", headers={"hx-request": "true", "hx-current-url": f"{HOST}/alerts"})
    assert fragment.status_code == 401
    assert fragment.headers["hx-redirect"] == "/login?next=/alerts"


def test_a_form_needs_the_sessions_own_token(world, ask):
    mine, other = sign_in(world, Role.ANALYST), sign_in(world, Role.ANALYST)
    secret = mine.secret.reveal()
    csrf = ask("GET", "/probe", secret).json()["csrf"]
    theirs = ask("GET", "/probe", other.secret.reveal()).json()["csrf"]
    assert ask("POST", "/probe", secret).status_code == 403
    assert ask("POST", "/probe", secret, data={"csrf": theirs}).status_code == 403
    assert done == []
    assert ask("POST", "/probe", secret, data={"csrf": csrf}).status_code == 200
    assert ask("POST", "/probe", secret, headers={"x-csrf-token": csrf}).status_code == 200
    assert done == [mine.session.person] * 2


def test_what_needs_a_second_factor_leads_to_it(world, ask):
    plain, proven = sign_in(world, Role.RESPONDER), sign_in(world, Role.RESPONDER, proven=True)
    for opened, status in ((plain, 303), (proven, 200)):
        secret = opened.secret.reveal()
        csrf = ask("GET", "/probe", secret).json()["csrf"]
        answer = ask("POST", "/probe/approve", secret, data={"csrf": csrf}, headers={"referer": f"{HOST}/cases/c-1"})
        assert answer.status_code == status
        if status == 303:
            assert answer.headers["location"] == "/confirm?next=/cases/c-1"
    assert done == [proven.session.person]


def test_logging_out_ends_the_session(world, ask):
    secret = sign_in(world, Role.ANALYST).secret.reveal()
    csrf = ask("GET", "/probe", secret).json()["csrf"]
    left = ask("POST", "/logout", secret, data={"csrf": csrf})
    assert left.headers["location"] == "/login"
    assert 'vedette=""' in left.headers["set-cookie"]
    assert ask("GET", "/probe", secret).status_code == 303


def test_the_api_takes_no_session_and_a_page_no_key(world, ask):
    secret = sign_in(world, *Role).secret.reveal()
    assert ask("GET", "/v1/alerts", secret).status_code == 401
    for bearer in (world.full, world.chief, secret):
        assert ask("GET", "/probe", headers={"authorization": f"Bearer {bearer}"}).status_code == 303
        assert ask("GET", "/probe", bearer).status_code == (200 if bearer == secret else 303)


def test_every_page_carries_the_headers_and_refusals_are_pages(world, ask):
    secret = sign_in(world, Role.ANALYST).secret.reveal()
    for answer in (
        ask("GET", "/probe", secret),
        ask("GET", "/login"),
        ask("GET", "/nothing-here"),
        ask("POST", "/probe", secret),
        ask("POST", "/probe", secret, headers={"origin": "http://evil.example"}),
        ask("GET", "/probe", secret, headers={"host": "evil.example"}),
    ):
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        if answer.status_code >= 400:
            assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("place", "way"),
    [
        ("/alerts?state=new", "/alerts?state=new"),
        ("//evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("alerts", "/"),
        ("", "/"),
    ],
)
def test_the_way_back_stays_here(place, way):
    assert local(place) == way


def test_another_tenants_session_sees_its_own_tenant(world, ask):
    opened = sign_in(world, Role.ANALYST, tenant=OTHER)
    assert opened.session.tenant == OTHER
    assert ask("GET", "/probe", opened.secret.reveal()).status_code == 200
