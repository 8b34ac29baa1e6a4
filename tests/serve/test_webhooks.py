"""A webhook arrives: added over HTTP, caused by a charge, sent by the service's own dispatcher, signed with its secret."""

import http.server
import json
import threading

import pytest
from serve_world import World, charge, fresh

from vedette.move.webhooks import verify


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        content = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.append(({name.lower(): value for name, value in self.headers.items()}, content))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_args):
        pass


@pytest.fixture
def receiver():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.taken = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_charge_reaches_the_merchant_signed(tmp_path, receiver):
    world = World(tmp_path, egress="127.0.0.1")
    try:
        url = f"http://127.0.0.1:{receiver.server_port}/hook"
        hook = world.post("/v1/webhooks", world.full, {"url": url}).json()
        made = world.post("/v1/charges", world.full, charge(), key=fresh()).json()
        while world.platform.dispatcher.run_once():
            pass
        deliveries = world.send("GET", "/v1/webhooks/deliveries", world.full).json()["data"]
        assert [(each["status"], each["error"]) for each in deliveries] == [("delivered", "")] * len(deliveries)
        assert deliveries
        now = world.platform.clock.now() // 1_000_000
        bodies = []
        for headers, content in receiver.taken:
            assert verify(content, headers, scheme="standard", secrets=[hook["secret"]], now=now)
            bodies.append(json.loads(content))
        assert any(made["id"] in json.dumps(body) for body in bodies)
    finally:
        world.close()
