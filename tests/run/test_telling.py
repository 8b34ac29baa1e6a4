"""Refunds, payouts and refused keys as events of the log: each once, whatever dies in between."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vedette.core.clock import SystemClock
from vedette.core.errors import DeniedError
from vedette.core.event import Entity
from vedette.core.settings import load_settings
from vedette.prove.access import Mode
from vedette.prove.access.policy import Level
from vedette.run.pipeline.storing import to_event
from vedette.run.platform import Platform

TENANT = "default"
ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).parent / "telling_child.py"
CHARGE = {
    "amount_minor": 900,
    "currency": "EUR",
    "source": "tok_1",
    "merchant": "m_1",
    "metadata": {"customer": "cus_1", "ip": "203.0.113.9", "order": "o-1"},
}


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def platform(home):
    with Platform(load_settings(None, {"VEDETTE_HOME": str(home)}), clock=SystemClock()) as made:
        made.desk.service(TENANT)
        yield made


def told(platform, kind):
    """Events of a type in the log, in order."""
    records = platform.log.read("event", 0, 0, 10_000)
    return [event for event in map(to_event, records) if event.data.get("type") == kind]


def move_money(platform):
    made = platform.charges.create(TENANT, "k1", CHARGE, api_key="key_1").json()
    refund = platform.charges.refund(TENANT, "r1", made["id"], {"amount_minor": 300}, api_key="key_2").json()
    payout = platform.payouts.schedule(
        TENANT, "p1", {"amount_minor": 500, "currency": "EUR", "merchant": "m_1"}, api_key="key_3"
    ).json()
    platform.payouts.freeze(TENANT, "m_1", "stolen key", "f1")
    return made, refund, payout


def test_a_refund_is_an_event_about_its_payer(platform):
    made, refund, _ = move_money(platform)
    assert not told(platform, "refund"), "the hot path appends nothing"
    platform.telling.turn()
    (event,) = told(platform, "refund")
    assert event.source == "product"
    wanted = {"charge": made["id"], "refund": refund["id"], "amount_minor": 300, "customer": "cus_1", "key": "key_2"}
    assert wanted.items() <= event.data.items()
    assert {
        Entity("card", "tok_1"),
        Entity("customer", "cus_1"),
        Entity("merchant", "m_1"),
        Entity("key", "key_2"),
    } <= {*event.entities}
    platform.charges.refund(TENANT, "r1", made["id"], {"amount_minor": 300})
    platform.telling.turn()
    assert len(told(platform, "refund")) == 1, "a replay is no second refund"


def test_a_payout_is_an_event_for_each_of_its_changes(platform):
    _, _, payout = move_money(platform)
    platform.telling.turn()
    events = told(platform, "payout")
    assert [event.data["status"] for event in events] == ["scheduled", "frozen"]
    assert {event.data["payout"] for event in events} == {payout["id"]}
    refused = platform.payouts.pay(TENANT, "p2", payout["id"])
    assert (refused.status, refused.json()["error"]["code"]) == (409, "payout.frozen")
    platform.telling.turn()
    assert len(told(platform, "payout")) == 2, "what is refused changes nothing"


def test_a_key_that_is_refused_is_an_event_about_the_key(platform):
    issued = platform.access.issue_key(TENANT, scopes={"charges": Level.WRITE}, mode=Mode.LIVE)
    platform.access.revoke_key(TENANT, issued.key.id)
    for secret in (issued.secret, "vk_live_" + "A" * 43, "hunter2"):
        with pytest.raises(DeniedError):
            platform.access.authenticate(secret, origin="198.51.100.7")
    assert isinstance(platform.access.vouch(TENANT, [issued.key.id], origin="b")[issued.key.id], DeniedError)
    platform.telling.turn()
    first, second = told(platform, "key.refused")
    assert set(first.entities) == {Entity("key", issued.key.id), Entity("ip", "198.51.100.7")}
    assert (first.data["reason"], second.data["ip"]) == ("access.key.invalid", "b")
    platform.telling.turn()
    assert len(told(platform, "key.refused")) == 2
    assert platform.telling.lag() == 0


def test_draining_brings_everything(platform):
    move_money(platform)
    assert platform.lags()["telling"] > 0
    platform.drain()
    assert platform.lags()["telling"] == 0
    (event,) = told(platform, "refund")
    assert platform.store.find(TENANT, "product", event.id, event.event_time)


@pytest.mark.kill
@pytest.mark.parametrize("moment", ["before append", "after append", "after forgetting", "at the end"])
def test_killed_at_every_moment(home, moment):
    settings = load_settings(None, {"VEDETTE_HOME": str(home)})
    with Platform(settings, clock=SystemClock()) as platform:
        move_money(platform)
        issued = platform.access.issue_key(TENANT, scopes={"charges": Level.WRITE}, mode=Mode.LIVE)
        platform.access.revoke_key(TENANT, issued.key.id)
        with pytest.raises(DeniedError):
            platform.access.authenticate(issued.secret)
    environ = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
    for _ in range(2):
        done = subprocess.run([sys.executable, CHILD, home, moment], env=environ, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
    with Platform(settings, clock=SystemClock()) as platform:
        platform.telling.turn()
        assert [len(told(platform, kind)) for kind in ("refund", "payout", "key.refused")] == [1, 2, 1]


def test_the_check_would_see_events_twice(platform, monkeypatch):
    """Planted: the log is not looked at before an append."""
    move_money(platform)
    monkeypatch.setattr(platform.telling, "_since", lambda _key, place: (set(), place))
    monkeypatch.setattr(platform.telling._told, "forget", lambda *_args: None)
    platform.telling.turn()
    platform.telling.turn()
    assert len(told(platform, "refund")) == 2
