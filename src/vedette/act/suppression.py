"""Which alerts are counted and not raised, by the law that a rule's card states. Pure; the store is in `alerts`.

Alerts of one rule that share a key are taken in the order of their first event, of equals by id. The first is raised;
those whose first event lies less than the span behind it are suppressed by it; the next one is raised again. So what
is raised depends on event times alone, never on the order of arrival. An alert that lacks a part of the key is raised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from vedette.act.grouping import Alert
from vedette.core.clock import MICROS
from vedette.judge.grouping import Suppression


def suppression_key(alert: Alert, law: Suppression) -> str | None:
    """What alerts that may suppress one another share; None when a part of it is missing.

    Parts are read as its title is: from the alert's first signal.
    """
    parts: list[object] = [alert.tenant, alert.rule_id]
    for name in law.by:
        if name == "entity":
            value: object = alert.entity.key if alert.entity else None
        elif name == "source":
            value = alert.source
        else:
            value = alert.why.get(name.removeprefix("why."))
        if value is None:
            return None
        parts.append(value)
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:32]


def suppressed(alerts: Iterable[tuple[int, str]], span_s: int) -> dict[str, str]:
    """Id of each suppressed alert -> id of the alert that suppresses it.

    Args:
        alerts: (Event time of the first signal, id) of alerts of one key, in any order.
        span_s: Of the law, seconds.
    """
    found: dict[str, str] = {}
    until, raised = -1, ""
    for time, name in sorted(alerts):
        if time < until:
            found[name] = raised
        else:
            until, raised = time + span_s * MICROS, name
    return found
