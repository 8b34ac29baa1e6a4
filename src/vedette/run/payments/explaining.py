"""A decision explained and defended: made again bit for bit, its contributions, and what would have changed it."""

from __future__ import annotations

import time

import msgspec

from vedette.core.decision import Decision, Reason
from vedette.core.errors import VedetteError
from vedette.judge.decisions.parts import Scorer
from vedette.judge.decisions.rebuild import decider_of, event_of, rebuild
from vedette.judge.explain import DecisionExplanation, explain_decision
from vedette.judge.models.model import Model
from vedette.judge.payment.rules import PaymentRules
from vedette.judge.reasons import load_words, plain
from vedette.judge.whatif import Search, find_whatif


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
    counterfactuals: Search | None
    """Smallest changes that lead to another answer, each decided again by the real model and rules. None where
    something else than a model of trees scored."""


def account_for(record: Decision, *, scorer: Scorer | None, rules: PaymentRules) -> Account:
    """Recomputes everything from the record; changes nothing.

    Args:
        record: The decision.
        scorer: What scored it.
        rules: The set it was made with.

    Raises:
        ConflictError: `decision.rebuild.rules`, `decision.rebuild.model` when the record was made with others.
        DataError: `decision.rebuild.record`.
    """
    scorer = scorer if record.model else None
    model = scorer if isinstance(scorer, Model) else None
    decider = decider_of(record, model=scorer, rules=rules)
    vector = decider.features.fetch(event_of(record)) if decider.features else None
    found = decider.assess(vector) if record.score is not None else None
    weights = decider.contributions(found) if found else None
    error = ""
    try:
        rebuild(record, model=scorer, rules=rules)
    except VedetteError as caught:
        error = caught.code
    named = dict(zip(scorer.features, weights.tolist(), strict=True)) if scorer and weights is not None else {}
    return Account(
        explanation=explain_decision(record, rules),
        reasons=plain(record, load_words()),
        base=model.bias if model and found else None,
        contributions=dict(sorted(named.items(), key=lambda item: -abs(item[1]))),
        raw=model.raw(found.inputs) if model and found else None,
        rebuilt=not error,
        rebuild_error=error,
        counterfactuals=_search(record, scorer, model, rules),
    )


def _search(record: Decision, scorer: Scorer | None, model: Model | None, rules: PaymentRules) -> Search | None:
    if scorer is not None and model is None:
        return None
    return find_whatif(record, model=model, rules=rules, monotonic=time.monotonic)
