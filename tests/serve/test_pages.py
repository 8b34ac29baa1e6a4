"""Pages over HTTP: fragments, errors in the frame, static files."""

from __future__ import annotations

from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Request, Response
from serve_world import HOST, TENANT

from vedette.core.errors import ConflictError, DeniedError, TransientError
from vedette.prove.access import Role
from vedette.serve import console
from vedette.serve.app import build_app
from vedette.serve.console.assets import versioned
from vedette.serve.console.page import PLACES, show
from vedette.serve.session import Visitor, look

PAN = "4111111111111111"
HTML = {"accept": "text/html"}
FAULTS = {
    "denied": DeniedError("probe.denied", f"not for you {PAN}"),
    "conflict": ConflictError("probe.conflict", "somebody was first", hint="<b>load</b> it again"),
    "later": TransientError("probe.later", "not now", retry_after=3.0),
    "unforeseen": RuntimeError("the secret of the house"),
}
probe = APIRouter()


@probe.get("/probe/{what}", response_model=None)
def fail(what: str, visitor: Annotated[Visitor, look()]) -> Response:
    raise FAULTS[what]


@probe.get("/shown", response_model=None)
def shown(request: Request, visitor: Annotated[Visitor, look()]) -> Response:
    fault = {"status": 200, "code": "<i>code</i>", "message": "m", "hint": ""}
    return show(request, visitor, "error.html", fragment="content", problem=fault)


@pytest.fixture
def ask(world, monkeypatch):
    monkeypatch.setattr(console, "ROUTERS", (*console.ROUTERS, probe))
    transport = httpx.ASGITransport(build_app(world.platform), raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url=HOST)
    person = world.platform.access.people.create(TENANT, "Ada <script>")
    world.platform.access.people.grant(TENANT, person.id, Role.ANALYST, by="system")
    secret = world.platform.access.sessions.open(TENANT, person.id).secret.reveal()

    def ask(path, **headers):
        sent = {
            "cookie": f"vedette={secret}",
            **HTML,
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        return world.wait(client.get(path, headers=sent))

    yield ask
    world.wait(client.aclose())


@pytest.mark.parametrize(("what", "status"), [("denied", 403), ("conflict", 409), ("later", 503), ("unforeseen", 500)])
def test_an_error_is_a_page_in_the_frame(ask, what, status):
    answer = ask(f"/probe/{what}")
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert "no-store" in answer.headers["cache-control"]
    assert f'<p class="fault-status">{status}</p>' in answer.text
    assert PAN not in answer.text
    assert "secret of the house" not in answer.text
    assert "<b>" not in answer.text.partition("fault-message")[2].partition("</p>")[0]
    if status != 500:
        assert FAULTS[what].code in answer.text
        assert 'aria-label="Main"' in answer.text
    if what == "later":
        assert answer.headers["retry-after"] == "3"


def test_a_program_gets_json(ask):
    answer = ask("/probe/denied", accept="application/json")
    assert answer.json()["error"]["code"] == "probe.denied"


def test_what_is_put_in_is_escaped(ask):
    page = ask("/shown").text
    assert "&lt;i&gt;code&lt;/i&gt;" in page
    assert "Ada &lt;script&gt;" in page
    assert "<script>" not in page


def test_a_fragment_is_for_htmx_and_a_page_for_everybody_else(ask):
    page, part = ask("/shown"), ask("/shown", hx_request="true")
    assert page.text.startswith("<!doctype html>")
    assert part.text.lstrip().startswith("<section")
    assert part.text.strip() in page.text
    assert page.headers["vary"] == "HX-Request"
    restored = ask("/shown", hx_request="true", hx_history_restore_request="true")
    assert restored.text.startswith("<!doctype html>")


def test_the_navigation_has_what_the_role_may_read_and_every_entry_leads_somewhere(ask):
    page = ask("/shown").text
    assert 'href="/alerts"' in page
    assert 'href="/people"' not in page
    for place in PLACES:
        assert ask(place.path).status_code in {200, 403}, place.path


def test_only_a_known_theme_enters_the_page(ask):
    assert '<html lang="en" data-theme="dark">' in ask("/login", cookie="vedette_theme=dark").text
    assert '<html lang="en">' in ask("/login", cookie='vedette_theme="><script>').text


def test_static_files_are_kept_for_good_under_the_address_of_their_content(ask):
    first = ask(versioned("tokens.css"))
    assert first.status_code == 200
    assert first.headers["content-type"].startswith("text/css")
    assert "immutable" in first.headers["cache-control"]
    assert "immutable" not in ask("/static/tokens.css?v=other").headers["cache-control"]
    again = ask("/static/tokens.css", if_none_match=first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    ["../page.py", "..%2fpage.py", "%2e%2e/page.py", "vendor/../../page.py", ".hidden", "", "templates/base.html"],
)
def test_nothing_else_is_a_static_file(ask, path):
    assert ask(f"/static/{path}").status_code == 404
