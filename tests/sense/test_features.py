"""The engine and the replay against plain Python, bit for bit; checkpoints; definitions that are wrong."""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vedette.core.clock import DAY
from vedette.core.errors import DataError, DefinitionError, Problems
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.sense.features import kernel, layout, scans, state
from vedette.sense.features.definition import Aggregation, load_features, parse_features, shipped
from vedette.sense.features.engine import Engine
from vedette.sense.features.replay import replay, replay_parts
from vedette.sense.features.table import Labels, event_times, read_table, to_labels
from vedette.sense.labels import places, to_label

sys.path.insert(0, str(Path(__file__).parent))
from feature_oracle import Plain

S = 1_000_000
START = 1_522_540_800 * S

SMALL = """
source: pay
event_id: id
event_time: at
lateness: 20s
ahead: 1h
fields:
  amount: {path: amount, decimals: 2}
  ratio: {path: ratio}
  status: {path: status, text: true}
  device: {path: device, text: true}
label: {path: fraud, keep: 5m, lateness: 30s}
views:
  - view: event
    features:
      - {name: amount, aggregation: value, field: amount}
      - {name: ratio, aggregation: value, field: ratio}
      - {name: hour, aggregation: hour}
      - {name: weekday, aggregation: weekday}
      - {name: weekend, aggregation: weekend}
      - {name: night, aggregation: night}
  - view: card
    entity: card
    key: card
    capacity: 4
    features: &all
      - {name: n, aggregation: count, windows: [5s, 40s, 3m], include_current: false}
      - {name: n_with, aggregation: count, windows: [5s], include_current: true}
      - {name: n_failed, aggregation: count, windows: [40s], include_current: false, where: {status: {"=": failed}}}
      - {name: n_large, aggregation: count, field: ratio, windows: [40s], include_current: true, where: {amount: {">=": 2}, status: {"!=": ok}}}
      - {name: total, aggregation: sum, field: amount, windows: [5s, 3m], include_current: false}
      - {name: total_with, aggregation: sum, field: ratio, windows: [40s], include_current: true}
      - {name: mean, aggregation: mean, field: amount, windows: [5s, 40s], include_current: true}
      - {name: mean_before, aggregation: mean, field: ratio, windows: [40s], include_current: false}
      - {name: low, aggregation: min, field: amount, windows: [40s], include_current: false}
      - {name: low_small, aggregation: min, field: ratio, windows: [3m], include_current: true, where: {ratio: {"<": 1}}}
      - {name: high, aggregation: max, field: amount, windows: [5s, 40s], include_current: true}
      - {name: n_ever, aggregation: count, windows: [all], include_current: true}
      - {name: n_kinds, aggregation: count, windows: [40s], include_current: false, where: {any: [{status: failed}, {ratio: {"<": -1}}], not: {device: {in: [d1, d2]}}}}
      - {name: total_ever, aggregation: sum, field: amount, windows: [all], include_current: false}
      - {name: mean_ever, aggregation: mean, field: ratio, windows: [all], include_current: true}
      - {name: spread, aggregation: std, field: amount, windows: [5s, 3m, all], include_current: true}
      - {name: spread_ratio, aggregation: std, field: ratio, windows: [40s], include_current: false}
      - {name: newest, aggregation: last, field: amount, windows: [5s, 3m], include_current: false}
      - {name: newest_with, aggregation: last, field: ratio, windows: [40s], include_current: true, where: {device: {exists: true}}}
      - {name: oldest, aggregation: first, field: amount, windows: [5s, 3m], include_current: true}
      - {name: devices, aggregation: distinct, field: device, windows: [5s, 40s, 3m], include_current: true}
      - {name: amounts, aggregation: distinct, field: amount, windows: [3m], limit: 2, include_current: false}
      - {name: largest, aggregation: top_k, k: 3, field: amount, windows: [5s, 3m], include_current: false}
      - {name: usual, aggregation: top_share, k: 2, field: device, windows: [40s, 3m], include_current: true}
      - {name: mixed, aggregation: entropy, field: device, windows: [40s, 3m], include_current: true}
      - {name: fading, aggregation: ewma, half_life: 7s, field: amount, windows: [40s, 3m], include_current: true}
      - {name: fading_ratio, aggregation: ewma, half_life: 1s, field: ratio, windows: [3m], include_current: false}
      - {name: faster, aggregation: velocity_change, over: 3m, windows: [5s, 40s], include_current: true}
      - {name: faster_failed, aggregation: velocity_change, over: 40s, windows: [5s], include_current: false, where: {status: failed}}
      - {name: since_failed, aggregation: seconds_since_last, windows: [40s, 3m], where: {status: failed}}
      - {name: since_first_device, aggregation: seconds_since_first, field: device, windows: [40s]}
      - {name: since_seen, aggregation: seconds_since_first, windows: [all]}
      - {name: share, aggregation: ratio, of: n_failed_40s, to: n_40s}
      - {name: since, aggregation: seconds_since_previous}
      - {name: labels, aggregation: label_count, windows: [10s, 1m]}
      - {name: labels_all, aggregation: label_count}
      - {name: frauds, aggregation: fraud_count, windows: [10s, 1m]}
      - {name: frauds_all, aggregation: fraud_count}
      - {name: rate, aggregation: fraud_rate, windows: [10s, 1m]}
      - {name: rate_all, aggregation: fraud_rate}
      - {name: last, aggregation: last_label}
      - {name: run, aggregation: fraud_run}
      - {name: first_fraud, aggregation: seconds_since_first_fraud}
      - {name: last_fraud, aggregation: seconds_since_last_fraud}
      - {name: genuine, aggregation: genuine_since_fraud}
  - view: shop
    entity: shop
    key: shop
    capacity: 16
    features:
      - {name: shop_n, aggregation: count, windows: [40s], include_current: false}
      - {name: shop_mean, aggregation: mean, field: amount, windows: [3m], include_current: true}
      - {name: shop_rate, aggregation: fraud_rate, windows: [1m]}
      - {name: shop_run, aggregation: fraud_run}
      - {name: shop_cards, aggregation: distinct, field: status, windows: [3m], include_current: true}
  - view: card_at_shop
    entity: card
    key: [card, shop]
    capacity: 3
    features:
      - {name: here_n, aggregation: count, windows: [3m, all], include_current: false}
      - {name: here_mixed, aggregation: entropy, field: status, windows: [3m], include_current: true}
"""
FEATURES = parse_features(SMALL)

numbers = st.none() | st.integers(0, 400).map(lambda cents: cents / 100) | st.sampled_from([0, 3, math.nan, 1e300])
ratios = st.none() | st.floats(-2, 2, allow_nan=False)
# Few entities, small steps, some back: equal times, late events and full segments are all common.
rows = st.lists(
    st.fixed_dictionaries(
        {
            "step": st.sampled_from([-30, -21, -20, -5, -1, 0, 0, 1, 2, 5, 20, 40, 90]),
            "card": st.sampled_from(["a", "a", "b", None]),
            "shop": st.sampled_from([1, 2]),
            "amount": numbers,
            "ratio": ratios,
            "status": st.sampled_from(["ok", "failed", None]),
            "device": st.sampled_from(["d1", "d2", "d3", "d4", 7, None]),
            "fraud": st.sampled_from([None, 0, 0, 1, 1]),
            "delay": st.sampled_from([0, 3, 10, 10, 10, 30, 60, 299, 301]),
        }
    ),
    min_size=1,
    max_size=40,
)


def to_events(log: list[dict]) -> list[Event]:
    time, events = START, []
    for seq, row in enumerate(log, 1):
        time = max(START, time + row["step"] * S)
        data = {name: value for name, value in row.items() if name not in ("step", "delay", "fraud")}
        events.append(Event(id=f"e{seq}", tenant="t", source="pay", event_time=time, ingest_time=0, seq=seq, data=data))
    return events


def to_truth(log: list[dict], events: list[Event]) -> list[Label | None]:
    return [
        None
        if row["fraud"] is None
        else Label(
            event_id=event.id, tenant="t", fraud=bool(row["fraud"]), observed_time=event.event_time + row["delay"] * S
        )
        for row, event in zip(log, events, strict=True)
    ]


def bits(vector) -> bytes:
    """The vector's bytes, every NaN written alike, minus zero as zero."""
    array = np.array(vector, np.float64) + 0.0
    array[np.isnan(array)] = np.nan
    return array.tobytes()


def run(subject, events: list[Event], truth: list[Label | None], order: str) -> list[bytes]:
    """Features of every event; labels handed over at once, when known, or one event late."""
    out = []
    times = np.array([event.event_time for event in events])
    given = [(row, label) for row, label in enumerate(truth) if label]
    where = places(
        times,
        observed=np.array([lab.observed_time for _, lab in given], int),
        rows=np.array([r for r, _ in given], int),
    )
    at: dict[int, list] = {}
    for (row, label), place in zip(given, where, strict=True):
        key = {"known": int(place), "late": int(place) + 1, "at once": row + 1}[order]
        at.setdefault(key, []).append((label.observed_time, row, label))
    for row, event in enumerate(events):
        for _, _, label in sorted(at.get(row, []), key=lambda item: item[:2]):
            subject.learn(label)
        out.append(bits(subject.fetch(event)))
        subject.apply(event)
    return out


def to_table(log: list[dict], events: list[Event]) -> pa.Table:
    columns = {name: [row[name] for row in log] for name in ("card", "shop", "amount", "ratio", "status")}
    columns["device"] = [None if row["device"] is None else str(row["device"]) for row in log]
    at = pa.array([event.event_time for event in events], pa.timestamp("us"))
    kinds = {
        "amount": pa.float64(),
        "ratio": pa.float64(),
        "card": pa.string(),
        "status": pa.string(),
        "device": pa.string(),
    }
    return pa.table({"at": at, **{name: pa.array(values, kinds.get(name)) for name, values in columns.items()}})


def table_labels(truth: list[Label | None]) -> Labels:
    rows = np.array([row for row, label in enumerate(truth) if label], np.int64)
    return Labels(
        rows,
        np.array([int(label.fraud) for label in truth if label], np.int64),
        np.array([label.observed_time for label in truth if label], np.int64),
    )


def difference(expected: list[bytes], got: list[bytes]) -> str:
    for row, (left, right) in enumerate(zip(expected, got, strict=True)):
        if left != right:
            a, b = np.frombuffer(left), np.frombuffer(right)
            names = [n for n, x, y in zip(FEATURES.names, a, b, strict=True) if bits([x]) != bits([y])]
            return f"row {row}: {[(n, a[FEATURES.names.index(n)], b[FEATURES.names.index(n)]) for n in names]}"
    return ""


@given(rows, st.sampled_from(["known", "late", "at once"]))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_engine_equals_plain_python(log, order):
    events = to_events(log)
    truth = to_truth(log, events)
    assert not difference(run(Plain(FEATURES), events, truth, order), run(Engine(FEATURES), events, truth, order))


@given(rows)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_replay_equals_plain_python(log):
    events = to_events(log)
    truth = to_truth(log, events)
    table = to_table(log, events)
    got = [bits(row) for row in replay(FEATURES, table, labels=table_labels(truth))]
    assert not difference(run(Plain(FEATURES), events, truth, "known"), got)


def sample_log(seed: int, count: int) -> tuple[list[Event], list[Label | None]]:
    rng = np.random.default_rng(seed)
    steps = rng.choice([-5, -1, 0, 1, 2, 5, 20], count)
    log = [
        {
            "step": int(step),
            "card": str(rng.integers(6)),
            "shop": int(rng.integers(3)),
            "amount": float(rng.integers(500)) / 100,
            "ratio": float(rng.normal()),
            "status": "ok",
            "device": f"d{rng.integers(4)}",
            "fraud": int(rng.random() < 0.4),
            "delay": int(rng.choice([5, 10, 40])),
        }
        for step in steps
    ]
    events = to_events(log)
    return events, to_truth(log, events)


@pytest.mark.parametrize("bug", ["future", "same instant", "early label", "forgotten event", "wrong sum"])
def test_planted_bugs_are_seen(bug):
    """The comparison finds an engine that is wrong in one of the ways that matter."""
    events, truth = sample_log(3, 400)

    class Broken(Engine):
        def fetch(self, event):
            if bug == "future":
                event = Event(
                    **{**{f: getattr(event, f) for f in event.__struct_fields__}, "event_time": event.event_time + S}
                )
            if bug == "same instant":
                event = Event(
                    **{**{f: getattr(event, f) for f in event.__struct_fields__}, "event_time": event.event_time + 1}
                )
            vector = super().fetch(event)
            if bug == "wrong sum":
                place = self.names.index("total_3m")
                vector[place] = np.nextafter(vector[place], 1e9)
            return vector

        def apply(self, event):
            if bug != "forgotten event" or event.seq != 200:
                super().apply(event)

        def learn(self, label):
            early = S if bug == "early label" else 0
            super().learn(
                Label(event_id=label.event_id, tenant="t", fraud=label.fraud, observed_time=label.observed_time - early)
            )

    expected = run(Plain(FEATURES), events, truth, "at once")
    assert not difference(expected, run(Engine(FEATURES), events, truth, "at once"))
    assert difference(expected, run(Broken(FEATURES), events, truth, "at once"))


@pytest.mark.parametrize("cut", [0, 1, 137, 400])
def test_checkpoint_and_the_rest_of_the_log_give_the_same_state(tmp_path: Path, cut: int):
    events, truth = sample_log(5, 400)
    whole, first = Engine(FEATURES), Engine(FEATURES)
    for engine, upto in ((whole, len(events)), (first, cut)):
        for event, label in itertools.islice(zip(events, truth, strict=True), upto):
            engine.fetch(event)
            engine.apply(event)
            engine.learn(label)
    first.offsets["event"] = cut
    first.save(tmp_path / "state.npz")
    resumed = Engine.load(tmp_path / "state.npz", FEATURES)
    assert resumed.checksum() == first.checksum()
    assert resumed.offsets == {"event": cut}
    for event, label in zip(events[cut:], truth[cut:], strict=True):
        resumed.fetch(event)
        resumed.apply(event)
        resumed.learn(label)
    assert resumed.checksum() == whole.checksum()
    resumed.apply(events[-1])
    assert resumed.checksum() != whole.checksum()


def test_a_damaged_checkpoint_is_refused(tmp_path: Path):
    events, truth = sample_log(5, 100)
    engine = Engine(FEATURES)
    for event, label in zip(events, truth, strict=True):
        engine.apply(event)
        engine.learn(label)
    path = tmp_path / "state.npz"
    engine.save(path)
    whole = path.read_bytes()
    other = parse_features(SMALL.replace("capacity: 4", "capacity: 5"))
    with pytest.raises(DefinitionError) as wrong:
        Engine.load(path, other)
    assert wrong.value.code == "features.checkpoint.version"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["ent"][1, layout.E_LEN] += 1
    np.savez(path, **arrays)
    for content in (path.read_bytes(), whole[: len(whole) // 2], b"", whole.replace(b"version", b"versiom")):
        path.write_bytes(content)
        with pytest.raises(DataError) as refused:
            Engine.load(path, FEATURES)
        assert refused.value.code == "features.checkpoint.corrupt"


@pytest.mark.parametrize("seed", range(5))
def test_a_table_is_gone_through_entity_by_entity(seed):
    entities = np.random.default_rng(seed).integers(-1, 30, 400)
    order = np.argsort(entities, kind="stable")
    assert kernel.by_entity(entities, 30).tolist() == order[entities[order] >= 0].tolist()


def test_a_weight_is_the_whole_quotients():
    drawn = random.Random(3)
    scratch = state.new_scratch(state.compile_plan(FEATURES))
    scratch = np.concatenate([scratch, state._decay()])
    scratch[layout.X_DECAY] = len(scratch) - layout.DECAY_STEPS
    for _ in range(3_000):
        half_life = drawn.choice([1, 7, drawn.randrange(1, 1 << 46)])
        age = drawn.choice([0, drawn.randrange(40 * half_life), drawn.randrange(layout.DECAY_STEPS) * half_life // layout.DECAY_STEPS])  # fmt: skip
        steps = age * layout.DECAY_STEPS // half_life
        shift, step = divmod(steps, layout.DECAY_STEPS)
        weight = int(state._decay()[step]) >> shift if shift <= layout.DECAY_BITS else 0
        assert scans._weight(scratch, age, half_life) == weight, (age, half_life)


def event_at(seconds: float, **data) -> Event:
    return Event(
        id=f"x{seconds}", tenant="t", source="pay", event_time=START + round(seconds * S), ingest_time=0, data=data
    )


def test_late_and_ahead_events_are_counted_and_left_out():
    engine = Engine(FEATURES)
    engine.apply(event_at(100, card="a", shop=1, amount=1.0))
    engine.apply(event_at(80, card="a", shop=2, amount=1.0))
    before = engine.checksum()
    late = event_at(79, card="a", amount=1.0)
    assert math.isnan(engine.fetch(late)[FEATURES.names.index("n_3m")])
    engine.apply(late)
    assert engine.counts["late"] == 1
    far = Event(
        id="far", tenant="t", source="pay", event_time=START + 10 * 365 * DAY, ingest_time=START, data={"card": "a"}
    )
    assert math.isnan(engine.fetch(far)[FEATURES.names.index("n_3m")])
    engine.apply(far)
    assert engine.counts["ahead"] == 1
    now = event_at(101, card="a", amount=1.0)
    assert engine.fetch(now)[FEATURES.names.index("n_3m")] == 2
    assert engine.checksum() != before  # the counts are part of the state
    for absurd in (2**62, -(2**62)):
        engine.apply(Event(id="absurd", tenant="t", source="pay", event_time=absurd, ingest_time=0, data={"card": "a"}))
    assert engine.counts["ahead"] == 3


def test_labels_count_once_in_time_and_never_early():
    engine = Engine(FEATURES)
    first = event_at(0, card="a", amount=1.0)
    engine.apply(first)

    def label(event_id, seconds):
        return Label(event_id=event_id, tenant="t", fraud=True, observed_time=START + seconds * S)

    engine.learn(label("nobody", 10))
    engine.learn(label(first.id, 301))
    assert (engine.counts["label_unknown"], engine.counts["label_stale"]) == (1, 1)
    engine.learn(label(first.id, 10))
    engine.learn(label(first.id, 10))
    assert engine.counts["label_unknown"] == 2
    known = FEATURES.names.index("frauds_all")
    assert engine.fetch(event_at(9.999999, card="a"))[known] == 0
    assert engine.fetch(event_at(10, card="a"))[known] == 1
    assert engine.fetch(event_at(9.999999, card="a"))[known] == 0


def test_memory_of_an_entity_is_bounded():
    engine = Engine(FEATURES)
    for number in range(5_000):
        event = event_at(number / 100, card="a", shop=1, amount=1.0)
        event = Event(
            id=str(number), tenant="t", source="pay", event_time=event.event_time, ingest_time=0, data=event.data
        )
        engine.apply(event)
        engine.learn(Label(event_id=event.id, tenant="t", fraud=number % 3 == 0, observed_time=event.event_time))
    most = [sum(engine._plan.bytes_of(place)) for place in range(len(FEATURES.views))]
    # What an entity had before it needed more is there for others.
    assert engine.figures["entities"] == 3
    assert engine.figures["bytes"] <= 2 * sum(most)
    assert engine.figures["full"] > 4_000
    assert engine.figures["label_full"] > 4_000


def test_pools_that_grow_keep_what_they_hold(monkeypatch):
    events, truth = sample_log(7, 400)
    many = [
        Event(
            id=e.id,
            tenant="t",
            source="pay",
            event_time=e.event_time,
            ingest_time=0,
            data={**e.data, "card": str(number % 90)},
        )
        for number, e in enumerate(events)
    ]
    expected = run(Engine(FEATURES), many, truth, "at once")
    monkeypatch.setattr(state, "RESERVED", 0)
    engine = Engine(FEATURES)
    before = len(engine._state.pool), len(engine._state.lpool)
    assert run(engine, many, truth, "at once") == expected
    assert len(engine._state.pool) > before[0]
    assert len(engine._state.lpool) > before[1]


def test_every_aggregation_is_covered_here_and_shipped_features_load():
    used = {feature.aggregation for view in FEATURES.views for feature in view.features}
    assert used == set(Aggregation)
    features = load_features(shipped("card_transactions"))
    assert len(features.names) == len(set(features.names)) > 100
    assert features.version != parse_features(features.text.replace("lateness: 1h", "lateness: 2h")).version
    assert features.version == parse_features(features.text + "\n# a remark\n").version
    with pytest.raises(DefinitionError) as unknown:
        shipped("nothing")
    assert unknown.value.code == "features.source.unknown"


@pytest.mark.parametrize(
    ("old", "new", "code", "place"),
    [
        (
            "aggregation: mean, field: amount, windows: [5s, 40s]",
            "aggregation: median, field: amount",
            "features.aggregation.unknown",
            "f.yaml:",
        ),
        ("lateness: 20s", "lateness: 20", "features.window.invalid", "f.yaml:5:"),
        (
            "windows: [5s, 40s, 3m], include_current: false",
            "windows: [5s, 40s, 3m]",
            "features.include_current.missing",
            "f.yaml:",
        ),
        (
            "{name: since, aggregation: seconds_since_previous}",
            "{name: since, aggregation: seconds_since_previous, windows: [1m]}",
            "features.window.missing",
            "f.yaml:",
        ),
        (
            "field: ratio, windows: [40s], include_current: true",
            "field: ratoi, windows: [40s], include_current: true",
            "features.field.unknown",
            "f.yaml:",
        ),
        ("capacity: 4", "capacity: 0", "features.view.capacity", "f.yaml:"),
        ("capacity: 4", "capacty: 4", "features.definition.unknown_key", "f.yaml:"),
        ('status: {"=": failed}', 'status: {"<": failed}', "features.where.operator", "f.yaml:"),
        (
            "{name: hour, aggregation: hour}",
            "{name: amount, aggregation: hour}",
            "features.definition.duplicate",
            "f.yaml:",
        ),
        (
            "{name: hour, aggregation: hour}",
            "{name: hour, aggregation: last_label}",
            "features.aggregation.place",
            "f.yaml:",
        ),
        ("{name: hour, aggregation: hour}", "{name: Hour, aggregation: hour}", "features.definition.name", "f.yaml:"),
        ("event_time: at\n", "", "features.definition.missing_key", "f.yaml:"),
        ("decimals: 2", "decimals: 9", "features.field.decimals", "f.yaml:8:"),
    ],
)
def test_wrong_definitions_have_a_code_and_a_place(old, new, code, place):
    assert old in SMALL
    with pytest.raises(Problems) as wrong:
        parse_features(SMALL.replace(old, new, 1), path="f.yaml")
    found = [problem for problem in wrong.value.problems if problem.code == code]
    assert found, wrong.value
    assert found[0].place.startswith(place)


def test_all_problems_are_reported_at_once():
    with pytest.raises(Problems) as wrong:
        parse_features(SMALL.replace("lateness: 20s", "lateness: x").replace("capacity: 4", "capacity: -1"))
    assert len(wrong.value.problems) == 2


@pytest.mark.parametrize(
    "text", ["", "[]", "a: b", "source: {}\nevent_time: x\nviews: 3", "views: [1]\nsource: a\nevent_time: b"]
)
def test_other_documents_are_refused(text):
    with pytest.raises(DefinitionError):
        parse_features(text)


def write_table(path: Path, table: pa.Table) -> Path:
    import gzip

    rows = table.to_pylist()
    name = path.name
    if name.endswith(".parquet"):
        pa.parquet.write_table(table, path)
    elif ".csv" in name:
        lines = [",".join(table.column_names)]
        lines += [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
        raw = "\n".join(lines).encode()
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    else:
        raw = "\n".join(
            json.dumps({k: str(v) if k == "TX_DATETIME" else v for k, v in row.items()}) for row in rows
        ).encode()
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


def card_table(count: int = 500) -> pa.Table:
    rng = np.random.default_rng(1)
    times = START + np.cumsum(rng.integers(0, 20_000, count)) * S
    return pa.table(
        {
            "TRANSACTION_ID": np.arange(count),
            "TX_DATETIME": pa.array(times, pa.timestamp("us")),
            "CUSTOMER_ID": rng.integers(0, 20, count),
            "TERMINAL_ID": rng.integers(0, 30, count),
            "TX_AMOUNT": rng.integers(0, 30_000, count) / 100,
            "TX_FRAUD": (rng.random(count) < 0.2).astype(np.int8),
            "OTHER": np.zeros(count),
        }
    )


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.csv.gz", "t.ndjson", "t.ndjson.gz", "t.json"])
def test_every_file_form_gives_the_same_features(tmp_path: Path, name: str):
    features = load_features(shipped("card_transactions"))
    source = card_table()
    expected = read_table([write_table(tmp_path / "a.parquet", source)], features)
    table = read_table([write_table(tmp_path / name, source)], features)
    assert "OTHER" not in table.column_names
    left = replay(features, expected, labels=to_labels(expected, features, delay=7 * DAY))
    right = replay(features, table, labels=to_labels(table, features, delay=7 * DAY))
    assert left.tobytes() == right.tobytes()


def test_times_are_read_in_every_usual_form_and_bad_ones_left_out(tmp_path: Path):
    forms = [
        "2018-04-01 00:00:31",
        "2018-04-01T02:00:31+02:00",
        "2018-04-01T00:00:31Z",
        "2018-04-01 00:00:31.5",
        "soon",
        None,
    ]
    row = {"CUSTOMER_ID": 1, "TERMINAL_ID": 2, "TX_AMOUNT": 1.5}
    path = tmp_path / "t.ndjson"
    path.write_text("\n".join(json.dumps({**row, "TX_DATETIME": form}) for form in forms))
    features, told = load_features(shipped("card_transactions")), []
    table = read_table([path], features, left_out=lambda *count: told.append(count))
    assert event_times(table, features).tolist() == [START + 31 * S] * 3 + [START + 31 * S + S // 2]
    assert told == [(path, 2)]
    path.write_text(json.dumps({**row, "TX_DATETIME": 1_522_540_831}))
    assert event_times(read_table([path], features), features).tolist() == [START + 31 * S]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("t.parquet", b"PAR1 no", "features.table.unreadable"),
        ("t.csv", b"A,B\n1,2\n", "features.table.column"),
        ("t.ndjson", b'{"A": 1}\n{"A": ', "features.table.unreadable"),
        ("t.ndjson.gz", b"\x1f\x8b\x08 broken", "features.table.unreadable"),
        ("t.csv", b"", "features.table.unreadable"),
    ],
)
def test_unreadable_tables_have_a_code(tmp_path: Path, name: str, content: bytes, code: str):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        read_table([path], load_features(shipped("card_transactions")))
    assert refused.value.code == code
    with pytest.raises(DataError):
        read_table([tmp_path / "missing.csv"], load_features(shipped("card_transactions")))


def parity(shared: Path, start: int, stop: int, share: float) -> int:
    """Feeds rows [start, stop) to the engine one event at a time and counts sampled rows that differ from the replay."""
    features = load_features(shipped("card_transactions"))
    table = read_table([shared / "fraud/card_transactions.parquet"], features).slice(start, stop - start)
    times, labels = event_times(table, features), to_labels(table, features, delay=7 * DAY)
    checked = np.random.default_rng(11).random(len(table)) < share
    engine, wrong, chunk = Engine(features), 0, 50_000
    parts = replay_parts(features, table, labels=labels, wanted=checked, chunk=chunk)
    for first, part in zip(range(0, len(table), chunk), parts, strict=True):
        offline = iter(part)
        for number, data in enumerate(table.slice(first, chunk).to_pylist(), first):
            event = Event(
                id=str(data["TRANSACTION_ID"]),
                tenant="t",
                source="card_transactions",
                event_time=int(times[number]),
                ingest_time=0,
                seq=number + 1,
                data=data,
            )
            if checked[number]:
                wrong += engine.fetch(event).tobytes() != next(offline).tobytes()
            engine.apply(event)
            engine.learn(to_label(event, features.label, delay=7 * DAY))
        assert next(offline, None) is None
    return wrong


def test_online_equals_offline_on_a_sample_of_real_rows(shared_data: Path):
    assert parity(shared_data, 300_000, 420_000, 0.2) == 0


@pytest.mark.soak
def test_online_equals_offline_on_every_real_row(shared_data: Path):
    assert parity(shared_data, 0, 1_466_282, 1.0) == 0


WHEN = """
source: product
when: {type: charge}
event_id: id
event_time: time
views:
  - view: customer
    entity: customer
    key: customer
    capacity: 8
    features: [{name: count, aggregation: count, windows: [1d], include_current: false}]
"""


def test_features_are_about_the_events_they_name(tmp_path):
    features = parse_features(WHEN)
    assert features.version != parse_features(WHEN.replace("when: {type: charge}\n", "")).version
    charge = Event(id="e", tenant="t", source="product", event_time=0, ingest_time=0, data={"type": "charge"})
    assert features.covers(charge)
    for other in ({"data": {"type": "refund"}}, {"data": {}}, {"source": "syslog"}):
        assert not features.covers(msgspec.structs.replace(charge, **other))
    file = tmp_path / "history.ndjson"
    lines = [{"id": str(n), "type": kind, "time": n, "customer": "c"} for n, kind in enumerate(["charge", "refund"])]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    assert read_table([file], features)["id"].to_pylist() == ["0"]
    for line in lines:
        del line["type"]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    assert len(read_table([file], features)) == 2, "a history of charges alone need not say so"
    with pytest.raises(Problems, match="must map fields to texts"):
        parse_features(WHEN.replace("{type: charge}", "[charge]"))
