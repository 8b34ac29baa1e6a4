"""Must hold at any count: one process, Redis and a whole table give the same bits; the future changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import test_features as base

from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.redis import Redis
from vedette.sense.features import layout
from vedette.sense.features.consistency import check_consistency, is_sampled
from vedette.sense.features.engine import Engine
from vedette.sense.features.feature import Aggregation
from vedette.sense.features.replay import replay, replay_parts
from vedette.sense.features.shared import SharedEngine
from vedette.sense.features.table import Labels
from vedette.sense.labels import places

S = 1_000_000
CHUNK = 10_000


def random_table(seed: int, count: int) -> tuple[pa.Table, Labels]:
    """Events that come late, too late, together and out of order, with missing values; labels with their delays."""
    rng = np.random.default_rng(seed)
    entities = max(6, count // 200)
    steps = rng.choice([-30, -5, -1, 0, 0, 1, 2, 5, 20], count, p=[0.01, 0.05, 0.1, 0.1, 0.1, 0.3, 0.2, 0.1, 0.04])
    times = base.START + np.maximum(np.cumsum(steps), 0) * S
    amounts, ratios = rng.integers(0, 50_000, count) / 100, rng.normal(size=count)
    absent = rng.random((5, count)) < 0.05
    table = pa.table(
        {
            "id": np.char.add("e", np.arange(count).astype(str)),
            "at": pa.array(times, pa.timestamp("us")),
            "card": pa.array(rng.integers(0, entities, count).astype(str), mask=absent[0]),
            "shop": rng.integers(0, max(3, entities // 10), count),
            "amount": pa.array(amounts, mask=absent[1]),
            "ratio": pa.array(ratios, mask=absent[2]),
            "status": pa.array(rng.choice(["ok", "failed"], count), mask=absent[3]),
            "device": pa.array(np.char.add("d", rng.integers(0, 6, count).astype(str)), mask=absent[4]),
        }
    )
    rows = np.flatnonzero(rng.random(count) < 0.5)
    delays = rng.choice([0, 3, 10, 30, 60, 299, 301], len(rows)) * S
    return table, Labels(rows, (rng.random(len(rows)) < 0.3).astype(np.int64), times[rows] + delays)


def log_of(table: pa.Table, labels: Labels):
    """Each event, with the labels that became known before it."""
    times = table["at"].cast(pa.int64()).to_numpy()
    where = places(times, observed=labels.observed, rows=labels.rows)
    order = np.lexsort((labels.rows, labels.observed, where))
    due = list(
        zip(*(part[order].tolist() for part in (where, labels.rows, labels.observed, labels.fraud)), strict=True)
    )
    at = 0
    for first in range(0, len(table), CHUNK):
        for number, data in enumerate(table.slice(first, CHUNK).to_pylist(), first):
            known = []
            while at < len(due) and due[at][0] <= number:
                _, row, observed, fraud = due[at]
                known.append(Label(event_id=f"e{row}", tenant="t", fraud=bool(fraud), observed_time=observed))
                at += 1
            time = int(times[number])
            yield (
                known,
                Event(
                    id=data["id"], tenant="t", source="pay", event_time=time, ingest_time=0, seq=number + 1, data=data
                ),
            )


def compare(count: int, redis: Redis, seed: int = 17) -> tuple[int, SharedEngine, Engine]:
    """Rows that differ anywhere between the three."""
    table, labels = random_table(seed, count)
    one, other = Engine(base.FEATURES), SharedEngine(base.FEATURES, redis)
    parts = (row for part in replay_parts(base.FEATURES, table, labels=labels) for row in part)
    wrong = 0
    for (known, event), offline in zip(log_of(table, labels), parts, strict=True):
        for label in known:
            one.learn(label)
            other.learn(label)
        expected = one.fetch(event).tobytes()
        wrong += expected != other.fetch(event).tobytes() or expected != offline.tobytes()
        one.apply(event)
        other.apply(event)
    return wrong, other, one


def test_one_process_redis_and_a_table_agree_on_20_000_events(redis_url):
    wrong, other, one = compare(20_000, Redis(redis_url, timeout_s=10))
    assert wrong == 0
    assert other.checksum() == one.entity_checksum()
    assert one.counts["late"] > 100, "events that come too late are among them"
    assert one.counts["label_stale"] > 100
    used = {feature.aggregation for view in base.FEATURES.views for feature in view.features}
    assert used == set(Aggregation)


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_one_process_redis_and_a_table_agree_on_1_000_000_events(redis_url):
    wrong, other, one = compare(1_000_000, Redis(redis_url, timeout_s=10))
    assert wrong == 0
    assert other.checksum() == one.entity_checksum()


def test_the_future_changes_no_row_of_the_past():
    table, labels = random_table(23, 6_000)
    cut = 4_000
    keep = labels.rows < cut
    past = Labels(labels.rows[keep], labels.fraud[keep], labels.observed[keep])
    expected = replay(base.FEATURES, table.slice(0, cut), labels=past)
    shuffled = np.concatenate([np.arange(cut), cut + np.random.default_rng(1).permutation(2_000)])
    for future in (table, table.take(shuffled), pa.concat_tables([table, table.slice(cut)])):
        assert replay(base.FEATURES, future, labels=past)[:cut].tobytes() == expected.tobytes()
    # A label of the future is as good as none.
    assert replay(base.FEATURES, table, labels=labels)[:cut].tobytes() == expected.tobytes()


@pytest.mark.parametrize("column", ["window", "edge"])
def test_a_window_that_is_off_by_one_is_seen(redis_url, column):
    table, labels = random_table(29, 1_500)
    other = SharedEngine(base.FEATURES, Redis(redis_url, timeout_s=10))
    ops = other._plan.ops
    if column == "window":
        ops[:, layout.O_WINDOW] -= ops[:, layout.O_WINDOW] == 40 * S
    wrong = 0
    offline = replay(base.FEATURES, table, labels=labels)
    for (known, event), row in zip(log_of(table, labels), offline, strict=True):
        for label in known:
            other.learn(label)
        shifted = Event(
            **{**{f: getattr(event, f) for f in event.__struct_fields__}, "event_time": event.event_time + 1}
        )
        wrong += other.fetch(shifted if column == "edge" else event).tobytes() != row.tobytes()
        other.apply(event)
    assert wrong > 10


def test_what_was_served_is_checked_against_the_log():
    table, labels = random_table(31, 2_000)
    log, served, engine = [], {}, Engine(base.FEATURES)
    for known, event in log_of(table, labels):
        for label in known:
            engine.learn(label)
        log += [*known, event]
        values = dict(zip(engine.names, engine.fetch(event).tolist(), strict=True))
        served[event.id] = {name: None if value != value else value for name, value in values.items()}  # noqa: PLR0124
        engine.apply(event)
    found = check_consistency(Engine(base.FEATURES), log, served)
    assert (found.mismatched, found.sampled, found.values) == (0, 2_000, 2_000 * len(base.FEATURES.names))
    found.raise_on_mismatch()
    some = check_consistency(Engine(base.FEATURES), log, served, share=0.2)
    assert 100 < some.sampled < 800
    assert is_sampled("card-1", 1.0)
    assert not is_sampled("card-1", 0.0)
    known = next(name for name, values in served.items() if values["n_3m"] and name > "e7")
    served[known]["n_3m"] += 1
    wrong = check_consistency(Engine(base.FEATURES), log, served)
    assert (wrong.mismatched, wrong.features) == (1, {"n_3m": 1})
    with pytest.raises(base.DataError) as told:
        wrong.raise_on_mismatch()
    assert told.value.code == "features.consistency.mismatch"
    lost = [one for one in log if getattr(one, "id", "") != "e500"]
    assert check_consistency(Engine(base.FEATURES), lost, served).mismatched > 1


def test_killed_at_each_step_a_service_goes_on_to_the_same_state(tmp_path):
    program = Path(__file__).with_name("feature_killer.py")
    done = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert int(done.stdout) > 80


def test_killed_between_redis_and_its_log_a_writer_counts_nothing_twice(redis_url):
    """A real process takes events and kills itself; the next one is given the log from the start."""
    program = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent)]!r}
import test_features as base
from vedette.core.redis import Redis
from vedette.sense.features.shared import SharedEngine
events, truth = base.sample_log(41, 120)
engine = SharedEngine(base.FEATURES, Redis({redis_url!r}, timeout_s=10))
for place, (event, label) in enumerate(zip(events, truth)):
    engine.fetch(event)
    engine.apply(event)
    if label:
        engine.learn(label)
    if place == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
"""
    for die_at in (30, 90, 1_000):
        subprocess.run([sys.executable, "-c", program, str(die_at)], check=False, timeout=120)
    events, truth = base.sample_log(41, 120)
    one = Engine(base.FEATURES)
    for event, label in zip(events, truth, strict=True):
        one.apply(event)
        if label:
            one.learn(label)
    assert SharedEngine(base.FEATURES, Redis(redis_url)).checksum() == one.entity_checksum()
