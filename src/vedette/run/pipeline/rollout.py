"""The rules that run: those of the pipeline's folder with what was shipped over them, at their stages.

An *edition* is all of it as of one change and one day (exceptions end by day). What reads the log judges by one edition
at a time and goes over to the next between two batches: it notes the new edition before it judges by it, and only when
no batch can have been judged in part. So a batch that a killed process left is judged again by the same versions.

Two versions of a unit run side by side: the live one, and the one on trial. In shadow the trial's signals are marked.
For a share of the entities the trial's signals count for those, and the live one's for the others. An entity is among
N per cent when a hash of unit and entity says so; raising N only adds entities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import msgspec

from vedette.act.grouping import lead_entity
from vedette.core.clock import Clock, to_datetime
from vedette.core.event import Event
from vedette.core.signal import Signal
from vedette.judge.correlation.correlator import Contribution, Correlator, Order
from vedette.judge.correlation.definition import Correlation
from vedette.judge.detectors import Detector, installed
from vedette.judge.grouping import Grouping
from vedette.judge.shipments import BASE, Document, Shipments, Stage, Standing, among
from vedette.judge.sigma.card import Card, Cards
from vedette.judge.sigma.correlations import weighed
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.load import RuleSet, all_of, build
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.pipelines import parse_pipeline
from vedette.judge.sigma.rules import Rule, Skipped
from vedette.run.pipeline.detection import Detection
from vedette.sense.sources import Source

LOOK_S = 1.0
"""How often a reader of the log looks for a change."""
NO_RULES = RuleSet(())


@dataclass(frozen=True, slots=True)
class Gate:
    """What decides whose signals of a rule on trial count."""

    standing: Standing
    grouping: Grouping
    """Of the version on trial: it says which entity is meant."""

    def takes(self, signal: Signal) -> bool:
        """True when the entity of a signal is in the trial's share."""
        entity = lead_entity(signal, self.grouping)
        return among(self.standing.unit, entity.key if entity else "", self.standing.percent)


@dataclass(frozen=True, slots=True)
class Edition:
    """The rules of one moment. Not for several threads at once: it holds matchers and windows."""

    seq: int
    """Number of the last change in it."""
    day: str
    """By which exceptions end, UTC."""
    live: Detection
    trial: Detection
    standings: Mapping[str, Standing]
    """Rule id -> its unit's standing, of every rule that was ever shipped."""
    gates: Mapping[str, Gate] = field(default_factory=dict)
    """Rule id -> its gate, of rules on trial."""
    texts: Mapping[str, tuple[RuleFile, ...]] = field(default_factory=dict)
    """Rule id -> the files it was shipped in."""

    @property
    def correlator(self) -> Pair:
        """Both sets' windows."""
        return Pair(self)

    @property
    def correlations(self) -> bool:
        """True when there is a correlation."""
        return bool(self.live.rules.correlations or self.trial.rules.correlations)

    def judge(self, event: Event) -> tuple[list[Signal], list[Contribution]]:
        """What rules on single events say of an event, and what they bring to correlations; the same each time."""
        signals, contributions = self.live.judge(event)
        if not self.gates:
            return signals, contributions
        tried, more = self.trial.judge(event)
        return self.passed(signals, tried), contributions + more

    def passed(self, live: Iterable[Signal], tried: Iterable[Signal]) -> list[Signal]:
        """The signals that count, and those of the shadow, marked."""
        return [*(one for one in live if self._stays(one)), *(one for each in tried for one in self._tried(each))]

    def _stays(self, signal: Signal) -> bool:
        gate = self.gates.get(signal.rule_id)
        return gate is None or gate.standing.stage is Stage.SHADOW or not gate.takes(signal)

    def _tried(self, signal: Signal) -> list[Signal]:
        gate = self.gates.get(signal.rule_id)
        if gate is None:
            return []
        if gate.standing.stage is Stage.SHADOW:
            return [msgspec.structs.replace(signal, shadow=True)]
        return [signal] if gate.takes(signal) else []

    @property
    def sets(self) -> tuple[Detection, ...]:
        """What is live; and what is on trial, where anything is."""
        return (self.live, self.trial) if self.gates else (self.live,)

    def reads(self, source: str) -> bool:
        """True when a rule reads a source."""
        return self.live.reads(source) or self.trial.reads(source)

    @property
    def rules(self) -> dict[str, Rule]:
        """Rule id -> the version that is live, else the one on trial."""
        return {rule.id: rule for rule in (*self.trial.rules.rules, *self.live.rules.rules)}

    @property
    def correlated(self) -> dict[str, Correlation]:
        """The same of correlations."""
        return {one.id: one for one in (*self.trial.rules.correlations, *self.live.rules.correlations)}

    def cards(self) -> dict[tuple[str, str], Card]:
        """(Rule id, version) -> its card."""
        sets = (self.trial.rules, self.live.rules)
        found = {(one.id, one.version): one.card for rules in sets for one in all_of(rules)}
        return found | {(one.id, one.version): one.card for rules in sets for one in rules.detectors}


@dataclass(frozen=True, slots=True)
class Pair:
    """The correlators of an edition as one. Each takes what is its own: contributions name id and version."""

    edition: Edition

    @property
    def _both(self) -> tuple[Correlator, Correlator]:
        return self.edition.live.correlator, self.edition.trial.correlator

    @property
    def keep(self) -> int:
        """How long a contribution can matter, microseconds."""
        return max(one.keep for one in self._both)

    def until(self, one: Contribution) -> int:
        """Event time from which on a contribution matters no more."""
        return max(each.until(one) for each in self._both)

    def needed(self, tenant: str, contributions: Iterable[Contribution]) -> list[Contribution]:
        """Those that can change anything."""
        live, trial = self._both
        return trial.needed(tenant, live.needed(tenant, contributions))

    def raised(self) -> list[Contribution]:
        """What signals of correlations brought to the risk of entities since the last call."""
        live, trial = self._both
        return live.raised() + trial.raised()

    def take(self, tenant: str, contributions: Sequence[Contribution]) -> list[Signal]:
        """Adds contributions; gives the signals that count."""
        live, trial = self._both
        return self.edition.passed(live.take(tenant, contributions), trial.take(tenant, contributions))

    def advance(self, tenant: str, tide: int) -> list[Signal]:
        """Tells how far event time has come; gives the signals that count."""
        live, trial = self._both
        return self.edition.passed(live.advance(tenant, tide), trial.advance(tenant, tide))

    def finish(self, tenant: str) -> list[Signal]:
        """No more comes; gives the signals that count."""
        live, trial = self._both
        return self.edition.passed(live.finish(tenant), trial.finish(tenant))

    def settled(self, tenant: str, low: int) -> None:
        """Tells how far windows had their answer."""
        for one in self._both:
            one.settled(tenant, low)

    def low(self, tenant: str) -> int:
        """The lowest tide of the last batches."""
        return self.edition.live.correlator.low(tenant)

    def clear(self) -> None:
        """Forgets every window."""
        for one in self._both:
            one.clear()

    def dropped(self) -> Counter[tuple[str, str]]:
        """What was late, doubled, evicted and so on so far."""
        live, trial = self._both
        return live.dropped() + trial.dropped()

    def held(self) -> dict[str, tuple[int, int]]:
        """Correlation id -> groups and moments held."""
        live, trial = (one.held() for one in self._both)
        names = live.keys() | trial.keys()
        pairs = {name: (live.get(name, (0, 0)), trial.get(name, (0, 0))) for name in names}
        return {name: (one[0] + other[0], one[1] + other[1]) for name, (one, other) in pairs.items()}


class Rollout:
    """The editions of an installation.

    Args:
        base: The rules of the pipeline's own folder; None: no such rules.
        shipments: What was shipped.
        clock: Says the day, and when to look again.
        sources: The known sources.
        cards: Told what the rules of each edition say of their alerts.
        name: Of the reader whose place between editions is kept.
        stage: Place of tags in the order of an attack, for the risk of entities.
        own: Detectors that the installation itself has, beside those that packages offer.
    """

    def __init__(
        self,
        base: Detection | None,
        shipments: Shipments,
        clock: Clock,
        sources: Mapping[str, Source],
        cards: Cards,
        *,
        name: str = "detect",
        stage: Order | None = None,
        own: Sequence[Detector] = (),
    ) -> None:
        self.shipments = shipments
        self._own = tuple(own)
        self._cards = cards
        self._base = base
        self.clock = clock
        self.sources = sources
        self._name = name
        self._stage = stage
        places = {each: source.logsource for each, source in sources.items()}
        self._places = base.places if base and base.places else LogSources(places)
        self._looked = -LOOK_S
        self._seen: tuple[int, str] = (0, "")
        self._shown: Edition | None = None
        self._live: tuple[tuple[object, ...], Detection] | None = None

    def applied(self) -> Edition:
        """The edition that the reader judges by, also after a restart; the newest for one that never began."""
        place = self.shipments.applied(self._name)
        return self.edition(*place) if place else self.next()

    def due(self, edition: Edition) -> bool:
        """Whether there is a newer one; looked up at most every `LOOK_S` seconds."""
        return self._newest() != (edition.seq, edition.day)

    def next(self) -> Edition:
        """The newest edition, noted as the one that is judged by from now on."""
        self._looked = -LOOK_S
        seq, day = self._newest()
        found = self.edition(seq, day)
        self.shipments.apply(self._name, seq, day)
        return found

    def newest(self) -> Edition:
        """The newest edition, for people to look at."""
        place = self._newest()
        if self._shown is None or place != (self._shown.seq, self._shown.day):
            self._shown = self.edition(*place)
        return self._shown

    def _newest(self) -> tuple[int, str]:
        now = self.clock.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            self._seen = (self.shipments.newest(), self._today())
        return self._seen

    def _today(self) -> str:
        return to_datetime(self.clock.now()).date().isoformat()

    def edition(self, seq: int, day: str, of: Collection[str] | None = None) -> Edition:
        """The rules as of a change and a day.

        Args:
            seq: Number of the change.
            day: By which exceptions end, UTC.
            of: Ids of rules; what was shipped that holds none of them is left out. None: nothing is.
        """
        today = date.fromisoformat(day)
        base = self._base.on(today) if self._base else NO_RULES
        owned = self.shipments.ids()
        live, trial, gone = list[RuleSet](), list[RuleSet](), set[str]()
        standings, gates = dict[str, Standing](), dict[str, Gate]()
        texts = dict[str, tuple[RuleFile, ...]]()
        for unit, standing in self.shipments.standings(seq).items():
            if of is not None and owned[unit].isdisjoint(of):
                continue
            standings |= dict.fromkeys(owned[unit], standing)
            if standing.live != BASE:
                gone |= owned[unit]
            for version in standing.versions:
                rules, files = self._built(version, today)
                texts |= dict.fromkeys((one.id for one in all_of(rules)), files)
                (trial if version == standing.trial else live).append(rules)
                if version == standing.trial:
                    gates |= {name: Gate(standing, grouping) for name, grouping in _groupings(rules).items()}
                    # A rule that the version on trial has no more is live's alone in shadow, nobody's for the share.
                    gates |= {name: Gate(standing, Grouping()) for name in owned[unit] - gates.keys()}
        kept = RuleSet(
            tuple(rule for rule in base.rules if rule.id not in gone),
            base.skipped,
            tuple(one for one in base.correlations if one.id not in gone),
            base.filters,
            (*(one for one in base.detectors if one.id not in gone), *self._own),
        )
        paths = self._base.paths if self._base else ()
        found = Edition(
            seq,
            day,
            Detection(_joined([kept, *live]), self.sources, paths, stage=self._stage),
            Detection(_joined(trial), self.sources),
            standings,
            gates,
            texts,
        )
        self._cards.add(found.cards())
        return found

    def _built(self, version: str, today: date) -> tuple[RuleSet, tuple[RuleFile, ...]]:
        document = self.shipments.document(version)
        if document.detector:
            return self._detector(document), ()
        files = tuple(RuleFile(one.path, one.content) for one in document.files)
        places = self._places
        if document.pipelines:
            places = places.through(parse_pipeline(one.content, one.path) for one in document.pipelines)
        return build(files, places, today), files

    def _detector(self, document: Document) -> RuleSet:
        """A detector, where the version that was shipped is still the one that is installed."""
        found = self._base.rules.detectors if self._base else installed()
        same = tuple(one for one in found if (one.id, one.version) == (document.ids[0], document.detector))
        if same:
            return RuleSet((), detectors=same)
        reason = f"version {document.detector} of the detector is not installed any more [detectors.version.missing]"
        return RuleSet((), (Skipped(document.ids[0], reason, ""),))


def _groupings(rules: RuleSet) -> dict[str, Grouping]:
    return {one.id: one.card.group or Grouping() for one in (*all_of(rules), *rules.detectors)}


def _joined(sets: Sequence[RuleSet]) -> RuleSet:
    """Several sets as one; all its rules add to the risk of entities."""
    rules = tuple(rule for one in sets for rule in one.rules)
    return RuleSet(
        rules,
        tuple(skipped for one in sets for skipped in one.skipped),
        weighed([each for one in sets for each in one.correlations], rules),
        tuple(each for one in sets for each in one.filters),
        tuple(each for one in sets for each in one.detectors),
    )
