"""The phases of a response, as a state machine, and how long a case was in each.

The phases are those of NIST SP 800-61 revision 2 (section 3); its third, "containment, eradication and recovery", is
kept as its three steps. Revision 3 has no phases of its own and refers to the functions of the Cybersecurity Framework
2.0, so each phase names those that it serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from vedette.act.timeline import Entry, PhaseChanged


class Function(StrEnum):
    """NIST Cybersecurity Framework 2.0."""

    GOVERN = "govern"
    IDENTIFY = "identify"
    PROTECT = "protect"
    DETECT = "detect"
    RESPOND = "respond"
    RECOVER = "recover"


class Phase(StrEnum):
    """NIST SP 800-61r2, section 3."""

    PREPARATION = "preparation"
    """Of an exercise or a hunt: nothing has happened yet."""
    ANALYSIS = "detection_and_analysis"
    CONTAINMENT = "containment"
    ERADICATION = "eradication"
    RECOVERY = "recovery"
    AFTER = "post_incident"

    @property
    def functions(self) -> tuple[Function, ...]:
        """What it serves of the Cybersecurity Framework."""
        return _FUNCTIONS[self]

    @property
    def number(self) -> str:
        """Section of SP 800-61r2 that describes it."""
        return _SECTIONS[self]


_FUNCTIONS = {
    Phase.PREPARATION: (Function.GOVERN, Function.IDENTIFY, Function.PROTECT),
    Phase.ANALYSIS: (Function.DETECT, Function.RESPOND),
    Phase.CONTAINMENT: (Function.RESPOND,),
    Phase.ERADICATION: (Function.RESPOND,),
    Phase.RECOVERY: (Function.RECOVER,),
    Phase.AFTER: (Function.IDENTIFY, Function.GOVERN),
}
_SECTIONS = {
    Phase.PREPARATION: "3.1",
    Phase.ANALYSIS: "3.2",
    Phase.CONTAINMENT: "3.3.1",
    Phase.ERADICATION: "3.3.4",
    Phase.RECOVERY: "3.3.4",
    Phase.AFTER: "3.4",
}
_NEXT = {
    Phase.PREPARATION: {Phase.ANALYSIS},
    # What turns out to be no incident goes to its review at once.
    Phase.ANALYSIS: {Phase.CONTAINMENT, Phase.AFTER},
    # Going back is no mistake: containment often fails, and recovery often finds more. Not all needs eradication.
    Phase.CONTAINMENT: {Phase.ANALYSIS, Phase.ERADICATION, Phase.RECOVERY},
    Phase.ERADICATION: {Phase.ANALYSIS, Phase.CONTAINMENT, Phase.RECOVERY},
    Phase.RECOVERY: {Phase.ANALYSIS, Phase.CONTAINMENT, Phase.ERADICATION, Phase.AFTER},
    Phase.AFTER: {Phase.ANALYSIS},
}
INCIDENT = frozenset({Phase.CONTAINMENT, Phase.ERADICATION, Phase.RECOVERY})
"""A case that was ever in one of these is an incident, and ends with a review."""


def next_phases(phase: Phase) -> list[Phase]:
    """Where a case can go from a phase, in the order of the response."""
    return [each for each in Phase if each in _NEXT[phase]]


def time_in_phases(entries: Sequence[Entry], first: Phase, opened: int, until: int) -> dict[Phase, int]:
    """Microseconds that a case was in each phase it entered.

    Args:
        entries: Its timeline, in order.
        first: Phase that it began in.
        opened: When it began, microseconds UTC.
        until: When it was closed, or now.
    """
    spent: dict[Phase, int] = {}
    phase, since = first, opened
    for entry in entries:
        if isinstance(entry.body, PhaseChanged):
            spent[phase] = spent.get(phase, 0) + max(0, entry.time - since)
            phase, since = Phase(entry.body.after), entry.time
    spent[phase] = spent.get(phase, 0) + max(0, until - since)
    return spent
