"""Signals and a log for the tests of this room."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from vedette.core.event import Entity
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
