"""A home whose log holds days of CloudTrail and sign-ins, written through the log's own door with a fake clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from tests.conftest import FakeClock

from vedette.core.clock import to_iso
from vedette.core.log import SqliteLog
from vedette.core.settings import Settings
from vedette.run.parts import Parts
from vedette.run.pipeline.quality import Quality
from vedette.sense.sources import load_sources

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MONDAY = 1_767_571_200_000_000
"""2026-01-05 00:00 UTC."""
TENANT = "default"
SOURCES = load_sources()


def record(source: str, number: int, time: int) -> dict[str, Any]:
    """One record of a source, whole."""
    if source == "cloudtrail":
        return {
            "eventVersion": "1.08",
            "eventID": f"c{number}",
            "eventTime": to_iso(time)[:19] + "Z",
            "eventSource": "s3.amazonaws.com",
            "eventName": "GetObject",
            "sourceIPAddress": "192.0.2.1",
            "userIdentity": {"type": "IAMUser", "userName": "ada", "arn": "arn:aws:iam::1:user/ada"},
        }
    return {
        "uuid": f"i{number}",
        "published": to_iso(time)[:23] + "Z",
        "eventType": "user.session.start",
        "actor": {"alternateId": "ada"},
        "outcome": {"result": "SUCCESS"},
        "client": {"ipAddress": "192.0.2.1"},
    }


class Home:
    """A home, its log and its clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock(MONDAY)
        self.number = 0

    def event(self, time: int, source: str, *, lag: int = 5_000_000, **change: Any) -> bytes:
        """One event that came in at a time; `field=None` drops a field, other values replace it."""
        self.number += 1
        data = {**record(source, self.number, time - lag), **change}
        data = {name: value for name, value in data.items() if value is not None}
        made = SOURCES[source].to_event(data, tenant=TENANT, stream="s", offset=self.number, ingest_time=time)
        return msgspec.json.encode(made)

    def days(self, begin: float, end: float, *sources: str, every: int = MINUTE // 2, **change: Any) -> None:
        """Events of sources from a day to a day; the clock stands at the end then."""
        times = range(MONDAY + round(begin * DAY), MONDAY + round(end * DAY), every)
        values = [self.event(time, source, **change) for time in times for source in sources]
        with SqliteLog(self.folder / "log", self.clock) as log:
            for start in range(0, len(values), 500):
                log.append("event", f"intake:{TENANT}", values[start : start + 500])
        self.clock.micros = MONDAY + round(end * DAY)

    def parts(self) -> Parts:
        """Opened; close it."""
        return Parts(Settings(home=self.folder), clock=self.clock)


def drain(quality: Quality, log: Any) -> None:
    """Takes all there is, and listens once."""
    while quality.consume(log):
        pass
