"""Explain a correlation's signal from its own evidence: what was counted, over which time, and each event it names."""

from __future__ import annotations

from vedette.core.signal import Signal
from vedette.judge.explain import Clause, Read, RuleExplanation

_OURS = ("condition", "timespan_s", "events", "values")


def correlation_clause(signal: Signal) -> Clause | None:
    """The clauses of a correlation's signal; None for the signal of a rule on single events.

    All are true: a signal tells what was seen when it fired. What a quiet correlation lacks is not in any signal.
    """
    why = signal.why
    if not {"condition", "timespan_s", "events"} <= why.keys():
        return None
    # The group comes first, then what was counted; see `Correlator`.
    *group, counted = (name for name in why if name not in _OURS)
    by = f" by {', '.join(group)}" if group else ""
    return Clause(
        text=f"{counted} {why['condition']} within {why['timespan_s']} s{by}",
        result="true",
        values=tuple(Read(name, why[name], missing=False) for name in (*group, counted)),
        children=tuple(
            Clause(f"`{one['rule']}` fired on {one['source']} event `{one['id']}` at {one['time']}", "true")
            for one in why["events"]
        ),
        kind="all",
    )


def explain_fired(signal: Signal) -> RuleExplanation:
    """Why a signal fired: a correlation's clauses, or the fields that a rule on single events rested on."""
    values = tuple(Read(name, value, missing=False) for name, value in signal.why.items())
    told = Clause(f"{signal.source} event `{signal.event_id}`", "true", values)
    return RuleExplanation(
        signal.rule_id, signal.title, signal.level.value, "fired", correlation_clause(signal) or told
    )
