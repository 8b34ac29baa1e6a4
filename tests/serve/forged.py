"""Forged requests, made from the route table: what each page route must refuse, how, and whether it did.

`breaches` asks every route of the console as an attacker would, on an application whose endpoints only tell that they
ran. A route that others add is in it by itself.
"""

from __future__ import annotations

import enum
import functools
import json
import re
import secrets
from dataclasses import dataclass, replace

import httpx
import pytest
from fastapi import APIRouter, Response
from serve_world import HOST, OTHER, PLACEHOLDER, TENANT

from vedette.prove.access import POLICY, Role
from vedette.prove.access.sessions import csrf_token
from vedette.serve import console
from vedette.serve.app import build_api, build_app
from vedette.serve.policy import policies

OPEN_FORMS = {("POST", "/login")}
"""The one form that is there before any session; Origin and Host guard it."""
SAFE = {"GET", "HEAD"}
PASSED = {200, 204, 400, 404}
"""Statuses of a request that came through every check; 400 when a made-up form does not fit."""


@dataclass(frozen=True)
class Route:
    """A route of the console and how to ask it."""

    method: str
    path: str
    policy: object
    fields: dict


@dataclass(frozen=True)
class Attack:
    """A request that must be refused."""

    name: str
    status: int
    way: str = ""
    """Begin of the Location of a 303."""
    code: str = ""
    secret: str = ""
    csrf: str | None = None
    """Token in the form; None sends none."""
    origin: str | None = HOST
    host: str = "api"
    bearer: str = ""
    query: dict | None = None


class Spies:
    """The console's routers with endpoints that only tell that they ran."""

    def __init__(self, routers):
        self.ran = []
        self.routers = tuple(self._copy(router) for router in routers)

    def _copy(self, router):
        copied = APIRouter()
        for route in router.routes:
            copied.add_api_route(
                route.path,
                self._spy(route),
                methods=route.methods,
                dependencies=route.dependencies,
                response_model=None,
            )
        return copied

    def _spy(self, route):
        @functools.wraps(route.endpoint)
        def spy(*_args, **_more):
            self.ran.append((min(route.methods), route.path))
            return Response(status_code=204)

        return spy


def console_routes(api):
    """Every route that the API does not have."""
    forms = {}
    for router in api.state.console:
        for route in router.routes:
            for method in route.methods:
                forms[method, route.path] = {
                    each.name: sample(each.field_info.annotation) for each in route.dependant.body_params
                }
    return [
        Route(method, path, policy, forms[method, path])
        for (method, path), policy in sorted(policies(api.routes).items())
        if (method, path) in forms
    ]


def sample(kind):
    """A value for a form field of this type."""
    text = str(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return str(next(iter(kind)))
    if "int" in text and "str" not in text:
        return "1"
    return "true" if "bool" in text else "x"


class Field:
    """Everything an attack needs: sessions of every kind, and the application to ask.

    Args:
        world: The installation.
        routers: The console's routers; as they are, or spies.
    """

    def __init__(self, world, routers):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(console, "ROUTERS", routers)
            self.app = build_app(world.platform)
            self.api = build_api(world.platform)
        self.api.state.console = routers
        self.world = world
        self.access = world.platform.access
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport)
        self.sessions = {}

    def close(self):
        self.world.wait(self.client.aclose())

    def session(self, *roles, tenant=TENANT, proven=True, **changes):
        """Secret of a new person's session; `changes` are written to its row, as time would."""
        key = (roles, tenant, proven, tuple(changes.items()))
        if key not in self.sessions:
            person = self.access.people.create(tenant, "somebody")
            for role in roles:
                self.access.people.grant(tenant, person.id, role, by="system")
            opened = self.access.sessions.open(tenant, person.id, proven=proven)
            self._write("access_sessions", "id", opened.session.id, _columns(changes))
            self.sessions[key] = (opened.secret.reveal(), person, opened.session)
        elif changes:
            # Where a check is planted away, looking at a session moves its times; it is set back before each attack.
            self._write("access_sessions", "id", self.sessions[key][2].id, _columns(changes))
        return self.sessions[key][0]

    def _write(self, table, column, row, changes):
        with self.world.platform.state.begin() as connection:
            for name, value in changes.items():
                connection.exec_driver_sql(f"update {table} set {name} = ? where {column} = ?", (value, row))

    def one_time(self):
        """Of somebody who came with a one-time password."""
        if "one time" not in self.sessions:
            person = self.access.people.create(TENANT, "new")
            for role in Role:
                self.access.people.grant(TENANT, person.id, role, by="system")
            issued = self.access.logins.issue(TENANT, person.id, by="system")
            opened = self.access.logins.log_in(issued.login, issued.password.reveal(), origin="192.0.2.9")
            self.sessions["one time"] = opened.secret.reveal()
        return self.sessions["one time"]

    def unproven(self):
        """Of somebody who has an authenticator and has not shown it."""
        if "unproven" not in self.sessions:
            secret = self.session(*Role, proven=False, origin="unproven")
            person = self.sessions[tuple(Role), TENANT, False, (("origin", "unproven"),)][1]
            self.access.factors.enrol(TENANT, person.id, "x")
            with self.world.platform.state.begin() as connection:
                connection.exec_driver_sql(
                    "update access_factors set sealed = pending, confirmed = 1 where person = ?", (person.id,)
                )
            self.sessions["unproven"] = secret
        return self.sessions["unproven"]

    def renewed(self):
        """The secret of a session before it was renewed."""
        if "renewed" not in self.sessions:
            secret = self.session(*Role, origin="renewed")
            held = self.sessions[tuple(Role), TENANT, True, (("origin", "renewed"),)][2]
            self.sessions["after"] = self.access.sessions.renew(held.id, proven=True).secret.reveal()
            self.sessions["renewed"] = secret
        return self.sessions["renewed"]

    def disabled(self):
        """Of somebody who was disabled behind the back of the sessions."""
        if "disabled" not in self.sessions:
            secret = self.session(*Role, origin="disabled")
            person = self.sessions[tuple(Role), TENANT, True, (("origin", "disabled"),)][1]
            self._write("access_people", "id", person.id, {"disabled": 1})
            self.sessions["disabled"] = secret
        return self.sessions["disabled"]

    def ask(self, route, attack, ids=None):
        """Sends it, as a browser would."""
        path = PLACEHOLDER.sub(lambda m: str((ids or {}).get(m[1], "x")), re.sub(r":path}", "}", route.path))
        headers = {"accept": "text/html", "host": attack.host}
        if attack.secret:
            headers["cookie"] = f"vedette={attack.secret}"
        if attack.bearer:
            headers["authorization"] = f"Bearer {attack.bearer}"
        fields = dict(route.fields)
        if route.method not in SAFE and attack.origin is not None:
            headers["origin"] = attack.origin
        if attack.csrf is not None:
            fields["csrf"] = attack.csrf
        data = fields if route.method not in SAFE else None
        return self.world.wait(
            self.client.request(route.method, HOST + path, headers=headers, data=data, params=attack.query)
        )


def honest(field, route):
    """The request that a person with every role and a fresh second factor makes; it must come through."""
    secret = field.session(*Role)
    csrf = csrf_token(secret) if route.method not in SAFE else None
    return Attack("honest", 0, secret=secret, csrf=csrf)


def _columns(changes):
    return {"proven" if name == "proven_us" else name: value for name, value in changes.items()}


def attacks(field, route):
    """Everything that this route must refuse."""
    good, policy = honest(field, route), route.policy
    form = route.method not in SAFE

    def forged(name, status, *, secret=None, **more):
        token = {"csrf": csrf_token(secret)} if secret and form else {}
        return replace(
            good, name=name, status=status, **({"secret": secret} if secret is not None else {}), **{**token, **more}
        )

    yield forged("wrong Host", 421, host="evil.example", code="session.host")
    yield forged("Host with a port of somebody else's", 421, host="api:8080", code="session.host")
    yield forged("no Host", 421, host="", code="session.host")
    if form:
        for origin in (
            "http://evil.example",
            "null",
            "https://api",
            "http://api.evil.example",
            "http://api:8080",
            "http://sub.api",
            "",
        ):
            yield forged(f"Origin {origin!r}", 403, origin=origin, code="session.origin")
        yield forged("no Origin", 403, origin=None, code="session.origin")
    if policy.open:
        return
    login = {"way": "/login?next="}
    yield forged("no session", 303, secret="", **login)
    for name, secret in {
        "forged id": secrets.token_urlsafe(32),
        "malformed id": "x' or 1=1 --",
        "expired": field.session(*Role, expires=1),
        "idle": field.session(*Role, seen=1),
        "ended": field.session(*Role, ended=1),
        "renewed": field.renewed(),
        "disabled person": field.disabled(),
    }.items():
        yield forged(name, 303, secret=secret, **login)
    for name, bearer in (("API key", field.world.full), ("personal token", field.world.chief)):
        yield forged(f"{name} instead of a session", 303, secret="", bearer=bearer, **login)
    if form:
        other = csrf_token(field.session(*Role, origin="other"))
        for name, csrf in {
            "no token": None,
            "empty token": "",
            "wrong token": "0" * 64,
            "token cut short": good.csrf[:-1],
            "another session's token": other,
            "token that is no text": "\ud7ff",
        }.items():
            yield replace(good, name=name, status=403, csrf=csrf, code="session.csrf")
        yield replace(
            good, name="token in the address", status=403, csrf=None, query={"csrf": good.csrf}, code="session.csrf"
        )
        stale = csrf_token(field.renewed())
        yield forged(
            "token from before the renewal", 403, secret=field.sessions["after"], csrf=stale, code="session.csrf"
        )
    if not policy.partial:
        yield forged("one-time password not replaced", 303, secret=field.one_time(), way="/password?next=")
        yield forged("second factor not shown", 303, secret=field.unproven(), way="/confirm?next=")
    if policy.resource:
        yield forged("nobody's role", 403, secret=field.session(), code="access.denied")
        for role in Role:
            if role not in POLICY[policy.resource, policy.verb].roles:
                yield forged(f"role {role}", 403, secret=field.session(role), code="access.denied")
    if policy.fresh:
        yield forged("second factor never shown", 303, secret=field.session(*Role, proven=False), way="/confirm?next=")
        yield forged(
            "second factor shown long ago", 303, secret=field.session(*Role, proven_us=1), way="/confirm?next="
        )


def wrong(attack, answer):
    """Why an answer is not the refusal that was due; empty for none."""
    if answer.status_code != attack.status:
        return f"{answer.status_code} instead of {attack.status}"
    if attack.way and not answer.headers.get("location", "").startswith(attack.way):
        return f"leads to {answer.headers.get('location')}"
    if attack.code and attack.code not in answer.text:
        return f"is no {attack.code}"
    if "content-security-policy" not in answer.headers:
        return "carries no headers"
    return ""


def breaches(field, spies, only=None):
    """Every attack that was not refused as it must be, as text."""
    found = []
    for route in console_routes(field.api):
        if only and (route.method, route.path) not in only:
            continue
        where = f"{route.method} {route.path}"
        if route.policy is None or (
            route.method not in SAFE and not route.policy.form and (route.method, route.path) not in OPEN_FORMS
        ):
            found.append(f"{where}: changes something without a form's policy")
            continue
        spies.ran.clear()
        answer = field.ask(route, honest(field, route))
        if answer.status_code not in PASSED or (not spies.ran and answer.status_code != 400):
            found.append(f"{where}: honest: {answer.status_code} {answer.headers.get('location', '')}")
        for attack in attacks(field, route):
            spies.ran.clear()
            why = wrong(attack, field.ask(route, attack))
            if spies.ran:
                why = f"ran the endpoint; {why}"
            if why:
                found.append(f"{where}: {attack.name}: {why}")
    return found


def contents(platform):
    """Everything that the relational stores hold, but for what a look at a page may touch."""
    kept = {}
    for name, database in (("state", platform.state), ("money", platform.money)):
        with database.read() as connection:
            tables = connection.exec_driver_sql(
                "select name from sqlite_master where type = 'table' and name not like 'sqlite%'"
            ).scalars()
            for table in sorted(tables):
                if table == "access_throttles":
                    continue
                rows = connection.exec_driver_sql(f"select * from {table}").mappings()
                plain = [{key: value for key, value in row.items() if key not in {"seen", "last_used"}} for row in rows]
                kept[f"{name}.{table}"] = json.dumps(plain, default=repr, sort_keys=True)
    return kept


def other_chief(field):
    """Session of somebody with every role in the other tenant."""
    return field.session(*Role, tenant=OTHER)
