"""Alerts are told to the channels of their routes: each once, in a storm few, after a kill under the same key."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from act_world import TIME, make_signal

from vedette.act.actions import ActionResult
from vedette.act.alerts import Alerts
from vedette.act.attention import Ages, Attention, load_attention
from vedette.act.channels import HOUR, LEASE, MAX_ATTEMPTS, OVERDUE, Channels
from vedette.act.grouping import AlertState
from vedette.act.triage import Triage
from vedette.core.content import shipped
from vedette.core.errors import DefinitionError, PermanentError, TransientError
from vedette.core.event import Entity
from vedette.core.ids import Ids
from vedette.core.signal import Level
from vedette.prove.audit import Audit

FILE = (
    (shipped("response") / "attention.yaml")
    .read_text()
    .replace(
        "channels: {}",
        """channels:
  response-pager: {by: page_trigger, connection: pager, per_hour: 3}
  security-queue: {by: send_mail, connection: relay, to: [soc@acme.example]}
""",
    )
)


class Site:
    """The world outside: what it was sent by key, and what it answers."""

    def __init__(self):
        self.calls, self.effects, self.failures = [], {}, []

    def perform(self, name, call):
        self.calls.append((name, call.key))
        if self.failures:
            raise self.failures.pop(0)
        self.effects.setdefault(call.key, (name, call.arguments))
        return ActionResult()


class Desk:
    def __init__(self, database, clock, attention):
        self.told, self.site, self.clock = [], Site(), clock
        clock.micros = TIME // HOUR * HOUR
        audit = Audit(self.told.append, clock, Ids(clock))
        self.alerts = Alerts(database)
        self.triage = Triage(database, clock, Ids(clock), audit)
        self.channels = Channels(database, clock, audit, attention, self.site.perform)

        def message(connection, tenant, late):
            self.channels.add(connection, tenant, OVERDUE, late)

        self.ages = Ages(database, clock, audit, attention, message)

    def alert(self, number, level=Level.HIGH, tenant="acme"):
        made = make_signal(number, level=level, entities=(Entity("user", f"u{number}"),), tenant=tenant)
        self.alerts.apply([(made, self.clock.now())])

    def turn(self):
        self.channels.gather("acme")
        return self.channels.send()

    def states(self):
        return sorted(message.state for message in self.channels.find("acme"))


@pytest.fixture
def attention(tmp_path) -> Attention:
    path = tmp_path / "attention.yaml"
    path.write_text(FILE)
    return load_attention(path)


@pytest.fixture
def desk(database, clock, attention):
    return Desk(database, clock, attention)


def test_each_new_alert_is_told_once_by_its_route(desk):
    desk.alert(1)
    desk.alert(2, Level.LOW)
    desk.alert(3, tenant="globex")
    assert desk.turn() == 2
    assert desk.turn() == 0
    names = dict(desk.site.effects.values())
    assert names["page_trigger"]["level"] == "high"
    assert names["page_trigger"]["text"].startswith("response: high alert about user:u1: API key used")
    assert names["send_mail"]["to"] == ["soc@acme.example"]
    assert len(names["send_mail"]["subject"]) <= 150
    assert desk.channels.find("globex") == []


def test_what_is_quiet_or_old_is_not_told(desk):
    desk.alert(1)
    ids = [alert.id for alert in desk.alerts.find("acme")]
    desk.triage.change("acme", ids, state=AlertState.SUPPRESSED, operator="ana")
    assert desk.turn() == 0
    desk.alert(2)
    desk.clock.advance(3_601)
    assert desk.turn() == 0


def test_one_that_waits_too_long_is_told_with_its_alarm(desk):
    desk.alert(1)
    assert desk.turn() == 1
    desk.clock.advance(3_700)
    assert desk.ages.tell("acme") == 1
    assert desk.ages.tell("acme") == 0
    assert desk.turn() == 1
    assert "has waited for 61 min" in list(desk.site.effects.values())[-1][1]["text"]
    assert [record.action for record in desk.told] == ["alerts.overdue"]


def test_a_storm_is_told_together_when_the_hour_is_over(desk):
    for number in range(20):
        desk.alert(number)
    assert desk.turn() == 3
    assert desk.states() == ["folded"] * 17 + ["sent"] * 3 + ["waiting"]
    desk.clock.advance(3_599)
    assert desk.turn() == 0
    desk.clock.advance(1)
    assert desk.turn() == 1
    assert list(desk.site.effects.values())[-1][1]["text"] == "17 more alerts in the last hour: 17 high"
    desk.alert(99)
    assert desk.turn() == 1


def test_a_receiver_that_is_busy_is_asked_again_and_one_that_refuses_is_told_of(desk):
    desk.alert(1)
    desk.site.failures = [TransientError("action.remote.busy", "x", retry_after=30.0)]
    assert desk.turn() == 0
    desk.clock.advance(29)
    assert desk.turn() == 0
    assert desk.channels.find("acme")[0].code == "action.remote.busy"
    desk.clock.advance(1)
    assert desk.turn() == 1
    desk.alert(2)
    desk.site.failures = [PermanentError("action.remote.denied", "x")]
    assert desk.turn() == 0
    assert [(m.state, m.code) for m in desk.channels.find("acme", state="dead")] == [("dead", "action.remote.denied")]
    desk.alert(3)
    desk.site.failures = [TransientError("action.remote.busy", "x") for _ in range(MAX_ATTEMPTS)]
    for _ in range(MAX_ATTEMPTS):
        desk.turn()
        desk.clock.advance(3_600)
    assert len(desk.channels.find("acme", state="dead")) == 2
    assert [record.action for record in desk.told] == ["alerts.unsent"] * 2


def test_a_sender_that_was_killed_sends_again_under_the_same_key(desk):
    class Killed(BaseException):
        pass

    rng = random.Random(3)
    for number in range(8):
        desk.alert(number, Level.LOW)
    desk.channels.gather("acme")
    perform = desk.site.perform

    def dies(name, call):
        before = rng.random() < 0.5
        if not before:
            perform(name, call)
        if rng.random() < 0.5:
            raise Killed
        return ActionResult() if not before else perform(name, call)

    desk.channels._perform = dies
    for _ in range(60):
        try:
            desk.channels.send()
        except Killed:
            desk.clock.advance(LEASE / 1e6)
        if desk.states() == ["sent"] * 8:
            break
        desk.clock.advance(LEASE / 1e6)
    assert desk.states() == ["sent"] * 8
    assert len(desk.site.effects) == 8
    assert len(desk.site.calls) > 8


def test_the_shipped_file_tells_nobody(database, clock):
    desk = Desk(database, clock, load_attention(shipped("response") / "attention.yaml"))
    desk.alert(1)
    assert desk.turn() == 0
    assert desk.channels.find("acme") == []


@pytest.mark.parametrize(
    "text",
    ["chat: {by: shout, connection: x}", "chat: {by: chat_post, connection: x, to: [a@b.example]}", "m: {by: send_mail, connection: x}", "c: {by: chat_post, connection: x, per_hour: 0}"],
)  # fmt: skip
def test_a_channel_that_cannot_work_is_refused(tmp_path: Path, text):
    path = tmp_path / "attention.yaml"
    path.write_text(FILE.partition("channels:\n  response")[0] + f"channels:\n  {text}\n")
    with pytest.raises(DefinitionError) as caught:
        load_attention(path)
    assert caught.value.code in {"attention.channel.invalid", "attention.file.invalid"}
