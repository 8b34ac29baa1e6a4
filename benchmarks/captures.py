"""What rules find in attacks recorded with their background, and at what price in alerts.

    python benchmarks/captures.py [--own DIR ...] [--json] [--rules N]

Takes the 64 captures of `windows/captures`, of which 57 say what ATT&CK technique they show. A capture is *found* when
an alert names that technique: by the law `base` when both are the same technique or sub-techniques of one; by the
stricter law `same` when both are one id, or one is the parent of the other. Ids are compared by their current names,
through `revoked-by` and the crosswalk.

Four sets of rules are judged: SigmaHQ's, our own, both, and both with the shipped exceptions to those of SigmaHQ that
cost most (*tuned*). *Matches* are what rules say of events before
anything is grouped; *alerts* are what is left after the law of `act.grouping` with each rule's own grouping. Both are
given per 10,000 of all events. Captures are kept apart as tenants, so that nothing is grouped across them. The same is
told for rules of level medium and above, which is what most people alert on.

With --rules the rules that cost most are listed, with the captures they fire in and how many of those are labelled with
the rule's technique.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from vedette.act.grouping import DEFAULT, Grouping, group
from vedette.core.content import shipped
from vedette.core.errors import DataError
from vedette.core.signal import Level, Signal
from vedette.judge.correlation.correlator import Correlator
from vedette.judge.sigma.ready import Ready
from vedette.run.pipeline.detection import Detection, load_detection
from vedette.sense.files import read_lines
from vedette.sense.intel.attack import Attack, parent
from vedette.sense.intel.bundle import load_attack

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("VEDETTE_TEST_DATA", ROOT.parent / "shared" / "data"))
SIGMAHQ = "sigma/rules.tar.gz"
EXCEPTIONS = "exceptions/sigmahq_windows.yml"
SETS = ("sigmahq", "own", "both", "tuned")
OWN = tuple(f"rules/sigma/{name}" for name in ("windows", "linux", "network"))
"""The endpoint and network pack. Rules that gather the signals of others are left out, so that nothing counts twice."""
TEN_THOUSAND = 10_000
FIGURES = ("found_base", "found_same", "matches_per_10k", "alerts_per_10k")


@dataclass(frozen=True, slots=True)
class Label:
    """What a capture shows."""

    capture: str
    techniques: tuple[str, ...]


@dataclass(slots=True)
class Found:
    """What rules said of one capture."""

    events: int = 0
    signals: list[Signal] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Judged:
    """What rules said of all captures, and by what it is measured."""

    labels: Sequence[Label]
    attack: Attack
    """By which ids are compared."""
    found: Mapping[str, Found]
    """By capture."""
    grouped: Mapping[str, Grouping]
    """By rule id; of other rules the usual grouping."""
    detection: Detection


@dataclass(frozen=True, slots=True)
class Row:
    """One capture under one set of rules."""

    capture: str
    techniques: tuple[str, ...]
    events: int
    matches: int
    alerts: int
    base: bool
    """An alert names the labelled technique, or one of the same family."""
    same: bool
    """An alert names the labelled technique, its parent or its child."""


def read_labels(folder: Path) -> list[Label]:
    """The captures, in the order of their names."""
    rows = orjson.loads((folder / "windows" / "captures_labels.json").read_bytes())
    return sorted((Label(row["src"], tuple(row["techniques"])) for row in rows), key=lambda label: label.capture)


def read_attack(folder: Path) -> Attack:
    """ATT&CK with the crosswalk that the labels and rules need."""
    intel = folder / "intel"
    return load_attack(intel / "attack-enterprise-18.1-trim.stix21.json.gz", intel / "attack-v19-crosswalk.tsv")


def judge(events: Path, detection: Detection) -> dict[str, Found]:
    """Signals of each capture, those of correlations included. Each capture is a tenant of its own."""
    source = detection.sources["windows"]
    matcher, _ = Ready(detection.rules).of(source.name)
    found: dict[str, Found] = defaultdict(Found)
    waiting: dict[str, list[Any]] = defaultdict(list)
    for chunk in read_lines(events):
        records = source.parse_many(chunk.lines)
        places = [place for place, data in enumerate(records) if not isinstance(data, DataError)]
        read = [data for data in records if not isinstance(data, DataError)]
        for place, data, fired in zip(places, read, matcher.match_many(read), strict=True):
            capture = str(data["_src"])
            found[capture].events += 1
            if fired:
                event = source.to_event(
                    data, tenant=capture, stream="captures", offset=chunk.offsets[place], ingest_time=1 << 60
                )
                signals, brought = detection.judge(event)
                found[capture].signals += signals
                waiting[capture] += brought
    for capture, brought in waiting.items():
        found[capture].signals += correlated(detection, capture, brought)
    return found


def correlated(detection: Detection, tenant: str, brought: list[Any]) -> list[Signal]:
    """What correlations make of one capture, in event time."""
    correlator = Correlator(detection.rules.correlations, detection.sources)
    signals = correlator.take(tenant, sorted(brought, key=lambda one: one.moment[:3]))
    return signals + correlator.finish(tenant)


def groupings(detection: Detection) -> dict[str, Grouping]:
    """Rule id -> grouping, of the rules whose card states one."""
    held = (*detection.rules.rules, *detection.rules.correlations)
    cards = {one.id: getattr(one, "card", None) for one in held}
    return {name: card.group for name, card in cards.items() if card is not None and card.group is not None}


def rows_of(judged: Judged, wanted: Iterable[str], lowest: Level = Level.INFORMATIONAL) -> list[Row]:
    """One row a capture.

    Args:
        judged: What all rules said.
        wanted: Ids of the rules that count.
        lowest: Signals below this level do not count.
    """
    wanted, attack = frozenset(wanted), judged.attack
    rows = []
    for label in judged.labels:
        held = judged.found.get(label.capture, Found())
        signals = [one for one in held.signals if one.rule_id in wanted and one.level.severity_id >= lowest.severity_id]
        alerts = group(((one, one.event_time) for one in signals), judged.grouped, DEFAULT)
        named = {name for alert in alerts.values() for name in attack.ids(alert.tags)}
        hits = [(name, truth) for name in named for truth in label.techniques]
        rows.append(
            Row(
                capture=label.capture,
                techniques=label.techniques,
                events=held.events,
                matches=len(signals),
                alerts=len(alerts),
                base=any(family(attack, name) == family(attack, truth) for name, truth in hits),
                same=any(attack.alike(name, truth) for name, truth in hits),
            )
        )
    return rows


def family(attack: Attack, name: str) -> str:
    """The technique that an id, old or new, belongs to."""
    current = attack.current(name)
    return parent(current) or current


def total(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of a set of rules."""
    events = sum(row.events for row in rows)
    labelled = [row for row in rows if row.techniques]
    return {
        "captures": len(rows),
        "labelled": len(labelled),
        "found_base": sum(row.base for row in labelled),
        "found_same": sum(row.same for row in labelled),
        "events": events,
        "matches": sum(row.matches for row in rows),
        "matches_per_10k": round(sum(row.matches for row in rows) * TEN_THOUSAND / max(1, events), 1),
        "alerts": sum(row.alerts for row in rows),
        "alerts_per_10k": round(sum(row.alerts for row in rows) * TEN_THOUSAND / max(1, events), 1),
    }


def costs(judged: Judged, wanted: Iterable[str]) -> list[Any]:
    """Matches, title, captures and rightly labelled captures of each rule, the dearest first."""
    wanted, attack = frozenset(wanted), judged.attack
    truths = {label.capture: {family(attack, name) for name in label.techniques} for label in judged.labels}
    count: Counter[str] = Counter()
    where: dict[str, set[str]] = defaultdict(set)
    last: dict[str, Signal] = {}
    for capture, held in judged.found.items():
        for one in held.signals:
            if one.rule_id in wanted:
                count[one.rule_id] += 1
                where[one.rule_id].add(capture)
                last[one.rule_id] = one
    rows = []
    for name, matches in count.most_common():
        families = {family(attack, each) for each in attack.ids(last[name].tags)}
        right = sum(bool(truths.get(capture, set()) & families) for capture in where[name])
        rows.append((matches, len(where[name]), right, str(last[name].level), last[name].title))
    return rows


def own_ids(detection: Detection) -> frozenset[str]:
    """Ids of the rules and correlations of a set."""
    return frozenset(one.id for one in (*detection.rules.rules, *detection.rules.correlations))


def short(capture: str) -> str:
    return "/".join(capture.removesuffix(".zip").removesuffix(".tar.gz").split("/")[2::2])


def show(rows: Sequence[Sequence[Any]], heads: Sequence[str]) -> None:
    cells = [[f"{each:,}" if isinstance(each, int) else str(each) for each in row] for row in (heads, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(heads))]
    for first, *rest in cells:
        print("  " + first.ljust(widths[0]), *(each.rjust(width) for each, width in zip(rest, widths[1:], strict=True)))


def cells(row: Row) -> tuple[str, str]:
    """Whether a capture was found, and its matches > alerts."""
    found = "-" if not row.techniques else "same" if row.same else "base" if row.base else "no"
    return found, f"{row.matches}>{row.alerts}"


def report(folder: Path, own: Sequence[Path], cache: Path | None = None) -> dict[str, Any]:
    """Every figure."""
    started = time.process_time()
    mine = own_ids(load_detection(own, cache=cache))
    plain = judged_by([folder / SIGMAHQ, *own], folder, cache)
    tuned = judged_by([folder / SIGMAHQ, *own, shipped(EXCEPTIONS)], folder, cache)
    every = own_ids(plain.detection)
    wanted = dict(zip(SETS, (every - mine, mine, every, every), strict=True))
    held = {name: tuned if name == "tuned" else plain for name in SETS}
    rows = {name: rows_of(held[name], wanted[name]) for name in SETS}
    loud = {name: rows_of(held[name], wanted[name], Level.MEDIUM) for name in SETS}
    return {
        "cpu_s": round(time.process_time() - started, 1),
        "rules": {name: len(ids) for name, ids in wanted.items()},
        "all levels": {name: total(each) for name, each in rows.items()},
        "medium and above": {name: total(each) for name, each in loud.items()},
        "rows": rows,
        "costs": {name: costs(held[name], wanted[name]) for name in SETS},
    }


def judged_by(paths: Sequence[Path], folder: Path, cache: Path | None = None) -> Judged:
    """What the rules of some paths say of all captures."""
    detection = load_detection(paths, cache=cache)
    found = judge(folder / "windows" / "captures.ndjson.gz", detection)
    return Judged(read_labels(folder), read_attack(folder), found, groupings(detection), detection)


def told(result: Mapping[str, Any], listed: int) -> None:
    """Prints what `report` found."""
    heads = ("", "rules", "found base", "found same", "matches/10k", "alerts/10k")
    for level in ("all levels", "medium and above"):
        sums = result[level]
        first = sums["both"]
        print(f"\n{level}: {first['labelled']} labelled captures of {first['captures']}, {first['events']:,} events")
        show(
            [(name, result["rules"][name], *(each[column] for column in FIGURES)) for name, each in sums.items()],
            heads,
        )
    rows = result["rows"]
    print("\nper capture: found by the law, and matches > alerts")
    table = [
        (
            short(one[0].capture),
            ",".join(one[0].techniques) or "-",
            one[0].events,
            *(cell for row in one for cell in cells(row)),
        )
        for one in zip(*(rows[name] for name in SETS), strict=True)
    ]
    show(table, ("capture", "label", "events", *(head for name in SETS for head in (name, ""))))
    for name in ("own", "tuned") if listed else ():
        print(f"\nrules of {name} by matches: captures they fire in, of these with the rule's own technique")
        show([(title, *rest) for *rest, title in result["costs"][name][:listed]], ("rule", "n", "in", "right", "level"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--own", type=Path, nargs="+", default=[shipped(name) for name in OWN])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rules", type=int, default=0, metavar="N")
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    result = report(SHARED, options.own, options.cache)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(result) + b"\n")
        return
    told(result, options.rules)
    print(f"\n{result['cpu_s']} CPU s")


if __name__ == "__main__":
    main()
