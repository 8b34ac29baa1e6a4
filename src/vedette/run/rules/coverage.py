"""Coverage: for each technique of ATT&CK, whether a rule would tell of it today.

A rule counts when it is of the set, gives signals by itself, its tests pass (one that makes it fire among them), its
sources really arrive, and nothing that it rests on is degraded. So coverage falls by itself when a source stops or a
test breaks. Ids are compared as `Attack.current` has them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from vedette.judge.correlation.definition import Correlation, Kind
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.rules import Rule
from vedette.run.rules.rule_tests import Tested
from vedette.sense.intel.attack import Attack, Group, parent
from vedette.sense.quality.profile import Problem

REPORT, TESTS = "coverage", "rule_tests"
"""Names of the trends that `vedette rules coverage` keeps: its figures, and what became of the rules' tests."""


class State(StrEnum):
    """How a technique stands."""

    COVERED = "covered"
    """A rule for it counts."""
    PARTIAL = "partial"
    """Not itself, but one of its sub-techniques is covered."""
    LOST = "lost"
    """There are rules for it, and none of them counts."""
    NONE = "none"
    """No rule names it."""


class Threat(StrEnum):
    """From where an attack comes."""

    EXTERNAL = "external"
    INSIDER = "insider"


class RuleState(msgspec.Struct, frozen=True):
    """One rule, as far as coverage goes."""

    id: str
    title: str
    threat: Threat
    techniques: tuple[str, ...]
    """Current ids."""
    sources: tuple[str, ...]
    """That it reads and that arrive."""
    why: tuple[str, ...] = ()
    """Why it does not count; empty for one that does."""


class Cell(msgspec.Struct, frozen=True):
    """One technique."""

    id: str
    name: str
    tactics: tuple[str, ...]
    """Short names."""
    state: State
    rules: tuple[str, ...] = ()
    """Ids of the rules that count."""
    lost: tuple[str, ...] = ()
    """Ids of the rules that do not."""
    sources: tuple[str, ...] = ()
    """Arriving sources of the rules that count."""


class Coverage(msgspec.Struct, frozen=True):
    """All techniques that stand, and all rules."""

    attack: str
    """Version of ATT&CK."""
    cells: tuple[Cell, ...]
    """By id."""
    rules: tuple[RuleState, ...]

    def counts(self) -> dict[State, int]:
        """State -> techniques."""
        found = Counter(cell.state for cell in self.cells)
        return {state: found[state] for state in State}

    def by_threat(self) -> dict[Threat, dict[str, int]]:
        """External and insider: rules that count, all rules, techniques that are covered."""
        found = {}
        for threat in Threat:
            own = [rule for rule in self.rules if rule.threat is threat]
            good = [rule for rule in own if not rule.why]
            covered = {name for rule in good for name in rule.techniques}
            found[threat] = {"counting": len(good), "rules": len(own), "techniques": len(covered)}
        return found


def make_coverage(
    rules: RuleSet,
    attack: Attack,
    *,
    arriving: Collection[str],
    tested: Iterable[Tested],
    degraded: Mapping[str, tuple[Problem, ...]],
    off: Mapping[str, str] | None = None,
    untested: bool = False,
) -> Coverage:
    """Judges every rule and technique.

    Args:
        rules: The set.
        attack: Techniques and tactics.
        arriving: Sources of which records come.
        tested: What became of the rules' tests.
        degraded: Rule id -> what is wrong with what it rests on.
        off: Rule id -> stage in which it raises no alert, such as `shadow`.
        untested: Count rules without tests too.
    """
    results: dict[str, list[Tested]] = defaultdict(list)
    for one in tested:
        results[one.rule_id].append(one)
    judge = _Judge(rules, attack, set(arriving), results, degraded, off or {}, untested=untested)
    states = tuple(map(judge.state, judge.loud()))
    return Coverage(attack.version, tuple(_cells(attack, states)), states)


def threat_of(rule: Rule | Correlation) -> Threat:
    """Insider when the rule's tags say `threat.insider` or its path names insiders; else external."""
    insider = f"threat.{Threat.INSIDER}" in rule.tags or Threat.INSIDER in rule.path.lower()
    return Threat.INSIDER if insider else Threat.EXTERNAL


def kept_tests(tested: Iterable[Tested]) -> list[Tested]:
    """Of each rule the tests that coverage asks for: those that failed, and one that made it fire."""
    found: dict[tuple[str, bool], Tested] = {}
    for one in tested:
        if not one.passed or one.positive:
            found.setdefault((one.rule_id, one.passed), one)
    return [msgspec.structs.replace(one, why=()) for one in found.values()]


_TOGETHER = {Kind.TEMPORAL, Kind.TEMPORAL_ORDERED}


class _Judge(msgspec.Struct, frozen=True):
    rules: RuleSet
    attack: Attack
    arriving: set[str]
    results: Mapping[str, list[Tested]]
    degraded: Mapping[str, tuple[Problem, ...]]
    off: Mapping[str, str]
    untested: bool

    def loud(self) -> list[Rule | Correlation]:
        """The rules that give signals by themselves: not those that are a mere step of a correlation."""
        steps = {part.id for one in self.rules.correlations for part in one.parts}
        steps -= {part.id for one in self.rules.correlations if one.generate for part in one.parts}
        both: list[Rule | Correlation] = [*self.rules.rules, *self.rules.correlations]
        return [one for one in both if one.id not in steps]

    def state(self, rule: Rule | Correlation) -> RuleState:
        """Why a rule does not count, if it does not."""
        missing = self._deaf(rule)
        why = [
            *(f"no data arrives: {', '.join(names)}" for names in missing),
            *self._test(rule.id),
            *(problem.said or str(problem.kind) for problem in self._degraded(rule)),
            *([f"stage {self.off[rule.id]}"] if rule.id in self.off else []),
        ]
        return RuleState(
            id=rule.id,
            title=rule.title,
            threat=threat_of(rule),
            techniques=self.attack.ids(rule.tags),
            sources=tuple(sorted(self._reads(rule) & self.arriving)),
            why=tuple(dict.fromkeys(why)),
        )

    def _test(self, rule_id: str) -> list[str]:
        results = self.results.get(rule_id, [])
        failed = [one.test for one in results if not one.passed]
        if failed:
            return [f"its test fails: {failed[0]}"]
        if any(one.positive for one in results) or self.untested:
            return []
        return ["no test makes it fire"]

    def _degraded(self, rule: Rule | Correlation) -> list[Problem]:
        """What is wrong, leaving out sources beside which another one that it reads is well."""
        problems = self.degraded.get(rule.id, ())
        ill = {one.source for one in problems}
        well = (self._reads(rule) & self.arriving) - ill
        return [] if well and isinstance(rule, Rule) else list(problems)

    def _reads(self, rule: Rule | Correlation) -> set[str]:
        if isinstance(rule, Rule):
            return set(rule.nodes)
        if not rule.parts:  # it adds up what all other rules say
            return {source for one in self.rules.rules for source in one.nodes}
        return {source for part in rule.parts for one in self._named(part.id) for source in self._reads(one)}

    def _named(self, rule_id: str) -> list[Rule | Correlation]:
        both: list[Rule | Correlation] = [*self.rules.rules, *self.rules.correlations]
        return [one for one in both if one.id == rule_id]

    def _deaf(self, rule: Rule | Correlation) -> list[list[str]]:
        """Sources of which one would be needed and none arrives; of rules that must come together, for each."""
        reads = self._reads(rule)
        together = isinstance(rule, Correlation) and rule.measure.kind in _TOGETHER and not rule.measure.patterns
        if isinstance(rule, Correlation) and together:
            parts = [{source for one in self._named(part.id) for source in self._reads(one)} for part in rule.parts]
            return [sorted(part) for part in parts if not part & self.arriving]
        return [] if reads & self.arriving else [sorted(reads)]


def _cells(attack: Attack, states: Iterable[RuleState]) -> Iterable[Cell]:
    named: dict[str, list[RuleState]] = defaultdict(list)
    for rule in states:
        for name in rule.techniques:
            named[name].append(rule)
    good = {name for name, held in named.items() if any(not one.why for one in held)}
    above = {parent(name) for name in good}
    for name, technique in sorted(attack.techniques.items()):
        if technique.revoked_by or technique.deprecated:
            continue
        held = named.get(name, [])
        counting = [one for one in held if not one.why]
        state = State.COVERED if counting else State.PARTIAL if name in above else State.LOST if held else State.NONE
        yield Cell(
            id=name,
            name=technique.name,
            tactics=technique.tactics,
            state=state,
            rules=tuple(one.id for one in counting),
            lost=tuple(one.id for one in held if one.why),
            sources=tuple(sorted({source for one in counting for source in one.sources})),
        )


class ActorRow(msgspec.Struct, frozen=True):
    """One technique of an actor."""

    technique: str
    name: str
    state: State
    rules: tuple[str, ...]
    hits: int
    """Alerts of rules for it."""


def actor_rows(coverage: Coverage, attack: Attack, group: Group, hits: Mapping[str, int]) -> list[ActorRow]:
    """What an actor is known to do, and how we stand: its techniques, our coverage, our alerts.

    Args:
        coverage: Of the rules.
        attack: The same that it was made with.
        group: The actor.
        hits: Rule id -> alerts.
    """
    cells = {cell.id: cell for cell in coverage.cells}
    names = sorted({attack.current(name) for name in group.techniques} & cells.keys())
    return [
        ActorRow(
            name,
            cells[name].name,
            cells[name].state,
            cells[name].rules,
            sum(hits.get(rule, 0) for rule in (*cells[name].rules, *cells[name].lost)),
        )
        for name in names
    ]


_COLOURS = {State.COVERED: "#2e7d32", State.PARTIAL: "#a5d6a7", State.LOST: "#ef6c00"}
_SCORES = {State.COVERED: 100, State.PARTIAL: 50, State.LOST: 10}


def navigator_layer(coverage: Coverage, attack: Attack, *, name: str = "Detection coverage") -> dict[str, Any]:
    """A layer of ATT&CK Navigator, format 4.5.

    Techniques stand under the ids that the bundle's version has: one that only a crosswalk names, under those it
    replaced.
    """
    older: dict[str, list[str]] = defaultdict(list)
    for technique in attack.techniques.values():
        if technique.revoked_by and not technique.added:
            older[attack.current(technique.id)].append(technique.id)
    titles = {rule.id: rule.title for rule in coverage.rules}
    entries = [
        {
            "techniqueID": known,
            "score": _SCORES[cell.state],
            "color": _COLOURS[cell.state],
            "comment": "; ".join(titles[rule] for rule in (*cell.rules, *cell.lost)),
            "enabled": True,
            "metadata": [
                {"name": "state", "value": str(cell.state)},
                {"name": "rules", "value": str(len(cell.rules))},
                {"name": "sources", "value": ", ".join(cell.sources) or "none"},
            ],
        }
        for cell in coverage.cells
        if cell.state is not State.NONE
        for known in (older[cell.id] if attack.techniques[cell.id].added else [cell.id])
    ]
    return {
        "name": name,
        "versions": {"attack": coverage.attack.partition(".")[0], "navigator": "5.1.0", "layer": "4.5"},
        "domain": "enterprise-attack",
        "description": "Techniques for which a tested rule reads data that arrives and is not degraded.",
        "sorting": 3,
        "layout": {"layout": "side", "showID": True, "showName": True, "expandedSubtechniques": "annotated"},
        "hideDisabled": False,
        "techniques": entries,
        "gradient": {"colors": ["#ffffff", _COLOURS[State.COVERED]], "minValue": 0, "maxValue": 100},
        "legendItems": [{"label": str(state), "color": colour} for state, colour in _COLOURS.items()],
        "selectTechniquesAcrossTactics": True,
    }
