"""Bad requests: one JSON shape, a stable code, the right status, and nothing secret in any of it."""

from __future__ import annotations

import json
import logging
import re
import socket
import subprocess
import sys

import pytest
from serve_world import ALL_SCOPES, MERCHANT, TENANT, card, charge, code_of, fresh

from vedette.core.errors import DataError, PermanentError, TransientError
from vedette.core.signal import Level
from vedette.serve.body import MAX_BODY, MAX_PUSH, PUSHES
from vedette.serve.policy import policies
from vedette.serve.routes import ROUTERS
from vedette.serve.taxii import MEDIA

PAN = "4111111111111111"
SPACED = "4111 1111 1111 1111"
CODE = re.compile(r"[a-z_]+(\.[a-z_]+)+")
TABLE = {}
for _router in ROUTERS:
    TABLE.update(policies(_router.routes))
TAXII = {"title", "description", "error_code", "http_status"}
"""What the standard has in its errors, beside our own shape."""


class _Ids(dict):
    """Ids of nothing, by the name of the path's parameter."""

    def __missing__(self, name):
        return "none"


IDS = _Ids(merchant=MERCHANT, root="acme", collection="shared", role="analyst", type="ip", id="198.51.100.7")


def bodies(world):
    """(method, path, media type, secret that may) of every route with a body."""
    for method, path, operation in world.routes():
        # What is signed is read only when its signature holds: tests/serve/test_hooks.py.
        if "requestBody" in operation and "/hooks/" not in path:
            media = next(iter(operation["requestBody"]["content"]))
            yield method, path.format_map(IDS), media, world.able(TABLE[method, path])


def check(answer, status, code):
    """One shape for all errors."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] in {"application/json", MEDIA}
    error = answer.json()
    assert set(error) - TAXII == {"error"}
    assert set(error["error"]) <= {"code", "message", "hint", "place", "retryable"}
    assert CODE.fullmatch(error["error"]["code"])
    assert error["error"]["code"] == code
    assert error["error"]["message"]


QUERY = {"source": "card_transactions", "batch": "b"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "documents.json.invalid"),
        (b"{", "documents.json.invalid"),
        (b'{"a": 1} x', "documents.json.invalid"),
        (b'{"a": "\xff\xfe"}', "documents.json.encoding"),
        (b"[" * 10_000 + b"]" * 10_000, "documents.json.depth"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "documents.json.depth"),
    ],
    ids=["empty", "cut", "trailing", "not utf-8", "deep arrays", "deep objects"],
)
def test_json_that_cannot_be_read(world, body, code):
    for method, path, media, secret in bodies(world):
        if media == "application/json":
            answer = world.send(
                method, path, secret, content=body, headers={"content-type": media, "idempotency-key": fresh()}
            )
            check(answer, 400, code)


@pytest.mark.parametrize("value", [1, None, "text", [], [{}], True, 1e308])
def test_json_of_another_shape(world, value):
    for method, path, media, secret in bodies(world):
        if media == "application/json":
            answer = world.send(method, path, secret, json_body=value, content=b"null", key=fresh())
            assert 400 <= answer.status_code < 500, (path, answer.text)
            check(answer, answer.status_code, code_of(answer))


def test_fields_that_nobody_knows(world):
    for method, path, media, secret in bodies(world):
        if media == "application/json" and path not in {"/v1/charges", "/v1/payouts"} and "refunds" not in path:
            answer = world.send(method, path, secret, json_body={"nobody_knows": 1}, key=fresh())
            assert answer.status_code in {400, 404}, answer.text
            check(answer, answer.status_code, code_of(answer))


def test_the_wrong_media_type(world):
    for method, path, media, secret in bodies(world):
        wrong = "text/xml" if media == "application/json" else "application/json"
        headers = {"content-type": wrong, "idempotency-key": fresh()}
        check(world.send(method, path, secret, content=b"{}", headers=headers, params=QUERY), 415, "http.media_type")


async def chunks(size):
    for _ in range(size // 65_536 + 1):
        yield b" " * 65_536


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large(world, announced):
    for method, path, media, secret in bodies(world):
        limit = MAX_PUSH if path in PUSHES or path.startswith("/taxii2/") else MAX_BODY
        content = b" " * (limit + 1) if announced else chunks(limit)
        headers = {"content-type": media, "idempotency-key": fresh()}
        check(
            world.send(method, path, secret, content=content, headers=headers, params=QUERY), 413, "http.body.too_large"
        )


def test_a_body_of_the_largest_size_is_read(world):
    padded = json.dumps({"sql": "select 1"}).encode()
    padded += b" " * (MAX_BODY - len(padded))
    assert world.send("POST", "/v1/query", world.full, content=padded).status_code == 200
    line = b'{"x": 1}\n'
    pushed = line + b" " * (MAX_PUSH - len(line))
    answer = world.send("POST", "/v1/events", world.full, content=pushed, params=QUERY | {"batch": fresh()})
    assert answer.status_code == 202


def test_methods_that_a_path_does_not_take(world):
    taken = {}
    for method, path, _ in world.routes():
        taken.setdefault(path, set()).add(method)
    for path, methods in taken.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} - methods:
            shared = [
                other
                for other in taken
                if other != path and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", other), path.format_map(IDS))
            ]
            if any(method in taken[other] for other in shared):
                continue
            answer = world.send(method, path.format_map(IDS), world.full)
            if method == "HEAD":
                assert answer.status_code == 405
            else:
                check(answer, 405, "http.method")
            assert answer.headers["allow"], path


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v2/charges",
        "/v1/charges/",
        "/v1/decisions/",
        "/v1/nothing",
        "/docs",
        "/redoc",
        "/v1/charges/%00/x",
        "//v1/charges",
        "/v1/../v1/nothing",
    ],
)
def test_paths_where_nothing_is(world, path):
    check(world.send("GET", path, world.full), 404, "http.route")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/v1/alerts?limit=abc", "$query.limit"),
        ("/v1/alerts?limit=0", "$query.limit"),
        ("/v1/alerts?limit=501", "$query.limit"),
        ("/v1/alerts?limit=1e3", "$query.limit"),
        ("/v1/alerts?state=sleepy", "$query.state.0"),
        ("/v1/cases?state=sleepy", "$query.state.0"),
    ],
)
def test_parameters_of_the_wrong_type(world, path, place):
    answer = world.send("GET", path, world.full)
    check(answer, 400, "request.field.invalid")
    assert answer.json()["error"]["place"] == place


def test_a_push_without_its_parameters(world):
    answer = world.send("POST", "/v1/events", world.full, content=b"{}\n")
    check(answer, 400, "request.field.invalid")
    answer = world.send("POST", "/v1/events", world.full, content=b"{}\n", params={"source": "no_such", "batch": "b"})
    check(answer, 400, "sources.name.unknown")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "bearer  ", "Token x", "Bearer \x00"])
def test_credentials_of_another_form(world, header):
    for path in ("/v1/decisions", "/v1/cases"):
        answer = world.send("POST", path, headers={"authorization": header}, json_body={})
        check(answer, 401, code_of(answer))


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"amount_minor": -1}, 400, "money.amount.invalid"),
        ({"amount_minor": 0}, 400, "money.amount.invalid"),
        ({"amount_minor": 19.99}, 400, "money.amount.invalid"),
        ({"amount_minor": True}, 400, "money.amount.invalid"),
        ({"amount_minor": "1999"}, 400, "money.amount.invalid"),
        ({"amount_minor": 10**40}, 400, "money.amount.invalid"),
        ({"currency": "XXQ"}, 400, "money.currency.unknown"),
        ({"currency": 978}, 400, "request.field.type"),
        ({"source": "card"}, 400, "charge.source.invalid"),
        ({"merchant": ""}, 400, "request.merchant.invalid"),
        ({"metadata": []}, 400, "request.field.type"),
        ({"surprise": 1}, 400, "request.field.unknown"),
    ],
)
def test_charges_that_make_no_sense(world, change, status, code):
    check(world.post("/v1/charges", world.full, charge(**change), key=fresh()), status, code)


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (None, "request.field.invalid"),
        ("text", "request.field.invalid"),
        ({}, "decision.event.type"),
        (card(1, amount=-5), "decision.event.negative"),
        (card(1, amount="much"), "decision.event.type"),
        (card(1, TX_DATETIME="2036-03-02 10:00:00"), "event.time.future"),
        (card(1, TX_DATETIME="yesterday"), "event.time.unparsable"),
        (card(None), "decision.event.no_id"),
    ],
    ids=lambda each: str(each)[:40],
)
def test_events_that_cannot_be_decided_on(world, event, code):
    answer = world.post("/v1/decisions", world.full, {"event": event})
    assert answer.status_code == 400
    check(answer, 400, code_of(answer))
    if event:
        assert code_of(answer) == code


def test_an_event_id_that_was_decided_on_with_other_data(world):
    assert world.post("/v1/decisions", world.full, {"event": card(77_001)}).status_code == 200
    check(world.post("/v1/decisions", world.full, {"event": card(77_001, amount=99)}), 409, "decision.event.conflict")


# Errors that nobody sent


@pytest.mark.parametrize(
    "case",
    [
        (TransientError("store.busy.now", "busy", retry_after=1.2), 503, "store.busy.now"),
        (PermanentError("log.closed", "closed"), 503, "log.closed"),
        (DataError("log.file.damaged", "damaged"), 500, "log.file.damaged"),
        (RuntimeError(f"token vk_live_{'s' * 43} card {PAN}"), 500, "http.internal"),
        (ZeroDivisionError(), 500, "http.internal"),
    ],
    ids=lambda case: type(case[0]).__name__,
)
def test_errors_of_our_own(world, monkeypatch, caplog, case):
    error, status, code = case

    def fail(*_args, **_more):
        raise error

    monkeypatch.setattr(world.platform.alerts, "page", fail)
    monkeypatch.setattr(world.platform.desk, "take", fail)
    with caplog.at_level(logging.DEBUG, logger="vedette"):
        listed = world.send("GET", "/v1/alerts", world.full)
        decided = world.post("/v1/decisions", world.full, {"event": {}})
    for answer in (listed, decided):
        check(answer, status, code)
        assert PAN not in answer.text
        assert "vk_live" not in answer.text
    if isinstance(error, TransientError):
        assert listed.headers["retry-after"] == decided.headers["retry-after"] == "2"
    assert PAN not in caplog.text
    assert "vk_live" not in caplog.text
    if status == 500 and code == "http.internal":
        assert "/v1/alerts" in caplog.text


# Secrets and card numbers


def places():
    """Every place of a request that a card number may be put in by mistake."""
    yield "POST", "/v1/charges", {"json_body": charge(source=PAN), "key": fresh()}
    yield "POST", "/v1/charges", {"json_body": charge(source=f"tok_{PAN}"), "key": fresh()}
    yield "POST", "/v1/charges", {"json_body": charge(metadata={"card": SPACED}), "key": fresh()}
    yield "POST", "/v1/charges", {"json_body": charge(metadata={PAN: "x"}), "key": fresh()}
    yield "POST", "/v1/charges", {"json_body": charge(merchant=PAN), "key": fresh()}
    yield "POST", "/v1/charges", {"json_body": {PAN: 1}, "key": fresh()}
    yield "POST", "/v1/charges", {"json_body": charge(), "key": PAN}
    yield "POST", "/v1/decisions", {"json_body": {"event": card(5, note=PAN)}}
    yield "POST", "/v1/decisions", {"json_body": {"event": card(PAN)}}
    yield "POST", "/v1/decisions", {"json_body": {"event": card(6), "source": PAN}}
    yield "POST", "/v1/labels", {"json_body": {"event_id": PAN, "fraud": True}}
    yield "POST", "/v1/cases", {"json_body": {"title": f"the card {SPACED} was used"}}
    yield "POST", "/v1/query", {"json_body": {"sql": f"select '{PAN}'"}}
    yield "POST", "/v1/payouts", {"json_body": {"amount_minor": 1, "currency": "EUR", "merchant": PAN}, "key": fresh()}
    yield "GET", f"/v1/charges/{PAN}", {}
    yield "GET", f"/v1/decisions/{PAN}", {}
    yield "GET", f"/v1/alerts/{PAN}", {}
    yield "GET", f"/v1/nothing/{PAN}", {}
    yield "GET", f"/v1/alerts?limit={PAN}", {}
    yield "PUT", f"/v1/charges/{PAN}", {}


def test_card_numbers_come_back_nowhere_and_stay_nowhere(world, caplog):
    with caplog.at_level(logging.DEBUG, logger="vedette"):
        for method, path, request in places():
            answer = world.send(method, path, world.full, **request)
            assert 400 <= answer.status_code < 500, (path, request, answer.text)
            for text in (answer.text, str(answer.headers)):
                assert PAN not in text, (path, text)
                assert SPACED not in text, (path, text)
        world.platform.drain()
    assert PAN not in caplog.text
    assert SPACED not in caplog.text
    for file in world.platform.settings.home.rglob("*"):
        if file.is_file():
            raw = file.read_bytes()
            assert PAN.encode() not in raw, file
            assert SPACED.encode() not in raw, file


def test_the_search_for_card_numbers_would_find_one(world):
    """Planted: what the check above looks for is found in the files when it is there."""
    case = world.platform.cases.open(TENANT, f"planted {PAN[:-1]}2", operator="system", level=Level.LOW)
    assert case
    assert any(
        f"{PAN[:-1]}2".encode() in file.read_bytes()
        for file in world.platform.settings.home.rglob("state.db*")
        if file.is_file()
    )


def test_secrets_are_told_once_and_nowhere_else(world, caplog):
    with caplog.at_level(logging.DEBUG, logger="vedette"):
        made = world.post("/v1/keys", world.chief, {"scopes": "charges:write"})
        assert made.status_code == 201
        secret = made.json()["secret"]
        hook = world.post("/v1/webhooks", world.full, {"url": "https://merchant.example/hook"}).json()["secret"]
        answers = [
            world.send("GET", "/v1/keys", world.chief),
            world.send("GET", "/v1/webhooks/deliveries", world.full),
            world.post("/v1/charges", secret, {"nonsense": secret}, key=fresh()),
            world.send("GET", "/v1/alerts", secret),
            world.send("DELETE", f"/v1/keys/{made.json()['id']}", world.chief),
            world.send("GET", "/v1/alerts", secret),
        ]
    for each in (secret, hook):
        for answer in answers:
            assert each not in answer.text
        assert each not in caplog.text
    world.platform.drain()
    held = [file for file in world.platform.settings.home.rglob("*") if file.is_file()]
    assert not [file for file in held if secret.encode() in file.read_bytes()]
    assert [file.parent.name for file in held if hook.encode() in file.read_bytes()] == ["secrets"]


def test_no_repr_of_what_serves_shows_a_secret(world):
    issued = world.issue(ALL_SCOPES)
    shown = repr(issued) + repr(world.platform.settings) + repr(world.platform.access.authenticate(issued.secret))
    assert issued.secret.reveal() not in shown


def test_the_count_of_requests_has_templates_and_no_paths(world):
    world.send("GET", "/v1/charges/ch_secret_looking", world.full)
    world.send("GET", "/v1/nothing/at/all", world.full)
    world.send("PUT", "/v1/charges/ch_other", world.full)
    world.send("GET", "/v1/entities/ip/203.0.113.7/events", world.full)
    known = {path for _, path, _ in world.routes()} | {"unrouted", "/openapi.json"}
    text = world.platform.meters.text().decode()
    labels = set(re.findall(r'vedette_http_requests_total\{route="([^"]*)"', text))
    assert labels <= known, labels - known
    assert {"/v1/charges/{charge_id}", "/v1/entities/{type}/{id}/events"} <= labels


def test_an_address_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "vedette", "serve", "--port", port, "--home", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: 127.0.0.1:{port}: address already in use [serve.address.refused]")
