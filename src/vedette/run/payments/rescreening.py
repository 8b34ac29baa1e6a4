"""A decided payment asked about again: what would today's rules and lists say? Decides and records nothing."""

from __future__ import annotations

from typing import Any

from vedette.core.errors import NotFoundError
from vedette.judge.decisions.rebuild import decider_of, event_of
from vedette.run.payments.scoring import Desk


def rescreen(desk: Desk, tenant: str, event_id: str) -> dict[str, Any]:
    """What was decided, what would be now, and which rules say so. Features and scorer are those of the record.

    Raises:
        NotFoundError: `decisions.event.unknown`.
        DataError: The decision is not kept any more.
    """
    record = desk.find(tenant, event_id)
    if record is None:
        raise NotFoundError("decisions.event.unknown", "no such decision", at=event_id[:64])
    scorer = desk.scorer_of(record) if record.model else None
    decider = decider_of(record, model=scorer, rules=desk.rules_now(record))
    event = event_of(record)
    vector = decider.features.fetch(event) if decider.features else None
    now = decider.answer(event, vector, decider.assess(vector) if record.score is not None else None)
    fired = [rule.id for rule in now.rules if rule.result == "fired"]
    return {"event": event_id, "before": str(record.action), "now": str(now.action), "rules": fired}
