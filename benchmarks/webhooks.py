"""Webhooks: verifications a second beside two peers, deliveries a second to an endpoint on this machine.

    python benchmarks/webhooks.py [--deliveries 5000] [--endpoints 1] [--threads 16]

Verifications: one processor, the best of three, in CPU time; the peers run in an environment of their own
(`benchmarks/peers.py`) on the same deliveries. Deliveries: outbox and dispatcher on SQLite, requests over TCP on
loopback, the receiver in another process and on the same processors; wall time.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import random
import socket
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import peers
from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.egress import Egress
from vedette.core.ids import Ids
from vedette.move.outbox import DeliveryStatus, Dispatcher, Outbox, through
from vedette.move.webhooks import sign, verify

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
COUNT = 20_000
PEERS = """
import hashlib, hmac, json, sys, time
now, key, raw_key, body, standard, stamped = json.loads(sys.argv[1])
rates = {}
def measure(name, act, count=20000):
    best = 0
    for _ in range(3):
        start = time.process_time()
        for _ in range(count):
            act()
        best = max(best, count / (time.process_time() - start))
    rates[name] = best
import stripe
measure("stripe", lambda: stripe.WebhookSignature.verify_header(body, stamped["Webhook-Signature"], key, 10**9))
import standardwebhooks
hook = standardwebhooks.Webhook(key)
measure("standardwebhooks", lambda: hook.verify(body, standard))
secret, signed = raw_key.encode(), (standard["webhook-id"] + "." + standard["webhook-timestamp"] + "." + body).encode()
measure("bare HMAC", lambda: hmac.compare_digest(hmac.new(secret, signed, hashlib.sha256).hexdigest(), "x" * 64))
print(json.dumps(rates))
"""


def per_second(act: Callable[[], object]) -> float:
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        for _ in range(COUNT):
            act()
        best = max(best, COUNT / (time.process_time() - start))
    return best


def verifications() -> None:
    now = int(time.time())
    data = {"id": "ch_01jd", "amount_minor": 1999, "currency": "EUR", "merchant": "m_9", "status": "captured"}
    body = json.dumps({"id": "evt_01jd", "type": "charge.captured", "created": "2026-01-01", "data": data}).encode()
    named = {"secret": KEY, "timestamp": now, "message_id": "evt_01jd"}
    standard, stamped = (sign(body, **named, scheme=scheme) for scheme in ("standard", "timestamped"))
    print(f"verifications of {len(body)} bytes, a CPU second")
    for name, headers in (("standard", standard), ("timestamped", stamped)):
        rate = per_second(lambda h=headers, s=name: verify(body, h, scheme=s, secrets=[KEY], now=now))
        print(f"  {'vedette, ' + name:<28}{rate:>12,.0f}")
    two = ["whsec_" + base64.b64encode(bytes(32)).decode(), KEY]
    rate = per_second(lambda: verify(body, standard, scheme="standard", secrets=two, now=now))
    print(f"  {'vedette, two secrets':<28}{rate:>12,.0f}")
    given = json.dumps([now, KEY, base64.b64decode(KEY[6:]).hex(), body.decode(), standard, stamped])
    for name, rate in peers.ask(PEERS, given).items():
        print(f"  {name:<28}{rate:>12,.0f}")


class Receiver(asyncio.Protocol):
    """Answers 200 to every request, as little as HTTP allows."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self.transport, self.held = transport, b""

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self.held += data
        while (end := self.held.find(b"\r\n\r\n")) >= 0:
            head = self.held[:end].lower()
            size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(self.held) < end + 4 + size:
                return
            self.held = self.held[end + 4 + size :]
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


def receive(listening: socket.socket, ready: Event) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Receiver, sock=listening)
        ready.set()
        await server.serve_forever()

    asyncio.run(serve())


def deliveries(count: int, endpoints: int, threads: int) -> None:
    forked = multiprocessing.get_context("fork")
    listening, ready = socket.create_server(("127.0.0.1", 0), backlog=256), forked.Event()
    receiver = forked.Process(target=receive, args=(listening, ready), daemon=True)
    receiver.start()
    ready.wait(10)
    port = listening.getsockname()[1]
    clock, egress = SystemClock(), Egress(allow=["127.0.0.1"])
    with tempfile.TemporaryDirectory() as folder:
        db = open_database(Path(folder) / "money.db")
        outbox = Outbox(db, clock, Ids(clock))
        for n in range(endpoints):
            outbox.add_endpoint("acme", f"http://127.0.0.1:{port}/hook/{n}")
        told = [("charge.captured", {"id": f"ch_{n}", "amount_minor": n, "currency": "EUR"}) for n in range(500)]
        for _ in range(max(count // endpoints // 500, 1)):
            with db.begin() as connection:
                outbox.emit_many(connection, "acme", told)
        rng, secrets_of = random.Random(1), lambda _tenant, _id: [KEY]
        dispatcher = Dispatcher(db, clock, send=through(egress), secrets_of=secrets_of, rng=rng, threads=threads)
        made, wall, cpu = 0, time.monotonic(), time.process_time()
        while turn := dispatcher.run_once():
            made += turn
        dispatcher.close()
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        left = len(outbox.deliveries("acme", status=DeliveryStatus.WAITING))
        print(f"\n{made:,} deliveries to {endpoints} endpoint(s), {threads} threads; {left} left")
        print(f"  {made / wall:,.0f} a second, {cpu / made * 1e6:,.0f} us of CPU each")
        db.close()
    receiver.terminate()
    receiver.join()
    egress.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=5_000)
    parser.add_argument("--threads", type=int, default=16)
    args = parser.parse_args()
    verifications()
    for endpoints in (1, 10):
        deliveries(args.deliveries, endpoints, args.threads)


if __name__ == "__main__":
    main()
