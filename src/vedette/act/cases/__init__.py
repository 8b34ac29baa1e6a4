"""Cases: people's work on alerts, from the first look to the review.

`Cases` holds the case and its timeline; beside it stand `Work` (tasks, hypotheses, observables), `Circle` (roles),
`Clocks` (who must be told by when), `Custody` (evidence), `Preservation` (evidence before containment) and `Reviews`.
All write to one timeline, which only grows.
"""

from vedette.act.cases.cases import Cases
from vedette.act.cases.circle import Circle
from vedette.act.cases.clocks import Clocks
from vedette.act.cases.custody import Custody
from vedette.act.cases.nouns import (
    NOBODY,
    Case,
    CaseFilter,
    CasePage,
    CaseRole,
    CaseState,
    Evidence,
    Task,
    next_states,
)
from vedette.act.cases.phases import Phase, next_phases
from vedette.act.cases.preserving import Preservation
from vedette.act.cases.review import Reviews
from vedette.act.cases.work import Work

__all__ = [
    "NOBODY",
    "Case",
    "CaseFilter",
    "CasePage",
    "CaseRole",
    "CaseState",
    "Cases",
    "Circle",
    "Clocks",
    "Custody",
    "Evidence",
    "Phase",
    "Preservation",
    "Reviews",
    "Task",
    "Work",
    "next_phases",
    "next_states",
]
