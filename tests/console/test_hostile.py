"""Texts of attackers in every field: no page runs a script of theirs, no verb moves a cursor."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from console_world import CHIEF, Installation
from hostile import CORPUS, fill
from serve_world import TENANT

from vedette.serve.console.page import PLACES

pytestmark = pytest.mark.chromium

MAX_PAGES = 110
PER_KIND = 7
"""Pages of one kind that are opened: alerts, entities, decisions and so on."""
MOVES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What moves a cursor or turns a line round; line breaks and tabs are the program's own."""
FOUND = """() => ({
    owned: document.documentElement.dataset.owned || '',
    placed: [...document.querySelectorAll(
        '#owned, [data-owned], iframe, base, meta[http-equiv], main script, main style, main link[rel=stylesheet],'
        + ' main object, main embed, [onerror], [onload], [onfocus], [onmouseover], [ontoggle], [hx-on], [hx-vals]'
    )].map(each => each.outerHTML.slice(0, 200)),
    script: [...document.querySelectorAll('a[href], form[action]')]
        .map(each => each.getAttribute('href') || each.getAttribute('action') || '')
        .filter(each => /^\\s*(javascript|data|vbscript):/i.test(each) || /^\\/\\//.test(each)),
    links: [...document.querySelectorAll('main a[href^="/"]')].map(each => each.getAttribute('href')),
    title: document.title,
})"""


@pytest.fixture(scope="module")
def attacked(seeded, tmp_path_factory):
    """The seeded home with the corpus in it."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(seeded, folder / "home")
    # In a thread of its own: the browser's driver runs an event loop in this one.
    with ThreadPoolExecutor(1) as apart:
        counts = apart.submit(fill, folder / "home", folder / "rules").result()
    assert counts["stored"] > 100
    assert counts["alerts"] > 50
    return folder / "home"


@pytest.fixture(scope="module")
def installation(attacked, tmp_path_factory):
    served = Installation(attacked, tmp_path_factory.mktemp("attacked") / "home")
    yield served
    served.close()


def look(page, path):
    found = page.evaluate(FOUND)
    assert found["owned"] == "", path
    assert found["placed"] == [], path
    assert found["script"] == [], path
    return found["links"]


def kind_of(path):
    """Alerts, entities and so on, told apart by the shape of the address."""
    return "/".join(urlsplit(path).path.split("/")[1:2]), bool(urlsplit(path).path.strip("/").count("/"))


def test_no_page_runs_what_a_field_holds(visit):
    page = visit("/", who=CHIEF)
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
    todo, seen, shapes = [place.path for place in PLACES], set(), {}
    todo += [f"/search?q={text}" for text in CORPUS[:6]]
    while todo and len(seen) < MAX_PAGES:
        path = todo.pop(0)
        if path in seen or path.startswith(("/static", "/audit/bundle", "/v1")):
            continue
        seen.add(path)
        answer = page.goto(path if not path.startswith("/search") else "/search?q=" + path[10:].replace("#", "%23"))
        assert answer.status < 500, path
        for link in look(page, path):
            shape = kind_of(link)
            if link not in seen and shapes.get(shape, 0) < PER_KIND:
                shapes[shape] = shapes.get(shape, 0) + 1
                todo.append(link)
    opened = {kind_of(path) for path in seen}
    for kind in ("alerts", "entities", "decisions", "cases", "rules"):
        assert (kind, True) in opened, f"no page of one of {kind} was opened"


def test_a_page_that_did_run_them_would_be_seen(visit):
    page = visit("/", who=CHIEF)
    page.evaluate("text => { document.querySelector('main').innerHTML += text }", CORPUS[2])
    with pytest.raises(AssertionError):
        look(page, "/")
    # The policy of the page stopped it, too, and said so.
    assert any("Content Security Policy" in complaint for complaint in visit.complaints)
    visit.complaints.clear()


@pytest.mark.parametrize(
    "verb",
    [
        ["alerts"],
        ["case", "list"],
        ["people", "list"],
        ["query", "select * from cloudtrail limit 200"],
        ["query", "select * from product limit 200"],
        ["query", "select * from quarantine limit 200"],
        ["alerts", "--json"],
    ],
    ids=" ".join,
)
def test_no_verb_moves_a_cursor(attacked, verb):
    environ = {**os.environ, "VEDETTE_HOME": str(attacked), "VEDETTE_TENANT": TENANT, "COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-m", "vedette", *verb], env=environ, capture_output=True, check=False)
    text = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, text[:2_000]
    assert len(text) > 200, text
    found = MOVES.search(text)
    assert found is None, repr(text[max(0, found.start() - 60) : found.end() + 20])
