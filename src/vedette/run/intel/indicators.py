"""Intelligence in an installation: the indicators that the stream asks for, kept up with the library."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vedette.core.clock import Clock, to_iso
from vedette.core.log import Log
from vedette.core.signal import Signal
from vedette.judge.indicators import RULE, Lookout
from vedette.run.pipeline.stream import BATCH, Stage
from vedette.sense.intel.library import Library
from vedette.sense.intel.library_tables import Kept
from vedette.sense.intel.watch import Watch
from vedette.sense.sources import Source

LOOK_S = 1.0
"""How often a reader of the log looks whether something was learned."""
DESCRIBED = 10_000
"""Versions that are remembered to be told of."""
SEEN = "intel"
"""Name of the stage that notes sightings."""
_TOPIC = "signal"


class Watches:
    """The indicators of each tenant, as far as they are known. One thread at a time.

    Args:
        library: What is known.
        clock: Says when to look again.
    """

    def __init__(self, library: Library, clock: Clock) -> None:
        self._library = library
        self._clock = clock
        self._held: dict[str, tuple[Watch, int]] = {}
        """Tenant -> its watch, and the newest `seq` of any object that was looked at."""
        self._looked: dict[str, float] = {}
        self._described: OrderedDict[tuple[str, int], Kept | None] = OrderedDict()

    def of(self, tenant: str) -> Watch:
        """A tenant's indicators, at most `LOOK_S` old."""
        now = self._clock.monotonic()
        if now - self._looked.get(tenant, -LOOK_S) >= LOOK_S:
            self._looked[tenant] = now
            return self.fresh(tenant)
        return self._held[tenant][0]

    def fresh(self, tenant: str) -> Watch:
        """A tenant's indicators as of now."""
        watch, seen = self._held.get(tenant, (Watch(), 0))
        newest = self._library.newest(tenant)
        if newest != seen:
            for rows in self._library.changes(tenant, watch.newest):
                watch.take(rows)
        self._held[tenant] = watch, newest
        return watch

    def describe(self, tenant: str, seq: int) -> Kept | None:
        """What is told of a version."""
        key = tenant, seq
        if key not in self._described:
            self._described[key] = self._library.at(tenant, seq)
            if len(self._described) > DESCRIBED:
                self._described.popitem(last=False)
        return self._described[key]


def make_lookout(library: Library, clock: Clock, sources: Mapping[str, Source], tenant: str = "default") -> Lookout:
    """What asks the library's indicators of each event; of files those of `tenant`."""
    watches = Watches(library, clock)
    return Lookout(watches.of, watches.describe, sources, tenant)


def noting(library: Library, log: Log) -> Stage:
    """The stage that notes in the library which indicators were seen, once for each signal."""

    def step() -> int:
        return sum(_note(library, log, partition) for partition in range(log.partitions(_TOPIC)))

    return Stage(SEEN, _TOPIC, step, lambda partition: library.place(SEEN, partition))


def _note(library: Library, log: Log, partition: int) -> int:
    start = library.place(SEEN, partition)
    if log.end(_TOPIC, partition) <= start:
        return 0
    end = library.follow(SEEN, partition, lambda place: _read(log, partition, place))
    return end - start


Sighted = Mapping[str, Sequence[tuple[str, str, int, Mapping[str, Any]]]]


def _read(log: Log, partition: int, place: int) -> tuple[int, Sighted]:
    found: dict[str, list[tuple[str, str, int, Mapping[str, Any]]]] = {}
    for record in log.read(_TOPIC, partition, place, BATCH):
        place = record.offset + 1
        if RULE.encode() not in record.value:
            continue
        try:
            signal = msgspec.json.decode(record.value, type=Signal)
        except msgspec.MsgspecError:
            continue
        if signal.rule_id == RULE:
            what = {
                "event_id": signal.event_id,
                "source": signal.source,
                "event_time": to_iso(signal.event_time),
                "entities": [entity.key for entity in signal.entities],
            }
            indicator = str(signal.why.get("indicator", ""))
            found.setdefault(signal.tenant, []).append((signal.id, indicator, signal.event_time, what))
    return place, found
