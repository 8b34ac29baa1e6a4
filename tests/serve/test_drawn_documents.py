"""Playbooks and STIX from anybody: a coded error or success, never a fault and never a hang."""

from __future__ import annotations

import uuid
from collections import Counter
from contextlib import suppress
from datetime import timedelta

import pytest
import yaml
from drawn_documents import broken, junk, odd_keys, playbooks, stix_bytes
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from serve_world import ALL_SCOPES, TENANT

from vedette.act.playbooks.loader import load_playbook, read_playbook
from vedette.act.playbooks.playbook import Playbook, from_definition, to_definition
from vedette.core.content import shipped
from vedette.core.documents import load_yaml
from vedette.core.errors import VedetteError
from vedette.sense.intel.stix import Default, parse_bundle

# Threads of the server draw from `random` while a document is drawn.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
SLOW = timedelta(seconds=60)
"""Above this one document hangs, on whatever machine."""
MEDIA = "application/taxii+json;version=2.1"


def drawn(count):
    return settings(
        max_examples=count,
        deadline=SLOW,
        database=None,
        derandomize=count < 100,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def beside():
    path = shipped("playbooks") / "compromised_api_key.yaml"
    return {"compromised_api_key": load_playbook(path)}


def loaded(document, beside):
    """The playbook of a document, as a file gives it; None when it is refused by codes."""
    try:
        text = yaml.safe_dump(document, allow_unicode=True)
    except UnicodeEncodeError:
        return None
    try:
        return read_playbook(load_yaml(text, path="drawn.yaml"), library=beside.get)
    except VedetteError as error:
        found = getattr(error, "problems", None) or [error]
        assert all(each.code.partition(".")[0] in {"playbook", "documents", "core"} for each in found), found
        return None


def load_many(beside, count):
    """What became of many drawn playbooks."""
    told = Counter()

    @drawn(count)
    @given(playbooks() | broken(playbooks(), keys=odd_keys))
    def attempt(document):
        book = loaded(document, beside)
        told["loaded" if book else "refused"] += 1
        if book:
            assert from_definition(to_definition(book)) == book
            assert book.digest

    attempt()
    return told


def run_many(world, objects, beside, count):
    """Drawn playbooks that load, planned and run over HTTP with drawn inputs, and stopped."""
    platform, told = world.platform, Counter()
    alert, _ = objects.run(world.issue(ALL_SCOPES).key.id)
    held = dict(platform.playbooks)

    def ask(method, path, body=None, secret=world.chief, **more):
        answer = world.send(method, path, secret, json_body=body, **more)
        assert answer.status_code < 500 or answer.status_code in {408, 429, 503}, (path, answer.text)
        if answer.status_code >= 400:
            assert answer.json()["error"]["code"], answer.text
        told[f"{path.rpartition('/')[2]} {answer.status_code}"] += 1
        return answer

    @drawn(count)
    @given(playbooks() | broken(playbooks()), st.dictionaries(st.sampled_from(["who", "x"]), junk, max_size=2))
    def attempt(document, inputs):
        book = loaded(document, beside)
        if book is None:
            told["refused"] += 1
            return
        name = f"drawn-{uuid.uuid4().hex[:12]}"
        made = from_definition({**to_definition(book), "id": name})
        assert isinstance(made, Playbook)
        platform.playbooks[name] = made
        try:
            ask("GET", "/v1/playbooks")
            wanted = {"playbook": name, "alert_id": alert, "inputs": inputs}
            with suppress(UnicodeEncodeError):
                ask("POST", "/v1/playbooks/runs", wanted | {"dry_run": True})
                started = ask("POST", "/v1/playbooks/runs", wanted)
                hook = {"params": {"playbook": name}, "key": uuid.uuid4().hex, "secret": world.full}
                ask("POST", "/v1/playbooks/webhook", {"data": inputs}, **hook)
                if started.status_code == 201:
                    run = started.json()["id"]
                    ask("GET", f"/v1/playbooks/runs/{run}")
                    ask("POST", f"/v1/playbooks/runs/{run}/cancel")
                    ask("POST", f"/v1/playbooks/runs/{run}/rerun", {"step": "s1"})
        finally:
            del platform.playbooks[name]
            for run in platform.responder.find(TENANT, playbook=name, limit=10):
                with suppress(VedetteError):
                    platform.responder.cancel(TENANT, run.id)

    attempt()
    assert dict(platform.playbooks) == held
    return told


def send_stix(world, count):
    """Drawn bundles, read, and sent to a collection over TAXII; then the collection is read."""
    told = Counter()
    shared = world.send("GET", f"/taxii2/{TENANT}/collections/", world.full, headers={"accept": MEDIA}).json()
    path = f"/taxii2/{TENANT}/collections/{shared['collections'][0]['id']}/objects/"

    @drawn(count)
    @given(stix_bytes())
    def attempt(raw):
        default = Default(now=1_780_000_000_000_000, collection="own")
        try:
            found, refused = parse_bundle(raw, default)
        except VedetteError as error:
            told[f"read {error.code}"] += 1
        else:
            told["read"] += 1
            assert all(each.code for each in refused)
            assert all(each.id for each in found)
        headers = {"content-type": MEDIA, "accept": MEDIA}
        for method, content in (("POST", raw), ("GET", None)):
            answer = world.send(method, path, world.full, content=content, headers=headers)
            assert answer.status_code < 500, (raw, answer.text)
            told[f"{method} {answer.status_code}"] += 1

    attempt()
    return told


def test_playbooks_load_or_are_refused_by_codes(beside):
    told = load_many(beside, 60)
    assert min(told["loaded"], told["refused"]) >= 5, told


def test_playbooks_that_load_run_without_a_fault(world, objects, beside):
    told = run_many(world, objects, beside, 12)
    assert told["runs 201"] >= 2, told


def test_stix_is_taken_or_refused_by_codes(world):
    told = send_stix(world, 60)
    assert min(told["read"], told["POST 202"]) >= 10, told
    assert sum(count for name, count in told.items() if name.startswith("POST 4")) >= 3, told


def test_a_planted_fault_is_found(world, beside, monkeypatch):
    monkeypatch.setattr("vedette.act.playbooks.loader.MAX_ROUNDS", None)
    with pytest.raises(TypeError):
        load_many(beside, 60)


@pytest.mark.soak
def test_many_playbooks_load(beside):
    print(load_many(beside, 1_000))


@pytest.mark.soak
def test_many_playbooks_run(world, objects, beside):
    print(run_many(world, objects, beside, 1_000))


@pytest.mark.soak
def test_many_bundles(world):
    print(send_stix(world, 1_000))
