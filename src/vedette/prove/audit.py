"""Audit records: who did what to what, when, from where, and how it ended (PCI DSS 10.2.2).

Records go to the log topic `audit`; `evidence` reads them from there. Texts are scrubbed of card numbers and keys on
the way in, because some of them repeat what a stranger sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol, TypedDict, Unpack

import msgspec

from vedette.core.clock import Clock
from vedette.core.ids import Ids
from vedette.prove.dlp import scrub

TOPIC = "audit"
MAX_TEXT = 256
"""Longest text of a record; what strangers send is cut there."""
MAX_DETAIL = 16
"""Most entries of `AuditRecord.detail`."""

NOBODY = "unknown"
"""Actor of a request that could not be attributed."""


_KINDS = {"key": "key", "per": "person", "app": "app"}


class Outcome(StrEnum):
    """How it ended."""

    SUCCESS = "success"
    DENIED = "denied"
    """Refused by policy or for want of a valid credential."""
    FAILURE = "failure"
    """Allowed, tried, and gone wrong."""


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that somebody did or tried."""

    id: str
    tenant: str
    """`system` when the request could not be attributed to a tenant."""
    time: int
    """Microseconds UTC."""
    actor: str
    """Id of the key, person or app; `unknown` when it did not prove who it is."""
    actor_kind: str
    """`key`, `person`, `app`, `system` or `unknown`."""
    action: str
    """`resource.verb` of a policy decision, such as `charges.write`, or of a change, such as `keys.revoke`."""
    target: str = ""
    """Id of the thing acted on; empty when the action is about no single thing."""
    outcome: Outcome = Outcome.SUCCESS
    code: str = ""
    """Stable code of the reason when it was not a success."""
    origin: str = ""
    """Where it came from: an address, or the component's name."""
    detail: dict[str, str] = {}
    """Further facts. Never a secret; scrubbed of card numbers."""


class Facts(TypedDict, total=False):
    """What a record may say beside who and what: see `AuditRecord`."""

    target: str
    outcome: Outcome
    code: str
    origin: str
    detail: dict[str, str]


class Sink(Protocol):
    """The part of `core.log.Log` that is needed here."""

    def append(self, topic: str, key: str, values: Sequence[bytes]) -> int:
        """Appends, and gives the offset of the first."""


class Audit:
    """Makes audit records of now and hands them on.

    Args:
        write: Where they go, such as `to_log(log)`; None drops them.
        clock: Time of the records.
        ids: Makes their ids.
    """

    def __init__(self, write: Callable[[AuditRecord], None] | None, clock: Clock, ids: Ids) -> None:
        self._write = write
        self._clock = clock
        self._ids = ids

    def record(self, tenant: str, action: str, *, actor: str, **facts: Unpack[Facts]) -> None:
        """Writes one record. `actor` is an id; the kind of actor follows from its prefix."""
        if self._write is not None:
            self._write(self.make(tenant, action, actor=actor, **facts))

    def make(self, tenant: str, action: str, *, actor: str, **facts: Unpack[Facts]) -> AuditRecord:
        """A record as `record` would write it."""
        return AuditRecord(
            id=self._ids.new("aud"),
            tenant=tenant,
            time=self._clock.now(),
            actor=actor,
            actor_kind=NOBODY if actor == NOBODY else _KINDS.get(actor.partition("_")[0], "system"),
            action=action,
            **facts,
        )


def to_log(sink: Sink) -> Callable[[AuditRecord], None]:
    """Writes records to the topic `audit`, scrubbed and cut. They are there when the call returns."""
    return lambda record: write_all(sink, [record])


def write_all(sink: Sink, records: Sequence[AuditRecord]) -> None:
    """Writes records as `to_log` does, those of a tenant in one append."""
    by_tenant: dict[str, list[bytes]] = {}
    for record in records:
        by_tenant.setdefault(record.tenant, []).append(msgspec.json.encode(_clean(record)))
    for tenant, values in by_tenant.items():
        sink.append(TOPIC, tenant, values)


def _clean(record: AuditRecord) -> AuditRecord:
    detail = {_text(key): _text(value) for key, value in list(record.detail.items())[:MAX_DETAIL]}
    return msgspec.structs.replace(
        record,
        target=_text(record.target),
        origin=_text(record.origin),
        actor=_text(record.actor),
        detail=detail,
    )


def _text(text: str) -> str:
    # Scrub before the cut: half a card number would no longer be recognised.
    return scrub(text[: 4 * MAX_TEXT])[:MAX_TEXT]
