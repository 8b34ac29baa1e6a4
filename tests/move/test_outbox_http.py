"""Webhooks over real HTTP on loopback, through the one way out."""

import http.server
import random
import threading

import pytest
from money_world import SECRET, TENANT, World, charge

from vedette.core.egress import Egress
from vedette.move.outbox import Dispatcher, through
from vedette.move.webhooks import verify


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((self.path, dict(self.headers), body))
        status = self.server.replies.pop(0) if self.server.replies else 200
        self.send_response(status)
        if status == 302:
            self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.seen, server.replies = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def dispatcher(world, egress):
    return Dispatcher(world.db, world.clock, send=through(egress), secrets_of=lambda *_: [SECRET], rng=random.Random(1))


def test_signed_delivered_and_never_redirected(db, clock, receiver):
    world = World(db, clock)
    world.outbox.add_endpoint(TENANT, f"http://127.0.0.1:{receiver.server_port}/hook")
    world.charges.create(TENANT, "k1", charge())
    receiver.replies = [302, 200]
    egress = Egress(allow=["127.0.0.1"])
    sending = dispatcher(world, egress)
    assert sending.run_once() == 1
    assert [path for path, _, _ in receiver.seen] == ["/hook"], "the redirect was not followed"
    clock.advance(10)
    assert sending.run_once() == 1
    (_, first, body), (_, second, again) = receiver.seen
    assert (first["webhook-id"], body) == (second["webhook-id"], again)
    assert verify(again, second, scheme="standard", secrets=[SECRET], now=clock.now() // 1_000_000)
    assert [d.status for d in world.outbox.deliveries(TENANT)] == ["delivered"]
    egress.close()


def test_a_private_address_is_not_reached(db, clock, receiver):
    world = World(db, clock)
    world.outbox.add_endpoint(TENANT, f"https://127.0.0.1:{receiver.server_port}/hook")
    world.charges.create(TENANT, "k1", charge())
    egress = Egress()
    dispatcher(world, egress).run_once()
    (delivery,) = world.outbox.deliveries(TENANT)
    assert (delivery.status, delivery.error) == ("waiting", "egress.address.refused")
    assert not receiver.seen
    egress.close()
