"""What `/metrics` says after everything was used once: events in and out, lag, quarantine, decisions, errors, HTTP."""

import asyncio
import json
import re

import httpx
import pytest
from tests.conftest import FakeClock

from vedette.core.content import shipped
from vedette.core.errors import DataError
from vedette.core.settings import Settings
from vedette.prove.access import Level, Mode
from vedette.run.guard import guarded
from vedette.run.pipeline.detection import load_detection
from vedette.run.pipeline.stream import Stage, advance
from vedette.run.platform import Platform
from vedette.serve.app import build_app

NOW = 1_800_000_000_000_000


@pytest.fixture
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    detection = load_detection([shipped("rules/sigma")])
    platform = Platform(Settings(home=folder / "home"), clock=FakeClock(NOW), detection=detection)
    scopes = dict.fromkeys(("events", "decisions"), Level.WRITE) | {"metrics": Level.READ}
    secret = platform.access.issue_key("default", scopes=scopes, mode=Mode.TEST).secret.reveal()
    platform.desk.service(platform.settings.tenant)
    app = build_app(platform)
    # As the server does before it takes requests.
    platform.desk.service("default")

    def call(method, path, content=b"", key=secret):
        async def run():
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, content=content, headers={"authorization": f"Bearer {key}"})

        return asyncio.run(run())

    yield platform, call
    platform.close()


def record(number, name="GetObject", service="s3"):
    data = {"eventID": f"e{number}", "eventTime": "2026-01-01T00:00:00Z", "eventVersion": "1", "eventName": name}
    person = {"type": "IAMUser", "userName": "ana"}
    return json.dumps(data | {"eventSource": f"{service}.amazonaws.com", "userIdentity": person}).encode()


def samples(text):
    """Sample with its labels -> value."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[re.sub(r"\s", "", name)] = float(value)
    return found


def test_everything_is_counted(world):
    platform, call = world
    stop = record(2, "StopLogging", "cloudtrail")
    body = b"\n".join([record(1), record(1), stop, b"no json", b"[1]", b"{"])
    assert call("POST", "/v1/events?source=cloudtrail&batch=1", body).status_code == 202
    before = samples(call("GET", "/metrics").text)
    platform.drain()
    event = {"TRANSACTION_ID": "t1", "TX_DATETIME": "2026-01-01T00:00:00Z", "CUSTOMER_ID": "c", "TERMINAL_ID": "t"}
    decided = call("POST", "/v1/decisions", json.dumps({"event": event | {"TX_AMOUNT": 5.0}}).encode())
    assert decided.status_code == 200, decided.text
    assert call("GET", "/v1/decisions/t1", key="vk_test_wrong").status_code == 401
    guarded("beat", lambda: 1 // 0, platform.meters, 0)
    text = call("GET", "/metrics").text
    now = samples(text)
    assert '{source="cloudtrail",outcome="stored"}' not in "".join(before), "nothing is stored before a turn"
    expected = {
        'vedette_source_records_total{outcome="appended",source="cloudtrail"}': 3,
        'vedette_source_records_total{outcome="quarantined",source="cloudtrail"}': 3,
        'vedette_source_records_total{outcome="stored",source="cloudtrail"}': 2,
        'vedette_source_records_total{outcome="duplicate",source="cloudtrail"}': 1,
        'vedette_quarantined_total{code="sources.json.not_object",source="cloudtrail"}': 1,
        'vedette_quarantined_total{code="sources.json.syntax",source="cloudtrail"}': 2,
        'vedette_consumer_records_total{consumer="store"}': 3,
        'vedette_consumer_records_total{consumer="detect"}': 3,
        'vedette_consumer_records_total{consumer="signal"}': 1,
        'vedette_consumer_records_total{consumer="alerts"}': 1,
        'vedette_consumer_lag_records{consumer="store"}': 0,
        'vedette_consumer_lag_records{consumer="alerts"}': 0,
        'vedette_guard_failures_total{code="ZeroDivisionError",where="beat"}': 1,
        'vedette_http_requests_total{route="/v1/events",status="202"}': 1,
        'vedette_http_requests_total{route="/v1/decisions",status="200"}': 1,
        "vedette_decision_seconds_count": 1,
    }
    ordered = {_sorted(name): value for name, value in now.items()}
    assert {name: ordered.get(name) for name in expected} == expected
    decisions = {name: value for name, value in ordered.items() if name.startswith("vedette_decisions_total")}
    assert sum(decisions.values()) == 1
    assert call("GET", "/metrics", key="vk_test_wrong").status_code == 401


def _sorted(sample):
    name, brace, labels = sample.partition("{")
    return name + brace + ",".join(sorted(re.findall(r'\w+="[^"]*"', labels))) + ("}" if brace else "")


def test_a_stage_that_fails_keeps_its_place_and_stops_nobody(world):
    platform, call = world
    assert call("POST", "/v1/events?source=cloudtrail&batch=1", record(1)).status_code == 202
    taken = []

    def fail():
        raise DataError("some.code", "no")

    stages = [
        Stage("bad", "event", fail, lambda _part: 0),
        Stage("good", "event", lambda: taken.append(1) or 1, lambda part: platform.log.end("event", part)),
    ]
    assert advance(platform.log, stages, platform.meters, guard=True) == {"bad": 0, "good": 1}
    assert platform.meters.value("vedette_guard_failures_total", where="bad", code="some.code") == 1
    assert platform.meters.value("vedette_consumer_lag_records", consumer="bad") > 0
    with pytest.raises(DataError):
        advance(platform.log, stages, platform.meters)
    assert taken == [1]


def test_an_event_that_rules_choke_on_hides_no_other(world, monkeypatch):
    platform, call = world
    from vedette.run.pipeline import detection

    whole = detection.Detection.judge

    def choke(self, event):
        if event.id == "e7":
            raise RuntimeError("unforeseen")
        return whole(self, event)

    monkeypatch.setattr(detection.Detection, "judge", choke)
    before = platform.meters.value("vedette_consumer_records_total", consumer="signal")
    stop = record(8, "StopLogging", "cloudtrail")
    assert call("POST", "/v1/events?source=cloudtrail&batch=2", record(7) + b"\n" + stop).status_code == 202
    platform.drain()
    assert platform.meters.value("vedette_consumer_records_total", consumer="signal") == before + 1
    assert platform.meters.value("vedette_guard_failures_total", where="detect", code="RuntimeError") == 1
    assert set(platform.lags().values()) == {0}
