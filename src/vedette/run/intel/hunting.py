"""Retro-hunts: what is learned today is looked for in what was stored before; all that is found is one case.

A hunt reads an index of stored values, checks each candidate event by the same watch as the stream, and writes signals
with the ids that the stream would give them: so what was told already is not told again. Signals of a hunt add to the
risk of what they are about and make no alert each; one alert stands for the hunt, and its case lists all hits.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from vedette.core.clock import DAY, to_iso
from vedette.core.event import Entity
from vedette.core.signal import Level, Signal
from vedette.judge.indicators import Lookout
from vedette.prove.dlp import scrub
from vedette.run.parts import Parts
from vedette.run.pipeline.detecting import SIGNALS
from vedette.sense.history import Span
from vedette.sense.intel.asked import Asked
from vedette.sense.intel.library import indicator_of
from vedette.sense.intel.library_tables import Kept
from vedette.sense.intel.segments import Segments, events_of
from vedette.sense.intel.watch import Watch
from vedette.sense.store import Store

RULE = "intel.hunt"
OPERATOR = "hunting"
DAYS = 90
"""How far back a hunt looks when nobody says."""
MAX_HITS = 100_000
"""Most hits that are told; the rest is counted only."""
LISTED = 20
"""Hits, entities and indicators that the case's note names."""

Progress = Callable[[str, int, int], None]


class Hunted(msgspec.Struct, frozen=True, kw_only=True):
    """What a hunt found."""

    id: str
    tenant: str
    indicators: int
    """Looked for."""
    found: int
    """Of them seen."""
    events: int
    """Events of the span that the index covers."""
    hits: int
    """Pairs of an event and an indicator."""
    fresh: int
    """Of them not told before."""
    start: int
    end: int
    case: str = ""
    """Its case; empty when nothing was found."""


class Hunt:
    """Hunts in one installation.

    Args:
        parts: The installation.
        store: Its event store.
        lookout: What tells of hits.
        progress: Told what is done.
    """

    def __init__(
        self,
        parts: Parts,
        store: Store,
        lookout: Lookout,
        progress: Progress = lambda _what, _done, _all: None,
    ) -> None:
        self._parts = parts
        self._store = store
        self._lookout = lookout
        self._progress = progress
        self.segments = Segments(store, lookout.observables)

    def run(self, tenant: str, indicators: Sequence[Kept], span: Span) -> Hunted:
        """Looks for indicators in stored events; opens one case when any is new.

        What an indicator says of its beginning does not count: a hunt looks for what was there before it was known.
        An indicator that is held back is not looked for.

        Args:
            tenant: Whose.
            indicators: Which versions.
            span: Event time.
        """
        live = [one for one in indicators if not indicator_of(one).held and indicator_of(one).formula]
        name = _identity(tenant, live, span)
        files = self.segments.files(tenant, span)
        self.segments.prepare(files, lambda done, whole: self._progress("indexing", done, whole))
        signals, hits = list[Signal](), 0
        for signal in self.hits(tenant, live, span):
            hits += 1
            if len(signals) < MAX_HITS:
                signals.append(signal)
        known = self._parts.alerts.known(tenant, [one.id for one in signals])
        fresh = [one for one in signals if one.id not in known]
        case = self._told(tenant, name, signals, fresh, hits) if signals else ""
        done = Hunted(
            id=name,
            tenant=tenant,
            indicators=len(live),
            found=len({one.why["indicator"] for one in signals}),
            events=sum(file.rows for file in files),
            hits=hits,
            fresh=len(fresh),
            start=span.start,
            end=span.end,
            case=case,
        )
        self._parts.library.keep_hunt(tenant, name, msgspec.to_builtins(done))
        return done

    def hits(self, tenant: str, indicators: Sequence[Kept], span: Span) -> Iterator[Signal]:
        """The signals of every stored event that indicators match, whatever they say of when they hold."""
        watch = Watch()
        for one in sorted(indicators, key=lambda kept: kept.seq):
            watch.add(one.seq, indicator_of(one).formula, 0, 1)
        watch.take(())
        values = [value for one in indicators for each in indicator_of(one).formula for value in each]
        files = self.segments.files(tenant, span)
        for candidate in self.segments.look(files, values):
            for event in events_of(candidate):
                if event.tenant == tenant and span.start <= event.event_time < span.end:
                    found = watch.hits(self._lookout.observables[event.source], event.data, -1)
                    yield from self._lookout.signals(event, found, alert=False)

    def _told(self, tenant: str, name: str, signals: Sequence[Signal], fresh: Sequence[Signal], hits: int) -> str:
        """Writes what was found, and gives the case of it: the same one for the same hunt."""
        whole = _summary(tenant, name, signals, self._parts.clock.now())
        if fresh or not self._parts.alerts.known(tenant, [whole.id]):
            self._parts.log.append(SIGNALS, tenant, [msgspec.json.encode(one) for one in (*fresh, whole)])
        while self._parts.alerts.consume(self._parts.log).read:
            pass
        cases = self._parts.cases
        alert = self._parts.alerts.of_signal(tenant, whole.id)
        case = cases.open(tenant, whole.title, operator=OPERATOR, level=whole.level, alert_id=alert)
        if not any(
            entry.operator == OPERATOR and "hunt" in str(entry.body) for entry in cases.timeline(tenant, case.id)
        ):
            cases.note(tenant, case.id, _note(name, signals, hits), operator=OPERATOR)
        return case.id


def hunt_new(parts: Parts, hunt: Hunt, tenant: str, *, days: int = DAYS) -> Hunted | None:
    """Hunts for what came to the library since the last hunt of this kind; None when nothing did.

    The place moves after the hunt, so one that is killed is done again, with the same signals and the same case.
    """
    library, name = parts.library, f"hunt/{tenant}"
    place, newest = library.place(name, 0), library.newest(tenant)
    if newest <= place:
        return None
    fresh: list[Kept] = []
    after = place
    while page := library.indicators(tenant, Asked(held=False), after=after, limit=1_000):
        fresh += page
        after = page[-1].seq
    now = parts.clock.now()
    done = hunt.run(tenant, fresh, Span((now // DAY - days) * DAY, (now // DAY + 1) * DAY)) if fresh else None
    library.follow(name, 0, lambda _place: (newest, {}))
    return done


def _identity(tenant: str, indicators: Sequence[Kept], span: Span) -> str:
    """The name of a hunt: of what is looked for, and where."""
    told = [tenant, sorted(one.object.id for one in indicators), span.start, span.end]
    return f"hunt_{hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:24]}"


def _summary(tenant: str, name: str, signals: Sequence[Signal], now: int) -> Signal:
    """The one signal that stands for a hunt."""
    entities = Counter(entity for signal in signals for entity in signal.entities)
    names = sorted({signal.title.removeprefix("Indicator seen: ") for signal in signals})
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    first = min(signals, key=lambda one: (one.event_time, one.id))
    return Signal(
        id=hashlib.sha256(msgspec.json.encode([tenant, RULE, name])).hexdigest()[:32],
        tenant=tenant,
        rule_id=RULE,
        rule_version="1",
        title=scrub(f"Seen before it was known: {names[0]}{more}"[:200]),
        level=max((one.level for one in signals), key=lambda level: level.severity_id, default=Level.MEDIUM),
        event_id=first.event_id,
        event_time=first.event_time,
        source=first.source,
        # The hunt itself leads, so that two hunts about one entity are never one alert.
        entities=(Entity("hunt", name), *(entity for entity, _ in entities.most_common(LISTED))),
        tags=tuple(sorted({tag for one in signals for tag in one.tags}))[:LISTED],
        why={"hunt": name, "hits": len(signals), "since": to_iso(first.event_time), "hunted": to_iso(now)},
    )


def _note(name: str, signals: Sequence[Signal], hits: int) -> str:
    by_indicator: Counter[str] = Counter(str(one.why["indicator.value"]) for one in signals)
    by_entity: Counter[str] = Counter(entity.key for one in signals for entity in one.entities)
    lines = [
        f"Hunt {name}: {hits:,} hits in stored events, {len(by_indicator):,} indicators, {len(by_entity):,} entities.",
        *(f"indicator {value}: {count:,}" for value, count in by_indicator.most_common(LISTED)),
        *(f"entity {key}: {count:,}" for key, count in by_entity.most_common(LISTED)),
        *(
            f"event {one.event_id} ({one.source}) at {to_iso(one.event_time)}: {one.why['indicator.value']}"
            for one in sorted(signals, key=lambda each: each.event_time)[:LISTED]
        ),
    ]
    return scrub("\n".join(lines))


def shape_of(hunted: Hunted) -> dict[str, Any]:
    """What is shown of a hunt."""
    told = msgspec.to_builtins(hunted)
    return {**told, "start": to_iso(hunted.start), "end": to_iso(hunted.end)}
