"""Threat intelligence: look-ups, detection with indicators beside rules, and hunts in stored events.

    python benchmarks/intel.py [lookups] [detect] [hunt] [--indicators N] [--events N] [--days N]

lookups: N indicators (a million: names, addresses, hashes, URLs, 50,000 networks) in the library and laid out as the
stream has them; then values as events hold them, most of which match nothing and half of which repeat. Beside it, in
the same run, one Python set that is asked for whole values only: what nothing can be faster than here.
detect: the Windows captures and the rules for Windows, as `vedette detect` runs them, without and with those indicators
in turn, five times; the middle share counts.
hunt: N stored events (ten million, over 30 days) and a thousand indicators that are new; the index is made once, by
itself, and its cost is told. CPU seconds are of the process and what it started.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from vedette.core.clock import DAY, SystemClock
from vedette.core.settings import load_settings
from vedette.judge.indicators import Lookout
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.detect import judge_chunk
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.ready import Ready
from vedette.run.intel.hunting import Hunt
from vedette.run.intel.indicators import make_lookout
from vedette.run.parts import Parts
from vedette.sense.files import read_lines
from vedette.sense.history import Span
from vedette.sense.intel.asked import Asked
from vedette.sense.intel.feeds import Form, parse_feed
from vedette.sense.intel.stix import Default
from vedette.sense.intel.values import Kind
from vedette.sense.intel.watch import Watch
from vedette.sense.sources import load_sources
from vedette.sense.store import ENVELOPE, Store

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("VEDETTE_TEST_DATA", ROOT.parent / "shared" / "data"))
NOW = 1_780_000_000_000_000
TURNS = 5
"""Of each way to detect."""


def indicators(count: int, seed: int = 7) -> Iterator[tuple[Kind, str]]:
    draw = random.Random(seed)
    nets = min(50_000, count // 20)
    for number in range(count):
        if number < nets:
            yield Kind.IPV4, f"{draw.randrange(11, 223)}.{draw.randrange(256)}.{draw.randrange(256)}.0/24"
        elif number % 10 < 4:
            yield Kind.DOMAIN, f"n{draw.getrandbits(40):x}.bad{number % 5000}.example"
        elif number % 10 < 6:
            yield (
                Kind.IPV4,
                f"{draw.randrange(11, 223)}.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(1, 255)}",
            )
        elif number % 10 < 9:
            yield Kind.FILE, f"{draw.getrandbits(256):064x}"
        else:
            yield Kind.URL, f"//n{draw.getrandbits(32):x}.example/p{number}"


def observed(count: int, known: list[tuple[Kind, str]], seed: int = 8) -> list[tuple[Kind, str]]:
    """Values as events hold them: half of them repeat, one in a hundred is known."""
    draw = random.Random(seed)
    found: list[tuple[Kind, str]] = []
    for number in range(count):
        if number % 2 and found:
            found.append(found[draw.randrange(max(0, len(found) - 20_000), len(found))])
        elif number % 100 == 0:
            found.append(known[draw.randrange(len(known))])
        elif number % 10 < 4:
            found.append((Kind.DOMAIN, f"www.h{draw.getrandbits(40):x}.site{number % 3000}.example"))
        elif number % 10 < 8:
            found.append((Kind.IPV4, f"10.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(256)}"))
        else:
            found.append((Kind.FILE, f"{draw.getrandbits(256):064x}"))
    return found


def resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1_024


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    before, wall = cpu(), time.perf_counter()
    done = work()
    return cpu() - before, time.perf_counter() - wall, done


def cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def laid_out(count: int) -> tuple[Watch, list[tuple[Kind, str]], float]:
    known = list(indicators(count))
    gc.collect()
    before = resident_mb()
    watch = Watch()
    for seq, (_, value) in enumerate(known, 1):
        watch.add(seq, (("".join(value),),), 0, 1 << 62)
    watch.take(())
    return watch, known, resident_mb() - before


def lookups(options: argparse.Namespace) -> None:
    watch, known, memory = laid_out(options.indicators)
    asked = observed(2_000_000, known)
    gc.freeze()
    plain = {value for _, value in known}
    rows = [("one set, whole values", len(asked), lambda: sum(text in plain for _, text in asked))]
    rows.append(("our watch, cold", len(asked), lambda: sum(bool(watch.look(kind, text)) for kind, text in asked)))
    rows.append(("our watch, warm", len(asked), lambda: sum(bool(watch.look(kind, text)) for kind, text in asked)))
    rows.append(("our watch, in chunks", len(asked), lambda: in_chunks(watch, asked)))
    rows += [
        (
            f"  only {kind}, distinct",
            len(own),
            lambda kind=kind, own=own: sum(bool(watch.look(kind, text)) for text in own),
        )
        for kind in (Kind.DOMAIN, Kind.IPV4, Kind.FILE)
        if (own := list({text for each, text in asked if each is kind}))
    ]
    print(f"{len(watch):,} indicators laid out, {memory:.0f} MB beside the texts themselves")
    print(f"{'':26}{'look-ups':>12}{'CPU s':>8}{'a CPU second':>16}{'hits':>10}")
    for name, count, work in rows:
        if "distinct" in name:
            watch.take(())
        spent, _, hits = timed(work)
        print(f"{name:26}{count:12,}{spent:8.2f}{count / spent:16,.0f}{hits:10,}")


def in_chunks(watch: Watch, asked: list[tuple[Kind, str]]) -> int:
    """As the stream and files ask: the columns of some thousand records at a time."""
    watch.take(())
    hits = 0
    for start in range(0, len(asked), 16_384):
        columns: dict[Kind, list[str]] = {}
        for kind, text in asked[start : start + 16_384]:
            columns.setdefault(kind, []).append(text)
        for kind, values in columns.items():
            held = watch.known(kind, set(values))
            hits += sum(value in held for value in values) if held else 0
    return hits


def detect(options: argparse.Namespace) -> None:
    known = load_sources()
    places = LogSources({name: source.logsource for name, source in known.items()})
    rules = load_cached(rule_files(SHARED / "sigma" / "rules.tar.gz", "rules/windows/**"), places, options.cache)
    watch, _, _ = laid_out(options.indicators)
    lookout = Lookout(lambda _tenant: watch, lambda _tenant, _seq: None, known)
    events = SHARED / "windows" / "captures.ndjson.gz"
    print(f"{len(watch):,} indicators, {len(rules.rules):,} rules over {events.name}")
    rates: dict[str, list[float]] = {"rules alone": [], "with indicators": []}
    for turn in range(TURNS):
        # In turn, so that what else the machine does weighs on both.
        for name, own in (("rules alone", None), ("with indicators", lookout)):
            ready = Ready(rules, own)
            ready.skims = True
            ready.skimmer(known["windows"])
            watch.take(())
            gc.freeze()

            def work(ready: Ready = ready) -> tuple[int, int]:
                parts = [judge_chunk(ready, known["windows"], chunk) for chunk in read_lines(events)]
                return sum(part.events for part in parts), sum(len(part.hits) for part in parts)

            spent, _, (count, hits) = timed(work)
            rates[name].append(count / spent)
            print(f"{name:26}{count:12,}{spent:8.2f}{count / spent:16,.0f}{hits:10,} events hit   turn {turn + 1}")
    kept = sorted(own / alone for own, alone in zip(rates["with indicators"], rates["rules alone"], strict=True))
    print(f"with indicators: {kept[TURNS // 2]:.0%} of rules alone, {kept[0]:.0%} to {kept[-1]:.0%} in {TURNS} turns")


def stored(home: Path, count: int, days: int) -> None:
    """Events in the store's own tables, made by the hundred thousand."""
    store = Store(home / "store")
    table = store.table("proxy")
    per_day = count // days
    start = (NOW // DAY - days) * DAY
    for day in range(days):
        made = duckdb.sql(
            f"""
            select 'e' || {day} || '-' || i as id, 'default' as tenant,
              make_date(1970, 1, 1) + {start // DAY + day} as date, 'proxy' as source, i::bigint as seq,
              make_timestamptz({start + day * DAY} + i * {DAY // per_day}) as event_time,
              make_timestamptz({NOW}) as ingest_time, 4002::int as class_uid,
              ['ip:10.0.' || (i % 250) || '.' || (i // 7 % 250)] as entities, 's@' || i as raw_ref,
              '{{"time":"x","c-ip":"10.0.' || (i % 250) || '.' || (i // 7 % 250) || '","c-uri":"http://h'
                || (i * 31 % 90000)
                || '.site.example/p' || (i % 977) || '","cs-host":"h' || (i * 31 % 90000)
                || '.site.example","cs-method":"GET","sc-status":200,"cs-bytes":' || i || '}}' as data
            from range({per_day}) t(i)
            """
        ).to_arrow_table()
        fields = [pa.field(name, ENVELOPE.field(name).type) for name in ENVELOPE.names]
        rows = made.select(ENVELOPE.names).cast(pa.schema(fields))
        with table.writing():
            table.append(rows)


def hunt(options: argparse.Namespace) -> None:
    home = Path(options.home or tempfile.mkdtemp(prefix="vedette-intel-"))
    if not (home / "store" / "proxy").exists():
        spent, _, _ = timed(lambda: stored(home, options.events, options.days))
        print(f"{options.events:,} events of {options.days} days stored in {spent:.0f} CPU s")
    with Parts(load_settings(None, {"VEDETTE_HOME": str(home)}), clock=SystemClock()) as parts:
        lines = [f"h{number * 89}.site.example" for number in range(3)]
        lines += [f"absent{number}.example" for number in range(990)]
        lines += ["10.0.249.249", *(f"198.51.{number}.0/24" for number in range(6))]
        objects, _ = parse_feed("\n".join(lines).encode(), Form.LIST, Default(now=NOW, collection="new"))
        parts.library.put("default", "new", objects)
        one = Hunt(parts, Store(home / "store"), make_lookout(parts.library, parts.clock, parts.sources))
        span = Span((NOW // DAY - options.days) * DAY, (NOW // DAY + 1) * DAY)
        files = one.segments.files("default", span)
        spent, wall, made = timed(lambda: one.segments.prepare(files))
        size = sum(path.stat().st_size for path in (home / "store").glob("*/_observed/*")) / 1e6
        whole = sum(file.rows for file in files)
        print(f"{whole:,} events; index made: {made} segments, {spent:.0f} CPU s, {wall:.0f} s, {size:.0f} MB")
        found = parts.library.indicators("default", Asked(), limit=1_000)
        for turn, wanted in (("first", found), ("again", found), ("one indicator", found[:1])):
            spent, wall, done = timed(lambda wanted=wanted: one.run("default", wanted, span))
            print(
                f"hunt, {turn:14}{done.indicators:6,} indicators{done.hits:8,} hits{spent:8.2f} CPU s{wall:8.2f} s "
                f" case {done.case}"
            )
    if not options.home:
        shutil.rmtree(home)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["lookups", "detect", "hunt"])
    parser.add_argument("--indicators", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--home", help="Keep what is stored here, and use it again.")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/vedette/rules").expanduser())
    options = parser.parse_args()
    for name in options.parts or ["lookups", "detect", "hunt"]:
        {"lookups": lookups, "detect": detect, "hunt": hunt}[name](options)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
