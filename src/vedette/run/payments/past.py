"""Past payments from the log: each as its caller got it, with what became of it since."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from vedette.core.decision import Decision
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import Log, Record
from vedette.judge.backtest.outcomes import Outcomes, Past, past_of
from vedette.judge.decisions.recorder import DECISIONS, EVENTS, LABEL_SOURCE, key_in_log

BATCH = 2_000
REFUNDS = "product"
"""Source of the events that tell of refunds."""
Tell = Callable[[int], None]


class _Whose(msgspec.Struct, frozen=True):
    """What of a decided event says whose it is."""

    merchant: Any = None


class _Where(msgspec.Struct):
    """What of a decision says where its last record is."""

    event_id: str
    event: _Whose = _Whose()


class _Kind(msgspec.Struct):
    """What of an event says whether it tells of an outcome."""

    source: str


_where = msgspec.json.Decoder(_Where).decode
_kind = msgspec.json.Decoder(_Kind).decode
_event = msgspec.json.Decoder(Event).decode
_decision = msgspec.json.Decoder(Decision).decode


def fetch_past(
    log: Log,
    tenant: str,
    *,
    point: str = "",
    since: int = 0,
    until: int = 1 << 62,
    merchant: str = "",
    tell: Tell = lambda _count: None,
) -> Iterator[Past]:
    """Decided payments in the order of the log.

    Args:
        log: Of the installation.
        tenant: Whose.
        point: Of a decision point; empty: payments.
        since: Event time from, microseconds UTC, included.
        until: Event time to, not included.
        merchant: Only payments of this one; empty: of all.
        tell: Hears how many records were read.
    """
    outcomes = fetch_outcomes(log, tenant)
    key = key_in_log(tenant, point)
    last = {}
    for record in _records(log, DECISIONS):
        if record.key == key:
            where = _where(record.value)
            if not merchant or where.event.merchant == merchant:
                last[where.event_id] = record.offset

    def wanted() -> Iterator[Decision]:
        for count, record in enumerate(_records(log, DECISIONS), 1):
            tell(count)
            if record.key == key and last.get(_where(record.value).event_id) == record.offset:
                decision = _decision(record.value)
                if since <= decision.time < until:
                    yield decision

    return past_of(wanted(), outcomes)


def fetch_outcomes(log: Log, tenant: str) -> Outcomes:
    """What labels and refunds in the log say of a tenant's payments."""
    found = Outcomes()
    for record in _records(log, EVENTS):
        if _kind(record.value).source not in {LABEL_SOURCE, REFUNDS}:
            continue
        event = _event(record.value)
        if event.tenant != tenant:
            continue
        if event.source == LABEL_SOURCE:
            found.learn(msgspec.convert(event.data, Label))
        else:
            found.see(event)
    return found


def _records(log: Log, topic: str) -> Iterator[Record]:
    offset = 0
    while records := log.read(topic, 0, offset, BATCH):
        yield from records
        offset = records[-1].offset + 1
