"""Sigma rules over stored Windows events: our SQL, our matcher, and plain DuckDB SQL, on the same rows in the same run.

    python benchmarks/hunt.py [--events N] [--days D] [--rules 1,10,100,...] [--plain 100]

Takes N events of the shared captures (default 30,000), stores them as D days (default 5), and asks Windows rules
of SigmaHQ. CPU seconds; loading rules and storing events are excluded, planning queries is
included. The peer is what a backend prints: one query a rule, each field `data->>'$.Field'`, each text `ILIKE`; absent
fields as Sigma wants them, since without that whole rules are lost. It folds as `ILIKE` does and sees a list as its
JSON text, so its counts may differ; rules with other nodes than texts are left out everywhere.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import duckdb
import msgspec
import pyarrow.dataset as pads

from vedette.core.clock import DAY
from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.expr import nodes
from vedette.expr.patterns import Wild, glob_tokens
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.history import Hunting, Judge, Matching
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.logsources import LogSources
from vedette.sense.sources import load_sources
from vedette.sense.store import Store

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("VEDETTE_TEST_DATA", ROOT.parent / "shared" / "data"))
START = 20_000 * DAY
TEXTS = (nodes.And, nodes.Or, nodes.Not, nodes.Known, nodes.Text, nodes.IsNull)


def events(count: int, days: int) -> Iterator[Event]:
    """Events of the captures, spread evenly over some days."""
    source = load_sources()["windows"]
    with gzip.open(SHARED / "windows" / "captures.ndjson.gz") as file:
        for number, line in enumerate(islice(file, 0, count * 7, 7)):
            try:
                about = {"tenant": "default", "stream": "b", "offset": number, "ingest_time": START * 2}
                made = source.to_event(source.parse(line), **about)
            except DataError:
                continue
            yield msgspec.structs.replace(made, event_time=START + number * days * DAY // count)


def fill(store: Store, count: int, days: int) -> None:
    source, made = load_sources()["windows"], events(count, days)
    while some := list(islice(made, 10_000)):
        store.append(source, some)
    store.compact()


def chosen(cache: Path) -> list:
    """Windows rules that consist of texts only."""
    places = LogSources({name: source.logsource for name, source in load_sources().items()})
    files = rule_files(SHARED / "sigma" / "rules.tar.gz", "rules/windows/**")
    rules = load_cached(files, places, cache, None).rules
    return [rule for rule in rules if all(isinstance(one, TEXTS) for one in nodes.walk(rule.nodes["windows"]))]


def ours(judge: Judge, rows: pads.Dataset) -> tuple[float, Counter[str]]:
    start = time.process_time()
    found = Counter(rule.id for _, placed in judge.fired("windows", rows) for rule, _ in placed)
    return time.process_time() - start, found


def plain(rules: Sequence, rows: pads.Dataset) -> tuple[float, Counter[str]]:
    found: Counter[str] = Counter()
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.register("events", rows)
        start = time.process_time()
        for rule in rules:
            text = f"SELECT count(*) FROM events WHERE {condition(rule.nodes['windows'])}"
            count = connection.sql(text).fetchall()[0][0]
            if count:
                found[rule.id] = count
        return time.process_time() - start, found


def condition(node: nodes.Node) -> str:
    match node:
        case nodes.And(children=below) | nodes.Or(children=below):
            word = " AND " if isinstance(node, nodes.And) else " OR "
            return f"({word.join(map(condition, below))})"
        case nodes.Not(child=child):
            return f"NOT ({condition(child)})"
        case nodes.Known(child=child):
            return f"coalesce({condition(child)}, false)"
        case nodes.IsNull(field=field):
            return f"{value(field)} IS NULL"
        case nodes.Text(field=field, match=match, value=text):
            return f"{value(field)} ILIKE '{like(match, text)}' ESCAPE '!'"
        case _:
            raise AssertionError(node)


def value(field: nodes.Field) -> str:
    return f"""(data->>'$."{field.name}"')"""


def like(match: nodes.TextMatch, text: str) -> str:
    if match is nodes.TextMatch.GLOB:
        wild = {Wild.ANY: "%", Wild.ONE: "_"}
        return "".join(wild[one] if isinstance(one, Wild) else quoted(one) for one in glob_tokens(text))
    before = "%" if match in {nodes.TextMatch.CONTAINS, nodes.TextMatch.ENDS} else ""
    after = "%" if match in {nodes.TextMatch.CONTAINS, nodes.TextMatch.STARTS} else ""
    return before + quoted(text) + after


def quoted(text: str) -> str:
    return "".join(f"!{char}" if char in "!%_" else char for char in text).replace("'", "''")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--rules", default="1,10,100,400")
    parser.add_argument("--plain", type=int, default=100, help="most rules that the peer is asked")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        fill(store, options.events, options.days)
        rules = chosen(Path(folder) / "cache")
        print(
            f"{platform.machine()}, Python {platform.python_version()}, {options.events:,} events, {options.days} days"
        )
        print(" rules  days  events    SQL s  matcher s  plain s  matches  equal")
        for days in sorted({1, options.days}):
            rows = store.rows("default", "windows", START, START + days * DAY)
            for count in map(int, options.rules.split(",")):
                step = max(1, len(rules) // count)
                measure(rules[: count * step : step][:count], rows, days, options.plain)


def measure(rules: Sequence, rows: pads.Dataset, days: int, most: int) -> None:
    some = RuleSet(tuple(rules))
    sql, found = ours(Hunting(some, load_sources()), rows)
    matched, same = ours(Matching(some), rows)
    cost, other = plain(rules, rows) if len(rules) <= most else (None, found)
    assert found == same
    shown = "-" if cost is None else f"{cost:.2f}"
    differ = sum(found[rule] != other[rule] for rule in {*found, *other})
    equal = "ours" if cost is None else "all" if not differ else f"ours; plain differs in {differ} rules"
    sizes = f"{len(rules):>6} {days:>5} {rows.count_rows():>7,}"
    print(f"{sizes} {sql:>8.2f} {matched:>10.2f} {shown:>8} {found.total():>8,}  {equal}", flush=True)


if __name__ == "__main__":
    main()
