"""Own rules over the labelled events of an open rule pack: what is found and what is struck in error, per log type.

    python benchmarks/labelled.py [--events rule_tests.ndjson.gz] [--all] [--json]

Each row of the file is one event with the verdict of one foreign rule: it must fire, or it must not. Any of our rules
that would alert on that single event counts as a hit: not the informational ones, those that only feed correlations,
and those with `alert: false`, which only add to the risk of an entity. Foreign rules see other behaviours than ours,
and a row that is quiet for one of them may be an attack for another (`contradicted`: the file calls the same
operation an attack in a row of another rule). Some foreign verdicts rest on what one event cannot show (lists the
test mocks, enrichment): `one event shows` counts the positives without them.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from vedette.core.content import shipped
from vedette.core.signal import Level
from vedette.judge.correlation.correlator import Correlator
from vedette.judge.sigma.load import RuleSet, load
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.ready import Ready
from vedette.judge.sigma.rules import Rule
from vedette.sense.sources import Source, load_sources

EVENTS = Path(__file__).parents[2] / "shared" / "data" / "labelled" / "rule_tests.ndjson.gz"
OWN = Path("rules/sigma")
BEYOND = ("p_enrichment", "p_alert_context", "p_any_")
"""Fields that an enriching collector adds; a verdict that rests on them cannot be reached from the record."""
CLAIMED = {
    "AWS.CloudTrail": "cloudtrail",
    "Azure.MonitorActivity": "azure",
    "Azure.Audit": "azure",
    "Amazon.EKS.Audit": "kubernetes",
    "GCP.AuditLog": "gcp",
    "GitHub.Audit": "github",
    "GitHub.Webhook": "github_webhook",
    "GSuite.ActivityEvent": "google_workspace",
    "Okta.SystemLog": "identity",
    "OneLogin.Events": "onelogin",
    "Slack.AuditLogs": "slack",
    "Databricks.Audit": "databricks",
    "Microsoft365.Audit.Exchange": "m365",
    "Microsoft365.Audit.AzureActiveDirectory": "m365",
    "Notion.AuditLogs": "notion",
    "Zendesk.Audit": "zendesk",
    "Duo.Authentication": "duo",
    "Snowflake.QueryHistory": "snowflake",
}
"""Log type -> the source that reads it: what the pack claims to cover."""
CLUSTERS = {"kubernetes", "aks"}


@dataclass
class Tally:
    """Counts of one log type."""

    positives: int = 0
    found: int = 0
    seen: int = 0
    """Positives that one event can show."""
    negatives: int = 0
    struck: int = 0
    contradicted: int = 0
    """Of those struck: the file itself calls the same operation an attack, in a row of another rule."""
    missed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The labelled events."""
    with gzip.open(path) as file:
        yield from map(json.loads, file)


def judged(path: Path, rules: RuleSet, sources: Mapping[str, Source], claimed: Mapping[str, str]) -> dict[str, Tally]:
    """Counts per log type; an event of several log types goes by the source that knows it."""
    ready, tallies = Ready(rules), {}
    quiet = Correlator(rules.correlations, sources).quiet
    attacks: dict[str, set[str]] = {}
    wrong: list[tuple[Tally, str, str]] = []
    for row in rows(path):
        kinds = [kind for kind in row["_log_types"] or () if kind in claimed]
        found = _read(row["event"], [claimed[kind] for kind in kinds], sources) if kinds else None
        if found is None:
            continue
        source, data = found
        kind = kinds[0] if len(kinds) == 1 else next((each for each in kinds if claimed[each] == source), kinds[0])
        tally = tallies.setdefault(kind, Tally())
        hits = [rule.title for rule, _ in ready.fired(source, data) if alerts(rule, quiet)]
        said = f"{row['_rule_id']}: {row['_test']}"
        operation = f"{source} {_operation(sources[source], data)}"
        if row["_expected"]:
            attacks.setdefault(operation, set()).add(row["_rule_id"])
            tally.positives += 1
            tally.seen += not _beyond(row)
            tally.found += bool(hits)
            tally.missed += [] if hits else [said]
        else:
            tally.negatives += 1
            tally.struck += bool(hits)
            tally.wrong += [f"{said} <- {', '.join(hits)}"] if hits else []
            wrong += [(tally, operation, row["_rule_id"])] if hits else []
    for tally, operation, rule in wrong:
        tally.contradicted += bool(attacks.get(operation, set()) - {rule})
    return tallies


def alerts(rule: Rule, quiet: frozenset[str]) -> bool:
    """True for a rule whose signal alone is an alert."""
    return rule.card.alert and rule.level is not Level.INFORMATIONAL and rule.id not in quiet


def _operation(source: Source, data: dict[str, Any]) -> str:
    """What was done, in the source's own words."""
    if source.name in CLUSTERS:
        about = data.get("objectRef") or {}
        return f"{data.get('verb')} {about.get('resource')} {about.get('subresource')}"
    return str(source.ocsf["api.operation"](data))


def _read(event: dict[str, Any], names: list[str], sources: Mapping[str, Source]) -> tuple[str, dict[str, Any]] | None:
    raw = json.dumps(event).encode()
    known = {name: sources[name].recognises(sources[name].parse(raw)) for name in {*names, "aks"} if name in sources}
    best = max(known, key=lambda name: (known[name], name == names[0]))
    if len(names) > 1 and not known[best]:
        return None  # an event of a log type that the foreign rule covers besides, and we do not claim
    name = best if known[best] and (len(names) > 1 or best == "aks") else names[0]
    return name, sources[name].parse(raw)


def _beyond(row: Mapping[str, Any]) -> bool:
    """True when the verdict rests on more than the record: mocked look-ups, or what an enriching collector added."""
    return bool(row["_mocks"]) or any(str(name).startswith(BEYOND) for name in row["event"])


def summed(tallies: Mapping[str, Tally]) -> Tally:
    """All log types together."""
    total = Tally()
    for one in tallies.values():
        for name in ("positives", "found", "seen", "negatives", "struck", "contradicted"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
    return total


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=Path, default=EVENTS)
    parser.add_argument("--rules", type=Path, default=shipped("rules/sigma"))
    parser.add_argument("--all", action="store_true", help="also what was missed and struck in error")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sources = load_sources()
    rules = load([options.rules], LogSources({name: one.logsource for name, one in sources.items()}))
    tallies = judged(options.events, rules, sources, CLAIMED)
    if options.json:
        print(msgspec.json.encode({**tallies, "all": summed(tallies)}).decode())
        return
    table = Table(
        "log type", "positives", "one event shows", "found", "%", "negatives", "struck", "contradicted", "% left"
    )
    for kind, one in [*sorted(tallies.items(), key=lambda pair: -pair[1].positives), ("all", summed(tallies))]:
        table.add_row(
            kind, str(one.positives), str(one.seen), str(one.found), f"{100 * one.found / max(1, one.positives):.0f}",
            str(one.negatives), str(one.struck), str(one.contradicted),
            f"{100 * (one.struck - one.contradicted) / max(1, one.negatives):.1f}",
        )  # fmt: skip
    Console(width=120).print(table)
    for kind, one in tallies.items() if options.all else ():
        for text in one.missed:
            print(f"missed {kind} {text}")
        for text in one.wrong:
            print(f"struck {kind} {text}")


if __name__ == "__main__":
    main()
