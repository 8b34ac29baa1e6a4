"""A backtest says what the rules then do: on the same payments, to the payment and to the cent."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import FakeClock
from tests.judge.decisions.parts import CountingFeatures, FormulaModel, some_rules, transactions

from vedette.core.decision import Action
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import SqliteLog
from vedette.judge.backtest.changes import Change
from vedette.judge.backtest.estimate import MIN_FRAUDS, Curve, estimate, learn_curve
from vedette.judge.backtest.outcomes import Group, Outcomes, Past
from vedette.judge.backtest.payments import Judged, Report, backtest, live
from vedette.judge.backtest.tally import Sum, said_by
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.recorder import Recorder
from vedette.judge.decisions.seen import Seen
from vedette.judge.decisions.service import DecisionService
from vedette.judge.payment.rules import PaymentRules
from vedette.run.payments.past import fetch_past

NEW = {
    "large": "block if :amount_in_usd: > 250",
    "scored": "block if :risk_score: >= 30",
    "lately": "challenge if :seconds_since_previous: < 600",
    "known": "review if :known_frauds: >= 1 and not :risk_level: = 'highest'",
}


def replay(folder: Path, rules: PaymentRules, events: list[Event], labels: list[Label]) -> list[Past]:
    """Sends payments through the real service, each label after the payment it is about; gives what the log tells."""
    clock = FakeClock(1_600_000_000_000_000)
    log = SqliteLog(folder / "log", clock)
    decider = Decider(features=CountingFeatures(), model=FormulaModel(), rules=rules, clock=clock)
    recorder = Recorder(log, decider, Seen(folder / "seen.db"), clock=clock)

    async def send() -> None:
        service = DecisionService(recorder, deadline_s=60)
        told = {label.event_id: label for label in labels}
        for event in events:
            answer = await service.decide(event)
            assert answer.fallback is None
            if event.id in told:
                await service.learn(told[event.id])
        await service.close()

    asyncio.run(send())
    past = list(fetch_past(log, "default"))
    log.close()
    return past


@pytest.fixture(scope="module")
def traffic() -> tuple[list[Event], list[Label]]:
    rng = random.Random(5)
    events = transactions(260, seed=5)
    labels = [
        Label(event_id=event.id, tenant="default", fraud=rng.random() < 0.4, observed_time=event.event_time, kind=kind)
        for event in events
        if rng.random() < 0.4
        for kind in [rng.choice(["dispute", "refund", "verdict"])]
    ]
    return events, labels


@pytest.fixture(scope="module")
def before(traffic, tmp_path_factory) -> list[Past]:
    return replay(tmp_path_factory.mktemp("before"), some_rules(), *traffic)


@pytest.fixture(scope="module")
def after(traffic, tmp_path_factory) -> list[Past]:
    return replay(tmp_path_factory.mktemp("after"), some_rules(**NEW), *traffic)


def test_it_equals_the_later_live_counts(before, after) -> None:
    said = backtest(some_rules(**NEW), before)
    became = {past.record.event_id: past for past in before}
    same = [Past(past.record, became[past.record.event_id].group, past.fraud) for past in after]
    assert said.now == live(same).now
    assert len(said.now.rules) == 8
    assert sum(held.decided.all.payments > 0 for held in said.now.rules.values()) >= 5
    # By the outcomes of their own log too, but for the groups that the answer itself makes.
    own = live(after).now
    for name, held in said.now.rules.items():
        for part in ("fired", "decided", "overrides"):
            mine, real = getattr(held, part), getattr(own.rules[name], part)
            assert (mine.all, mine.disputed, mine.refunded) == (real.all, real.disputed, real.refunded), name
    assert {name: held.all for name, held in said.now.actions.items()} == {
        name: held.all for name, held in own.actions.items()
    }


def test_a_rule_that_is_a_little_different_is_seen(before, after) -> None:
    """The comparison above is no formality: one payment less and it fails."""
    least = min(amount for past in before if (amount := past.record.event["TX_AMOUNT"]) > 250)
    other = some_rules(**NEW | {"large": f"block if :amount_in_usd: > {least}"})
    assert backtest(other, before).now.rules["large"] != live(after).now.rules["large"]


def test_without_a_change_nothing_moves(before) -> None:
    said = backtest(some_rules(), before)
    assert said.now == said.before == live(before).now
    assert said.moves == ()
    assert all(rule.change is Change.SAME for rule in said.rules)


def test_moves_are_the_difference(before) -> None:
    new = some_rules(**NEW)
    said = backtest(new, before)
    judged = Judged(new)
    moved = Counter(
        (past.record.action, action)
        for past in before
        if (action := judged.say(past.record).action) is not past.record.action
    )
    assert {(move.before, move.after): move.counted.all.payments for move in said.moves} == moved
    assert [move.counted.all.payments for move in said.moves] == sorted(moved.values(), reverse=True)
    for move in said.moves:
        assert 0 < len(move.examples) <= 5
        assert all(example.rules and example.amount_minor for example in move.examples)


def test_beside_another_version(before) -> None:
    changed = backtest(some_rules(**NEW), before, old=some_rules(scored="block if :risk_score: >= 90"))
    assert {rule.id: rule.change.value for rule in changed.rules} == {
        "large": "changed",
        "trusted": "same",
        "busy": "same",
        "terminal": "same",
        "scored": "changed",
        "lately": "added",
        "known": "added",
        "builtin.highest_risk": "same",
    }
    gone = backtest(some_rules(), before, old=some_rules(**NEW))
    assert {rule.id for rule in gone.rules if rule.change is Change.REMOVED} == {"scored", "lately", "known"}
    assert changed.now == gone.before


def test_groups_and_money(before) -> None:
    said = live(before).now
    for action, held in said.actions.items():
        mine = [past for past in before if past.record.action == action]
        assert held.all.payments == len(mine)
        cents = sum(round(past.record.event["TX_AMOUNT"] * 100) for past in mine)
        assert held.all.amounts == ({"USD": cents} if mine else {})
        for group in Group:
            assert getattr(held, group).payments == sum(past.group is group for past in mine)


def test_overrides_of_an_allow_rule(before) -> None:
    trusted = live(before).now.rules["trusted"]
    wanted = [
        past
        for past in before
        if past.record.action is Action.ALLOW and {action for _, action in said_by(past.record).fired} > {Action.ALLOW}
    ]
    assert trusted.overrides.all.payments == len(wanted) > 0


def test_what_became_of_a_payment(before) -> None:
    record = next(past.record for past in before if past.record.action is Action.ALLOW)
    stopped = next(past.record for past in before if past.record.action is Action.BLOCK)
    outcomes = Outcomes()
    assert outcomes.of(record) == Past(record, Group.SUCCEEDED, None)
    assert outcomes.of(stopped).group is Group.BLOCKED
    label = {"event_id": record.event_id, "tenant": "default"}
    outcomes.learn(Label(**label, fraud=False, observed_time=5, kind="refund"))
    assert outcomes.of(record) == Past(record, Group.REFUNDED, False)
    outcomes.learn(Label(**label, fraud=True, observed_time=9))
    assert outcomes.of(record) == Past(record, Group.DISPUTED, True)
    outcomes.learn(Label(**label, fraud=False, observed_time=7))
    assert outcomes.of(record).fraud is True


def test_names_that_no_payment_had_are_told(before) -> None:
    new = some_rules(odd="block if :ip_country: = 'US'")
    assert [(note.rule_id, note.message) for note in backtest(new, before).notes] == [
        ("odd", "nothing provides `:ip_country:`, so it is always missing")
    ]


# Estimates


def test_the_curve_is_learned_where_enough_is_known() -> None:
    rng = np.random.default_rng(3)
    scores = rng.random(4_000)
    frauds = rng.random(4_000) < scores**2
    curve = learn_curve(scores.tolist(), frauds.tolist())
    asked = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    assert np.abs(curve.at(asked) - asked**2).max() < 0.08
    assert (np.diff(curve.at(np.linspace(0, 1, 50))) >= 0).all()
    few = learn_curve(scores[: MIN_FRAUDS - 1].tolist(), [True] * (MIN_FRAUDS - 1))
    assert few.scores == ()
    assert few.at(asked).tolist() == asked.tolist()


def test_estimates_cover_the_truth() -> None:
    """Over many draws the interval holds the real number of honest payers about as often as it says."""
    rng = np.random.default_rng(11)
    hit = 0
    for _ in range(300):
        scores = rng.random(200) ** 3
        genuine = int((rng.random(200) >= scores).sum())
        found = estimate(Curve(), scores.tolist(), [(1_00, "EUR")] * 200, genuine=1_000)
        hit += found.genuine_low <= genuine <= found.genuine_high
        assert found.prevented["EUR"] + found.lost["EUR"] in range(19_999, 20_002)
        assert math.isclose(found.false_positive_rate, found.genuine / 1_000, abs_tol=1e-5)
    assert 0.90 <= hit / 300 <= 0.99


def test_nothing_is_estimated_without_scores() -> None:
    assert estimate(Curve(), [], [], genuine=0) is None
    report: Report = backtest(some_rules(), [])
    assert (report.payments, report.first, report.stopped, report.moves) == (0, "", None, ())
    assert report.now.actions["block"].all == Sum()
