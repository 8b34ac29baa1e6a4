"""The history and the requests of the day give the same features, to the bit; attackers answer to answers."""

from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

from vedette.core.clock import DAY
from vedette.core.content import shipped
from vedette.demo.world import Answer, Outcome, World
from vedette.demo.world.attackers.card_tester import CardTester
from vedette.demo.world.attackers.stolen_key import TRIED_AFTER, StolenKey
from vedette.demo.world.charges import Draft, to_draft, to_request
from vedette.demo.world.mint import generator
from vedette.demo.world.stage import make_stage
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.files import load_rules
from vedette.move.events import to_charge
from vedette.move.requests import parse_charge
from vedette.sense.features.definition import load_features
from vedette.sense.features.engine import Engine
from vedette.sense.features.replay import replay
from vedette.sense.features.table import read_table, to_labels

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
FEATURES = load_features(shipped("features") / "charges.yaml")


def test_history_and_requests_give_the_same_features(tmp_path):
    world = World(4, MIDNIGHT, 0.02)
    rows = slice(0, 1_500)
    pq.write_table(world.history().slice(0, 1_500), tmp_path / "history.parquet")
    table = read_table([tmp_path / "history.parquet"], FEATURES)
    offline = replay(FEATURES, table, labels=to_labels(table.slice(0, 0), FEATURES, delay=7 * DAY))
    past = world._history
    engine = Engine(FEATURES)
    drafts = to_draft(past.charges.take(rows), world._stage.texts, http=np.zeros(1_500, bool))
    for place, draft in enumerate(drafts):
        wanted = parse_charge("k", to_request(draft, world._stage.merchants))
        time = world._day + draft.time
        event = to_charge(past.ids[place], wanted, tenant="t", charge="ch_1", time=time, asked_by="", ingest_time=time)
        assert engine.fetch(event).tobytes() == offline[place].tobytes()
        engine.apply(event)
    assert np.isfinite(offline).any(axis=0).sum() > 40


def test_the_rules_of_charges_read_what_there_is():
    rules = load_rules(shipped("rules/payment") / "charges.yaml", attributes=with_features(FEATURES.names))
    assert len(rules.rules) > 10


@pytest.fixture(scope="module")
def stage():
    return make_stage(5, 0.02)


def acted(player, answer, moves=400):
    """Payments until it ends, each answered."""
    sent = []
    for _ in range(moves):
        if player.done:
            break
        for deed in list(player.move(player.next)):
            if isinstance(deed, Draft):
                sent.append(deed)
                player.observe(deed, f"pay_{len(sent)}", Outcome(answer))
    return sent


def acting(stage, number=1, kind=CardTester):
    return kind(stage, generator(5, "test", str(number)), 0.5, f"test {number}")


def test_card_testers_who_are_declined_slow_down_change_and_give_up(stage):
    for number in range(5):
        free, stopped = acted(acting(stage, number), Answer.CAPTURED), acted(acting(stage, number), Answer.BLOCKED)
        assert len(stopped) < len(free)
        assert len({draft.device for draft in stopped}) > 1
        assert np.diff([draft.time for draft in stopped]).mean() > 0


def test_a_tester_who_is_declined_waits_longer(stage):
    player = acting(stage, 3)
    before = player.gap
    for _ in range(3):
        (draft,) = player.move(player.next)
        player.observe(draft, "pay_1", Outcome(Answer.BLOCKED))
    assert player.gap > before


def test_a_thief_of_a_key_stops_when_the_key_is_ended(stage):
    player = acting(stage, 2, StolenKey)
    sent = acted(player, Answer.UNAUTHORIZED)
    assert len(sent) == TRIED_AFTER
    assert all(draft.http and draft.key == player.key for draft in sent)


def test_a_thief_of_a_key_names_the_key_as_the_platform_does(stage):
    name = acting(stage, 2, StolenKey).key
    stage.key_ids[name] = "key_42"
    player = acting(stage, 2, StolenKey)
    lines = [deed for _ in range(8) for deed in player.move(player.next) if not isinstance(deed, Draft)]
    assert lines[3].record["requestParameters"] == {"secretId": "key_42"}
    assert lines[4].record["key"] == "key_42"
    assert "key:key_42" in player.entities


def test_there_are_twelve_to_twenty_attacks_of_seven_kinds(tmp_path):
    from vedette.demo.truth import read_truth

    for seed in (1, 2):
        world = World(seed, MIDNIGHT, 0.02)
        for step in world.steps():
            world.observe({payment.id: Outcome(Answer.CAPTURED) for payment in step.payments})
        world.write_truth(tmp_path / "truth.ndjson")
        truth = read_truth(tmp_path / "truth.ndjson")
        assert 12 <= len(truth.attacks) <= 20
        assert len({attack.kind for attack in truth.attacks}) == 7
        assert len({one.kind for one in truth.benign}) == 6
        assert all(attack.entities and attack.start <= attack.end for attack in truth.attacks)
        assert truth.bad_payments.isdisjoint({""})
        assert len(truth.good.customers) > 500
