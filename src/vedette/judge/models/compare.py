"""Two models on the same rows: the difference of what they catch, and of the money, with its interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from vedette.core.errors import DataError
from vedette.judge.models.costs import Costs, best
from vedette.judge.models.history import Floats, Report, silent
from vedette.judge.models.metrics import ROUNDS, Ranking, bootstrap
from vedette.judge.models.model import Model
from vedette.judge.models.training import score_test


def compare(
    champion: Model,
    challenger: Model,
    table: pa.Table,
    *,
    start: int,
    days: int,
    costs: Costs,
    rounds: int = ROUNDS,
    report: Report = silent,
) -> dict[str, Any]:
    """What the challenger changes; differences are its own less the champion's.

    Each is used with the threshold that saves most on the first half of the days; money and people are counted on the
    second half, which neither threshold has seen.

    Raises:
        DataError: `model.compare.delay` when they were trained for other label delays: their rows would differ.
    """
    if champion.label_delay != challenger.label_delay:
        raise DataError("model.compare.delay", "the models were trained for other label delays")
    one = score_test(champion, table, start=start, days=days, report=report)
    other = score_test(challenger, table, start=start, days=days, report=report)
    history, rows, fraud = one.history, one.rows, one.fraud
    clusters, saved = history.customers[rows], costs.saved(history.amounts[rows], fraud)
    early = history.days[rows] < start + (days + 1) // 2
    first, second = Ranking(one.scores, fraud), Ranking(other.scores, fraud)
    stops = [_stops(found.scores, fraud, saved, early) for found in (one, other)]
    late = ~early

    def gain(times: Floats | None) -> float:
        return float(((stops[1] - stops[0]) * saved * late * (1 if times is None else times)).sum())

    def lift(times: Floats | None) -> float:
        return second.curve(times).average_precision - first.curve(times).average_precision

    intervals = bootstrap({"ap": lift, "saved_minor": gain}, clusters, rounds=rounds)
    genuine = late & (fraud == 0)
    return {
        "champion": {"id": champion.id, "ap": first.curve().average_precision},
        "challenger": {"id": challenger.id, "ap": second.curve().average_precision},
        "ap": _with(lift(None), intervals["ap"]),
        "saved_minor": _with(gain(None), intervals["saved_minor"]),
        "good_users_hurt": int(((stops[1] - stops[0]) * genuine).sum()),
        "frauds_stopped": int(((stops[1] - stops[0]) * (late & (fraud == 1))).sum()),
        "rows": len(fraud),
        "counted_rows": int(late.sum()),
    }


def _stops(scores: Floats, fraud: Any, saved: Floats, early: Any) -> Floats:
    threshold, _ = best(Ranking(scores[early], fraud[early]), saved[early])
    return (scores >= threshold).astype(np.float64)


def _with(value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {"value": value, "low": interval[0], "high": interval[1]}
