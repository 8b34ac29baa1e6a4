"""A decision explained and defended: made again bit for bit, its contributions, and what would have changed it."""

from __future__ import annotations

import time

import msgspec

from vedette.core.decision import Decision, Reason
from vedette.core.errors import VedetteError
from vedette.judge.decisions.rebuild import decider_of, event_of, rebuild
from vedette.judge.explain import DecisionExplanation, explain_decision
from vedette.judge.reasons import load_words, plain
from vedette.judge.whatif import Search, find_whatif
from vedette.run.scoring import Scoring


class Account(msgspec.Struct, frozen=True):
    """Everything about one decision, for whoever has to answer for it."""

    explanation: DecisionExplanation
    reasons: tuple[Reason, ...]
    """In plain words; codes and weights are those of the record."""
    base: float | None
    """Raw score (log odds) of the average payment; None where nothing was scored."""
    contributions: dict[str, float]
    """Log odds of each input: exact Shapley values, largest first. With `base` they sum to `raw` within 1e-9."""
    raw: float | None
    rebuilt: bool
    """True: made again from the record, model and rules, equal bit for bit."""
    rebuild_error: str
    """Code of what kept it from that."""
    counterfactuals: Search
    """Smallest changes that lead to another answer, each decided again by the real model and rules."""


def account_for(record: Decision, scoring: Scoring) -> Account:
    """Recomputes everything from the record; changes nothing.

    Raises:
        ConflictError: `decision.rebuild.rules`, `decision.rebuild.model` when the record was made with others.
        DataError: `decision.rebuild.record`.
    """
    model = scoring.model if record.model else None
    decider = decider_of(record, model=model, rules=scoring.rules)
    vector = decider.features.fetch(event_of(record)) if decider.features else None
    found = decider.assess(vector) if record.score is not None else None
    weights = decider.contributions(found) if found else None
    error = ""
    try:
        rebuild(record, model=model, rules=scoring.rules)
    except VedetteError as caught:
        error = caught.code
    named = dict(zip(model.features, weights.tolist(), strict=True)) if model and weights is not None else {}
    return Account(
        explanation=explain_decision(record, scoring.rules),
        reasons=plain(record, load_words()),
        base=model.bias if model and found else None,
        contributions=dict(sorted(named.items(), key=lambda item: -abs(item[1]))),
        raw=model.raw(found.inputs) if model and found else None,
        rebuilt=not error,
        rebuild_error=error,
        counterfactuals=find_whatif(record, model=model, rules=scoring.rules, monotonic=time.monotonic),
    )
