"""The correlator: fired rules in, signals of correlations out, for any number of correlations and tenants.

It reads no clock and no file: time is what the events say. The same contributions give the same signals, whether they
come from a stream, from history, or again after a restart.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, product

import msgspec

from vedette.core.clock import MICROS, to_iso
from vedette.core.event import Entity, Event
from vedette.core.signal import Signal
from vedette.expr.values import MISSING, elements, lookup, number_of, text_of
from vedette.judge.correlation.course import Course, make_window
from vedette.judge.correlation.definition import Correlation, Kind, Number, Part
from vedette.judge.correlation.moments import Moment, Value
from vedette.judge.correlation.patterns import Pattern
from vedette.judge.correlation.window import DEFAULT, Crossing, Key, Limits, Window
from vedette.prove.dlp import scrub
from vedette.sense.sources import Source

OCSF = "ocsf."
"""Prefix of fields that are read through the source file's OCSF map, and so have one name in all sources."""
MAX_COMBINATIONS = 64
"""Most groups, or values, that the lists in one event may stand for."""
LOW = 64
"""Of how many batches the lowest tide says what can be forgotten: an older file may be read beside a live stream."""
MAX_TEXT = 256
"""Longest value of a group as text; of a longer one its start and its hash."""
LAST_STAGE = 1_000
Order = Callable[[Iterable[str]], int | None]
"""Place of tags in the order of an attack; None for those of no stage."""
GROUP = "group"
"""Entity type of a group whose fields name no entity, so that alerts keep such groups apart."""


class Contribution(msgspec.Struct, frozen=True, array_like=True):
    """A moment on its way to the window of a correlation: what must survive a restart."""

    correlation: str
    """Id and version, so that a changed correlation starts afresh."""
    group: Key
    moment: Moment


class Correlator:
    """Correlations over fired rules. Not for several threads at once.

    Args:
        correlations: What to look for; one that another refers to must be among them.
        sources: The known sources: their OCSF maps and entities.
        limits: What each correlation may hold for each tenant, and how late an event may be.
        stage: Place of tags in the order of an attack, see `sense.intel.attack`; without it risk is told by time.
    """

    def __init__(
        self,
        correlations: Sequence[Correlation],
        sources: Mapping[str, Source],
        limits: Limits = DEFAULT,
        *,
        stage: Order | None = None,
    ) -> None:
        self._stage = stage
        self._correlations = {_name(one): one for one in correlations}
        self._sources = sources
        self._limits = limits
        self._uses: dict[str, list[tuple[str, int]]] = {}
        for name, one in self._correlations.items():
            for number, part in enumerate(one.parts):
                self._uses.setdefault(part.id, []).append((name, number))
        self._windows: dict[tuple[str, str], Window | Course] = {}
        self._risks = {name: one for name, one in self._correlations.items() if one.measure.kind is Kind.RISK}
        self._raised: list[Contribution] = []
        self._tides: dict[str, deque[int]] = {}
        self.quiet = frozenset(self._uses) - {part.id for one in correlations if one.generate for part in one.parts}
        """Ids of rules that give no signal of their own: correlations refer to them, none of which says `generate`."""
        self._types = {source: _entity_types(held) for source, held in sources.items()}
        self._lags, self._beyond, self._keeps = self._times()
        self.keep = max(self._keeps.values(), default=0)
        """How long any contribution can matter after its time, microseconds; 0 without correlations."""
        self.counts: Counter[tuple[str, str]] = Counter()
        """(correlation id, `ungrouped` or `unreadable`) -> rules that fired and could not be used."""

    def _times(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        """By name: how much later than the lateness its moments come, how long others need it, how long it matters."""
        lags: dict[str, int] = {}
        open_for: dict[str, int] = {}
        for name, one in self._correlations.items():
            # Every correlation may add to the risk of an entity.
            parts = open_for if one.measure.kind is Kind.RISK else [part.id for part in one.parts]
            lags[name] = max((open_for.get(part, 0) for part in parts), default=0)
            open_for[one.id] = lags[name] + one.measure.delay
        beyond: dict[str, int] = {}
        keeps: dict[str, int] = {}
        for name, one in reversed(self._correlations.items()):
            # What they are made of must be there again after a restart.
            beyond[name] = max((keeps[outer] for outer, _ in self._uses.get(one.id, ())), default=0)
            keeps[name] = beyond[name] + make_window(one.measure, self._limits, lag=lags[name]).keep
        return lags, beyond, keeps

    def until(self, one: Contribution) -> int:
        """Event time from which on a contribution can matter no more; 0 when its correlation is not known."""
        keep = self._keeps.get(one.correlation)
        return 0 if keep is None else one.moment.time + keep

    def uses(self, rule_id: str) -> bool:
        """True when a correlation refers to a rule, or the rule adds to the risk of entities."""
        return rule_id in self._uses or any(rule_id in one.measure.weights for one in self._risks.values())

    def contributions(self, event: Event, rule_ids: Iterable[str]) -> list[Contribution]:
        """What an event brings to correlations, given the rules that fired on it. Changes no window."""
        found: list[Contribution] = []
        for rule_id in rule_ids:
            for name, number in self._uses.get(rule_id, ()):
                correlation = self._correlations[name]
                part = correlation.parts[number]
                keys = self._combined(event, part.fields_of(event.source))
                values = self._values(correlation.measure.kind, part, number, event) if keys else ()
                if not values:
                    self.counts[correlation.id, "unreadable" if keys else "ungrouped"] += 1
                for key in keys:
                    for value in values:
                        moment = Moment(event.event_time, event.id, number, value, event.source, event.seq)
                        found.append(Contribution(name, key, moment))
            if self._risks and rule_id not in self.quiet:
                moment = Moment(event.event_time, event.id, 0, rule_id, event.source, event.seq)
                found += self._risky(event.entities, rule_id, moment)
        return found

    def _risky(self, entities: Iterable[Entity], rule_id: str, moment: Moment) -> list[Contribution]:
        """What a signal brings to the risk of entities."""
        return [
            Contribution(name, (entity.key,), moment)
            for name, one in self._risks.items()
            if rule_id in one.measure.weights
            for entity in dict.fromkeys(entities)
            if entity.type in one.group_by
        ]

    def needed(self, tenant: str, contributions: Iterable[Contribution]) -> list[Contribution]:
        """Those that can change anything: what a law that looks back knows already is left out."""
        return [one for one in contributions if self._needs(tenant, one)]

    def _needs(self, tenant: str, one: Contribution) -> bool:
        window = self._windows.get((tenant, one.correlation))
        return not isinstance(window, Course) or window.needs(one.group, one.moment)

    def raised(self) -> list[Contribution]:
        """What signals of correlations brought to the risk of entities since the last call: kept like the others."""
        found, self._raised = self._raised, []
        return found

    def _values(self, kind: Kind, part: Part, number: int, event: Event) -> Sequence[Value]:
        """What is counted or calculated with."""
        if kind in {Kind.EVENT_COUNT, Kind.BEACONING} or (kind is Kind.DEVIATION and not part.values_of("")):
            return (event.id,)
        if kind is Kind.TEMPORAL or kind is Kind.TEMPORAL_ORDERED:
            return (number,)
        fields = part.values_of(event.source)
        if kind is Kind.VALUE_COUNT or kind.looks_back:
            return ["\x1f".join(values) for values in self._combined(event, fields)]
        value = number_of(self._read(event, fields[0]))
        return () if value is None or not math.isfinite(value) else (value,)

    def _combined(self, event: Event, fields: Sequence[str]) -> Sequence[Key]:
        """Every combination of the fields' values; none when a field has no value."""
        texts = []
        for name in fields:
            value = self._read(event, name)
            if type(value) is not str or not 0 < len(value) <= MAX_TEXT:
                break
            texts.append(value)
        else:
            return (tuple(texts),)
        columns = (
            [_short(text) for value in elements(self._read(event, name)) if (text := text_of(value))] for name in fields
        )
        return tuple(islice(dict.fromkeys(product(*columns)), MAX_COMBINATIONS))

    def _read(self, event: Event, name: str) -> object:
        found = event.data.get(name, MISSING)
        if type(found) is str:
            return found
        found = lookup(event.data, name)
        if found is MISSING and name.startswith(OCSF) and event.source in self._sources:
            read = self._sources[event.source].ocsf.get(name.removeprefix(OCSF))
            return read(event.data) if read else MISSING
        return found

    # Windows

    def take(self, tenant: str, contributions: Iterable[Contribution]) -> list[Signal]:
        """Adds contributions, those of unknown correlations aside; gives the signals they complete."""
        found: list[Signal] = []
        for one in contributions:
            if one.correlation in self._correlations:
                crossings = self._window(tenant, one.correlation).add(one.group, one.moment)
                found += self._signals(tenant, one.correlation, crossings)
        return found

    def advance(self, tenant: str, tide: int) -> list[Signal]:
        """Tells how far the tenant's event time has come; gives what that settles.

        Args:
            tenant: Whose.
            tide: Newest event time of a batch, microseconds UTC.
        """
        self._tides.setdefault(tenant, deque(maxlen=LOW)).append(tide)
        low = self.low(tenant)
        found: list[Signal] = []
        for name in self._correlations:
            if (tenant, name) in self._windows:
                found += self._signals(tenant, name, self._windows[tenant, name].advance(tide, low))
        return found

    def settled(self, tenant: str, low: int) -> None:
        """Tells a correlator that starts anew how far the tenant's windows had their answer; see `low`."""
        for name in self._correlations:
            self._window(tenant, name).settled(low - self._beyond[name])

    def low(self, tenant: str) -> int:
        """The lowest tide of the tenant's last `LOW` batches; 0 before the first."""
        return min(self._tides.get(tenant, ()), default=0)

    def clear(self) -> None:
        """Forgets every window; counts stay."""
        for (_, name), window in self._windows.items():
            for reason, count in window.counts.items():
                self.counts[self._correlations[name].id, reason] += count
        self._windows.clear()
        self._tides.clear()

    def finish(self, tenant: str) -> list[Signal]:
        """Settles everything: no further event is coming."""
        found: list[Signal] = []
        # Those that others refer to come first in a set of correlations.
        for name in self._correlations:
            if (tenant, name) in self._windows:
                found += self._signals(tenant, name, self._windows[tenant, name].finish())
        return found

    def held(self) -> dict[str, tuple[int, int]]:
        """Correlation id -> groups and moments held for all tenants."""
        found: dict[str, tuple[int, int]] = {one.id: (0, 0) for one in self._correlations.values()}
        for (_, name), window in self._windows.items():
            groups, moments = found[self._correlations[name].id]
            found[self._correlations[name].id] = groups + window.groups, moments + window.held
        return found

    def dropped(self) -> Counter[tuple[str, str]]:
        """(correlation id, reason) -> how much was late, doubled, evicted, thinned, ungrouped or unreadable so far."""
        found = Counter(self.counts)
        for (_, name), window in self._windows.items():
            for reason, count in window.counts.items():
                found[self._correlations[name].id, reason] += count
        return found

    def _window(self, tenant: str, name: str) -> Window | Course:
        found = self._windows.get((tenant, name))
        if found is None:
            correlation = self._correlations[name]
            every, lag = correlation.id in self._uses, self._lags[name]
            found = make_window(correlation.measure, self._limits, every=every, lag=lag)
            self._windows[tenant, name] = found
        return found

    def _signals(self, tenant: str, name: str, crossings: Iterable[Crossing]) -> Iterator[Signal]:
        correlation = self._correlations[name]
        for crossing in crossings:
            signal_id = _signal_id(tenant, correlation, crossing)
            if crossing.fresh and correlation.id not in self.quiet:
                signal = self._signal(tenant, correlation, crossing, signal_id)
                yield signal
                yield from self._raise(tenant, signal, crossing)
            for outer, number in self._uses.get(correlation.id, ()):
                yield from self._chain(tenant, (outer, number), correlation, crossing, signal_id)

    def _chain(
        self, tenant: str, use: tuple[str, int], inner: Correlation, crossing: Crossing, signal_id: str
    ) -> Iterator[Signal]:
        name, number = use
        outer = self._correlations[name]
        part = outer.parts[number]
        values = dict(zip(inner.group_by, crossing.group, strict=True))
        key = tuple(values[field] for field in part.fields_of(""))
        value: Value | None
        match outer.measure.kind:
            case Kind.EVENT_COUNT | Kind.BEACONING:
                value = signal_id
            case Kind.DEVIATION if not part.values_of(""):
                value = signal_id
            case Kind.TEMPORAL | Kind.TEMPORAL_ORDERED:
                value = number
            case Kind.VALUE_COUNT | Kind.FIRST_SEEN | Kind.RARE_VALUE | Kind.DEVIATION:
                value = "\x1f".join(values[field] for field in part.values_of(""))
            case _:
                value = number_of(values[part.values_of("")[0]])
        if value is None:
            self.counts[outer.id, "unreadable"] += 1
            return
        last = crossing.last
        moment = Moment(crossing.end, signal_id, number, value, last.source, last.seq, last.event or last.id)
        yield from self._signals(tenant, name, self._window(tenant, name).add(key, moment))

    def _raise(self, tenant: str, signal: Signal, crossing: Crossing) -> Iterator[Signal]:
        """What a correlation's own signal brings to the risk of entities, and what that tells."""
        last = crossing.last
        moment = Moment(crossing.end, signal.id, 0, signal.rule_id, last.source, last.seq, last.event or last.id)
        for one in self._risky(signal.entities, signal.rule_id, moment):
            self._raised.append(one)
            yield from self._signals(
                tenant, one.correlation, self._window(tenant, one.correlation).add(one.group, moment)
            )

    # Signals

    def _signal(self, tenant: str, correlation: Correlation, crossing: Crossing, signal_id: str) -> Signal:
        last = crossing.last
        return Signal(
            id=signal_id,
            tenant=tenant,
            rule_id=correlation.id,
            rule_version=correlation.version,
            title=correlation.title,
            level=correlation.level,
            event_id=last.event or last.id,
            event_time=crossing.end,
            source=last.source,
            entities=self._entities(correlation, crossing),
            tags=correlation.tags,
            why=self._why(correlation, crossing),
            alert=correlation.card.alert,
        )

    def _entities(self, correlation: Correlation, crossing: Crossing) -> tuple[Entity, ...]:
        """What the group is; of a group that is no entity, such as a program's name, the entities it counted."""
        if correlation.measure.kind is Kind.RISK:
            kind, _, name = crossing.group[0].partition(":")
            return (Entity(kind, name),)
        named = enumerate(crossing.group)
        found = {Entity(kind, value): None for place, value in named if (kind := self._type_of(correlation, place))}
        if not found and correlation.measure.kind is Kind.VALUE_COUNT and len(correlation.field) == 1:
            kind = self._type_of(correlation, 0, counted=True)
            found = {Entity(kind, str(one.value)): None for one in crossing.moments if kind}
        if not found and crossing.group:
            pairs = zip(correlation.group_by, crossing.group, strict=True)
            found = {Entity(GROUP, ", ".join(f"{name}={value}" for name, value in pairs)): None}
        return tuple(found)

    def _type_of(self, correlation: Correlation, place: int, *, counted: bool = False) -> str:
        """Entity type of a `group-by` field, or of the field that is counted, by the sources of the rules."""
        for part in correlation.parts:
            fields = part.values if counted else part.fields
            inner = next((one for one in self._correlations.values() if one.id == part.id), None)
            if inner is not None:
                found = self._type_of(inner, inner.group_by.index(fields[""][place]))
            else:
                names = ((source, names[place]) for source, names in fields.items())
                found = next((kind for source, name in names if (kind := self._types.get(source, {}).get(name))), "")
            if found:
                return found
        return ""

    def _why(self, correlation: Correlation, crossing: Crossing) -> dict[str, object]:
        measure = correlation.measure
        amount: Number = crossing.amount
        # The entity types of a risk are alternatives.
        names = ("entity",) if measure.kind is Kind.RISK else correlation.group_by
        shown: dict[str, object] = {name: scrub(value) for name, value in zip(names, crossing.group, strict=True)}
        shown[str(measure.kind)] = amount
        shown["condition"] = condition_text(correlation)
        shown["timespan_s"] = measure.span // MICROS
        if measure.kind is Kind.VALUE_COUNT:
            shown["values"] = [scrub(str(one.value).replace("\x1f", ", ")) for one in crossing.moments]
        if crossing.value:
            shown["values"] = [scrub(crossing.value.replace("\x1f", ", "))]
        shown["events"] = [
            self._told(correlation, one)
            for one in sorted(crossing.moments, key=lambda one: self._place(correlation, one))
        ]
        return shown

    def _told(self, correlation: Correlation, one: Moment) -> dict[str, object]:
        weight = correlation.measure.weights.get(str(one.value))
        return {
            "id": one.event or one.id,
            "rule": weight.title if weight else correlation.parts[one.part].name,
            "source": one.source,
            "time": to_iso(one.time),
            "place": one.seq,
        } | ({"rule_id": one.value, "tags": list(weight.tags)} if weight else {})

    def _place(self, correlation: Correlation, one: Moment) -> tuple[int, int]:
        """Of a signal in the order of an attack; what has no stage comes last. Of other moments their order stays."""
        weight = correlation.measure.weights.get(str(one.value))
        stage = self._stage(weight.tags) if weight and self._stage else None
        return (LAST_STAGE if stage is None else stage, one.time) if weight else (0, 0)


def _name(correlation: Correlation) -> str:
    return f"{correlation.id}@{correlation.version[:16]}"


def _signal_id(tenant: str, correlation: Correlation, crossing: Crossing) -> str:
    parts = [tenant, correlation.id, correlation.version, crossing.group, crossing.spell]
    # One group may have several new values in a spell; what else is told of it is told once.
    parts += [crossing.value] if correlation.measure.kind in {Kind.FIRST_SEEN, Kind.RARE_VALUE} else []
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def _short(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return text[: MAX_TEXT - 17] + "#" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def condition_text(correlation: Correlation) -> str:
    """When it is enough, as a person would write it."""
    measure = correlation.measure
    if measure.kind is Kind.FIRST_SEEN:
        return f"no {', '.join(correlation.field)} of this value before"
    if measure.patterns:
        return " or ".join(_pattern_text(correlation, one) for one in measure.patterns)
    return " and ".join(f"{name} {bound}" for name, bound in measure.condition.bounds.items())


def _pattern_text(correlation: Correlation, pattern: Pattern) -> str:
    names = [part.name for part in correlation.parts]
    wanted = [names[number] for number in sorted(pattern.wanted)]
    return " and ".join(wanted + [f"not {names[number]}" for number in sorted(pattern.unwanted)])


def _entity_types(source: Source) -> dict[str, str]:
    """Field, and OCSF attribute that reads one, -> entity type."""
    definition = source.definition
    found = {path: kind for kind, paths in definition.entities.items() for path in paths}
    for attribute, rule in definition.ocsf.items():
        paths = (rule,) if isinstance(rule, str) else rule if isinstance(rule, tuple) else ()
        kinds = {found[path] for path in paths if path in found}
        if len(kinds) == 1:
            found.setdefault(OCSF + attribute, kinds.pop())
    return found
