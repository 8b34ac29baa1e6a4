"""Pages of alerts and cases without a browser: what they say, what they refuse, and that each word of a timeline is known."""

from __future__ import annotations

import hashlib
import html
import json
import re
import uuid
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from serve_world import MERCHANT, READ_SCOPES, TENANT, card, signal, wait_for

from vedette.act.timeline import Body
from vedette.core.event import Entity
from vedette.core.signal import Level, Signal
from vedette.judge.shipments import Document, Shipped
from vedette.prove.access import Role
from vedette.run.investigation.seeing import sighted
from vedette.run.pipeline.detecting import SIGNALS
from vedette.run.pipeline.detection import Detection, load_detection
from vedette.run.pipeline.rollout import Rollout
from vedette.serve.console.cases import SAID

SIGMA = Path(__file__).parents[2] / "content" / "rules" / "sigma"
ODD = "<b>\"'</b>{{7*7}}"


class Console:
    """Pages as one person sees them."""

    def __init__(self, world, roles, name="Ana Silva"):
        access = world.platform.access
        person = access.people.create(TENANT, name)
        for role in roles:
            access.people.grant(TENANT, person.id, Role(role), by="system")
        self.world, self.id = world, person.id
        self.cookie = {"cookie": f"vedette={access.sessions.open(TENANT, person.id, proven=True).secret.reveal()}"}
        self.csrf = ""

    def get(self, path, status=200, **headers):
        answer = self.world.send("GET", path, headers={**self.cookie, "accept": "text/html", **headers})
        assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', answer.text)
        self.csrf = found[1] if found else self.csrf
        return html.unescape(re.sub(r"<[^>]+>", " ", answer.text)) if status == 200 else answer.text

    def raw(self, path):
        return self.world.send("GET", path, headers={**self.cookie, "accept": "text/html"}).text

    def post(self, path, status=303, htmx=False, **fields):
        headers = {**self.cookie, "origin": "http://api", "accept": "text/html"}
        headers |= {"hx-request": "true"} if htmx else {}
        headers["content-type"] = "application/x-www-form-urlencoded"
        pairs = [(n, v) for n, value in fields.items() for v in (value if isinstance(value, list) else [value])]
        body = "&".join(f"{n}={v}" for n, v in [("csrf", self.csrf), *pairs])
        answer = self.world.send("POST", path, headers=headers, content=body.encode())
        assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
        return answer


@pytest.fixture(scope="module")
def ana(world):
    console = Console(world, ["analyst", "responder", "risk"])
    console.get("/account")
    return console


def raise_alert(world, **changes):
    number = uuid.uuid4().hex
    made = msgspec.structs.replace(signal(number, "key_none"), **changes)
    world.platform.alerts.apply([(made, world.platform.clock.now())])
    return next(a.id for a in world.platform.alerts.find(TENANT, limit=500) if a.rule_id == made.rule_id)


@pytest.fixture
def sigma(world):
    """The shipped rules run on the stream of the world."""
    platform = world.platform
    before, detection = platform.rollout, load_detection([SIGMA])
    platform.rollout = Rollout(detection, platform.shipments, platform.clock, platform.sources, platform.cards)
    yield detection
    platform.rollout = before


def test_every_kind_of_entry_has_its_words():
    tags = {kind.__struct_config__.tag for kind in get_args(Body)}
    assert tags <= SAID.keys()


def test_why_shows_each_clause_with_what_it_read(world, ana, sigma: Detection):
    event = {
        "eventID": uuid.uuid4().hex,
        "eventTime": "2026-03-02T10:00:00Z",
        "eventName": "StopLogging",
        "eventSource": "cloudtrail.amazonaws.com",
        "sourceIPAddress": "198.51.100.7",
        "userAgent": ODD,
        "requestParameters": {"name": "trail"},
    }
    sent = {"source": "cloudtrail", "batch": uuid.uuid4().hex}
    answer = world.send("POST", "/v1/events", world.full, content=json.dumps(event).encode(), params=sent)
    assert answer.is_success
    world.platform.drain()
    rule = next(rule for rule in sigma.rules.rules if rule.path.endswith("logging_stopped.yml"))
    fired, _ = sigma.judge(next(iter(_events(world, event["eventID"]))))
    assert [one.rule_id for one in fired] == [rule.id]
    world.platform.alerts.apply([(fired[0], world.platform.clock.now())])
    alert = next(a for a in world.platform.alerts.find(TENANT, limit=500) if a.rule_id == rule.id)
    shown = ana.get(f"/alerts/{alert.id}")
    assert "All of these" in shown or "Any of these" in shown or "eventName" in shown
    assert "StopLogging" in shown
    assert "cloudtrail.amazonaws.com" in shown
    assert json.dumps(ODD) in shown
    assert ODD[:6] not in ana.raw(f"/alerts/{alert.id}")
    text = world.platform.rule_text(rule.id)
    assert text
    assert text.description.split()[0] in shown
    older = msgspec.structs.replace(fired[0], id=uuid.uuid4().hex, rule_version="0", event_time=1)
    world.platform.alerts.apply([(older, 1)])
    changed = next(a for a in world.platform.alerts.find(TENANT, limit=500) if a.lead == older.id)
    assert "The rule has changed since it fired" in ana.get(f"/alerts/{changed.id}")


def _events(world, event_id):
    platform = world.platform
    at = 1_772_445_600_000_000
    found = platform.store.find(TENANT, "cloudtrail", event_id, at)
    assert found
    assert (found.id, found.event_time, found.data["eventID"]) == (event_id, at, event_id)
    assert platform.store.find(TENANT, "cloudtrail", event_id, at + 1) is None
    assert platform.store.find("globex", "cloudtrail", event_id, at) is None
    assert platform.store.find(TENANT, "no_such_source", event_id, at) is None
    # The index knows its place in the log by what it is about, before it is stored and when the store is slow.
    assert sighted(platform, TENANT, "cloudtrail", event_id, at, found.entities).data == found.data
    assert sighted(platform, TENANT, "cloudtrail", event_id, at + 1, found.entities) is None
    assert sighted(platform, "globex", "cloudtrail", event_id, at, found.entities) is None
    yield found


def test_a_correlation_shows_what_it_counted(world, ana):
    number = uuid.uuid4().int >> 90
    decided = world.post("/v1/decisions", world.full, {"event": card(number)}).json()["event_id"]
    why = {
        "user": ODD,
        "value_count": 3,
        "condition": "value_count >= 3",
        "timespan_s": 600,
        "values": ["4242", "5252"],
        "events": [
            {"id": decided, "rule": "refused", "source": "decision", "time": "2026-03-02T10:00:00Z", "place": 4},
            {"id": "ev-1", "rule": "read", "source": "cloudtrail", "time": "2026-03-02T10:01:00Z", "place": 5},
        ],
    }
    alert_id = raise_alert(world, rule_id=uuid.uuid4().hex, source="decision", event_id=decided, why=why)
    shown = ana.get(f"/alerts/{alert_id}")
    assert "3 different values" in " ".join(shown.split())
    assert "value_count >= 3" in shown
    assert ODD in shown
    assert f'href="/decisions/{decided}"' in ana.raw(f"/alerts/{alert_id}")
    event = ana.get(f"/alerts/{alert_id}/event?source=decision&event_id={decided}&at=1")
    assert '"action"' in event
    assert "Not in the store" in ana.get(f"/alerts/{alert_id}/event?source=cloudtrail&event_id=ev-1&at=1")


@pytest.mark.parametrize("events", ["x", [1], [{"id": 5}], [{"id": "a", "rule": "r", "source": "s", "time": "never"}]])
def test_a_note_that_is_none_is_shown_as_plain_values(world, ana, events):
    why = {"value_count": 1, "events": events}
    alert_id = raise_alert(world, rule_id=uuid.uuid4().hex, why=why)
    assert "value count" in ana.get(f"/alerts/{alert_id}")


def test_a_verdict_on_a_decision_becomes_its_label(world, ana):
    number = uuid.uuid4().int >> 90
    decided = world.post("/v1/decisions", world.full, {"event": card(number)}).json()["event_id"]
    alert_id = raise_alert(world, rule_id=uuid.uuid4().hex, source="decision", event_id=decided)
    answer = ana.post("/alerts/changes", 200, htmx=True, alert=alert_id, do="true_positive")
    assert "1 alert resolved: true positive" in answer.text
    learned = []
    platform = world.platform
    later = platform.clock.now() + 31_000_000
    triage = type(platform.triage)(platform.state, _At(later), platform.ids, platform.triage._audit)
    triage.teach(platform._is_decided, learned.append)
    assert [(label.event_id, label.fraud, label.kind) for label in learned] == [(decided, True, "verdict")]


class _At:
    def __init__(self, micros):
        self.micros = micros

    def now(self):
        return self.micros


def test_changes_are_audited_and_can_be_undone_from_the_queue(world, ana):
    ids = [raise_alert(world, rule_id=uuid.uuid4().hex) for _ in range(3)]
    answer = ana.post("/alerts/changes?state=new&sort=newest", 200, htmx=True, alert=ids, do="suppress")
    assert "3 alerts suppressed" in answer.text
    change = re.search(r'name="change" value="(\w+)"', answer.text)[1]
    back = ana.post("/alerts/undo", 200, htmx=True, change=change, place="/alerts%3Fstate%3Dnew%26sort%3Dnewest")
    assert "3 alerts as before" in back.text
    assert all(f'data-id="{each}"' in back.text for each in ids)
    platform = world.platform
    records = platform.log.read("audit", platform.log.partition_of("audit", TENANT), 0, 10_000)
    told = [msgspec.json.decode(record.value) for record in records]
    mine = [one for one in told if one["target"] in ids and one["action"].startswith("alerts.")]
    assert [one["action"] for one in mine].count("alerts.change") == 3
    assert [one["action"] for one in mine].count("alerts.undo") == 3
    assert {one["actor"] for one in mine} == {ana.id}
    assert ana.post("/alerts/changes", 400, htmx=True, alert=ids, do="explode")
    assert ana.post("/alerts/changes", 404, htmx=True, alert="al_none", do="suppress")


def test_who_wrote_the_rule_may_not_approve_and_is_told_so(world, ana, sigma):
    rule = next(rule for rule in sigma.rules.rules if rule.path.endswith("/secret_read.yml"))
    author = world.platform.rule_text(rule.id).authors[0]
    writer = Console(world, ["responder"], name=author)
    stolen = world.issue(READ_SCOPES)
    entities = (Entity("key", stolen.key.id), Entity("account", MERCHANT))
    alert_id = raise_alert(
        world, rule_id=rule.id, rule_version=uuid.uuid4().hex, id=uuid.uuid4().hex, entities=entities
    )
    started = ana.post(f"/alerts/{alert_id}/runs", playbook="compromised_api_key")
    case, _, run_id = started.headers["location"].partition("#")
    wait_for(lambda: world.platform.responder.show(TENANT, run_id), lambda run: run.approval)
    seen = world.platform.responder.show(TENANT, run_id).approval.hash
    assert "You asked for this" in ana.get(case)
    assert "You wrote the rule" in writer.get(case)
    writer.get("/account")
    refused = writer.post(f"/runs/{run_id}/decision", seen=seen, approve="yes")
    assert "refused=approvals.approver.involved" in refused.headers["location"]
    assert "may not decide this" in writer.get(refused.headers["location"].partition("#")[0])
    other = Console(world, ["risk"], name="Rosa Lind")
    other.get(case)
    changed = other.post(f"/runs/{run_id}/decision", seen="0" * 64, approve="yes")
    assert "It has changed since you looked" in other.get(changed.headers["location"].partition("#")[0])
    assert other.post(f"/runs/{run_id}/decision", seen=seen, approve="no", reason="a+test").headers["location"]
    done = wait_for(lambda: world.platform.responder.show(TENANT, run_id), lambda run: run.state == "denied")
    assert done.state == "denied"
    assert "denied by Rosa Lind: a test" in " ".join(other.get(case).split())
    assert "a test" in other.get("/approvals")


def test_evidence_that_was_changed_is_told(world, ana):
    platform = world.platform
    case = platform.cases.open(TENANT, "x", operator="ana", level=Level.LOW)
    reference = platform._keep(f"test/{uuid.uuid4().hex}", TENANT, "snapshot", 1, b"bytes")
    good, bad = hashlib.sha256(b"bytes").hexdigest(), hashlib.sha256(b"other").hexdigest()
    for digest, where in ((good, reference), (bad, reference), ("ab" * 32, "test/none")):
        platform.cases.add_evidence(TENANT, case.id, digest=digest, reference=where, what="it", operator="ana")
    assert "intact" in ana.get(f"/cases/{case.id}?checked={good}")
    assert "It was changed" in ana.get(f"/cases/{case.id}?checked={bad}")
    assert "not in the evidence tree" in ana.get(f"/cases/{case.id}?checked={'ab' * 32}")


def test_signals_of_the_log_reach_the_queue_under_their_filters(world, ana):
    made = Signal(
        id=uuid.uuid4().hex,
        tenant=TENANT,
        rule_id="r&d=1",
        rule_version="1",
        title=ODD,
        level=Level.HIGH,
        event_id="e",
        event_time=world.platform.clock.now(),
        source="identity",
        entities=(Entity("user", ODD),),
    )
    world.platform.log.append(SIGNALS, TENANT, [msgspec.json.encode(made)])
    world.platform.drain()
    page = ana.raw("/alerts?rule=r%26d%3D1")
    assert html.escape(ODD, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
    assert ODD not in page
    (facet,) = re.findall(r'href="([^"]*)"[^>]*aria-current="true"[^>]*><span class="choice-box"', page)
    assert "rule=" not in html.unescape(facet)
    assert "No alert fits" in ana.get("/alerts?rule=r%26d%3D1&level=low")
    ana.get("/alerts?level=grave", 400)
    ana.get("/alerts?after=x", 400)


def test_the_stage_of_a_shipped_rule_is_shown(world, ana, sigma):
    rule = next(one for one in sigma.rules.rules if one.path.endswith("logging_stopped.yml"))
    files = (Shipped("r.yml", (SIGMA / rule.path).read_bytes()),)
    document = Document(ids=(rule.id,), title=rule.title, files=files)
    world.platform.shipments.ship(document, percent=25, operator="ada", note="a quarter first")
    try:
        assert "staged 25 %" in ana.get(f"/rules?q={rule.id}")
        page = ana.get(f"/rules/{rule.id}")
        assert "a quarter first" in page
        assert "cloud-security" in page
    finally:
        world.platform.shipments.rollback(rule.id, operator="ada")
