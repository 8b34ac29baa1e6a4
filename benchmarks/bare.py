"""A server that only computes, for `serve.py --bare`: what a machine does to whoever computes as long as a decision.

    python benchmarks/bare.py PORT

One thread of one process reads a request, decodes and encodes a record of a decision's size so often that it costs
nearly what the worker of `vedette serve` uses for a decision at the same speed of the machine, and answers with it. It
has no disk, no lock, no second thread and no second process, and keeps nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import cast

import uvloop

from vedette.core.turns import come_first

FEATURES, RULES = 112, 51
TIMES = 3
"""How often the record is decoded and encoded: .7 CPU ms where the worker uses .7 to .85. A thread that is busy all the
time would say nothing."""
RECORD = json.dumps(
    {
        "event_id": "1238694",
        "reasons": [
            {"code": f"model.{n}", "text": "terminal count 60d is 83, which lowers the risk"} for n in range(5)
        ],
        "rules": [{"id": f"rule_{n}", "action": "review", "result": "quiet"} for n in range(RULES)],
        "features": {f"customer_mean_before_{n}d": n * 1.37 for n in range(FEATURES)},
        "event": {f"field_{n}": str(n) for n in range(24)},
    }
)


class Computing(asyncio.Protocol):
    """One connection, one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        self._transport, self._got = cast(asyncio.Transport, transport), b""

    def data_received(self, data: bytes) -> None:
        """Some of a request is here, or all of it."""
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if not end or len(body) < length:
            return
        self._got = b""
        json.loads(body)
        text = RECORD
        for _ in range(TIMES):
            text = json.dumps(json.loads(text))
        answer = text.encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Computing, "127.0.0.1", port)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    given = parser.parse_args()
    come_first()
    uvloop.run(serve(given.port))
