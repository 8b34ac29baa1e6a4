"""The file of a case: all that is known of it at one moment, as one reader may see it. Reports are made of it alone."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vedette.act.cases.clocks import Running
from vedette.act.cases.custody import Link
from vedette.act.cases.nouns import Case, Evidence, Hypothesis, Member, Observable, Task
from vedette.act.cases.phases import Phase
from vedette.act.cases.review import Review
from vedette.act.grouping import Alert
from vedette.act.timeline import Entry, PhaseChanged, StateChanged
from vedette.core.clock import MICROS
from vedette.core.event import Entity

TACTICS = (
    *("reconnaissance", "resource-development", "initial-access", "execution", "persistence", "privilege-escalation"),
    *(
        "stealth",
        "defense-impairment",
        "credential-access",
        "discovery",
        "lateral-movement",
        "collection",
        "command-and-control",
    ),
    *("exfiltration", "impact"),
)
"""ATT&CK's tactics for enterprises, in its own order."""
FORMER = {"defense-evasion": "stealth"}
"""Tactics that ATT&CK had before version 19 -> what most of each became. Rules from elsewhere still name them."""


class Affected(msgspec.Struct, frozen=True, kw_only=True):
    """Money of one currency that a case is about, minor units."""

    currency: str
    attempted: int = 0
    """Of all payments on what its alerts are about, since the first of them."""
    stopped: int = 0
    """Of those that were blocked or challenged."""
    moved: int = 0
    """What the ledger says was captured."""
    returned: int = 0
    """Of that, what was given back since."""
    payments: int = 0


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How quick the response was, seconds; None for what has not happened. Computed from events, typed in by nobody."""

    detect_s: float | None = None
    """From the first event to the first alert."""
    acknowledge_s: float | None = None
    """From the first alert to the first person who took the case or moved it."""
    contain_s: float | None = None
    """From the first alert to the end of containment."""


class CaseFile(msgspec.Struct, frozen=True, kw_only=True):
    """Everything."""

    case: Case
    now: int
    """When it was read, microseconds UTC."""
    alerts: tuple[Alert, ...] = ()
    """Those that are at hand, by their first event."""
    entries: tuple[Entry, ...] = ()
    members: tuple[Member, ...] = ()
    tasks: tuple[Task, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()
    observables: tuple[Observable, ...] = ()
    clocks: tuple[Running, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    links: tuple[Link, ...] = ()
    review: Review
    phases: dict[Phase, int] = {}
    money: tuple[Affected, ...] = ()
    names: dict[str, str] = {}
    """Id of a person -> their name."""

    @property
    def entities(self) -> tuple[Entity, ...]:
        """What the alerts are about first, then what they name."""
        leads = {alert.entity for alert in self.alerts if alert.entity}
        every = {entity for alert in self.alerts for entity in alert.entities}
        return tuple(sorted(every, key=lambda each: (each not in leads, each)))

    @property
    def stages(self) -> tuple[str, ...]:
        """ATT&CK techniques in the order in which they were first seen."""
        ordered = sorted(self.alerts, key=lambda alert: (alert.first_time, alert.id))
        tags = [tag for alert in ordered for tag in alert.tags if tag.startswith("attack.t")]
        return tuple(dict.fromkeys(tags))

    @property
    def tactics(self) -> tuple[str, ...]:
        """ATT&CK tactics in the order in which they were first seen."""
        ordered = sorted(self.alerts, key=lambda alert: (alert.first_time, alert.id))
        named = (sorted(filter(TACTICS.__contains__, map(_tactic, alert.tags)), key=TACTICS.index) for alert in ordered)
        return tuple(dict.fromkeys(name for names in named for name in names))

    @property
    def gaps(self) -> tuple[str, ...]:
        """Tactics between the first and the last of ATT&CK's order that were seen, of which nothing was seen."""
        places = [TACTICS.index(name) for name in self.tactics]
        between = TACTICS[min(places) : max(places)] if places else ()
        return tuple(name for name in between if name not in self.tactics)

    def who(self, person: str) -> str:
        """A person's name, or what acted by itself."""
        return self.names.get(person, "a playbook" if person.startswith("run_") else person)


def _tactic(tag: str) -> str:
    name = tag.removeprefix("attack.")
    return FORMER.get(name, name)


def pace(alerts: Sequence[Alert], entries: Sequence[Entry]) -> Pace:
    """How quick the response was."""
    if not alerts:
        return Pace()
    raised = min(alert.created_time for alert in alerts)
    taken = [each.time for each in entries if _by_person(each)]
    contained = [each.time for each in entries if isinstance(each.body, PhaseChanged) and _contained(each.body)]
    return Pace(
        detect_s=_seconds(min(alert.first_time for alert in alerts), raised),
        acknowledge_s=_seconds(raised, taken[0]) if taken else None,
        contain_s=_seconds(raised, contained[0]) if contained else None,
    )


def _by_person(entry: Entry) -> bool:
    kind = type(entry.body).__struct_config__.tag
    own = entry.operator.startswith(("run_", "system"))
    return not own and (isinstance(entry.body, PhaseChanged | StateChanged) or kind in {"owner_changed", "noted"})


def _contained(body: PhaseChanged) -> bool:
    return body.before == Phase.CONTAINMENT and body.after in {Phase.ERADICATION, Phase.RECOVERY}


def _seconds(since: int, until: int) -> float:
    return max(0, until - since) / MICROS
