"""The other systems, as real servers on loopback that behave as their APIs do, and count effects.

Each keeps `effects`: what really changed or was taken in. `fault` breaks the next answers: `500`, `429`, `garbage`,
`silence`, or `lost`: the request has its effect and its answer never arrives.
"""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("500", "429", "garbage", "silence")
SILENCE_S = 0.4


class Remote:
    """A fake API. Subclasses have `handle(method, path, headers, body) -> (status, answer)`."""

    token = "tok-very-secret-8a6d1f"

    def __init__(self):
        self.effects = []
        self.requests = []
        self.faults = []
        self.lock = threading.Lock()

    def once(self, key, *what):
        """An effect that the API counts once by its key."""
        if not any(held[0] == key for held in self.effects):
            self.effects.append((key, *what))

    def connection(self, url):
        return {"url": url, "token": self.token}

    def writes(self):
        """Requests that may change something."""
        return [each for each in self.requests if each[0] not in ("GET", "HEAD")]

    def answer(self, method, path, headers, body):
        with self.lock:
            self.requests.append((method, path, dict(headers)))
            fault = self.faults.pop(0) if self.faults else ""
            if fault == "500":
                return 500, {"trace": self.token}
            if fault == "429":
                return 429, {"retry": True}
            if fault == "garbage":
                return 200, b"\x00<html>{"
            status, answer = self.handle(method, path, headers, body)
            return (500, {}) if fault == "lost" else (fault == "silence" and -1) or status, answer


def respond(answered):
    status, answer = answered
    if isinstance(status, tuple):
        status, answer = status
    return status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()


@contextmanager
def serve(remote):
    """The remote on a port of loopback; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, content = respond(remote.answer(self.command, self.path, self.headers, body))
            if status == -1:
                time.sleep(SILENCE_S)
                self.close_connection = True
                return
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "7")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if status != 204:
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - names of the library

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Okta(Remote):
    """Users API: suspending a suspended user is an error 400, as is unsuspending an active one."""

    def __init__(self):
        super().__init__()
        self.users = {"u1": "ACTIVE"}
        self.sessions = {"u1": 2}

    def handle(self, method, path, headers, _body):
        if headers.get("authorization") != f"SSWS {self.token}":
            return 401, {"errorCode": "E0000011"}
        match = re.fullmatch(r"/api/v1/users/([^/]+)(/.*)?", urlsplit(path).path)
        user, rest = match[1], match[2] or ""
        if user not in self.users:
            return 404, {"errorCode": "E0000007"}
        if method == "GET":
            return 200, {"id": user, "status": self.users[user]}
        if rest == "/sessions":
            if self.sessions[user]:
                self.effects.append((user, "sessions"))
            self.sessions[user] = 0
            return 204, b""
        wanted = {"/lifecycle/suspend": ("ACTIVE", "SUSPENDED"), "/lifecycle/unsuspend": ("SUSPENDED", "ACTIVE")}[rest]
        if self.users[user] != wanted[0]:
            return 400, {"errorCode": "E0000001"}
        self.users[user] = wanted[1]
        self.effects.append((user, wanted[1]))
        return 200, {}

    def state(self):
        return dict(self.users)


class Scim(Remote):
    """RFC 7644 users."""

    def __init__(self):
        super().__init__()
        self.users = {"u1": True}

    def handle(self, method, path, headers, body):
        if headers.get("authorization") != f"Bearer {self.token}":
            return 401, {}
        user = path.rpartition("/")[2]
        if user not in self.users:
            return 404, {}
        if method == "PATCH":
            assert headers["content-type"] == "application/scim+json"
            (change,) = json.loads(body)["Operations"]
            if self.users[user] != change["value"]:
                self.effects.append((user, change["value"]))
            self.users[user] = change["value"]
        return 200, {"id": user, "active": self.users[user]}

    def state(self):
        return dict(self.users)


class GitHub(Remote):
    """Credential revocation: 202 whatever they were; `/user` with a revoked token is 401."""

    leaked = "ghp_leaked-7b1d"

    def __init__(self):
        super().__init__()
        self.live = {self.leaked}

    def handle(self, method, path, headers, body):
        if path == "/credentials/revoke":
            for token in json.loads(body)["credentials"]:
                if token in self.live:
                    self.live.discard(token)
                    self.effects.append(("revoked",))
            return 202, {}
        return (200, {"login": "ada"}) if headers["authorization"].split()[1] in self.live else (401, {})

    def state(self):
        return len(self.live)


class Fleet(Remote):
    """One host that answers queries."""

    def handle(self, method, path, headers, body):
        if headers.get("authorization") != f"Bearer {self.token}":
            return 401, {}
        if method == "GET":
            return 200, {"host": {"hostname": "mac-1", "platform": "darwin", "status": "online"}}
        assert json.loads(body)["query"].startswith("select")
        return 200, {"host_id": 1, "status": "online", "error": None, "rows": [{"pid": "1", "name": "launchd"}]}

    def state(self):
        return 1


class Keyed(Remote):
    """A receiver that counts each `Idempotency-Key` once: tickets and chat."""

    def handle(self, method, path, headers, body):
        assert headers.get("authorization") == f"Bearer {self.token}"
        told = json.loads(body)
        if told.get("state") == "closed":
            self.effects = [each for each in self.effects if each[0] != told["id"]]
        else:
            self.once(headers["idempotency-key"], told.get("title", told.get("text")))
        return 200, {"id": "T-1"}

    def state(self):
        return list(self.effects)


class Pager(Remote):
    """Events API v2: one incident for each `dedup_key`."""

    def connection(self, url):
        return {"url": url, "routing_key": self.token}

    def handle(self, method, path, headers, body):
        told = json.loads(body)
        assert (path, told["routing_key"]) == ("/v2/enqueue", self.token)
        if told["event_action"] == "resolve":
            self.effects = [each for each in self.effects if each[0] != told["dedup_key"]]
        else:
            assert told["payload"]["severity"] in ("info", "warning", "error", "critical")
            self.once(told["dedup_key"], told["payload"]["summary"])
        return 202, {"status": "success", "dedup_key": told["dedup_key"]}

    def state(self):
        return list(self.effects)


class Splunk(Remote):
    """The HTTP event collector; searches count events by their field `key`."""

    def handle(self, method, path, headers, body):
        if headers.get("authorization") != f"Splunk {self.token}":
            return 403, {"text": "Invalid token", "code": 4}
        told = json.loads(body)
        assert path == "/services/collector/event"
        assert re.fullmatch(r"[0-9a-f-]{36}", headers["x-splunk-request-channel"])
        self.once(told["event"]["key"], told["event"]["text"])
        return 200, {"text": "Success", "code": 0}

    def state(self):
        return list(self.effects)
