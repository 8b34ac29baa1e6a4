"""What a case is, and what stands in one."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from vedette.act.cases.phases import Phase
from vedette.core.signal import Level

MAX_LIST = 1_000
MAX_TEXT = 20_000
"""Longest note or title kept, characters."""
NOBODY = "nobody"
"""How a filter names the cases without an owner."""


class CaseState(StrEnum):
    """OCSF Incident Finding status."""

    NEW = "new"
    IN_PROGRESS = "in_progress"
    ON_HOLD = "on_hold"
    RESOLVED = "resolved"
    CLOSED = "closed"

    @property
    def status_id(self) -> int:
        """OCSF status_id, 1 (new) to 5 (closed)."""
        return list(CaseState).index(self) + 1


NEXT = {
    CaseState.NEW: {CaseState.IN_PROGRESS, CaseState.ON_HOLD, CaseState.RESOLVED},
    CaseState.IN_PROGRESS: {CaseState.ON_HOLD, CaseState.RESOLVED},
    CaseState.ON_HOLD: {CaseState.IN_PROGRESS, CaseState.RESOLVED},
    CaseState.RESOLVED: {CaseState.CLOSED, CaseState.IN_PROGRESS},
    CaseState.CLOSED: {CaseState.IN_PROGRESS},
}
"""State -> where a case can go from it."""


def next_states(state: CaseState) -> list[CaseState]:
    """Where a case can go from a state."""
    return [each for each in CaseState if each in NEXT[state]]


class CaseRole(StrEnum):
    """What a person does in one case, beside their role at the company."""

    COMMANDER = "commander"
    """Decides."""
    ANALYST = "analyst"
    LEGAL = "legal"
    """Counsel: reads what is privileged, approves what leaves the company."""
    COMMUNICATIONS = "communications"
    """Writes to customers and the public."""
    COMPLIANCE = "compliance"
    """Writes to regulators."""


PRIVY = frozenset({CaseRole.COMMANDER, CaseRole.LEGAL})
"""Who reads and writes privileged notes."""


class Case(msgspec.Struct, frozen=True):
    """One piece of work."""

    id: str
    tenant: str
    title: str
    level: Level
    state: CaseState
    phase: Phase
    created_time: int
    updated_time: int
    alerts: tuple[str, ...] = ()
    """Ids of its alerts, in order of linking."""
    owner: str = ""
    """Id of the person who answers for it; empty: nobody."""


class CaseFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which cases. Empty means all."""

    state: tuple[CaseState, ...] = ()
    phase: tuple[Phase, ...] = ()
    level: tuple[Level, ...] = ()
    owner: tuple[str, ...] = ()
    """Ids of people; `nobody` for none."""
    text: str = ""
    """Words that all stand in the title or the id, or in notes that the reader may read."""


class CasePage(msgspec.Struct, frozen=True):
    """One page of the queue of cases."""

    cases: list[Case]
    next: str
    """What to give as `after` for the next page; empty on the last one."""


class Evidence(msgspec.Struct, frozen=True):
    """An artefact of a case. The bytes are elsewhere; `digest` says which."""

    digest: str
    """SHA-256 of the stored bytes, hex."""
    reference: str
    """Where they are and where they are proven, by the evidence room's own naming."""
    what: str
    """`alert_snapshot` and the like."""
    time: int


class Task(msgspec.Struct, frozen=True):
    """Something a person is to do."""

    id: str
    title: str
    done: bool
    time: int
    owner: str = ""
    """Id of the person who is to do it; empty: nobody yet."""
    due: int = 0
    """By when, microseconds UTC; 0: without a deadline."""
    done_time: int = 0

    def overdue(self, now: int) -> bool:
        """Not done in time."""
        return bool(self.due) and now > self.due and not self.done


class Stance(StrEnum):
    """What a piece of evidence says of a hypothesis."""

    FOR = "for"
    AGAINST = "against"


class Belief(StrEnum):
    """What became of a hypothesis."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    REFUTED = "refuted"


class Weight(msgspec.Struct, frozen=True):
    """One piece of evidence for or against a hypothesis."""

    speaks: Stance
    reference: str
    """Id of an event, an alert, a digest of evidence, or a query."""
    text: str
    by: str
    time: int


class Hypothesis(msgspec.Struct, frozen=True):
    """Something that may explain what happened."""

    id: str
    title: str
    time: int
    by: str
    state: Belief = Belief.OPEN
    confidence: int = 50
    """How sure the person who weighed it last is, 0 to 100."""
    weights: tuple[Weight, ...] = ()
    root: str = ""
    """Of a confirmed cause: its first event."""


class Observable(msgspec.Struct, frozen=True):
    """A value to look for elsewhere: an address, a name, a hash."""

    id: str
    type: str
    value: str
    time: int
    by: str


class Member(msgspec.Struct, frozen=True):
    """A person's role in a case."""

    person: str
    role: CaseRole
    time: int
