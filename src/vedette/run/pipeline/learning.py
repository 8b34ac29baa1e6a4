"""Lists that learn: what turned out to be fraud puts the card and the e-mail address on the default block lists.

A reviewer's verdict and a refund marked fraudulent teach; a dispute alone does not, because an honest payer disputes
too. A verdict that is taken back takes out what it put in. Every change is audited and can be undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from vedette.core.decision import Decision
from vedette.core.errors import TransientError, VedetteError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import Log
from vedette.judge.decisions.bindings import binding_of
from vedette.judge.decisions.recorder import EVENTS, LABEL_SOURCE
from vedette.judge.payment.kept import KeptLists, ListChange
from vedette.judge.payment.lists import CARD_BLOCKLIST, EMAIL_BLOCKLIST
from vedette.prove.audit import Audit

BATCH = 2_000
TEACHING: Final = frozenset({"verdict", "refund"})
"""Kinds of labels that lists learn from."""
LABELS, REFUNDS = "labels", "refunds"
"""Who made a change that nobody made by hand."""
_FIELDS: Mapping[str, str] = {CARD_BLOCKLIST: "card_fingerprint", EMAIL_BLOCKLIST: "email"}
_FRAUDULENT = "fraudulent"
PRODUCT: Final = "product"
_NAMED = (LABEL_SOURCE.encode(), PRODUCT.encode())


class _Kind(msgspec.Struct):
    source: str


_kind = msgspec.json.Decoder(_Kind).decode
_event = msgspec.json.Decoder(Event).decode

Find = Callable[[str, str], Decision | None]
Count = Callable[[str], None]
Hear = Callable[[Event], None]


def tell(audit: Audit, change: ListChange) -> None:
    """Writes a change of a list to the audit trail."""
    detail = {"item": change.item[:100], "change": str(change.seq), "reason": change.reason[:200]}
    if change.event_id:
        detail["event"] = change.event_id[:100]
    audit.record(
        change.tenant,
        f"lists.{change.action}",
        actor=change.operator,
        target=f"@{change.alias}",
        origin="rules",
        detail=detail,
    )


class Learning:
    """Follows topic `event` for labels and refunds. What was read twice, after a kill, changes nothing.

    Args:
        log: To read.
        lists: To teach.
        find: (tenant, event id) -> its decision.
        audit: Told of every change.
        failed: Counts what cannot be learned, by code.
        hear: Told of every label and of what money did, in the order of the log; again changes nothing.
    """

    def __init__(
        self,
        log: Log,
        lists: KeptLists,
        find: Find,
        audit: Audit,
        failed: Count = lambda _code: None,
        *,
        hear: Hear = lambda _event: None,
    ) -> None:
        self._log = log
        self._lists = lists
        self._find = find
        self._audit = audit
        self._failed = failed
        self._hear = hear
        # What was said before the lists were kept is not learned: nobody would know why a card is blocked.
        self._next = lists.place(log.end(EVENTS, 0))

    def step(self) -> int:
        """Reads what is new; gives how many items came or went."""
        records = self._log.read(EVENTS, 0, self._next, BATCH)
        changes = 0
        for record in records:
            try:
                for change in self._learn(record.value):
                    tell(self._audit, change)
                    changes += 1
            except TransientError:
                raise  # the place stays where it is: the next turn begins with this batch
            except (VedetteError, msgspec.MsgspecError) as error:
                self._failed(error.code if isinstance(error, VedetteError) else "log.event.malformed")
        if records:
            self._next = records[-1].offset + 1
            self._lists.move(self._next)
        return changes

    def _learn(self, value: bytes) -> Iterator[ListChange]:
        if not any(name in value for name in _NAMED):
            return  # most are payments, and need not be decoded
        source = _kind(value).source
        if source not in {LABEL_SOURCE, PRODUCT}:
            return
        event = _event(value)
        self._hear(event)
        if source == LABEL_SOURCE:
            yield from self._from_label(msgspec.convert(event.data, Label))
        elif event.data.get("type") == "refund" and event.data.get("reason") == _FRAUDULENT:
            yield from self._add(event.tenant, event.source, event.data, REFUNDS, event.id, "refund marked fraudulent")

    def _from_label(self, label: Label) -> Iterator[ListChange]:
        if label.kind not in TEACHING:
            return
        if not label.fraud:
            reason = f"{label.kind}: it was no fraud"
            yield from self._lists.forget(label.tenant, label.event_id, operator=LABELS, reason=reason)
            return
        decision = self._find(label.tenant, label.event_id)
        if decision:
            reason = f"{label.kind}: fraud"
            yield from self._add(label.tenant, decision.source, decision.event, LABELS, label.event_id, reason)

    def _add(  # noqa: PLR0917 - one row's columns
        self, tenant: str, source: str, data: Mapping[str, Any], operator: str, event_id: str, reason: str
    ) -> Iterator[ListChange]:
        paths = binding_of(source).attributes
        for alias, name in _FIELDS.items():
            item = data.get(paths.get(name, name))
            if isinstance(item, str) and item:
                yield from self._lists.add(tenant, alias, [item], operator=operator, reason=reason, event_id=event_id)
