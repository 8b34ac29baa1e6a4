"""Logging in to a real `vedette serve`, and what a kill of it does not undo."""

from __future__ import annotations

import json

import httpx
import pytest
from serve_world import wait_for
from server_process import PATIENCE_S, Server, vedette

pytestmark = pytest.mark.kill
GOOD = "seven grey herons stood 7 deep"


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def people(home, *arguments):
    return json.loads(vedette(home, "people", *arguments, "--json").stdout)


def post(client, path, **fields):
    return client.post(path, data=fields, headers={"origin": str(client.base_url).rstrip("/")})


def test_the_first_login_and_a_kill(home):
    server = Server(home).start()
    try:
        kept, login = first_login(home, server)
    finally:
        server.kill()
    told = server.errors.read_text()
    again = Server(home).start()
    try:
        assert "Nobody can log in" not in again.errors.read_text()[len(told) :]
        with httpx.Client(base_url=again.url, timeout=PATIENCE_S) as stranger:
            # A count that began anew would let four through.
            statuses = [post(stranger, "/login", name=login, password=f"later {n}").status_code for n in range(3)]
            assert 429 in statuses
        with httpx.Client(base_url=again.url, cookies=kept, timeout=PATIENCE_S) as client:
            assert client.get("/people").status_code == 200, "a session outlives the process"
            person = next(each["id"] for each in people(home, "list") if each["name"] == "Ada Byron")
            people(home, "withdraw", person, "admin")
            assert client.get("/people").status_code == 303, "and ends at the next request"
    finally:
        assert again.stop() == 0


def first_login(home, server):
    """The cookies of a person who logged in for the first time, and whose name a stranger then tried in vain."""
    told = wait_for(server.errors.read_text, lambda text: "people password PERSON" in text)
    assert "Nobody can log in to the console yet" in told
    person = people(home, "create", "Ada Byron")["id"]
    people(home, "grant", person, "admin")
    issued = people(home, "password", person)
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        first = post(client, "/login", name=issued["login"], password=issued["password"], next="/people")
        assert first.headers["location"] == "/password?next=/people"
        page = client.get("/password").text
        csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
        assert post(client, "/password", csrf=csrf, password=GOOD, again=GOOD).status_code == 303
        assert client.get("/people").status_code == 200
        kept = dict(client.cookies)
        for host in ("evil.example", "127.0.0.1", "127.0.0.1:1"):
            assert client.get("/login", headers={"host": host}).status_code == 421
        named = server.url.removeprefix("http://").replace("127.0.0.1", "localhost")
        assert client.get("/login", headers={"host": named}).status_code == 303
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as stranger:
        statuses = [
            post(stranger, "/login", name=issued["login"], password=f"guess {n}").status_code for n in range(12)
        ]
    assert statuses[:4] == [401] * 4
    assert 429 in statuses
    return kept, issued["login"]
