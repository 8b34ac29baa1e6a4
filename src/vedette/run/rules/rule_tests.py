"""The one tester of rules: the tests in the cards of Sigma rules and correlations, and those of payment rules.

A test runs through the parts of the stream: the source reads its records, the matcher and the correlator judge them in
the order of delivery, the grouping law makes the alert whose title, level, key and entities are compared. A test that
fails says what the rule lacks, or which clauses made it fire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec

from vedette.act.grouping import Alert, group, key_text
from vedette.core.clock import MICROS
from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.core.signal import Signal
from vedette.judge.correlation.definition import Correlation
from vedette.judge.explain import RuleExplanation, explain_payment_rule, to_lines
from vedette.judge.grouping import Grouping
from vedette.judge.payment.rules import Outcome, PaymentRules
from vedette.judge.sigma.card import CardTest, Expected, Step
from vedette.judge.sigma.documents import Written, read
from vedette.judge.sigma.explain import Explainer, Taken
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.load import RuleSet, all_of, build
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.rules import Rule
from vedette.run.pipeline.detection import Detection
from vedette.sense.sources import Source
from vedette.sense.times import write_time

START = 1_772_000_000 * MICROS
"""Event time at which every test starts: 2026-02-25 06:13:20 UTC."""
TENANT = "test"
MAX_LINES = 12
"""Most lines of an explanation that a failed test shows."""

_NUMBER = re.compile(r"\{n(?:%(\d{1,9}))?\}")


class Tested(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one test."""

    rule_id: str
    title: str
    path: str
    test: str
    """Its name."""
    positive: bool
    """True when the rule must fire."""
    problem: str = ""
    """What is not as the test says; empty when it passed."""
    why: tuple[str, ...] = ()
    """Clauses that decided it, of a test that failed."""

    @property
    def passed(self) -> bool:
        """True when all is as the test says."""
        return not self.problem


class RuleTests:
    """The tests of rule files.

    Args:
        files: Rule files, in hand.
        places: Where log sources are found.
        sources: The known sources.
    """

    def __init__(self, files: Iterable[RuleFile], places: LogSources, sources: Mapping[str, Source]) -> None:
        self._files = list(files)
        # A rule whose look-ups only its tests fill is not skipped for that; each test then brings its own.
        self._places = places.with_lists(_mocks(self._files))
        self._sources = sources
        self.rules = build(self._files, self._places)

    @property
    def count(self) -> int:
        """How many tests there are."""
        return sum(len(one.card.tests) for one in all_of(self.rules))

    def run(self) -> Iterator[Tested]:
        """Runs the test of every rule and correlation that can match, file by file."""
        for _, runs in self._each():
            for run in runs:
                yield run.result()

    def with_alerts(self) -> Iterator[tuple[Rule | Correlation, list[Tested], Alert | None]]:
        """Each rule with what became of its tests, and the first alert of its first test that fires, if any."""
        for rule, each in self._each():
            runs = list(each)
            fired = (run.alert() for run in runs if run.test.positive)
            yield rule, [run.result() for run in runs], next(filter(None, fired), None)

    def _each(self) -> Iterator[tuple[Rule | Correlation, Iterator[_Run]]]:
        both = sorted(all_of(self.rules), key=attrgetter("path"))
        for _, held in groupby(both, key=attrgetter("path")):
            file = list(held)
            whole = Detection(closure(self.rules, file), self._sources) if len(file) > 1 else None
            for rule in file:
                if rule.card.tests:
                    yield rule, self._of(rule, whole)

    def _of(self, rule: Rule | Correlation, whole: Detection | None) -> Iterator[_Run]:
        own = Detection(closure(self.rules, [rule]), self._sources)
        for test in rule.card.tests:
            yield self._mocked(rule, test) if test.lists else _Run(rule, test, own, whole, self._sources)

    def _mocked(self, rule: Rule | Correlation, test: CardTest) -> _Run:
        """A test with its own look-ups."""
        paths = {one.path for one in all_of(closure(self.rules, [rule]))}
        files = [file for file in self._files if file.path in paths]
        rules = build(files, self._places.with_lists(test.lists))
        whole = Detection(rules, self._sources) if len(all_of(rules)) > 1 else None
        found = next(one for one in all_of(rules) if one.id == rule.id)
        return _Run(found, test, Detection(closure(rules, [found]), self._sources), whole, self._sources)


def _mocks(files: Iterable[RuleFile]) -> dict[str, tuple[Any, ...]]:
    written = (one for file in files for one in read(file) if isinstance(one, Written))
    return {name: values for one in written for test in one.card.tests for name, values in test.lists.items()}


def closure(rules: RuleSet, wanted: Iterable[Rule | Correlation]) -> RuleSet:
    """Some rules of a set with all that they refer to."""
    known = {one.id: one for one in rules.correlations}
    names, waiting = set(), [one.id for one in wanted]
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.add(name)
            waiting += [part.id for part in known[name].parts] if name in known else []
            if name in known and known[name].measure.weights:
                # To the risk of entities all rules add; a file stands for itself.
                waiting += [one.id for one in all_of(rules) if one.path == known[name].path]
    return RuleSet(
        tuple(rule for rule in rules.rules if rule.id in names),
        (),
        tuple(one for one in rules.correlations if one.id in names),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """One test of one rule."""

    rule: Rule | Correlation
    test: CardTest
    own: Detection
    """The rule with what it refers to."""
    whole: Detection | None
    """All rules of its file; None when it is the only one."""
    sources: Mapping[str, Source]

    def result(self) -> Tested:
        """Runs it."""
        rule, test = self.rule, self.test
        problem, why = "", tuple[str, ...]()
        try:
            events, signals = self._fired()
        except DataError as error:
            problem = str(error)
        else:
            problem = _unmet(test, signals) or self._others(events)
            if problem:
                why = self._why(events)
            elif test.expect:
                problem = _unexpected(test.expect, signals, rule.card.group)
        return Tested(
            rule_id=rule.id,
            title=rule.title,
            path=rule.path,
            test=test.name,
            positive=test.positive,
            problem=problem,
            why=why,
        )

    def alert(self) -> Alert | None:
        """The first alert that the test makes."""
        try:
            _, signals = self._fired()
        except DataError:
            return None
        return _first(signals, self.rule.card.group or Grouping()) if signals else None

    def _fired(self) -> tuple[list[Event], list[Signal]]:
        """The events, and the rule's signals for them."""
        events = list(to_events(self.test.steps, self._source(), self.sources))
        return events, [one for one in deliver(self.own, events) if one.rule_id == self.rule.id]

    def _source(self) -> str:
        """The rule's one source; empty when it reads several."""
        found = {source for rule in self.own.rules.rules for source in rule.nodes}
        return found.pop() if len(found) == 1 else ""

    def _others(self, events: Sequence[Event]) -> str:
        if self.whole is None:
            return ""
        allowed = {self.rule.id, self.rule.name, *self.test.also}
        names = {one.id: one.name or one.id for one in all_of(self.whole.rules)}
        others = {one.rule_id for one in deliver(self.whole, events)}
        loud = sorted(names[name] for name in others if not {name, names[name]} & allowed)
        return f"`{loud[0]}` of the same file fires too, which `also` does not name" if loud else ""

    def _why(self, events: Sequence[Event]) -> tuple[str, ...]:
        """What the rule lacks; of one that should not have fired, its clauses."""
        taken = [Taken(event, number, timed=True) for number, event in enumerate(events, 1)]
        explainer = Explainer(self.own.rules, self.sources, taken)
        shown: Sequence[RuleExplanation | None] = (
            [explainer.rule(self.rule)] if isinstance(self.rule, Rule) else explainer.correlation(self.rule, most=1)
        )
        return tuple(line for one in shown if one for line in _told(one))


def deliver(detection: Detection, events: Sequence[Event]) -> list[Signal]:
    """The signals of events in the order of their delivery, each a batch of its own, and of the end of the stream."""
    correlator = detection.correlator
    correlator.clear()
    found: list[Signal] = []
    for event in events:
        signals, contributions = detection.judge(event)
        found += signals
        found += correlator.take(TENANT, contributions)
        found += correlator.advance(TENANT, event.event_time)
    return [*found, *correlator.finish(TENANT)]


def to_events(steps: Sequence[Step], source: str, sources: Mapping[str, Source]) -> Iterator[Event]:
    """The events of some steps, in the order in which they are delivered.

    Args:
        steps: Of a test.
        source: For the steps that name none.
        sources: The known sources.

    Raises:
        DataError: `rules.test.source` when a step's source is not known or not named; what the source finds wrong with
            a record.
    """
    planned = [
        (START + (step.at_s + number * step.every_s) * MICROS, step, place, number)
        for place, step in enumerate(steps)
        for number in range(step.count)
    ]
    planned.sort(key=lambda one: (one[0] + one[1].late_s * MICROS, one[2], one[3]))
    for offset, (time, step, place, number) in enumerate(planned):
        name = step.source or source
        if name not in sources:
            hint = f"one of {', '.join(sources)}"
            raise DataError("rules.test.source", f"step {place + 1} names no known source: `{name}`", hint=hint)
        yield _event(sources[name], filled(step.event, number), time, f"{place}-{number}", offset)


def _event(source: Source, data: dict[str, Any], time: int, name: str, offset: int) -> Event:
    record = source.parse(as_delivered(source, data, time, name))
    return source.to_event(record, tenant=TENANT, stream=TENANT, offset=offset, ingest_time=1 << 60)


def as_delivered(source: Source, data: dict[str, Any], time: int, name: str) -> bytes:
    """A record of a step as its source delivers it; its time (microseconds UTC) and id are filled in if it has none."""
    definition = source.definition
    if not any(field in data for field in definition.time):
        field, form = next(iter(definition.time.items()))
        data = _put(data, field.split("."), write_time(time, form))
    if definition.id and definition.id not in data:
        data = data | {definition.id: name}
    return msgspec.json.encode(data)


def _put(data: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy with a value at a path, nested where what is there is nested: the readers of sources take both forms."""
    inner = data.get(path[0])
    if len(path) == 1 or not isinstance(inner, dict):
        return data | {".".join(path): value}
    return data | {path[0]: _put(inner, path[1:], value)}


def filled(value: Any, number: int) -> Any:
    """A value of a step whose texts say `{n}` or `{n%7}`, for the event of that number."""
    match value:
        case str():
            return _NUMBER.sub(lambda place: str(number % int(place[1]) if place[1] else number), value)
        case dict():
            return {name: filled(each, number) for name, each in value.items()}
        case list():
            return [filled(each, number) for each in value]
    return value


def _unmet(test: CardTest, signals: Sequence[Signal]) -> str:
    """What is wrong with how often the rule fired, and for whom."""
    wanted, count = test.fires, len(signals)
    if isinstance(wanted, tuple):
        return _not_for(set(wanted), {entity.key for signal in signals for entity in signal.entities})
    if wanted is True:
        return "" if count else "it did not fire"
    return "" if count == wanted else f"it fired {count} times, not {int(wanted)}"


def _not_for(wanted: set[str], found: set[str]) -> str:
    parts = (("it did not fire for", wanted - found), ("it fired for", found - wanted))
    return "; ".join(f"{what} {', '.join(sorted(names)[:5])}" for what, names in parts if names)


def _unexpected(expect: Expected, signals: Sequence[Signal], grouping: Grouping | None) -> str:
    """What the first alert says otherwise."""
    chosen = grouping or Grouping()
    first = _first(signals, chosen)
    lead = next(signal for signal in signals if signal.id == first.lead)
    said = _said(first, key_text(lead, chosen))
    wanted: dict[str, Any] = msgspec.structs.asdict(expect)
    if expect.entities is not None:
        wanted["entities"] = tuple(sorted(expect.entities))
    wrong = [name for name, value in wanted.items() if value is not None and value != said[name]]
    return "; ".join(f"{name} is {_text(said[name])}, not {_text(wanted[name])}" for name in wrong)


def _first(signals: Sequence[Signal], grouping: Grouping) -> Alert:
    alerts = group(((signal, signal.event_time) for signal in signals), default=grouping)
    return min(alerts.values(), key=lambda alert: (alert.first_time, alert.id))


def _said(alert: Alert, key: str) -> dict[str, Any]:
    entities = tuple(sorted(entity.key for entity in alert.entities))
    return {"title": alert.title, "level": alert.level, "key": key, "entities": entities}


def _text(value: Any) -> str:
    return f"`{', '.join(value) if isinstance(value, tuple) else value}`"


def run_payment_tests(rules: PaymentRules, path: str) -> Iterator[Tested]:
    """Runs the tests of payment rules."""
    for rule in rules.rules:
        for number, test in enumerate(rule.tests, 1):
            said = rule.result(test.given)
            passed = test.passes(said)
            yield Tested(
                rule_id=rule.id,
                title=rule.text,
                path=path,
                test=f"{number}",
                positive=test.expect in (True, Outcome.FIRED),
                problem="" if passed else f"it is {said}, not {str(test.expect).lower()}",
                why=() if passed else tuple(_told(explain_payment_rule(rule, test.given))),
            )


def _told(shown: RuleExplanation) -> list[str]:
    lines = list(to_lines(shown))
    lacks = [line for line in lines if line.startswith("  lacks: ")]
    return [line.strip() for line in lacks or lines[1:]][:MAX_LINES]
