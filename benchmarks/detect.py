"""Sigma rules over Windows events: ours beside pySigma's SQLite backend, in the same run and on the same events.

    python benchmarks/detect.py [--events FILE] [--rules PATH] [--only GLOB] [--sample N] [--full]

Takes N events spread evenly over the file (default 20,000; about two minutes in all), decompressed before the clock
starts. Loading and compiling rules is excluded on both sides, decoding JSON is included on both. Each engine runs in a
process of its own, for its peak memory. SQLite gets one table with every column a rule refers to (TEXT COLLATE NOCASE,
as the backend's own runtime makes them; the most used first), an index on Channel and EventID, and one query a rule.
--full runs ours over the whole file as well: plain and gzip, cold, the command's start, and two processes.

Where counts differ: SQLite folds ASCII letters only; it sees a list or an object as its JSON text; and keyword rules
are refused by the backend, so they are left out of the comparison.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from vedette.core.errors import DataError
from vedette.expr import nodes
from vedette.expr.matcher import Matcher
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.detect import judge_chunk
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.ready import Ready
from vedette.sense.files import read_lines
from vedette.sense.sources import load_sources

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("VEDETTE_TEST_DATA", ROOT.parent / "shared" / "data"))
SQLITE_WIDE = 1_900
"""SQLite takes 2,000 columns."""


def lines_of(path: Path) -> Iterator[bytes]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from file


def write_sample(source: Path, target: Path, wanted: int) -> int:
    total = sum(1 for _ in lines_of(source))
    step = max(1.0, total / wanted)
    chosen = {int(place * step) for place in range(min(wanted, total))}
    with target.open("wb") as out:
        out.writelines(line for place, line in enumerate(lines_of(source)) if place in chosen)
    return len(chosen)


def load_rules(options: argparse.Namespace) -> RuleSet:
    places = LogSources({name: source.logsource for name, source in load_sources().items()})
    return load_cached(rule_files(options.rules, options.only), places, options.cache)


def peak_mb() -> int:
    # Not getrusage: its peak counts what the process that started this one held.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def run_ours(options: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds and counts of one pass (the second, if `warm`), then time per event one at a time, cold."""
    source = load_sources()["windows"]
    rules = load_rules(options)
    placed = rules.of("windows")
    if options.share < 1:
        placed = placed[: max(1, int(len(placed) * options.share))]
        rules = RuleSet(tuple(rule for rule, _ in placed))
    ready = Ready(rules)
    ready.of("windows")
    ready.skims = True
    ready.skimmer(source)
    gc.freeze()
    for chunk in read_lines(options.events) if options.warm else ():
        judge_chunk(ready, source, chunk)
    counts, events = [0] * len(placed), 0
    started = time.process_time()
    for chunk in read_lines(options.events):
        part = judge_chunk(ready, source, chunk)
        for hit in part.hits:
            for number in hit.numbers:
                counts[number] += 1
        events += part.events
    cpu = time.process_time() - started
    result = {"cpu": cpu, "events": events, "rules": len(placed), "peak_mb": peak_mb()}
    words = (nodes.Keyword, nodes.KeywordRegex)
    result["counts"] = {rule.id: count for (rule, _), count in zip(placed, counts, strict=True) if count}
    result["keyword"] = [rule.id for rule, node in placed if any(isinstance(each, words) for each in nodes.walk(node))]
    if options.latency:
        result["latency_us"] = latencies(Matcher([node for _, node in placed]), source, options.events)
    return result


def latencies(matcher: Matcher, source: Any, path: Path) -> list[float]:
    matcher.prepare()
    taken = []
    for chunk in read_lines(path):
        for line in chunk.lines:
            started = time.perf_counter_ns()
            matcher.match(source.parse(line))
            taken.append((time.perf_counter_ns() - started) / 1_000)
    taken.sort()
    return [taken[len(taken) // 2], taken[len(taken) * 99 // 100], taken[-1]]


UNIQUE = (
    "CommandLine",
    "ParentCommandLine",
    "Image",
    "ParentImage",
    "Hashes",
    "User",
    "CurrentDirectory",
    "ProcessGuid",
)
"""What is made unique in process creations, so that no memory helps."""


def unique_creations(source: Path, target: Path, wanted: int) -> None:
    """Process creations of the file over and over, with a mark of its own in every long field of every one."""
    found = [
        data
        for line in lines_of(source)
        if b'"CommandLine"' in line and (data := orjson.loads(line)).get("EventID") == 1
    ]
    with target.open("wb") as out:
        for number in range(wanted):
            data = found[number % len(found)]
            marked = {name: f"{data[name]} {number:x}" for name in UNIQUE if isinstance(data.get(name), str)}
            for name in ("Image", "ParentImage"):
                folder, _, file = str(data.get(name, "")).rpartition("\\")
                marked[name] = f"{folder}\\{number:x}\\{file}"
            out.write(orjson.dumps({**data, **marked}) + b"\n")


def command_seconds(options: argparse.Namespace, events: Path, *more: str) -> float:
    """Wall seconds of the `vedette` command."""
    command = [sys.executable, "-c", "from vedette.cli.main import main; main()", "detect", "--counts"]
    command += [
        "--rules",
        str(options.rules),
        "--only",
        options.only,
        "--cache",
        str(options.cache),
        *more,
        str(events),
    ]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    return time.perf_counter() - started


def show_whole(options: argparse.Namespace, folder: Path) -> None:
    """The whole file plain and packed, process creations no two of which are alike, start, and two processes."""
    whole, single = folder / "whole.ndjson", folder / "one.ndjson"
    with whole.open("wb") as out:
        out.writelines(lines_of(options.events))
    with whole.open("rb") as file:
        single.write_bytes(file.readline())
    cold = folder / "cold.ndjson"
    unique_creations(whole, cold, 20_000)
    rows = [("plain", whole), ("gzip", options.events), ("unique process creations", cold)]
    show("the whole file", [row_of(name, in_process("ours", options, events)) for name, events in rows], HEADS)
    start = min(command_seconds(options, single) for _ in range(3))
    print(f"\nwarm start to the end of one event: {start:.2f} s")
    show_jobs(options, whole, folder / "thrice.ndjson")


def show_jobs(options: argparse.Namespace, once: Path, thrice: Path) -> None:
    """One process and two: the seconds that two more times the file take, so that what is paid once is left out."""
    with thrice.open("wb") as out:
        for _ in range(3):
            out.write(once.read_bytes())
    took = {(jobs, path): command_seconds(options, path, "--jobs", jobs) for jobs in "12" for path in (once, thrice)}
    one, two = (took[jobs, thrice] - took[jobs, once] for jobs in "12")
    print(f"the file once: one process {took['1', once]:.1f} s, two {took['2', once]:.1f} s, start-up included")
    print(f"twice more: one process {one:.1f} s, two {two:.1f} s: {one / two:.2f} times")


def sqlite_queries(options: argparse.Namespace) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """Rule id and SQL of every rule the backend takes, the columns they name, and the ids it refuses."""
    from sigma.backends.sqlite import sqliteBackend
    from sigma.collection import SigmaCollection
    from sigma.exceptions import SigmaError
    from sigma.pipelines.sysmon import sysmon_pipeline
    from sigma.pipelines.windows import windows_logsource_pipeline

    placed = load_rules(options).of("windows")
    uses = Counter(field.name for _, node in placed for each in nodes.walk(node) for field in nodes.fields(each))
    columns = [name for name, _ in uses.most_common(SQLITE_WIDE)]  # SQLite reads a row from its first column on
    ours = {rule.path for rule, _ in placed}
    backend = sqliteBackend(sysmon_pipeline() + windows_logsource_pipeline())
    queries, refused = [], []
    for file in rule_files(options.rules, options.only):
        if file.path not in ours:
            continue
        collection = SigmaCollection.from_yaml(file.content.decode())
        name = str(collection.rules[0].id)
        try:
            (query,) = backend.convert(collection)
            queries.append((name, query.replace("<TABLE_NAME>", "logs").replace("SELECT *", "SELECT count(*)", 1)))
        except (SigmaError, NotImplementedError):
            refused.append(name)
    return queries, columns, refused


def cell(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return "true" if value is True else "false" if value is False else json.dumps(value)


def run_sqlite(options: argparse.Namespace) -> dict[str, Any]:
    queries, columns, refused = sqlite_queries(options)
    lower: dict[str, str] = {}
    for column in columns:  # SQLite's column names ignore case
        lower.setdefault(column.lower(), column)
    kept = list(lower.values())
    db = sqlite3.connect(":memory:")
    db.create_function("REGEXP", 2, lambda pattern, text: text is not None and bool(re.search(pattern, str(text))))
    typed = ", ".join('"' + each.replace('"', '""') + '" TEXT COLLATE NOCASE' for each in kept)
    db.execute(f"CREATE TABLE logs ({typed})")
    db.execute("CREATE INDEX by_source ON logs (Channel, EventID)")
    source = load_sources()["windows"]
    insert = f"INSERT INTO logs VALUES ({', '.join('?' * len(kept))})"
    events = 0
    started = time.process_time()
    for chunk in read_lines(options.events):
        records = [data for data in source.parse_many(chunk.lines) if not isinstance(data, DataError)]
        db.executemany(insert, ([cell(data.get(each)) for each in kept] for data in records))
        events += chunk.count
    counts = {}
    for name, query in queries:
        try:
            (count,) = db.execute(query).fetchone()
        except sqlite3.Error:
            refused.append(name)
            continue
        if count:
            counts[name] = counts.get(name, 0) + count
    cpu = time.process_time() - started
    return {
        "cpu": cpu,
        "events": events,
        "rules": len(queries),
        "peak_mb": peak_mb(),
        "counts": counts,
        "refused": refused,
    }


def in_process(engine: str, options: argparse.Namespace, events: Path, **extra: object) -> dict[str, Any]:
    command = [sys.executable, __file__, "--engine", engine, "--events", str(events), "--rules", str(options.rules)]
    command += [
        "--only",
        options.only,
        "--cache",
        str(options.cache),
        *(part for name, value in extra.items() for part in (f"--{name}", str(value))),
    ]
    done = subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    return orjson.loads(done.stdout)


def show(title: str, rows: list[tuple[Any, ...]], heads: tuple[str, ...]) -> None:
    cells = [heads, *(tuple(f"{each:,}" if isinstance(each, int) else str(each) for each in row) for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(heads))]
    print(f"\n{title}")
    for first, *rest in cells:
        print("  " + first.ljust(widths[0]), *(each.rjust(width) for each, width in zip(rest, widths[1:], strict=True)))


def row_of(name: str, result: dict[str, Any]) -> tuple[Any, ...]:
    speed = round(result["events"] / result["cpu"])
    return name, result["rules"], result["events"], f"{result['cpu']:.2f}", speed, result["peak_mb"]


HEADS = ("engine", "rules", "events", "CPU s", "events/CPU s", "peak MB")


def compare(ours: dict[str, Any], peer: dict[str, Any]) -> None:
    names = {*ours["counts"], *peer["counts"]} - {*ours["keyword"], *peer["refused"]}
    pairs = [(name, ours["counts"].get(name, 0), peer["counts"].get(name, 0)) for name in sorted(names)]
    differing = [pair for pair in pairs if pair[1] != pair[2]]
    print(f"\n{len(pairs) - len(differing)} of {len(pairs)} rules that matched have equal counts")
    print(f"left out: {len(ours['keyword'])} keyword rules, {len(peer['refused'])} refused by SQLite or its backend")
    if differing:
        show("counts that differ", differing, ("rule", "ours", "SQLite"))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=Path, default=SHARED / "windows" / "captures.ndjson.gz")
    parser.add_argument("--rules", type=Path, default=SHARED / "sigma" / "rules.tar.gz")
    parser.add_argument("--only", default="rules/windows/**")
    parser.add_argument("--sample", type=int, default=20_000)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--engine", choices=("ours", "sqlite"), help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--warm", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--share", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--latency", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    if options.engine:
        sys.stdout.buffer.write(orjson.dumps((run_ours if options.engine == "ours" else run_sqlite)(options)))
        return
    if not options.events.exists() or not options.rules.exists():
        print(f"no events at {options.events} or no rules at {options.rules}: name them with --events, --rules")

        return
    print(f"detect on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        options.cache = Path(folder) / "cache"
        sample = Path(folder) / "sample.ndjson"
        write_sample(options.events, sample, options.sample)
        ours = in_process("ours", options, sample, latency=1)
        warm = in_process("ours", options, sample, warm=1)
        peer = in_process("sqlite", options, sample)
        rows = [row_of("vedette", ours), row_of("vedette, seen before", warm), row_of("pySigma SQLite backend", peer)]
        show("same events, same rules", rows, HEADS)
        ratios = (
            f"{peer['cpu'] / ours['cpu']:.1f} times fewer CPU seconds, {peer['cpu'] / warm['cpu']:.1f} the second time"
        )
        print(f"\nratio: {ratios}")
        p50, p99, most = ours["latency_us"]
        print(f"one event at a time, cold, with JSON: p50 {p50:.0f} us, p99 {p99:.0f} us, max {most / 1000:.1f} ms")
        compare(ours, peer)
        grown = [
            row_of(f"{int(share * 100)} % of rules", in_process("ours", options, sample, share=share))
            for share in (0.25, 0.5, 1)
        ]
        half = Path(folder) / "half.ndjson"
        for parts in (4, 2):
            write_sample(sample, half, ours["events"] // parts)
            grown.append(row_of(f"1/{parts} of events", in_process("ours", options, half)))
        show("how the cost grows", grown, HEADS)
        if options.full:
            show_whole(options, Path(folder))


if __name__ == "__main__":
    main()
