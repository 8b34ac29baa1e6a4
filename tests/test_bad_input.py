"""Bad input never wins: each kind, through the real command and through HTTP, is told by a code and a place or kept in
quarantine; memory stays bounded; and what comes after it is read all the same."""

import asyncio
import gzip
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from vedette.core.clock import SystemClock
from vedette.core.content import shipped
from vedette.core.settings import Settings
from vedette.prove.access import Level, Mode
from vedette.run.platform import Platform
from vedette.serve.app import build_app

ROOT = Path(__file__).resolve().parents[1]
MEGABYTES = 512
"""No child may ever hold more. Libraries and a platform take up to 350 (what an allocator keeps differs from machine to
machine), a line may have 16; the inputs would take from 500 MB to some GB."""
CODE = re.compile(r"\[[a-z_]+(\.[a-z_0-9]+)+\]")


LAUNCHER = """
import os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, "-m", "vedette", *sys.argv[2:]], os.environ)
_, status, usage = os.wait4(pid, 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status) & 255)
"""
"""Starts the command from a small process: what a child is said to have held at most includes its parent's memory."""


class Done(NamedTuple):
    code: int
    out: str
    err: str
    megabytes: int


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bad")


@pytest.fixture(scope="module")
def command(folder):
    """Runs the real command as a process of its own; a traceback or too much memory fails at once."""
    env = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"], "HOME": str(folder), "COLUMNS": "200"}

    def run(*arguments):
        words = [sys.executable, "-ISc", LAUNCHER, folder / "memory", *arguments]
        ran = subprocess.run([*map(str, words)], capture_output=True, env=env, check=False, timeout=300)
        texts = [text.decode(errors="replace") for text in (ran.stdout, ran.stderr)]
        done = Done(ran.returncode, *texts, int((folder / "memory").read_text()) >> 10)
        assert "Traceback" not in done.err, done.err
        assert done.code in (0, 1, 2), done
        assert done.megabytes < MEGABYTES, done.megabytes
        return done

    return run


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
DEEP = "[" * 10_000 + "]" * 10_000
TEXTS = {
    "broken": b"title: [1\nid: 2\n",
    "alias bomb": BOMB.encode(),
    "deep": f"a: {DEEP}\n".encode(),
    "not UTF-8": b"title: \xff\xfe\n",
    "a key twice": b"name: a\nname: b\n",
    "another shape": b"42\n",
    "50 MB": b"title: " + b"a" * (50 << 20),
}
CARD = "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT\n1,2026-01-01 00:00:00,c,t,5\n"
TRAINING = ["--train-start", "2026-01-01", "--train-days", 2]
DEFINITIONS = {
    "source": ("sources/x.yaml", lambda file, _csv: ["sources", "--sources", file.parent]),
    "playbook": ("playbook.yaml", lambda file, _csv: ["playbook", "check", file]),
    "payment rules": ("payment.yaml", lambda file, csv: ["decide", "--rules", file, "--events", csv]),
    "lists": (
        "lists.yaml",
        lambda file, csv: [
            *("decide", "--rules", shipped("rules/payment") / "starter.yaml", "--lists", file, "--events", csv)
        ],
    ),
    "features": (
        "features.yaml",
        lambda file, csv: [
            *("model", "train", "--features", file, "--events", csv, *TRAINING, "--out", file.parent / "m")
        ],
    ),
    "settings": ("settings.toml", lambda file, _csv: ["alerts", "--config", file]),
    "model": ("model/model.json", lambda file, _csv: ["model", "show", "--model", file.parent]),
}


def assert_told(done, *words):
    """Refused with a code, and with the place."""
    assert done.code == 2, done
    assert CODE.search(done.err), done.err
    for word in words:
        assert word in done.err, (word, done.err)


@pytest.mark.parametrize("kind", DEFINITIONS)
@pytest.mark.parametrize("what", TEXTS)
def test_a_definition_that_cannot_be_read(kind, what, command, folder):
    name, arguments = DEFINITIONS[kind]
    path = folder / "definitions" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / "card.csv").write_text(CARD)
    path.write_bytes(TEXTS[what])
    try:
        assert_told(command(*arguments(path, folder / "card.csv")), path.name)
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        ("settings", f"a = {DEEP}\n", "settings.file.invalid"),
        ("settings", "tenat = 'x'\n", "settings.toml:1:1: unknown setting `tenat` [settings.key.unknown]"),
        ("settings", "\nlog_partitions = 'x'\n", "settings.toml:2:1: `log_partitions` is not a valid int"),
        ("model", DEEP, "model.file.invalid"),
        ("model", '{"a":' * 10_000 + "1" + "}" * 10_000, "model.file.invalid"),
        ("payment rules", "block if :amount_in_usdd: > 5\n", "payment.yaml:1:10: "),
        ("payment rules", "block if :amount_in_usd: > 'much'\n", "payment.yaml:1:"),
        ("source", "name: x\nabout: y\norigin: real samples\nlogsource: {}\nsurprise: 1\n", "x.yaml"),
        ("playbook", "id: x\nversion: 1\nsurprise: 1\n", "playbook.yaml:3:11: unknown field `surprise`"),
        ("features", "source: card_transactions\nsurprise: 1\n", "features.yaml:2:11: unknown key `surprise`"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_definition_that_says_something_wrong(kind, text, code, command, folder):
    name, arguments = DEFINITIONS[kind]
    path = folder / "definitions" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / "card.csv").write_text(CARD)
    path.write_text(text)
    try:
        assert_told(command(*arguments(path, folder / "card.csv")), code)
    finally:
        path.unlink()


RULE = """title: t
id: 11111111-2222-4333-8444-{number:012}
logsource: {{product: aws, service: cloudtrail}}
detection: {{sel: {{{field}: {value}}}, condition: {condition}}}
"""
RULES = {
    "good.yml": RULE.format(number=1, field="eventName", value="n1", condition="sel"),
    "regex.yml": RULE.format(number=2, field="eventName|re", value="'(a'", condition="sel"),
    "lookbehind.yml": RULE.format(number=3, field="eventName|re", value="'(?<=a)(b+)+\\1'", condition="sel"),
    "condition.yml": RULE.format(number=4, field="eventName", value="n1", condition="sel and other"),
    "modifier.yml": RULE.format(number=5, field="eventName|surprise", value="n1", condition="sel"),
}


def test_rules_that_cannot_be_read_are_named_and_the_others_run(command, folder):
    place = folder / "rules"
    place.mkdir()
    for number, raw in enumerate(TEXTS.values()):
        (place / f"text{number}.yml").write_bytes(raw)
    for name, text in RULES.items():
        (place / name).write_text(text)
    (folder / "one.ndjson").write_bytes(event(1))
    done = command("detect", "--no-cache", "--rules", place, "--counts", folder / "one.ndjson")
    answer = json.loads(done.out)
    assert (done.code, answer["rules"]["loaded"]) == (0, 1)
    assert answer["matches"] == {"11111111-2222-4333-8444-000000000001": 1}
    assert len(answer["rules"]["skipped"]) == len(TEXTS) + len(RULES) - 1
    assert all(each["id"] and each["reason"] for each in answer["rules"]["skipped"])
    checked = command("rules", "check", place)
    assert checked.code == 1
    for name in [*RULES, *(f"text{number}.yml" for number in range(len(TEXTS)))]:
        assert (name in checked.out) == (name != "good.yml"), name


# Records


def event(number, name="", *, year=2026, **more):
    data = {
        "eventID": name or f"e{number}",
        "eventTime": f"{year}-01-01T00:00:{number:02}Z",
        "eventVersion": "1",
        "eventSource": "s",
        "eventName": f"n{number}",
    }
    return json.dumps(data | more).encode() + b"\n"


DEEP_RECORD = event(2)[:-2] + b', "a": ' + DEEP.encode() + b"}\n"
BAD = [
    (b'{"a": "' + b"x" * (50 << 20) + b'"}\n', "files.line.too_long"),
    (b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"\n", "sources.json.depth"),
    (DEEP_RECORD, "sources.json.depth"),
    (b'{"Records": [' + DEEP.encode() + b"]}\n", "sources.json.depth"),
    (event(3, eventTime=5, eventName={}, eventSource=[]), "event.time.unparsable"),
    (b"[1]\n", "sources.json.not_object"),
    (b"no json\n", "sources.json.syntax"),
    (event(4, "far", year=2036), "event.time.future"),
    (b'{"x": "\xff"}\n', "sources.json.encoding"),
    (b'{"eventName": 1e400}\n', "sources.json.syntax"),
    (b'{"eventName": "\\ud800", "eventTime": "2026-01-01T00:00:00Z"}\n', "sources.json.syntax"),
]
GOOD = ["e1", "e6", "e7", "e8", "e9"]


@pytest.fixture(scope="module")
def logs(folder):
    """A folder of logs in which every kind of bad input stands before good input."""
    place = folder / "logs"
    place.mkdir()
    bad = b"".join(each + (event(6) if number == 5 else b"") for number, (each, _) in enumerate(BAD))
    (place / "a.ndjson").write_bytes(event(1) + bad + event(1) + event(6) + event(7))
    whole = gzip.compress(event(8) + b"".join(event(8) for _ in range(3_000)))
    (place / "half.ndjson.gz").write_bytes(whole[: len(whole) // 2])
    with gzip.open(place / "bomb.ndjson.gz", "wb") as file:
        for _ in range(300):
            file.write(b"0" * (1 << 20))
    (place / "not.ndjson.gz").write_bytes(b"hello\n")
    (place / "z.ndjson").write_bytes(event(9))
    return place


FILES = {"files.gzip.truncated": 1, "files.gzip.ratio": 1, "files.gzip.not_gzip": 1}


def wanted():
    found = dict(FILES)
    for _, code in BAD:
        found[code] = found.get(code, 0) + 1
    return found


def in_store(command, home):
    rows = command("query", "--home", home, "--json", "select code, line from quarantine")
    codes: dict[str, int] = {}
    for row in map(json.loads, rows.out.splitlines()):
        codes[row["code"]] = codes.get(row["code"], 0) + 1
        assert row["line"] > 0
    ids = command("query", "--home", home, "--json", "select id from cloudtrail order by id")
    return codes, [json.loads(line)["id"] for line in ids.out.splitlines()]


@pytest.mark.parametrize("verb", [("ingest",), ("pipeline", "run")], ids=" ".join)
def test_bad_records_are_kept_and_good_ones_stored(verb, command, folder, logs):
    home = folder / verb[0]
    done = command(*verb, "--json", "--home", home, logs)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    counts = told.get("sources", told).values()
    taken = sum(each.get("stored", 0) + each.get("appended", 0) for each in counts)
    read, refused, twice = (sum(each[what] for each in counts) for what in ("read", "quarantined", "duplicate"))
    assert read == taken + refused + twice
    assert refused == sum(wanted().values())
    codes, ids = in_store(command, home)
    assert codes == wanted()
    assert ids == GOOD, "each once, though three came twice or more"


def test_detect_counts_bad_records_and_goes_on(command, folder, logs):
    (folder / "rule").mkdir()
    (folder / "rule" / "good.yml").write_text(RULES["good.yml"].replace("n1", "n9"))
    done = command("detect", "--no-cache", "--counts", "--rules", folder / "rule", logs)
    answer = json.loads(done.out)
    assert (done.code, sum(answer["matches"].values())) == (0, 1), "the last file's match is found"
    timely = [code for _, code in BAD if not code.startswith("event.time")]
    assert answer["quarantined"] == len(timely) + len(FILES), "a record without a readable time is matched all the same"


@pytest.mark.parametrize("verb", ["ingest", "detect", "pipeline", "decide"])
def test_a_named_file_that_is_none(verb, command, folder):
    (folder / "liar.ndjson.gz").write_bytes(b"hello\n")
    rules = ["--rules", shipped("rules/sigma"), "--no-cache"]
    for name, code in (("liar.ndjson.gz", "files.gzip.not_gzip"), ("nothing.ndjson", "files.path.missing")):
        file = folder / name
        words = {
            "ingest": ["ingest", "--home", folder / "none", file],
            "detect": ["detect", *rules, file],
            "pipeline": ["pipeline", "run", "--home", folder / "none", file],
            "decide": ["decide", "--events", file],
        }
        assert_told(command(*words[verb]), code, name)


PAYMENTS = [
    ({"TX_AMOUNT": -5}, "decision.event.negative"),
    ({"TX_AMOUNT": "much"}, "decision.event.type"),
    ({"TX_DATETIME": "2099-01-01T00:00:00Z"}, "event.time.future"),
    ({"TX_DATETIME": [1]}, "event.time.unparsable"),
    ({"TRANSACTION_ID": None}, "decision.event.no_id"),
    ({"TRANSACTION_ID": {"a": 1}}, "decision.event.no_id"),
    ({"CUSTOMER_ID": "4111111111111111"}, "request.pan_refused"),
]


def payment(number, **more):
    base = {"TRANSACTION_ID": f"t{number}", "TX_DATETIME": "2026-01-01T00:00:00Z"}
    return base | {"CUSTOMER_ID": "c1", "TERMINAL_ID": "t1", "TX_AMOUNT": 5.0} | more


def test_decide_refuses_bad_payments_and_goes_on(command, folder):
    lines = [json.dumps(payment(0)).encode()]
    lines += [json.dumps(payment(number, **more)).encode() for number, (more, _) in enumerate(PAYMENTS, 1)]
    lines += [b"no json", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b'"' + b"x" * (50 << 20) + b'"']
    codes = [code for _, code in PAYMENTS] + ["sources.json.syntax", "sources.json.depth", "files.line.too_long"]
    lines += [json.dumps(payment(0)).encode(), json.dumps(payment(99)).encode()]
    (folder / "payments.ndjson").write_bytes(b"\n".join(lines) + b"\n")
    done = command("decide", "--events", folder / "payments.ndjson", "--json")
    decided = [json.loads(line) for line in done.out.splitlines()]
    assert [each["event_id"] for each in decided] == ["t0", "t0", "t99"]
    assert decided[0] == decided[1], "the same event has the same decision"
    refused = [json.loads(line) for line in done.err.splitlines()]
    assert {each["line"]: each["error"]["code"] for each in refused} == dict(enumerate(codes, 2))
    assert "4111111111111111" not in done.err + done.out


# HTTP


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    opened = Platform(Settings(home=tmp_path_factory.mktemp("http")), clock=SystemClock())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def call(platform):
    """One request to the real application, with a key of a tenant of its own."""
    app = build_app(platform)
    keys = {}
    for tenant in ("acme", "other"):
        platform.access.create_tenant(tenant)
        platform.desk.service(tenant)
        scopes = dict.fromkeys(("events", "decisions", "charges", "playbooks", "alerts", "cases"), Level.WRITE)
        keys[tenant] = platform.access.issue_key(tenant, scopes=scopes, mode=Mode.TEST).secret.reveal()

    def send(method, path, content=b"", tenant="acme", **headers):
        async def run():
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                given = {"authorization": f"Bearer {keys[tenant]}", **headers}
                return await client.request(method, path, content=content, headers=given)

        return asyncio.run(run())

    return send


def assert_refused(answer, status, code, place=None):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code, error
    if place is not None:
        assert error["place"] == place, error


def charge(**more):
    base = {"amount_minor": 500, "currency": "EUR", "source": "tok_1", "merchant": "m1", "metadata": {}}
    return json.dumps(base | more).encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "documents.json.invalid"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "documents.json.depth"),
        (b'{"event": {}, "event": {}}', "documents.json.duplicate_key"),
        (b"\xff", "documents.json.encoding"),
        (b'{"event": {"a": NaN}}', "documents.json.number"),
        (b'{"event": {"a": "\\ud800"}}', "documents.json.surrogate"),
        *((json.dumps({"event": payment(7, **more)}).encode(), code) for more, code in PAYMENTS),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_bad_decision_request(body, code, call):
    answer = call("POST", "/v1/decisions", body)
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    assert error["code"] == code, error
    assert error["place"]
    assert "4111111111111111" not in answer.text
    good = call("POST", "/v1/decisions", json.dumps({"event": payment(1000)}).encode())
    assert (good.status_code, good.json()["event_id"]) == (200, "t1000")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"amount_minor": -5}, "money.amount.invalid"),
        ({"amount_minor": "5"}, "money.amount.invalid"),
        ({"currency": "XXQ"}, "money.currency.unknown"),
        ({"source": "4111111111111111"}, "request.pan_refused"),
        ({"surprise": 1}, "charge.field.unknown"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_bad_charge(more, code, call):
    answer = call("POST", "/v1/charges", charge(**more), **{"idempotency-key": f"bad{code}{sorted(more)}"})
    error = answer.json()["error"]
    assert 400 <= answer.status_code < 500, answer.text
    assert error["code"].split(".")[0] in {code.split(".")[0], "request"}, error
    assert next(iter(more)) in json.dumps(error)
    assert "4111111111111111" not in answer.text


def test_an_oversized_body(call):
    assert_refused(call("POST", "/v1/decisions", b" " * ((1 << 20) + 1)), 413, "http.body.too_large")
    assert_refused(
        call("POST", "/v1/events?source=cloudtrail&batch=b", b" " * ((16 << 20) + 1)), 413, "http.body.too_large"
    )


def test_a_push_with_bad_records_keeps_the_good_ones(call, platform):
    small = [(raw, code) for raw, code in BAD if len(raw) < 1 << 20]
    body = b"".join(raw for raw, _ in small) + event(1) + event(1)
    for again in (False, True):
        answer = call("POST", "/v1/events?source=cloudtrail&batch=one", body)
        assert answer.status_code == 202, answer.text
        counts = answer.json()["cloudtrail"]
        assert counts["read"] == len(small) + 2
        assert (counts["quarantined"], counts["duplicate"]) == ((0, len(small) + 2) if again else (len(small), 0))
    platform.drain()
    assert platform.store.table("cloudtrail").dataset(["acme"]).to_table()["id"].to_pylist() == ["e1"]
    assert_refused(call("POST", "/v1/events?source=nope&batch=one", body), 400, "sources.name.unknown", "$query.source")
    too_long = call("POST", f"/v1/events?source=cloudtrail&batch={'x' * 201}", body)
    assert_refused(too_long, 400, "intake.batch.too_long", "$query.batch")


def test_whole_numbers_of_any_size_are_stored(call, platform):
    huge = 2**70
    body = json.dumps({"event": payment(500, NOTE=huge)}).encode()
    assert call("POST", "/v1/decisions", body).status_code == 200
    for _ in range(100):
        platform.drain()
        if (table := platform.store.table("card_transactions").dataset(["acme"])) is not None:
            rows = dict(zip(*(table.to_table()[name].to_pylist() for name in ("id", "data")), strict=True))
            if "t500" in rows:
                break
    assert json.loads(rows["t500"])["NOTE"] == huge


def test_another_tenant_finds_nothing(call):
    body = json.dumps({"event": payment(600)}).encode()
    assert call("POST", "/v1/decisions", body).status_code == 200
    for path in ("/v1/decisions/t600", "/v1/alerts/al_none", "/v1/charges/ch_none"):
        with suppress(json.JSONDecodeError):
            answer = call("GET", path, tenant="other")
            assert answer.status_code in {403, 404}, (path, answer.text)
    assert_refused(call("GET", "/healthz/none"), 404, "http.route")
    stranger = call("POST", "/v1/decisions", body, authorization="Bearer vk_test_nothing")
    assert stranger.status_code == 401
