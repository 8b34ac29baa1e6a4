"""What verdicts advise: the bounds decide, not the share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vedette.act.grouping import Verdict
from vedette.act.load import Minutes
from vedette.act.scores import Score
from vedette.act.worth import GOOD, POOR, Advice, advise, interval, weigh


@given(st.integers(0, 400), st.integers(0, 400))
def test_bounds_hold_the_share_and_narrow(right: int, wrong: int) -> None:
    judged = right + wrong
    low, high = interval(right, judged)
    assert 0 <= low <= high <= 1
    if judged:
        assert low - 1e-9 <= right / judged <= high + 1e-9
        narrow = interval(right * 10, judged * 10)
        assert narrow[1] - narrow[0] <= high - low + 1e-9
    advice = advise(right, judged)
    assert (advice is Advice.KEEP) == (low >= GOOD)
    assert (advice is Advice.RETIRE) == (low < GOOD and high < POOR)


def test_few_verdicts_advise_nothing_and_many_do() -> None:
    assert advise(0, 0) is Advice.WAIT
    assert advise(0, 1) is advise(1, 1) is Advice.WAIT
    assert advise(0, 25) is Advice.RETIRE
    assert advise(0, 24) is Advice.TUNE
    assert advise(8, 10) is Advice.KEEP
    assert advise(5, 10) is Advice.WAIT
    assert advise(20, 100) is Advice.TUNE


def test_rules_to_act_on_come_first_and_the_dearest_of_them() -> None:
    def score(right: int, wrong: int, benign: int = 0, alerts: int = 0) -> Score:
        verdicts = {Verdict.TRUE_POSITIVE: right, Verdict.FALSE_POSITIVE: wrong, Verdict.BENIGN: benign}
        return Score(alerts=alerts or right + wrong + benign, verdicts=verdicts)

    scores = {"good": score(30, 2), "noise": score(0, 40), "allowed": score(0, 0, 60), "new": score(1, 0)}
    rows = weigh(scores, Minutes(usual=10, by_rule={"noise": 3}), titles={"silent": "Never fired"}, shadows={"new": 7})
    assert [(row.rule_id, row.advice) for row in rows] == [
        ("allowed", Advice.RETIRE),
        ("noise", Advice.RETIRE),
        ("good", Advice.KEEP),
        ("new", Advice.WAIT),
        ("silent", Advice.WAIT),
    ]
    assert [row.minutes for row in rows] == [600, 120, 320, 10, 0]
    assert (rows[3].shadow, rows[4].title, rows[4].precision) == (7, "Never fired", None)
