"""The index: sightings taken and read, decisions listed; beside one SQLite row a sighting with an index, as peer.

`--size 1` is a million events with three entities each, a hub of 100,000 events among them, and 100,000 decisions.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from vedette.core.clock import SystemClock
from vedette.core.decision import Action, Decision, Reason
from vedette.core.event import Entity, Event
from vedette.core.log import SqliteLog
from vedette.core.projection import Projection
from vedette.judge.decisions.register import Filters, Place, Register
from vedette.sense.sightings import Sightings, entity_hash

START = 1_767_225_600_000_000
HUB = Entity("merchant", "m_hub")


def events(count: int, rng: random.Random) -> list[bytes]:
    made = []
    for number in range(count):
        entities = (
            Entity("card", f"tok_{rng.randrange(100_000):06}"),
            HUB if number % 10 == 0 else Entity("merchant", f"m_{rng.randrange(2_000)}"),
            Entity("ip", f"198.51.{rng.randrange(256)}.{rng.randrange(256)}"),
        )
        event = Event(
            id=f"e{number}",
            tenant="acme",
            source="product",
            event_time=START + number * 86_000,
            ingest_time=START,
            entities=entities,
            data={"type": "charge", "note": "x" * 400},
        )
        made.append(msgspec.json.encode(event))
    return made


def decisions(count: int, rng: random.Random) -> list[bytes]:
    made = []
    for number in range(count):
        score = rng.random() ** 8
        made.append(
            msgspec.json.encode(
                Decision(
                    event_id=f"e{number}",
                    tenant="acme",
                    action=rng.choices(list(Action), [94, 3, 1, 2])[0],
                    score=score,
                    risk_score=int(score * 99),
                    seq=number + 1,
                    time=START + number * 860_000,
                    reasons=tuple(
                        Reason(f"model.f{rng.randrange(60)}", "the feature is 1, which raises the risk", 0.3)
                        for _ in range(5)
                    ),
                    features={f"feature_{place}": rng.random() for place in range(60)},
                    source="product",
                    event={
                        "amount_minor": rng.randrange(100_000),
                        "currency": "EUR",
                        "merchant": f"m_{rng.randrange(2_000)}",
                        "source": f"tok_{rng.randrange(100_000)}",
                    },
                    latency_us=rng.randrange(60_000),
                )
            )
        )
    return made


def fill(log: SqliteLog, topic: str, values: list[bytes], batch: int = 1_000) -> None:
    for place in range(0, len(values), batch):
        log.append(topic, "decide:acme", values[place : place + batch])


def drained(step: Callable[[], int]) -> float:
    cpu = time.process_time()
    while step():
        pass
    return time.process_time() - cpu


def p95(call: Callable[[int], object], times: int = 100) -> str:
    taken = []
    for number in range(times):
        start = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - start)
    taken.sort()
    return f"{taken[times // 2] * 1e3:8.1f} {taken[times * 95 // 100] * 1e3:8.1f} ms"


def peer(path: Path, log: SqliteLog, count: int) -> float:
    """One row a sighting in a table with a key by entity and time."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=normal")
    connection.execute(
        "create table seen (entity integer, time integer, place integer, source text, kind integer,"
        " primary key (entity, time, place)) without rowid"
    )
    decode = msgspec.json.Decoder(Event).decode
    cpu = time.process_time()
    offset = 0
    while offset < count and (records := log.read("event", 0, offset, 5_000)):
        rows = []
        for record in records:
            event = decode(record.value)
            for entity in event.entities:
                key = entity_hash("acme", entity.type, entity.id) - (1 << 63)
                rows.append((key, event.event_time, record.offset, event.source, 1))
        connection.execute("begin immediate")
        connection.executemany("insert into seen values (?, ?, ?, ?, ?)", sorted(rows))
        connection.execute("commit")
        offset = records[-1].offset + 1
    return time.process_time() - cpu


def entities(_source: str, data: dict[str, str]) -> tuple[Entity, ...]:
    return Entity("merchant", data["merchant"]), Entity("card", data["source"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=float, default=0.1)
    size = parser.parse_args().size
    count, rng = int(1_000_000 * size), random.Random(7)
    print(f"{platform.platform()}, {os.cpu_count()} cores, {count:,} events\n")
    with tempfile.TemporaryDirectory(dir=".") as name, SqliteLog(Path(name) / "log", SystemClock()) as log:
        folder = Path(name)
        made = events(count, rng)
        fill(log, "event", made)
        sample = [msgspec.json.decode(made[rng.randrange(count)], type=Event).entities[0] for _ in range(100)]
        del made
        fill(log, "decision", decisions(int(100_000 * size), rng))
        index = Projection(folder / "index.db")
        seen, register = Sightings(index), Register(index, entities)
        taken = drained(lambda: seen.consume(log))
        print(f"sightings taken     {3 * count / taken:>12,.0f} a CPU second ({taken:.1f} s)")
        other = peer(folder / "peer.db", log, count)
        print(f"  one row each      {3 * count / other:>12,.0f} a CPU second ({other:.1f} s)")
        size_of = lambda path: sum(file.stat().st_size for file in folder.glob(f"{path}*")) / 1e6  # noqa: E731
        print(f"  megabytes         {size_of('index.db'):.0f}, one row each {size_of('peer.db'):.0f}")
        taken = drained(lambda: register.consume(log))
        print(f"decisions taken     {100_000 * size / taken:>12,.0f} a CPU second ({taken:.1f} s)\n")

        def timeline(entity: Entity) -> None:
            seen.seen("acme", entity)
            page = seen.timeline("acme", entity, limit=50)
            seen.events(log, "acme", entity, page)

        print(f"{'reading':<44} {'p50':>8} {'p95':>8}")
        print(f"{'summary + timeline + events, any entity':<44} {p95(lambda n: timeline(sample[n]))}")
        print(f"{'the same, hub':<44} {p95(lambda _: timeline(HUB), 50)}")
        print(f"{'histogram, hub':<44} {p95(lambda _: seen.histogram('acme', HUB), 50)}")
        print(f"{'search, part of a name':<44} {p95(lambda n: seen.search('acme', f'_{n:04}'), 50)}")
        some = register.find("acme", limit=1_000)[-1]
        border = Place(some.time, some.seq)
        for text, filters in {
            "all": Filters(),
            "blocked": Filters(actions=(Action.BLOCK,)),
            "of a merchant": Filters(entity=Entity("merchant", "m_7")),
            "for a reason": Filters(reason="model.f7"),
            "risk and amount": Filters(risk_at_least=98, amount_at_least=99_000),
            "nothing": Filters(risk_at_least=99, amount_at_least=99_999_999),
        }.items():
            page = p95(lambda _, f=filters: register.find("acme", f, after=border))
            print(f"{'decisions, ' + text + ', page':<44} {page}")
            print(f"{'  count':<44} {p95(lambda _, f=filters: register.count('acme', f), 30)}")
        day = 86_400_000_000
        print(f"{'minutes of a day':<44} {p95(lambda _: register.minutes('acme', START - day, START + day), 30)}")
        index.close()


if __name__ == "__main__":
    main()
