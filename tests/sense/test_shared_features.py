"""Features in Redis against the engine of one process: the same bits, once each, whoever dies."""

from __future__ import annotations

import numpy as np
import pytest
import test_features as base
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vedette.core.redis import Redis
from vedette.sense.features import shared
from vedette.sense.features.engine import Engine
from vedette.sense.features.shared import SharedEngine


@pytest.fixture
def client(redis_url):
    return Redis(redis_url, timeout_s=5)


@given(base.rows, st.sampled_from(["known", "late", "at once"]), st.sampled_from([0, 2, 64]))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_redis_equals_one_process(client, log, order, waste):
    before, shared.WASTE = shared.WASTE, waste
    events = base.to_events(log)
    truth = base.to_truth(log, events)
    one, other = Engine(base.FEATURES), SharedEngine(base.FEATURES, client)
    other.clear()
    expected, got = base.run(one, events, truth, order), base.run(other, events, truth, order)
    shared.WASTE = before
    assert not base.difference(expected, got)
    assert other.checksum() == one.entity_checksum()


def test_two_processes_take_turns_and_an_event_counts_once(client):
    events, truth = base.sample_log(9, 400)
    one = Engine(base.FEATURES)
    two = [SharedEngine(base.FEATURES, client, writer=str(n)) for n in range(2)]
    for number, (event, label) in enumerate(zip(events, truth, strict=True)):
        turn = two[number % 2]
        assert base.bits(one.fetch(event)) == base.bits(turn.fetch(event))
        one.apply(event)
        turn.apply(event)
        turn.apply(event)
        if label:
            one.learn(label)
            two[(number + 1) % 2].learn(label)
            turn.learn(label)
    assert two[0].checksum() == one.entity_checksum()
    assert two[0].offsets == {"event": 399}
    assert two[1].offsets == {"event": 400}
    counts = one.counts
    assert {**two[0].counts, "label_unknown": 0, "label_late": 0} == {**counts, "label_unknown": 0, "label_late": 0}


def test_what_is_past_is_summed_up(client):
    features = base.FEATURES
    one, other = Engine(features), SharedEngine(features, client)
    rng = np.random.default_rng(1)
    most = 0
    for number in range(3_000):
        event = base.event_at(number / 4, card="a", shop=1, amount=float(rng.integers(100)), ratio=1.5, status="ok")
        assert base.bits(one.fetch(event)) == base.bits(other.fetch(event))
        one.apply(event)
        other.apply(event)
        label = base.Label(event_id=event.id, tenant="t", fraud=number % 3 == 0, observed_time=event.event_time)
        one.learn(label)
        other.learn(label)
        most = max(most, *(client.client.strlen(key) for key in client.client.scan_iter(match=b"*:e*")))
    assert other.checksum() == one.entity_checksum()
    assert most < 8 * 20 * (16 + 70), "an entity of capacity 16 keeps few rows more"


def test_a_backfilled_engine_fills_redis(client):
    events, truth = base.sample_log(5, 300)
    one = Engine(base.FEATURES)
    for event, label in zip(events[:200], truth[:200], strict=True):
        one.apply(event)
        if label:
            one.learn(label)
    other = SharedEngine(base.FEATURES, client)
    other.fill(one)
    assert other.checksum() == one.entity_checksum()
    for event, label in zip(events[200:], truth[200:], strict=True):
        assert base.bits(one.fetch(event)) == base.bits(other.fetch(event))
        one.apply(event)
        other.apply(event)
        if label:
            one.learn(label)
            other.learn(label)
    assert other.checksum() == one.entity_checksum()
