"""TAXII 2.1 as independent clients see it: they read and write, page by page, and nothing of it is lost or doubled."""

from __future__ import annotations

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import stix2
from serve_world import OTHER, TENANT
from server_process import Server, make_key
from taxii2client.v21 import ApiRoot, Collection, as_pages
from taxii2client.v21 import Server as TaxiiServer

from vedette.core.clock import SystemClock
from vedette.core.egress import Egress
from vedette.core.errors import TransientError
from vedette.core.settings import load_settings
from vedette.prove.access.policy import Level
from vedette.run.intel.taxii import Polls
from vedette.run.parts import Parts
from vedette.sense.intel.asked import Asked
from vedette.sense.intel.library import indicator_of

MEDIA = "application/taxii+json;version=2.1"
READ, WRITE = {"indicators": Level.READ}, {"indicators": Level.WRITE}


def made(number: int, **more):
    return stix2.Indicator(
        id=f"indicator--{uuid.UUID(int=number, version=4)}",
        name=f"bad {number}",
        pattern=f"[domain-name:value = 'n{number}.evil.example']",
        pattern_type="stix",
        valid_from="2026-01-01T00:00:00Z",
        created="2026-01-01T00:00:00Z",
        modified=more.pop("modified", "2026-01-01T00:00:00Z"),
        **more,
    )


@pytest.fixture
def served(tmp_path_factory):
    home = tmp_path_factory.mktemp("taxii") / "home"
    writer = make_key(home, "indicators:write")
    reader = make_key(home, "indicators:read")
    server = Server(home).start()
    yield server, writer, reader
    server.kill()


def test_independent_clients_read_and_write(served):
    server, writer, reader = served
    found = TaxiiServer(f"{server.url}/taxii2/", user="reader", password=writer)
    root = found.default
    assert (found.title, [one.url for one in found.api_roots]) == ("Vedette", [root.url])
    assert isinstance(root, ApiRoot)
    assert root.max_content_length >= 1 << 20
    (shared,) = root.collections
    assert (shared.can_read, shared.can_write) == (True, True)
    objects = [made(number) for number in range(25)]
    malware = stix2.Malware(name="Rat", is_family=True)
    ipv4 = stix2.IPv4Address(value="203.0.113.7")
    envelope = {"objects": [json.loads(one.serialize()) for one in (*objects, malware, ipv4)]}
    status = shared.add_objects(envelope, wait_for_completion=True)
    assert (status.status, status.total_count, status.success_count) == ("complete", 27, 27)
    again = root.get_status(status.id)
    assert again.success_count == 27

    mine = Collection(shared.url, user="reader", password=reader)
    assert not mine.can_write
    pages = list(as_pages(mine.get_objects, per_request=10))
    assert [len(page["objects"]) for page in pages] == [10, 10, 7]
    ids = [one["id"] for page in pages for one in page["objects"]]
    assert ids == [one.id for one in (*objects, malware, ipv4)]
    assert {json.dumps(one, sort_keys=True) for page in pages for one in page["objects"]} == {
        json.dumps(one, sort_keys=True) for one in envelope["objects"]
    }
    manifest = mine.get_manifest()["objects"]
    added = [one["date_added"] for one in manifest]
    assert added == sorted(set(added))
    assert [one["id"] for one in mine.get_objects(added_after=added[19])["objects"]] == ids[20:]
    assert [one["id"] for one in mine.get_objects(type=["malware", "ipv4-addr"])["objects"]] == ids[25:]
    assert mine.get_objects(type="tool") == {}
    assert mine.get_object(ids[3])["objects"][0]["id"] == ids[3]

    source = stix2.TAXIICollectionSource(mine)
    assert source.get(ids[0]) == objects[0]
    wanted = [stix2.Filter("type", "=", "indicator")]
    assert len(source.query(wanted)) == 25
    sink = stix2.TAXIICollectionSink(shared)
    newer = made(0, modified="2026-02-01T00:00:00Z")
    sink.add(newer)
    assert source.get(ids[0]) == newer
    assert len(mine.object_versions(ids[0])["versions"]) == 2
    versions = mine.get_object(ids[0], version="all")["objects"]
    assert [one["modified"] for one in versions] == ["2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z"]
    assert mine.get_object(ids[0], version="first")["objects"][0]["modified"] == "2026-01-01T00:00:00.000Z"
    assert mine.get_object(ids[0], version="2026-02-01T00:00:00Z")["objects"] == versions[1:]
    shared.delete_object(ids[1])
    assert ids[1] not in [one["id"] for page in as_pages(mine.get_objects) for one in page["objects"]]


def test_another_installation_follows_and_goes_on_after_a_kill(served, tmp_path):
    server, writer, _ = served
    shared = TaxiiServer(f"{server.url}/taxii2/", user="reader", password=writer).default.collections[0]
    shared.add_objects({"objects": [json.loads(made(number).serialize()) for number in range(100, 160)]})
    environ = {"VEDETTE_HOME": str(tmp_path), "VEDETTE_TENANT": TENANT, "VEDETTE_EGRESS_ALLOW": "127.0.0.1"}
    platform = Parts(load_settings(None, environ), clock=SystemClock())
    try:
        platform.library.collection(TENANT, "partner", url=shared.url, secret="partner", every=60)
        own = platform.library.find_collection(TENANT, "partner")
        followers = Polls(platform.library, platform.egress, lambda _name: f"any:{writer}", platform.clock)
        turn = followers.poll(TENANT, own)
        assert turn.put.added >= 60
        held = platform.library.find_collection(TENANT, "partner")
        assert held.added_after
        assert followers.poll(TENANT, held).put.added == 0
        (found,) = platform.library.indicators(TENANT, Asked(value="www.n120.evil.example"))
        assert (found.collection, indicator_of(found).name) == ("partner", "bad 120")
        assert followers.poll_due() == 0
        server.kill()
        due = Polls(platform.library, platform.egress, lambda _name: "x", Late(platform.clock))
        assert due.poll_due() == 0
        assert "egress.connection.failed" in platform.library.find_collection(TENANT, "partner").problem
    finally:
        platform.close()
        server.start()


class Late:
    def __init__(self, clock):
        self.clock = clock

    def now(self):
        return self.clock.now() + 3_600_000_000


class Feed:
    """Another server, whose pages end among equal times, and which fails where it is told to."""

    def __init__(self, pages, *, fails=()):
        self.pages, self.fails, self.asked = pages, set(fails), []

    def __enter__(self):
        feed = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                feed.asked.append(self.path)
                turn = len(feed.asked) - 1
                place = int(self.path.partition("next=")[2].partition("&")[0] or 0)
                if "added_after=" in self.path and "next=" not in self.path:
                    place = len(feed.pages)
                objects = feed.pages[place] if place < len(feed.pages) else []
                more = place + 1 < len(feed.pages)
                body = json.dumps(
                    {"more": more, **({"next": str(place + 1)} if more else {}), "objects": objects}
                ).encode()
                self.send_response(503 if turn in feed.fails else 200)
                self.send_header("content-type", MEDIA)
                self.send_header("x-taxii-date-added-last", "2026-01-01T00:00:00.000000Z")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/collections/c/"
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_a_broken_look_goes_on_where_it_was(world):
    pages = [[json.loads(made(number).serialize()) for number in range(start, start + 5)] for start in (200, 205, 210)]
    library = world.platform.library
    egress = Egress(["127.0.0.1"])
    with Feed(pages, fails=[1]) as feed:
        own = library.collection(TENANT, "broken", url=feed.url)
        followers = Polls(library, egress, lambda _name: "", world.platform.clock)
        with pytest.raises(TransientError):
            followers.poll(TENANT, own)
        held = library.find_collection(TENANT, "broken")
        assert (held.next, held.added_after) == ("1", "")
        assert followers.poll(TENANT, held).put.added == 10
        held = library.find_collection(TENANT, "broken")
        assert (held.next, held.added_after) == ("", "2026-01-01T00:00:00.000000Z")
        assert len(library.indicators(TENANT, Asked(collection="broken"))) == 15
        assert followers.poll(TENANT, held).put.added == 0
    egress.close()


def test_a_server_that_never_ends_is_left(world):
    egress = Egress(["127.0.0.1"])
    library = world.platform.library
    with Feed([[]]) as feed:
        feed.pages = [[], []]
        own = library.collection(TENANT, "endless", url=feed.url)
        followers = Polls(library, egress, lambda _name: "", world.platform.clock)
        followers.poll(TENANT, own)
        feed.pages = [[] for _ in range(3)]
        held = library.find_collection(TENANT, "endless")
        assert followers.poll(TENANT, held).put.added == 0
    with Feed([]) as feed:
        feed.pages = [[{"nonsense": True}]]
        own = library.collection(TENANT, "rubbish", url=feed.url)
        assert followers.poll(TENANT, own).put.refused == 1
    egress.close()


def ask(world, path, secret, method="GET", accept=MEDIA, **more):
    headers = {"accept": accept, **more.pop("headers", {})}
    return world.send(method, path, secret, headers=headers, **more)


def test_what_taxii_asks_of_every_answer(world):
    key, other = world.key(READ), world.key(READ, OTHER)
    root = f"/taxii2/{TENANT}/"
    bare = world.send("GET", "/taxii2/")
    assert (bare.status_code, bare.headers["www-authenticate"]) == (401, 'Basic realm="vedette"')
    assert set(bare.json()) == {"title", "description", "error_code", "http_status", "error"}
    assert bare.json()["http_status"] == "401"
    good = ask(world, "/taxii2/", key)
    assert (good.headers["content-type"], good.json()["api_roots"]) == (MEDIA, [root])
    for accept, status in [("*/*", 200), ("application/taxii+json", 200), ("text/html, " + MEDIA, 200), ("text/html", 406), ("application/taxii+json;version=2.0", 406)]:  # fmt: skip
        assert ask(world, root, key, accept=accept).status_code == status, accept
    assert ask(world, root, other).status_code == 404
    assert ask(world, "/taxii2/globex/", other).status_code == 200
    for query in ("limit=0", "limit=x", "next=%25", "added_after=soon", "match[nonsense]=1", "match[version]=new"):
        refused = ask(world, f"{root}collections/shared/objects/?{query}", key)
        assert (refused.status_code, refused.headers["content-type"]) == (400, MEDIA), query
    assert ask(world, f"{root}collections/nothing/objects/", key).status_code == 404
    assert ask(world, f"{root}collections/shared/objects/indicator--x/", key).status_code == 404
    assert ask(world, f"{root}status/none/", key).status_code == 404
    assert ask(world, "/taxii2/nowhere", key).status_code == 404
    posted = {"headers": {"content-type": MEDIA}, "content": b'{"objects":[]}'}
    assert ask(world, f"{root}collections/shared/objects/", key, "POST", **posted).status_code == 403
    full = world.key(WRITE)
    wrong = ask(
        world,
        f"{root}collections/shared/objects/",
        full,
        "POST",
        headers={"content-type": "application/json"},
        content=b"{}",
    )
    assert wrong.status_code == 415
    for content in (b"{", b"[]", b"\xff", b'{"objects":3}', b"[" * 10_000):
        posted["content"] = content
        assert ask(world, f"{root}collections/shared/objects/", full, "POST", **posted).status_code == 400
    posted["content"] = b'{"objects":[' + b" " * (17 << 20) + b"]}"
    assert ask(world, f"{root}collections/shared/objects/", full, "POST", **posted).status_code == 413


def test_bad_objects_and_red_ones_stay_inside(world):
    full = world.key(WRITE)
    path = f"/taxii2/{TENANT}/collections/shared/objects/"
    card = made(901, description="pays with 4111111111111111")
    red = made(902, object_marking_refs=[stix2.TLP_RED.id])
    beyond = json.loads(made(903).serialize()) | {"pattern": "[domain-name:value LIKE 'x%']"}
    objects = [json.loads(one.serialize()) for one in (card, red)] + [beyond, {"type": "indicator"}, 7]
    answer = ask(
        world, path, full, "POST", headers={"content-type": MEDIA}, content=json.dumps({"objects": objects}).encode()
    )
    told = answer.json()
    assert (answer.status_code, told["success_count"], told["failure_count"]) == (202, 2, 3)
    assert "4111" not in answer.text
    ids = [one["id"] for one in ask(world, path, full).json()["objects"]]
    assert beyond["id"] in ids
    assert red.id not in ids
    assert card.id not in ids
    held = world.platform.library.get(TENANT, beyond["id"])
    assert "intel.pattern.unsupported" in indicator_of(held).held
