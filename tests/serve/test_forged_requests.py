"""Forged requests on every page and form of the console: refused, with the right status and no effect.

The matrix is made from the route table; each of its checks is seen to fail on a hole that is planted for it.
"""

from __future__ import annotations

import pytest
from fastapi import APIRouter
from forged import (
    OPEN_FORMS,
    SAFE,
    Field,
    Spies,
    attacks,
    breaches,
    console_routes,
    contents,
    honest,
    other_chief,
    wrong,
)
from serve_world import OTHER, Objects

from vedette.core.errors import DefinitionError
from vedette.prove.access import Role
from vedette.prove.access import sessions as sessions_module
from vedette.prove.access.sessions import Live
from vedette.run.rules.trend import Trend
from vedette.serve import console, session
from vedette.serve.addresses import Addresses
from vedette.serve.app import build_app
from vedette.serve.policy import anyone

SOME = {
    ("GET", "/people"),
    ("POST", "/people/{person_id}/grant"),
    ("POST", "/people"),
    ("POST", "/login"),
    ("GET", "/account"),
}
"""Enough to find any hole that is planted: a page, forms with and without a fresh second factor, an open form."""


@pytest.fixture(scope="module")
def spies():
    return Spies(console.ROUTERS)


@pytest.fixture(scope="module")
def field(world, spies):
    made = Field(world, spies.routers)
    yield made
    made.close()


@pytest.fixture(scope="module")
def real(world):
    made = Field(world, console.ROUTERS)
    yield made
    made.close()


def test_every_page_and_form_refuses_what_is_forged(field, spies):
    routes = console_routes(field.api)
    assert len(routes) >= 30
    assert sum(1 for route in routes if route.method not in SAFE) >= 15
    assert sum(len(list(attacks(field, route))) for route in routes) > 600
    assert breaches(field, spies) == []


def test_what_is_refused_changes_nothing(world, real):
    """On the real pages with real objects: what the stores hold is the same to the byte."""
    ids = {**Objects(world).make(), "session_id": "ses_none"}
    found = []
    for route in console_routes(real.api):
        planned = [(attack, honest(real, route)) for attack in attacks(real, route)]
        before = contents(world.platform)
        for attack, _ in planned:
            why = wrong(attack, real.ask(route, attack, ids))
            if why:
                found.append(f"{route.method} {route.path}: {attack.name}: {why}")
        after = contents(world.platform)
        found += [f"{route.method} {route.path} changed {name}" for name in before if before[name] != after[name]]
    assert found == []


def test_looking_changes_nothing(world, real):
    ids = Objects(world).make()
    # A service has read its rules before it answers anybody; tables are made then, and that of reports with its first.
    assert world.platform.edition
    Trend(world.platform.state)
    found = []
    for route in console_routes(real.api):
        if route.method not in SAFE:
            continue
        asked = honest(real, route)
        before = contents(world.platform)
        answer = real.ask(route, asked, ids)
        assert answer.status_code in {200, 303, 400, 404, 409}, (route.path, answer.status_code, answer.text[:300])
        after = contents(world.platform)
        found += [f"{route.path} changed {name}" for name in before if before[name] != after[name]]
    assert found == []


def test_another_tenants_session_reaches_nothing_of_ours(world, real):
    """Every page and form with our objects' ids, by somebody with every role in the other tenant."""
    ids = Objects(world).make()
    ours = {str(value) for name, value in ids.items() if isinstance(name, str) and name.endswith("_id")}
    secret = other_chief(real)
    found = []
    for route in console_routes(real.api):
        if route.policy.open or not any(f"{{{name}" in route.path for name in ids if isinstance(name, str)):
            continue
        attack = honest(real, route)
        csrf = None if route.method in SAFE else session.csrf_token(secret)
        before = contents(world.platform)
        answer = real.ask(route, type(attack)("other tenant", 404, secret=secret, csrf=csrf), ids)
        after = contents(world.platform)
        told = {each for each in ours if each in answer.text}
        # What a person asks for by its id may be named in the answer that it is not there.
        asked = {str(ids[name]) for name in ids if isinstance(name, str) and f"{{{name}" in route.path}
        if answer.status_code == 200 and told - asked:
            found.append(f"{route.method} {route.path} tells of {told - asked}")
        found += [f"{route.method} {route.path} changed {name}" for name in before if before[name] != after[name]]
    assert found == []
    for path in ("/people", "/keys", "/account"):
        answer = real.ask(
            next(r for r in console_routes(real.api) if (r.method, r.path) == ("GET", path)),
            type(attack)("", 0, secret=secret),
        )
        assert answer.status_code == 200
        assert not {each for each in ours if each in answer.text}, path
    assert {person.tenant for person in world.platform.access.people.list(OTHER)} == {OTHER}


# Each check of the matrix finds the hole that is planted for it


def plain_check(self, method, host, origin):
    return None


def lax_origin(self, method, host, origin):
    """A request without an Origin passes, and one from anywhere."""
    return check_host(self, "GET", host, origin)


check_host = Addresses.check


def lax_prefix(self, method, host, origin):
    """An Origin passes when it begins as ours does."""
    check_host(self, "GET", host, origin)
    if method not in SAFE and not (origin or "").startswith(tuple(self.origins)):
        check_host(self, method, host, origin)


def lax_token(csrf, sent):
    """A form without a token passes."""
    if sent:
        check_form(csrf, sent)


check_form = session.check_form


HOLES = {
    "Host is not looked at": (Addresses, "check", plain_check, {"wrong Host", "no Host"}),
    "Origin is not looked at": (Addresses, "check", lax_origin, {"no Origin", "Origin 'null'", "Origin 'https://api'"}),
    "Origin by its beginning": (
        Addresses,
        "check",
        lax_prefix,
        {"Origin 'http://api.evil.example'", "Origin 'http://api:8080'"},
    ),
    "token is not looked at": (
        session,
        "check_form",
        lambda csrf, sent: None,
        {"no token", "wrong token", "another session's token"},
    ),
    "token may be missing": (
        session,
        "check_form",
        lax_token,
        {"no token", "empty token"},
    ),
    "every session has the same token": (session, "csrf_token", lambda secret: "0" * 64, {"wrong token"}),
    "ended sessions hold": (
        sessions_module,
        "_holds",
        lambda now: (sessions_module.sessions.c.expires > now, sessions_module.sessions.c.seen > now - 1_800_000_000),
        {"ended", "renewed"},
    ),
    "sessions never expire": (
        sessions_module,
        "_holds",
        lambda now: (sessions_module.sessions.c.ended.is_(None), sessions_module.sessions.c.seen > now - 1_800_000_000),
        {"expired"},
    ),
    "sessions are never idle": (
        sessions_module,
        "_holds",
        lambda now: (sessions_module.sessions.c.ended.is_(None), sessions_module.sessions.c.expires > now),
        {"idle"},
    ),
    "every step of the login may be skipped": (
        Live,
        "step",
        property(lambda self: sessions_module.Step.NONE),
        {"one-time password not replaced", "second factor not shown"},
    ),
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_planted_hole_is_found(field, spies, monkeypatch, hole):
    place, name, planted, found_by = HOLES[hole]
    for route in console_routes(field.api):
        list(attacks(field, route))
    monkeypatch.setattr(place, name, planted)
    found = "\n".join(breaches(field, spies, SOME))
    for attack in found_by:
        assert f": {attack}: " in found, found


def test_a_missing_check_of_the_role_is_found(field, spies, monkeypatch):
    monkeypatch.setattr(field.access, "authorize", lambda *_args, **_more: None)
    found = "\n".join(breaches(field, spies, SOME))
    assert ": nobody's role: ran the endpoint" in found
    assert ": role analyst: ran the endpoint" in found


def test_a_missing_check_of_the_second_factor_is_found(field, spies, monkeypatch):
    real_admit = session._admit

    def lax(request, policy, sent=""):
        return real_admit(request, session.replace(policy, fresh=False), sent)

    monkeypatch.setattr(session, "_admit", lax)
    found = "\n".join(breaches(field, spies, SOME))
    assert ": second factor never shown: ran the endpoint" in found
    assert ": second factor shown long ago: ran the endpoint" in found


def test_a_key_that_opened_a_page_would_be_found(field, spies, monkeypatch, world):
    real_find = session.find
    secret = field.session(Role.ADMIN, origin="by key")

    def lax(request, *, touch=False):
        if "authorization" in request.headers and "cookie" not in request.headers:
            return field.access.sessions.find(secret), secret
        return real_find(request, touch=touch)

    monkeypatch.setattr(session, "find", lax)
    found = "\n".join(breaches(field, spies, SOME))
    assert ": API key instead of a session: " in found


def test_a_form_that_is_planted_without_a_policy_of_forms_is_found(world, monkeypatch, spies):
    planted = APIRouter()
    planted.post("/planted", dependencies=[anyone()])(lambda: None)
    made = Field(world, (*spies.routers, planted))
    assert breaches(made, spies, {("POST", "/planted")}) == ["POST /planted: changes something without a form's policy"]
    made.close()
    bare = APIRouter()
    bare.post("/planted")(lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(console, "ROUTERS", (*console.ROUTERS, bare))
        with pytest.raises(DefinitionError, match="POST /planted"):
            build_app(world.platform)


def test_the_open_form_is_the_only_one(field):
    opened = {(route.method, route.path) for route in console_routes(field.api) if route.policy.open}
    assert {each for each in opened if each[0] not in SAFE} == OPEN_FORMS


def test_an_effect_of_a_look_would_be_found(world):
    before = contents(world.platform)
    world.platform.access.people.create(OTHER, "somebody")
    after = contents(world.platform)
    assert [name for name in before if before[name] != after[name]] == ["state.access_people"]
