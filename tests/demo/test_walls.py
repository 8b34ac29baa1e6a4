"""The truth is walled off: in the code, in what the world hands out, and in ids, order and times."""

from __future__ import annotations

import ast
import zlib
from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from vedette.core.clock import DAY, from_datetime
from vedette.demo.truth import read_truth
from vedette.demo.world import Answer, Outcome, World, nouns

SOURCE = Path(nouns.__file__).parents[2]
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
SEEDS, SCALE = (31, 32, 33, 34, 35, 36), 0.25


# Code


def imported(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def breaches(tree):
    """Who reads the truth and may not, and who outside the demo knows the world."""
    found = []
    for path, source in tree.items():
        for name in imported(source):
            inside = path.startswith("demo/world/")
            if f"{name}.".startswith("vedette.demo.truth.") and path != "demo/score.py":
                found.append(f"{path} reads the truth")
            if f"{name}.".startswith("vedette.demo.world.record.") and not (inside or path == "demo/truth.py"):
                found.append(f"{path} reads the record")
            if f"{name}.".startswith("vedette.demo.world.") and not path.startswith(("demo/", "cli/")):
                found.append(f"{path} knows the world")
            private = name.startswith("vedette.demo.world.") and name.split(".")[3] not in {
                *nouns.__dict__,
                "World",
                "nouns",
            }
            if private and not inside and path != "demo/truth.py":
                found.append(f"{path} looks behind the stage")
    return found


def test_only_the_score_board_reads_the_truth():
    tree = {str(file.relative_to(SOURCE)): file.read_text() for file in SOURCE.rglob("*.py")}
    assert breaches(tree) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("demo/day.py", "from vedette.demo.truth import read_truth"),
        ("judge/rules.py", "import vedette.demo.truth"),
        ("demo/staff.py", "from vedette.demo.world.record import Attack"),
        ("run/platform.py", "from vedette.demo.world import World"),
        ("demo/day.py", "from vedette.demo.world.attackers.card_tester import CardTester"),
    ],
)
def test_a_planted_reader_is_found(path, line):
    assert breaches({path: line}) != []


def test_what_is_handed_out_names_no_attack():
    for one in (nouns.Step, nouns.Payment, nouns.Refund, nouns.Payout, nouns.Dispute):
        assert not {"kind", "attack", "fraud", "bad", "label", "player"} & set(one._fields)
    public = {name for name in dir(World) if not name.startswith("_")}
    assert public == {"history", "merchants", "people", "keys", "bind", "steps", "observe", "write_truth"}


# Ids, order, times


def looks(ids, times):
    """All that ids, order and times say: numbers in ids, their bytes and lengths, place, clock, gaps."""
    times = np.asarray(times, np.int64)
    tails = np.frombuffer("".join(one[-12:] for one in ids).encode(), np.uint8).reshape(len(ids), 12)
    digits = (tails >= ord("0")) & (tails <= ord("9"))
    number = np.where(digits, tails - ord("0"), 0) @ (10.0 ** np.arange(12))
    clock = [times % DAY, times // 1_000_000 % 60, times % 1_000_000, times % 1_000, times // 60_000_000 % 60]
    gaps = [np.diff(times, prepend=times[0]), np.diff(times, append=times[-1])]
    lengths = np.array([len(one) for one in ids])
    hashes = np.array([zlib.crc32(one.encode()) for one in ids])
    return np.column_stack([np.arange(len(times)), times, *clock, *gaps, tails, number, lengths, hashes]).astype(float)


def learned(looks, truth):
    options = {
        "objective": "binary",
        "num_leaves": 15,
        "min_child_samples": 40,
        "verbosity": -1,
        "num_threads": 1,
        "seed": 1,
    }
    return lightgbm.train(options, lightgbm.Dataset(looks, label=truth), num_boost_round=40)


def told(truth, scores):
    """(AUC, average precision over base rate)."""
    return roc_auc_score(truth, scores), average_precision_score(truth, scores) / truth.mean()


def played(seed):
    world = World(seed, MIDNIGHT, SCALE)
    payments = []
    for step in world.steps():
        payments += step.payments
        world.observe({payment.id: Outcome(Answer.CAPTURED) for payment in step.payments})
    return world, payments


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    found = []
    for seed in SEEDS:
        world, payments = played(seed)
        path = tmp_path_factory.mktemp("truth") / "truth.ndjson"
        world.write_truth(path)
        bad = read_truth(path).bad_payments
        times = [payment.time - from_datetime(MIDNIGHT) for payment in payments]
        found.append(([p.id for p in payments], times, np.array([payment.id in bad for payment in payments])))
    return found


def across(days):
    """For each day: what a model of all the others says of it."""
    tables = [(looks(ids, times), bad) for ids, times, bad in days]
    for place, (table, bad) in enumerate(tables):
        others = [one for number, one in enumerate(tables) if number != place]
        model = learned(np.concatenate([one for one, _ in others]), np.concatenate([one for _, one in others]))
        yield told(bad, model.predict(table))


def test_ids_order_and_times_of_the_day_tell_nothing(days):
    auc, precision = np.mean(list(across(days)), axis=0)
    assert 0.4 < auc < 0.55
    assert precision < 1.35


def test_a_planted_leak_of_the_day_is_found(days):
    leaky = [
        ([f"{one[:-1]}z" if bad else one for one, bad in zip(ids, bads, strict=True)], t, bads)
        for ids, t, bads in days[:3]
    ]
    assert np.mean([auc for auc, _ in across(leaky)]) > 0.9


def test_frauds_that_keep_other_hours_are_found(days):
    late = [(ids, np.where(bad, np.asarray(t) % (DAY // 4), t), bad) for ids, t, bad in days[:3]]
    assert np.mean([auc for auc, _ in across(late)]) > 0.7


@pytest.fixture(scope="module")
def history():
    table = World(SEEDS[0], MIDNIGHT, 0.5).history()
    known = table.filter(table["fraud"].is_valid())
    times = known["time"].cast("int64").to_numpy() - from_datetime(MIDNIGHT)
    return known["id"].to_pylist(), times, known["fraud"].to_numpy().astype(int)


def later(ids, times, fraud):
    """What a model of the first half says of the second."""
    table, half = looks(ids, times), len(ids) // 2
    return told(fraud[half:], learned(table[:half], fraud[:half]).predict(table[half:]))


def test_ids_order_and_times_of_the_history_tell_nothing(history):
    auc, precision = later(*history)
    assert 0.45 < auc < 0.55
    assert precision < 1.3


def test_a_planted_leak_of_the_history_is_found(history):
    ids, times, fraud = history
    assert later(ids, times + np.where(fraud == 1, 1 - times % 1_000, 0), fraud)[0] > 0.9


def test_entities_of_attackers_look_like_everybodys():
    """Names of cards, customers and devices that only frauds used, against names that only good payments used."""
    table = World(SEEDS[1], MIDNIGHT, 0.5).history()
    fraud = table["fraud"].to_pylist()
    for column, prefix in (("source", "tok_"), ("customer", "cus_"), ("device", "dev_")):
        names = table[column].to_pylist()
        bad = {name for name, label in zip(names, fraud, strict=True) if label == 1 and name}
        good = sorted({name for name in names if name} - bad)
        ids = [*sorted(bad), *good]
        assert all(name.startswith(prefix) and len(name) == len(prefix) + 12 for name in ids)
        mixed = np.random.default_rng(1).permutation(len(ids))
        truth = np.array([1] * len(bad) + [0] * len(good))[mixed]
        data = looks([ids[place] for place in mixed], np.zeros(len(ids)))
        half = len(ids) // 2
        auc, _ = told(truth[half:], learned(data[:half], truth[:half]).predict(data[half:]))
        assert 0.42 < auc < 0.58
