"""What rules cost, on a sample of real events: each rule alone, the clauses of the dearest, and the stages together.

A rule's cost is that of a matcher that holds nothing else, on events it sees for the first time. Rules share most of
their work, so all together cost far less than the sum; the figure for all of them is beside it. What a clause costs is
measured likewise. Time comes from the clock that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from vedette.core.event import Event
from vedette.expr import nodes
from vedette.expr.matcher import Matcher
from vedette.expr.nodes import Field, Node
from vedette.expr.printer import to_text
from vedette.expr.values import MISSING, lookup, text_of
from vedette.judge.correlation.correlator import Correlator
from vedette.judge.sigma.detect import why
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.rules import Rule
from vedette.sense.sources import Source

DEAREST = 10
"""Rules whose clauses are looked at."""
MICRO = 1e6
TENANT = "profile"

Tick = Callable[[], float]
"""Seconds; only differences mean something."""


class ClauseCost(msgspec.Struct, frozen=True):
    """One clause of a rule."""

    text: str
    micros: float
    """For one event, alone."""
    true: int
    """Events of the sample for which it holds."""


class RuleCost(msgspec.Struct, frozen=True):
    """One rule over the events of one source."""

    id: str
    title: str
    source: str
    micros: float
    """For one event, alone."""
    matches: int
    clauses: tuple[ClauseCost, ...] = ()
    """The dearest first; of the dearest rules only."""


class Stages(msgspec.Struct, frozen=True):
    """One source: microseconds for one event, by stage, all its rules together."""

    source: str
    events: int
    rules: int
    decode: float
    """0 for events that came decoded."""
    match: float
    """Events not seen before."""
    again: float
    """The same events once more: what remembered values save."""
    explain: float
    """Why rules fired, for their signals."""
    correlate: float
    repeats: float
    """Share of the events whose values, in all fields that rules read, came before in the sample: 0..1."""

    @property
    def slow(self) -> str:
        """The stage that costs most."""
        costs = {"decode": self.decode, "match": self.match, "explain": self.explain, "correlate": self.correlate}
        return max(costs, key=lambda name: costs[name])


class Sample(msgspec.Struct, frozen=True):
    """Events of one source."""

    source: Source
    events: Sequence[Event]
    decode: float = 0.0
    """What decoding them took, seconds."""


def profile_stages(rules: RuleSet, sources: Mapping[str, Source], sample: Sample, tick: Tick) -> Stages:
    """The stages of one source."""
    held = rules.of(sample.source.name)
    data = [event.data for event in sample.events]
    matcher = Matcher([node for _, node in held])
    matcher.prepare()
    start = tick()
    found = matcher.match_many(data)
    cold = tick()
    matcher.match_many(data)
    warm = tick()
    for event, numbers in zip(sample.events, found, strict=True):
        for number in numbers:
            why(held[number][1], event.data)
    told = tick()
    correlator = Correlator(rules.correlations, sources)
    for event, numbers in zip(sample.events, found, strict=True):
        ids = dict.fromkeys(held[number][0].id for number in numbers)
        correlator.take(TENANT, correlator.contributions(event, ids))
    done = tick()
    scale = MICRO / max(1, len(data))
    fields = {field for _, node in held for field in _fields(node)}
    return Stages(
        source=sample.source.name,
        events=len(data),
        rules=len(held),
        decode=round(sample.decode * scale, 2),
        match=round((cold - start) * scale, 2),
        again=round((warm - cold) * scale, 2),
        explain=round((told - warm) * scale, 2),
        correlate=round((done - told) * scale, 2),
        repeats=round(_repeats(data, sorted(fields, key=lambda field: field.name)), 3),
    )


def profile_rules(
    rules: RuleSet, samples: Sequence[Sample], tick: Tick, report: Callable[[int, int], None] = lambda _done, _all: None
) -> list[RuleCost]:
    """Every rule on every source that it reads, the dearest first; of the first `DEAREST` with their clauses.

    Args:
        rules: The set.
        samples: Events by source.
        tick: The clock.
        report: Told how many rules are done, of how many.
    """
    pairs = [(rule, node, sample) for sample in samples for rule, node in rules.of(sample.source.name)]
    found: list[tuple[RuleCost, Node, Sample]] = []
    for rule, node, sample in pairs:
        found.append((_rule(rule, node, sample, tick), node, sample))
        report(len(found), len(pairs))
    found.sort(key=lambda one: (-one[0].micros, one[0].id))
    with_clauses = [
        msgspec.structs.replace(cost, clauses=tuple(_clauses(node, sample, tick)))
        for cost, node, sample in found[:DEAREST]
    ]
    return [*with_clauses, *(cost for cost, _, _ in found[DEAREST:])]


def _rule(rule: Rule, node: Node, sample: Sample, tick: Tick) -> RuleCost:
    micros, matches = _alone(node, sample, tick)
    return RuleCost(rule.id, rule.title, sample.source.name, micros, matches)


def _clauses(node: Node, sample: Sample, tick: Tick) -> list[ClauseCost]:
    leaves = dict.fromkeys(one for one in nodes.walk(node) if not nodes.children(one))
    found = [ClauseCost(to_text(leaf), *_alone(leaf, sample, tick)) for leaf in leaves]
    return sorted(found, key=lambda one: -one.micros)


def _alone(node: Node, sample: Sample, tick: Tick) -> tuple[float, int]:
    matcher = Matcher([node])
    matcher.prepare()
    data = [event.data for event in sample.events]
    start = tick()
    found = matcher.match_many(data)
    spent = tick() - start
    return round(spent * MICRO / max(1, len(data)), 3), sum(map(bool, found))


def _fields(node: Node) -> set[Field]:
    return {field for one in nodes.walk(node) for field in nodes.fields(one)}


def _repeats(data: Sequence[Mapping[str, Any]], fields: Sequence[Field]) -> float:
    seen: set[int] = set()
    for record in data:
        values = (lookup(record, field.name) for field in fields)
        seen.add(hash(tuple("" if value is MISSING else text_of(value) for value in values)))
    return 1 - len(seen) / len(data) if data else 0.0
