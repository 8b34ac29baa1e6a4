"""Signals, a log, and the rooms beside this one, small and in memory."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import msgspec

from vedette.act.actions import Actions
from vedette.act.alerts import Alerts
from vedette.act.approvals import Approvals
from vedette.act.cases import Cases, Preservation
from vedette.act.effects import Effects, freeze_payouts, preview_freeze, preview_key, revoke_key, unfreeze_payouts
from vedette.act.playbooks.caps import Caps
from vedette.act.playbooks.pulses import Pulses
from vedette.act.playbooks.responder import Responder, alert_scope, bind
from vedette.act.playbooks.world import Request, World
from vedette.core.event import Entity
from vedette.core.ids import Ids
from vedette.core.signal import Level, Signal

TIME = 1_700_000_000_000_000


def make_signal(number=1, **changes):
    values = {
        "id": f"sig-{number}",
        "tenant": "acme",
        "rule_id": "rule-1",
        "rule_version": "v1",
        "title": "API key used from a new place",
        "level": Level.HIGH,
        "event_id": f"ev-{number}",
        "event_time": TIME + number * 1_000_000,
        "source": "cloudtrail",
        "entities": (Entity("key", "k-1"), Entity("ip", "198.51.100.7")),
        "tags": ("attack.t1078",),
        "why": {"sourceIPAddress": "198.51.100.7"},
        **changes,
    }
    return Signal(**values)


class Record(NamedTuple):
    offset: int
    key: str
    value: bytes
    time: int


class ListLog:
    """A log in memory, one partition."""

    def __init__(self, values=()):
        self.values = list(values)

    def add(self, *signals):
        self.values += [msgspec.json.encode(signal) for signal in signals]

    def read(self, topic, partition, offset, limit):
        assert topic == "signal"
        return [
            Record(place, "", value, TIME + place)
            for place, value in list(enumerate(self.values))[offset : offset + limit]
        ]

    def partitions(self, topic):
        return 1


class Keys:
    """The access room in memory: who ended what."""

    def __init__(self):
        self.revoked = []

    def revoke_key(self, tenant, key_id, *, by):
        self.revoked.append((tenant, key_id, by))

    def key(self, tenant, key_id):
        return ApiKey(key_id, "live")


class ApiKey(NamedTuple):
    id: str
    mode: str


class Answer(NamedTuple):
    status: int

    def json(self):
        return {"payouts": ["po_1"]}


class Payouts:
    """The payouts in memory, by idempotency key."""

    def __init__(self):
        self.frozen = {}
        self.failures = []

    def freeze(self, tenant, account, reason, key):
        if self.failures:
            raise self.failures.pop(0)
        self.frozen[key] = (tenant, account, reason)
        return Answer(200)

    def unfreeze(self, tenant, account, reason, key):
        self.frozen = {held: value for held, value in self.frozen.items() if value[:2] != (tenant, account)}
        return Answer(200)

    def is_frozen(self, tenant, account):
        return any(held[:2] == (tenant, account) for held in self.frozen.values())


KEY_SIGNAL = {"entities": (Entity("key", "vk_1"), Entity("account", "acct_1"), Entity("ip", "198.51.100.7"))}
SHIPPED = Path(__file__).parents[2] / "content" / "playbooks" / "compromised_api_key.yaml"


class Office:
    """Everything a playbook needs, on one database."""

    def __init__(self, database, clock):
        self.clock = clock
        self.database = database
        self.alerts = Alerts(database)
        self.cases = Cases(database, clock, Ids(clock, random.Random(7).getrandbits))
        self.approvals = Approvals(database, clock)
        self.effects = Effects(database, clock, self.alerts)
        self.keys = Keys()
        self.payouts = Payouts()
        self.actions = Actions(
            {
                "snapshot_evidence": self.effects.snapshot_evidence,
                "notify": self.effects.notify,
                "revoke_key": revoke_key(self.keys),
                "freeze_payouts": freeze_payouts(self.payouts),
                "unfreeze_payouts": unfreeze_payouts(self.payouts),
            },
            {"revoke_key": preview_key(self.keys), "freeze_payouts": preview_freeze(self.payouts)},
        )
        self.pulses = Pulses(database, clock)
        self.caps = Caps(database, clock)
        self.preservation = Preservation(database, clock, Ids(clock))
        self.world = World(self.actions, self.approvals, self.cases, clock, self.caps, self.pulses, self.preservation)

    def responder(self, runs):
        return Responder(
            runs=runs,
            database=self.database,
            alerts=self.alerts,
            cases=self.cases,
            approvals=self.approvals,
            clock=self.clock,
            pulses=self.pulses,
        )

    def alert(self):
        self.alerts.apply([(make_signal(1, **KEY_SIGNAL), TIME)])
        return self.alerts.find("acme")[0]

    def request(self, playbook, *, requester="ana", waived=True, **inputs):
        alert = self.alert()
        case = self.cases.open("acme", alert.title, operator=requester, level=alert.level, alert_id=alert.id)
        scope = alert_scope(alert)
        if waived:
            reason = "the words of playbooks are looked at here"
            self.preservation.waive("acme", case.id, operator=requester, reason=reason)
        return msgspec.to_builtins(
            Request(
                tenant="acme",
                alert_id=alert.id,
                case_id=case.id,
                requester=requester,
                authors=("rob", playbook.owner),
                alert=scope,
                inputs=bind(playbook, scope, inputs),
            )
        )
