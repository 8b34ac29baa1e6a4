"""Backtest: what a rule set would have raised over the past, and what it would raise otherwise than another version.

Records go through the matcher, the correlator in event time, the grouping law and the suppression law: what is counted
is alerts as people would have got them. Two versions are run over the same records, in one reading of them; rules that
are the same in both are run once. Detectors written in Python take part like rules.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from vedette.act.grouping import Alert, merge, to_alert
from vedette.act.load import Minutes
from vedette.act.suppression import suppressed, suppression_key
from vedette.core.clock import DAY, to_iso
from vedette.core.signal import Level, Signal
from vedette.judge.backtest.changes import Change, change_of
from vedette.judge.correlation.correlator import Contribution, Correlator
from vedette.judge.correlation.definition import Correlation
from vedette.judge.detectors import Detector, detected
from vedette.judge.grouping import Grouping
from vedette.judge.sigma.card import Card
from vedette.judge.sigma.detect import WAITING, batched
from vedette.judge.sigma.load import RuleSet, all_of
from vedette.judge.sigma.ready import Ready, once
from vedette.judge.sigma.rules import Rule
from vedette.run.pipeline.detection import to_signal
from vedette.run.rules.records import TENANT, Batch
from vedette.run.rules.rule_tests import closure
from vedette.sense.sources import Source

EXAMPLES = 3
"""Alerts shown of each kind."""
TOP = 3
"""Values shown that most alerts of a rule have in common."""
MAX_KEPT = 200_000
"""Most alerts that a run remembers one by one; what is beyond is counted in `beyond`."""


class Example(msgspec.Struct, frozen=True):
    """One alert."""

    time: str
    """Event time of its first signal."""
    title: str
    entity: str
    signals: int
    event_id: str
    """Of its first signal."""
    why: dict[str, object]


class Common(msgspec.Struct, frozen=True):
    """A value that many alerts of a rule have: what an exception for it would take away."""

    field: str
    value: str
    alerts: int


class Counted(msgspec.Struct, frozen=True):
    """What one version of a rule raised."""

    signals: int = 0
    alerts: int = 0
    """After grouping and suppression."""
    suppressed: int = 0
    """Alerts that the rule's own law counted and did not raise."""
    per_day: float = 0.0
    minutes_per_day: float = 0.0
    """People's work for them."""


class RuleReport(msgspec.Struct, frozen=True, kw_only=True):
    """One rule over the period."""

    rule_id: str
    title: str
    level: Level
    version: str
    """Empty: the new set has no such rule."""
    change: str
    """`same`, `changed`, `added` or `removed`; empty without another set to compare with."""
    now: Counted
    before: Counted | None = None
    """Of the other version; None where there is none."""
    gained: int = 0
    """Alerts that only the new version raises."""
    lost: int = 0
    same: int = 0
    budget: float | None = None
    """Alerts a day that the rule's card allows."""
    gained_examples: tuple[Example, ...] = ()
    lost_examples: tuple[Example, ...] = ()
    common: tuple[Common, ...] = ()

    @property
    def over_budget(self) -> bool:
        """True when it costs more than its card allows."""
        return self.budget is not None and self.now.per_day > self.budget


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A backtest."""

    records: int
    first: str
    """Start of the period; empty when no record has a time."""
    last: str
    days: float
    """Length of the period, at least one."""
    rules: tuple[RuleReport, ...]
    """Those that raise most first."""
    now: Counted
    before: Counted | None
    minutes: Minutes
    """What an alert costs a person, and on how many alerts that was measured."""
    beyond: int = 0
    """Alerts of a flood that were not compared one by one."""

    @property
    def over_budget(self) -> list[RuleReport]:
        """Rules that cost more than their cards allow."""
        return [one for one in self.rules if one.over_budget]


@dataclass(slots=True)
class _Raised:
    """One rule's alerts in one version."""

    card: Card
    signals: int = 0
    alerts: dict[str, Alert] = field(default_factory=dict)
    events: dict[str, set[int]] = field(default_factory=dict)
    """Alert -> hashes of its events."""
    leads: dict[str, str] = field(default_factory=dict)
    """Alert -> event of its first signal."""
    beyond: int = 0

    def add(self, signal: Signal) -> None:
        self.signals += 1
        if not signal.alert:
            return
        alert = to_alert(signal, self.card.group or Grouping(), signal.event_time)
        held = self.alerts.get(alert.id)
        if held is None and len(self.alerts) >= MAX_KEPT:
            self.beyond += 1
            return
        whole = merge(held, alert) if held else alert
        self.alerts[alert.id] = whole
        if whole.lead == signal.id:
            self.leads[alert.id] = signal.event_id
        self.events.setdefault(alert.id, set()).add(_short(signal.event_id))

    def quieted(self) -> set[str]:
        """Alerts that the rule's own law keeps back."""
        law = self.card.suppress
        if law is None:
            return set()
        keyed: dict[str, list[tuple[int, str]]] = {}
        for alert in self.alerts.values():
            key = suppression_key(alert, law)
            if key is not None:
                keyed.setdefault(key, []).append((alert.first_time, alert.id))
        return {name for held in keyed.values() for name in suppressed(held, law.span_s)}


class Trial:
    """One rule set over records; gives its alerts when all were fed.

    Args:
        rules: The set.
        sources: The known sources.
        since: Earliest event time that counts, microseconds UTC.
        until: The end of the period, microseconds UTC.
    """

    def __init__(self, rules: RuleSet, sources: Mapping[str, Source], *, since: int = 0, until: int = 1 << 62) -> None:
        self.rules = rules
        self._ready = Ready(rules)
        self._correlator = Correlator(rules.correlations, sources)
        self._waiting: list[Contribution] = []
        self._since, self._until = since, until
        self._seen: set[int] = set()
        quiet = self._correlator.quiet
        self.raised = {one.id: _Raised(one.card) for one in _watched(rules) if one.id not in quiet}

    def reads(self, source: str) -> bool:
        """True when a rule reads a source."""
        return bool(self._ready.of(source)[1]) or any(source in one.sources for one in self.rules.detectors)

    def feed(self, batch: Batch) -> None:
        """Judges records."""
        matcher, rules = self._ready.of(batch.source.name)
        tried = [one for one in self.rules.detectors if batch.source.name in one.sources]
        for place, numbers in enumerate(matcher.match_many(list(batch.records))):
            event = batch.event(place) if numbers or tried else None
            if event is None or not self._since <= event.event_time < self._until:
                continue
            fired = list(once(rules, numbers))
            self._take(to_signal(rule, node, event) for rule, node in fired if rule.id in self.raised)
            self._take(detected(tried, event))
            self._waiting += self._correlator.contributions(event, (rule.id for rule, _ in fired))
        if len(self._waiting) > WAITING:
            self._correlate(WAITING // 2)

    def finish(self) -> None:
        """Judges what correlations still wait for."""
        self._correlate(len(self._waiting))
        self._take(self._correlator.finish(TENANT))

    def _correlate(self, count: int) -> None:
        self._waiting.sort(key=lambda one: one.moment[:3])
        now, self._waiting = self._waiting[:count], self._waiting[count:]
        for part in batched(now, 1_000):
            self._take(self._correlator.take(TENANT, part))
            self._take(self._correlator.advance(TENANT, part[-1].moment.time))

    def _take(self, signals: Iterable[Signal]) -> None:
        for signal in signals:
            short = _short(signal.id)
            if short not in self._seen:
                self._seen.add(short)
                self.raised[signal.rule_id].add(signal)


def _short(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


def backtest(
    new: RuleSet,
    batches: Iterable[Batch],
    sources: Mapping[str, Source],
    *,
    old: RuleSet | None = None,
    since: int | None = None,
    until: int | None = None,
    minutes: Minutes = Minutes(),  # noqa: B008 - a frozen value
) -> Report:
    """Runs a rule set over the past, beside another version of it.

    Args:
        new: The set.
        batches: The records, in any order.
        sources: The known sources.
        old: Another version to compare with.
        since: Start of the period, microseconds UTC; None: the first record's time.
        until: Its end; None: the last record's time.
        minutes: What an alert costs a person.
    """
    low, high = since or 0, 1 << 62 if until is None else until
    changed = _changed(new, old) if old else set[str]()
    trial = Trial(new, sources, since=low, until=high)
    other = Trial(_only_those(old, changed), sources, since=low, until=high) if old else None
    records, first, last = 0, 1 << 62, -1
    for batch in batches:
        records += len(batch.records)
        for place in {0, len(batch.records) - 1} if batch.records else ():
            event = batch.event(place)
            if event and low <= event.event_time < high:
                first, last = min(first, event.event_time), max(last, event.event_time)
        trial.feed(batch)
        if other:
            other.feed(batch)
    for one in (trial, other):
        if one:
            one.finish()
    start = since if since is not None else first if last >= 0 else 0
    end = until if until is not None else max(last, start)
    return _Run(trial, other, old, changed, (start, end), minutes).report(records)


def _watched(rules: RuleSet) -> list[Rule | Correlation | Detector]:
    """Everything that may raise an alert."""
    return [*all_of(rules), *rules.detectors]


def _changed(new: RuleSet, old: RuleSet) -> set[str]:
    """Ids of rules that are not the same in both sets."""
    now, before = _versions(*_watched(new)), _versions(*_watched(old))
    return {name for name in now.keys() | before.keys() if change_of(name, now, before) is not Change.SAME}


def _versions(*rules: Rule | Correlation | Detector | None) -> dict[str, str]:
    return {one.id: one.version for one in rules if one}


def _only_those(rules: RuleSet, ids: set[str]) -> RuleSet:
    """Some rules with what they refer to, and some detectors."""
    kept = closure(rules, [one for one in all_of(rules) if one.id in ids])
    return replace(kept, detectors=tuple(one for one in rules.detectors if one.id in ids))


@dataclass(frozen=True, slots=True)
class _Run:
    """What was run, ready to be told."""

    trial: Trial
    other: Trial | None
    old: RuleSet | None
    changed: set[str]
    period: tuple[int, int]
    minutes: Minutes

    def report(self, records: int) -> Report:
        """Everything that was found."""
        start, end = self.period
        runs = [one for one in (self.trial, self.other) if one]
        rows = [self._row(name) for name in {name: None for run in runs for name in run.raised}]
        rows.sort(key=lambda row: (-row.now.alerts, -row.lost, row.rule_id))
        return Report(
            records=records,
            first=to_iso(start) if end else "",
            last=to_iso(end) if end else "",
            days=round(self._days, 2),
            rules=tuple(rows),
            now=_sum(row.now for row in rows),
            before=_sum(row.before for row in rows if row.before) if self.other else None,
            minutes=self.minutes,
            beyond=sum(one.beyond for run in runs for one in run.raised.values()),
        )

    @property
    def _days(self) -> float:
        return max(1.0, (self.period[1] - self.period[0]) / DAY)

    def _row(self, name: str) -> RuleReport:
        known = next((one for one in _watched(self.trial.rules) if one.id == name), None)
        former = next((one for one in _watched(self.old) if one.id == name), None) if self.old else None
        rule = known or former
        assert rule is not None  # noqa: S101 - it was run in one of them
        now = self.trial.raised.get(name)
        before = None
        if self.other:
            before = self.other.raised.get(name) if name in self.changed else now
        mine, others = _loud(now), _loud(before)
        differs = self.old is not None and name in self.changed
        gained = _only(mine, now, others, before) if differs else []
        lost = _only(others, before, mine, now) if differs else []
        return RuleReport(
            rule_id=rule.id,
            title=rule.title,
            level=rule.level,
            version=known.version if known else "",
            change=change_of(name, _versions(known), _versions(former)) if self.old else "",
            now=self._counted(rule.id, now),
            before=self._counted(rule.id, before) if before else None,
            gained=len(gained),
            lost=len(lost),
            same=len(mine) - len(gained) if self.old else 0,
            budget=known.card.budget if known else None,
            gained_examples=tuple(_example(alert, now) for alert in gained[:EXAMPLES]),
            lost_examples=tuple(_example(alert, before) for alert in lost[:EXAMPLES]),
            common=_common(mine.values()),
        )

    def _counted(self, rule_id: str, held: _Raised | None) -> Counted:
        if held is None:
            return Counted()
        quiet = len(held.quieted())
        alerts = len(held.alerts) - quiet + held.beyond
        per_day = alerts / self._days
        return Counted(held.signals, alerts, quiet, round(per_day, 2), round(per_day * self.minutes.of(rule_id), 1))


def _sum(parts: Iterable[Counted]) -> Counted:
    held = list(parts)
    return Counted(
        sum(one.signals for one in held),
        sum(one.alerts for one in held),
        sum(one.suppressed for one in held),
        round(sum(one.per_day for one in held), 2),
        round(sum(one.minutes_per_day for one in held), 1),
    )


def _loud(held: _Raised | None) -> dict[str, Alert]:
    if held is None:
        return {}
    quiet = held.quieted()
    return {name: alert for name, alert in held.alerts.items() if name not in quiet}


def _only(
    mine: Mapping[str, Alert], held: _Raised | None, others: Mapping[str, Alert], other: _Raised | None
) -> list[Alert]:
    """Alerts whose group the others lack, and of whose events none is in an alert of theirs; by time."""
    theirs = {event for name in others for event in other.events[name]} if other else set()
    found = (alert for name, alert in mine.items() if name not in others and not (held and theirs & held.events[name]))
    return sorted(found, key=lambda alert: (alert.first_time, alert.id))


def _example(alert: Alert, held: _Raised | None) -> Example:
    entity = alert.entity.key if alert.entity else ""
    why = {name: value for name, value in alert.why.items() if name != "events"}
    return Example(
        to_iso(alert.first_time), alert.title, entity, alert.signal_count, held.leads[alert.id] if held else "", why
    )


def _common(alerts: Iterable[Alert]) -> tuple[Common, ...]:
    """The values that most alerts have in common, where more than one does."""
    counts: Counter[tuple[str, str]] = Counter()
    for alert in alerts:
        pairs = {(name, value) for name, value in alert.why.items() if isinstance(value, str)}
        counts.update(pairs | ({("entity", alert.entity.key)} if alert.entity else set()))
    return tuple(Common(*pair, count) for pair, count in counts.most_common(TOP) if count > 1)
