"""Indicators as a detector: an event that holds the value of an indicator gives a signal, like any rule's.

The indicator must have held at the time of the event; what was learned since counts too, as soon as it is learned. The
signal's id is of indicator and event, so an event that is judged again says the same thing once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.core.clock import to_iso
from vedette.core.event import Event
from vedette.core.signal import Level, Signal
from vedette.judge.detectors import Detector
from vedette.prove.dlp import scrub
from vedette.sense.intel.indicator import Indicator
from vedette.sense.intel.observables import observed
from vedette.sense.intel.values import Kind
from vedette.sense.intel.watch import Hit, Watch
from vedette.sense.sources import Source

if TYPE_CHECKING:
    from vedette.sense.intel.library_tables import Kept

Seen = Sequence[tuple[int, str, str]]
"""Slot of the watch, field and text of each value that an indicator names."""

RULE = "intel.indicator"
"""Rule id of what an indicator tells."""
VERSION = "1"
HIGH, MEDIUM = 70.0, 35.0
"""Confidence from which on a hit is of that level; below it is low."""

Describe = Callable[[str, int], "Kept | None"]
"""Tenant and `seq` -> the version; None when it is gone."""


class Lookout:
    """Asks the indicators of each event's tenant.

    Args:
        watch: Tenant -> its indicators as they are known now; None: it has none.
        describe: What is told of a version.
        sources: Whose fields hold observables.
        tenant: Of files, whose events name none.
    """

    def __init__(
        self,
        watch: Callable[[str], Watch | None],
        describe: Describe,
        sources: Mapping[str, Source],
        tenant: str = "default",
    ) -> None:
        self.tenant = tenant
        self._watch = watch
        self._describe = describe
        self.observables = observed(sources)

    @property
    def detector(self) -> Detector:
        """It, as a detector."""
        return Detector(
            id=RULE,
            version=VERSION,
            title="Indicator seen",
            level=Level.MEDIUM,
            sources=tuple(self.observables),
            judge=lambda _data: None,
            tell=self.tell,
        )

    def tell(self, event: Event) -> Iterable[Signal]:
        """The signals of an event."""
        watch = self._watch(event.tenant)
        if watch is None or not len(watch):
            return ()
        hits = watch.hits(self.observables[event.source], event.data, event.event_time)
        return self.signals(event, hits) if hits else ()

    def newest(self) -> int:
        """The place of the newest change of the indicators for files; 0 when there are none."""
        watch = self._watch(self.tenant)
        return watch.newest if watch is not None else 0

    def asks(self, source: str) -> dict[str, Callable[[object], bool]]:
        """Field of a source -> whether any indicator names something in a value of it."""
        fields = self.observables[source].fields if source in self.observables else ()
        return {field: partial(self._named, field, kind) for field, kind, _ in fields}

    def _named(self, field: str, kind: Kind, value: object) -> bool:
        watch = self._watch(self.tenant)
        return watch is not None and bool(watch.slots_in(field, kind, value))

    def each(self, source: str, records: Sequence[Mapping[str, Any]]) -> dict[int, Seen]:
        """Place of a record -> what of it indicators name, of many records of a source at once."""
        watch = self._watch(self.tenant) if source in self.observables else None
        if watch is None or not len(watch):
            return {}
        return dict(watch.hits_each(self.observables[source], records))

    def found(self, event: Event, seen: Seen) -> list[Signal]:
        """The signals of what `each` gave of an event."""
        watch = self._watch(self.tenant)
        hits = watch.told(seen, event.event_time) if watch is not None else []
        return self.signals(event, hits, tenant=self.tenant)

    def signals(self, event: Event, hits: Sequence[Hit], *, alert: bool = True, tenant: str = "") -> list[Signal]:
        """The signals of hits, one for each indicator.

        Args:
            event: Which holds them.
            hits: From a watch.
            alert: Whether they make alerts.
            tenant: Whose indicators they are; the event's by default.
        """
        found: dict[str, Signal] = {}
        for hit in hits:
            kept = self._describe(tenant or event.tenant, hit.seq)
            if kept is not None and kept.object.indicator is not None:
                found.setdefault(kept.object.id, _signal(event, hit, kept, kept.object.indicator, alert=alert))
        return list(found.values())


def _signal(event: Event, hit: Hit, kept: Kept, own: Indicator, *, alert: bool) -> Signal:
    at = max(event.event_time, own.valid_from)
    score = own.score(at)
    name = own.name or next((each for each in own.labels if ":" in each), "") or hit.value
    return Signal(
        id=hashlib.sha256(msgspec.json.encode([event.tenant, RULE, own.id, event.id])).hexdigest()[:32],
        tenant=event.tenant,
        rule_id=RULE,
        rule_version=VERSION,
        title=scrub(f"Indicator seen: {name}"[:200]),
        level=Level.HIGH if score >= HIGH else Level.MEDIUM if score >= MEDIUM else Level.LOW,
        event_id=event.id,
        event_time=event.event_time,
        source=event.source,
        entities=event.entities,
        tags=tuple(each for each in own.labels if each.startswith("attack.")),
        why={
            hit.field: scrub(hit.text[:1_000]),
            "indicator": own.id,
            "indicator.value": scrub(hit.value),
            "indicator.collection": kept.collection,
            "indicator.confidence": round(score, 1),
            "indicator.valid_from": to_iso(own.valid_from),
            "indicator.known": to_iso(kept.added),
        },
        alert=alert,
    )
