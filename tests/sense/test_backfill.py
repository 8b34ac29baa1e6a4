"""Backfilled state against an engine that took the same history one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import test_features as base
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vedette.core.errors import DataError
from vedette.core.label import Label
from vedette.sense.features.backfill import backfill
from vedette.sense.features.engine import Engine
from vedette.sense.features.replay import Replay, replay
from vedette.sense.features.table import to_labels
from vedette.sense.labels import places

S = 1_000_000
DELAY = 40 * S


def to_table(log, events) -> pa.Table:
    table = base.to_table(log, events)
    ids = pa.array([event.id for event in events])
    return table.append_column("id", ids).append_column("fraud", pa.array([row["fraud"] for row in log], pa.int64()))


def one_by_one(table: pa.Table, events, until: int) -> Engine:
    """Each event in order; each label as soon as time has reached it."""
    labels = to_labels(table, base.FEATURES, delay=DELAY)
    times = np.array([event.event_time for event in events], np.int64)
    due: dict[int, list[tuple[int, int, int]]] = {}
    where = places(times, observed=labels.observed, rows=labels.rows)
    for place, row, fraud, observed in zip(where, labels.rows, labels.fraud, labels.observed, strict=True):
        if observed <= until:
            due.setdefault(int(place), []).append((int(observed), int(row), int(fraud)))
    engine = Engine(base.FEATURES)
    for place in range(len(events) + 1):
        for observed, row, fraud in sorted(due.get(place, [])):
            engine.learn(Label(event_id=events[row].id, tenant="t", fraud=bool(fraud), observed_time=observed))
        if place < len(events):
            engine.fetch(events[place])
            engine.apply(events[place])
    return engine


@given(base.rows, st.integers(-60, 120))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_backfill_equals_one_by_one(log, beyond):
    events = base.to_events(log)
    table = to_table(log, events)
    until = max(event.event_time for event in events) + beyond * S if events else 0
    whole = one_by_one(table, events, until).checksum()
    assert backfill(base.FEATURES, table, delay=DELAY, until=until).checksum() == whole
    pieces = [table.slice(first, 3) for first in range(0, len(table), 3)]
    assert backfill(base.FEATURES, pieces, delay=DELAY, until=until).checksum() == whole


def sample(count: int):
    rng = np.random.default_rng(11)
    log = [
        {
            "step": int(rng.choice([0, 1, 2, 5, 20])),
            "card": str(rng.integers(6)),
            "shop": int(rng.integers(3)),
            "amount": float(rng.integers(500)) / 100,
            "ratio": float(rng.normal()),
            "status": "ok",
            "device": "d1",
            "fraud": int(rng.random() < 0.4),
            "delay": 10,
        }
        for _ in range(count)
    ]
    return log, base.to_events(log)


def test_it_goes_on_as_one_by_one_would_and_a_label_too_many_is_seen(tmp_path):
    log, events = sample(600)
    table = to_table(log, events)
    until = events[399].event_time
    whole = one_by_one(table.slice(0, 400), events[:400], until)
    got = backfill(base.FEATURES, table.slice(0, 400), delay=DELAY, until=until)
    got.save(tmp_path / "state.npz")
    resumed = Engine.load(tmp_path / "state.npz", base.FEATURES)
    for engine in (whole, resumed):
        for event, row in zip(events[400:], log[400:], strict=True):
            engine.apply(event)
            known = event.event_time + DELAY
            engine.learn(Label(event_id=event.id, tenant="t", fraud=bool(row["fraud"]), observed_time=known))
    assert resumed.checksum() == whole.checksum()
    early = backfill(base.FEATURES, table.slice(0, 400), delay=DELAY, until=until + 2 * DELAY)
    assert early.checksum() != got.checksum()


@pytest.mark.parametrize("size", [2, 4])
def test_two_rows_of_one_id_are_refused(size):
    log, events = sample(3)
    table = to_table(log, events)
    twice = pa.concat_tables([table, table.slice(0, 1)])
    with pytest.raises(DataError) as refused:
        backfill(base.FEATURES, [twice.slice(0, size), twice.slice(size)], delay=DELAY, until=0)
    assert refused.value.code == "features.backfill.duplicate"


BUGS = {
    "labels that wait are forgotten": lambda piece: setattr(piece, "waiting", piece.waiting[:0]),
    "entities are numbered anew": lambda piece: [one.clear() for one in piece.coding.ids],
}


@pytest.mark.parametrize("bug", [None, *BUGS])
def test_a_history_in_pieces_gives_the_rows_of_the_whole(bug):
    log, events = sample(600)
    table = to_table(log, events)
    whole = replay(base.FEATURES, table, labels=to_labels(table, base.FEATURES, delay=DELAY)).tobytes()
    for size in (1, 7, 250) if bug is None else (250,):
        taking, parts, matrix = Replay(base.FEATURES), [], None
        for first in range(0, len(table), size):
            piece = table.slice(first, size)
            matrix = taking.take(piece, to_labels(piece, base.FEATURES, delay=DELAY), into=matrix)
            parts.append(matrix.copy())
            BUGS.get(bug, lambda _piece: None)(taking)
        assert (np.concatenate(parts).tobytes() == whole) is (bug is None)


def test_what_is_held_does_not_grow_with_the_history():
    """Labels of forty seconds and entities are what remains, however long the history."""
    log, events = sample(4_000)
    table, taking, held = to_table(log, events), Replay(base.FEATURES), []
    for first in range(0, len(table), 200):
        piece = table.slice(first, 200)
        taking.take(piece, to_labels(piece, base.FEATURES, delay=DELAY))
        held.append(len(taking.waiting))
    assert max(held) < 100
    assert taking.state.figures()["entities"] == taking.coding.count - 1 < 40
