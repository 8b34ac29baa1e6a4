"""Lists of decisions for people: filters from a form whose fields may be empty, and the shape of a time as a chart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from vedette.core.clock import MICROS
from vedette.core.decision import Action
from vedette.core.errors import DataError
from vedette.core.money import EXPONENTS
from vedette.judge.decisions.register import MINUTE, Filters, Minute, Row
from vedette.serve.filters import to_entity, to_time

BARS = 90
"""Most bars of the chart above a list."""
MAX_RISK = 99


class Span(StrEnum):
    """How far back a list goes."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"

    @property
    def micros(self) -> int:
        """Length in microseconds."""
        return {"1h": 1, "24h": 24, "7d": 168}[self.value] * 3_600 * MICROS


def to_filters(query: QueryParams, now: int) -> Filters:
    """Which decisions a person asks for; empty fields ask for nothing. `amount` is in major units of the currency.

    Raises:
        DataError: `request.field.invalid`, `request.entity.invalid`, `event.time.unparsable`.
    """
    text = {name: value.strip() for name, value in query.items()}
    currency = text.get("currency", "").upper()
    span = _one_of(Span, text.get("span", ""), "span")
    since = to_time(text.get("since", ""), "since")
    amount = _number(text.get("amount", ""), "amount")
    risk = _number(text.get("risk", ""), "risk")
    entity = text.get("entity", "")
    return Filters(
        actions=tuple(Action(_one_of(Action, each, "action") or each) for each in query.getlist("action") if each),
        since=now - span.micros if span and since is None else since,
        until=to_time(text.get("until", ""), "until"),
        entity=to_entity(entity) if entity else None,
        reason=text.get("reason", ""),
        fallback=True if text.get("fallback") else None,
        risk_at_least=None if risk is None else min(MAX_RISK, int(risk)),
        amount_at_least=None if amount is None else round(amount * 10 ** EXPONENTS.get(currency, 2)),
        currency=currency,
    )


def _one_of(kind: type[Any], text: str, name: str) -> Any:
    try:
        return kind(text) if text else None
    except ValueError:
        raise DataError("request.field.invalid", "no such choice", at=f"$query.{name}") from None


def _number(text: str, name: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1e12:  # noqa: PLR2004 - also refuses what is no number; larger amounts there are none
        raise DataError("request.field.invalid", "this must be a number, zero or more", at=f"$query.{name}")
    return number


def without(query: QueryParams, *names: str, **more: str) -> str:
    """The query with some fields left out and others set; empty ones never stay."""
    kept = [(name, value) for name, value in query.multi_items() if value and name not in {*names, *more}]
    return urlencode([*kept, *more.items()])


def to_chart(minutes: Sequence[Minute], since: int, until: int) -> dict[str, Any]:
    """Decisions by action over a time, in at most `BARS` bars."""
    step = max(1, -(-(until - since) // (BARS * MINUTE))) * MINUTE
    counts: Counter[tuple[int, Action]] = Counter()
    for each in minutes:
        counts[each.time // step * step, each.action] += each.count
    places = range(since // step * step, until, step)
    return {
        "kind": "bars",
        "time": True,
        "empty": "No decision in this time.",
        "x": list(places),
        "series": [{"name": action, "data": [counts[place, action] for place in places]} for action in Action],
    }


def headline(row: Row) -> str:
    """The reason that says most in a line: what a rule or policy said, else the model's largest."""
    said = [reason for reason in row.reasons if not reason.code.startswith("model.")]
    first = next(iter(said or row.reasons), None)
    # A rule's own text says it all; its id is on the decision's page.
    return first.text.rpartition(" fired: ")[2] if first else ""


def payer(row: Row) -> Any:
    """Whose payment it is: card, customer, or whatever comes first."""
    held = {entity.type: entity for entity in reversed(row.entities)}
    return held.get("card") or held.get("customer") or next(iter(row.entities), None)
