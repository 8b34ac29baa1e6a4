"""What reports of weaknesses are: their states, their clocks, a line of the thread."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from vedette.act.bounty.rubric import Facts, Weighed


class ReportState(StrEnum):
    """Where a report stands."""

    NEW = "new"
    TRIAGED = "triaged"
    FIXING = "fixing"
    FIXED = "fixed"
    DISCLOSED = "disclosed"
    DUPLICATE = "duplicate"
    CLOSED = "closed"
    """Without a fix: not applicable, informative, withdrawn; the message says why."""


OPEN = (ReportState.NEW, ReportState.TRIAGED, ReportState.FIXING, ReportState.FIXED)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One report."""

    id: str
    tenant: str
    title: str
    text: str
    reporter: str
    """Name or handle, as they gave it."""
    asset: str
    """What it is about: a host, an application, an API."""
    state: ReportState
    created_time: int
    external_id: str = ""
    """Its id where it came from; the same one comes once."""
    facts: Facts | None = None
    weighed: Weighed | None = None
    root: str = ""
    """The cause that it shares with its duplicates, in few words."""
    original: str = ""
    """Of a duplicate: the report that is worked on."""
    case_id: str = ""
    triaged_time: int = 0
    fixed_time: int = 0
    disclosed_time: int = 0
    triage_due: int = 0
    fix_due: int = 0
    """0 before triage."""
    disclose_due: int = 0
    extended: int = 0
    """Microseconds by which the disclosure was put off."""

    @property
    def clock(self) -> tuple[str, int]:
        """What is due next, and when; an empty name and 0 when nothing is."""
        match self.state:
            case ReportState.NEW:
                return "triage", self.triage_due
            case ReportState.TRIAGED | ReportState.FIXING:
                return ("fix", self.fix_due) if self.fix_due <= self.disclose_due else ("disclose", self.disclose_due)
            case ReportState.FIXED:
                return "disclose", self.disclose_due
            case _:
                return "", 0


class Message(msgspec.Struct, frozen=True):
    """One line of the thread."""

    seq: int
    time: int
    author: str
    """The reporter's name, or the id of who wrote for us."""
    ours: bool
    text: str
    internal: bool = False
    """Not for the reporter."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The reports in numbers."""

    states: dict[str, int]
    overdue: int = 0
    triage_s: int | None = None
    """Median time from report to triage, of those that were triaged; None without one."""
    fix_s: int | None = None
    """Median time from report to fix."""
