"""A model in a process of its own: the same answers; killed, hung or talking nonsense it costs its share and is replaced."""

from __future__ import annotations

import os
import signal
import sys
import time

import lightgbm
import numpy as np
import pytest
from tests.judge.decisions.parts import CountingFeatures, some_rules, transaction

from vedette.core.clock import SystemClock
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.parts import PartStalled
from vedette.judge.decisions.remote import RemoteScorer
from vedette.judge.models import learners
from vedette.judge.models.calibration import Calibration
from vedette.judge.models.model import load_model, store_model
from vedette.judge.models.trees import flatten
from vedette.sense.features.definition import parse_features

NAMES = ("customer_count", "customer_amount_sum", "seconds_since_previous", "known_frauds")
FEATURES = parse_features(
    "source: pay\nevent_time: at\nfields: {a: {path: a}}\nviews:\n  - view: event\n    features:\n"
    + "".join(f"      - {{name: {name}, aggregation: value, field: a}}\n" for name in NAMES)
)
SHARE_S = 3.0
"""What a hung child costs once; roomy, since a busy machine is not what is looked at here."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(800, 4))
    booster = lightgbm.train(learners.PARAMETERS, lightgbm.Dataset(x, label=(x[:, 0] > 0.5).astype(int)), 5)
    learners.round_leaves(booster)
    place = tmp_path_factory.mktemp("remote") / "model"
    store_model(
        place, trees=flatten(booster.dump_model()), calibration=Calibration(), features=FEATURES, label_delay=0, card={}
    )
    return place


@pytest.fixture
def remote(folder):
    scorer = RemoteScorer(folder, SHARE_S)
    scorer.warm()
    yield scorer
    scorer.close()


def answers(scorer, vector, seconds=240.0):
    """The score, as soon as there is one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            return scorer.score(vector)
        except PartStalled:
            time.sleep(0.05)
    raise AssertionError("it was not replaced")


def test_the_same_answers(remote, folder):
    model = load_model(folder)
    assert (remote.id, remote.sha256, remote.features) == (model.id, model.sha256, model.features)
    for vector in np.random.default_rng(2).normal(size=(20, 4)):
        vector[0] = np.nan if vector[1] > 1 else vector[0]
        assert answers(remote, vector) == model.score(vector)
        assert remote.contributions(vector).tolist() == model.contributions(vector).tolist()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_one_that_dies_or_hangs_is_answered_for_and_replaced(remote, folder, fault):
    clock = SystemClock()
    decider = Decider(features=CountingFeatures(), model=remote, rules=some_rules(), clock=clock)
    answers(remote, np.zeros(4))
    os.kill(remote._child.pid, fault)
    told = decider.decide(transaction(1))
    assert (told.fallback, told.score, told.action.value) == ("fallback.model", None, "allow")
    started = time.monotonic()
    assert decider.decide(transaction(2)).fallback == "fallback.model"
    assert time.monotonic() - started < SHARE_S
    assert answers(remote, np.zeros(4)) == load_model(folder).score(np.zeros(4))
    assert sum(remote.failures.values()) >= 1


@pytest.mark.parametrize("said", ["b'ready\\n' + bytes(8) * 0", "b'ready\\n' + b'\\xff' * 80", "b'no\\n'"])
def test_one_that_talks_nonsense(folder, said):
    code = f"import os, sys, time; os.write(1, {said}); time.sleep(2)"
    scorer = RemoteScorer(folder, SHARE_S, command=(sys.executable, "-c", code))
    end = time.monotonic() + 240
    while scorer._child is None and "no" not in said and time.monotonic() < end:
        time.sleep(0.02)
    with pytest.raises(PartStalled):
        scorer.score(np.zeros(4))
    scorer.close()
