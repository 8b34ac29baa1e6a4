"""The review after an incident: what happened, what was contained, what was found, what changed.

An incident (a case that ever entered containment, eradication or recovery) is closed in the phase of its review, when
all four parts are written and something was changed for good: a link to a rule, a control, a test or a piece of code,
or a reason by name why nothing was.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from vedette.act.cases.nouns import Case
from vedette.act.cases.phases import INCIDENT, Phase
from vedette.act.cases.store import Store, check_text, items, keep_item, load, read_all
from vedette.act.timeline import ChangeLinked, PhaseChanged, ReviewWritten
from vedette.core.db import Connection
from vedette.core.errors import ConflictError, DataError

MIN_REASON = 20
"""A reason why nothing was changed has at least so many characters."""


class Part(StrEnum):
    """What a review says."""

    HAPPENED = "happened"
    CONTAINED = "contained"
    FOUND = "found"
    CHANGED = "changed"


class Change(StrEnum):
    """What is changed for good."""

    DETECTION = "detection"
    CONTROL = "control"
    TEST = "test"
    CODE = "code"
    PROCESS = "process"
    NONE = "none"
    """Nothing, for a reason that somebody gives by name."""


class Written(msgspec.Struct, frozen=True):
    """One part of a review."""

    part: Part
    text: str
    by: str
    time: int
    evidence: tuple[str, ...] = ()
    """What it rests on: `#12` for an entry of the timeline, a digest, an alert, an event."""


class Linked(msgspec.Struct, frozen=True):
    """A change that follows from the incident."""

    id: str
    what: Change
    reference: str
    """Rule id, control id, path of a test, commit; of `none` the reason."""
    by: str
    time: int


class Review(msgspec.Struct, frozen=True):
    """A review as far as it is written."""

    parts: dict[Part, Written]
    changes: tuple[Linked, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """What keeps the case from being closed."""
        found = [str(part) for part in Part if part not in self.parts]
        return (*found, *(() if self.changes else ("a structural change, or a reason for none",)))


_REFERENCE = re.compile(r"[\w./:#@+-]{3,200}")


class Reviews(Store):
    """The reviews of cases."""

    def get(self, tenant: str, case_id: str) -> Review:
        """The review of a case, as far as it is written."""
        with self._database.read() as connection:
            load(connection, tenant, case_id)
            return read_review(connection, tenant, case_id)

    def write(
        self, tenant: str, case_id: str, part: Part, text: str, *, operator: str, evidence: tuple[str, ...] = ()
    ) -> Written:
        """Writes a part; what stood there before stays in the timeline's count, not in the review."""
        check_text(text)
        written = Written(part, text, operator, self._clock.now(), evidence)
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            keep_item(connection, tenant, case_id, "review", part, written, time=written.time)
            self._add(connection, tenant, case_id, operator, ReviewWritten(part))
        return written

    def change(self, tenant: str, case_id: str, what: Change, reference: str, *, operator: str) -> Linked:
        """Links what was changed; `none` takes the reason instead.

        Raises:
            DataError: `cases.change.reference`, `cases.change.reason`.
        """
        if what is Change.NONE and len(reference.strip()) < MIN_REASON:
            said = f"say in at least {MIN_REASON} characters why nothing is changed"
            raise DataError("cases.change.reason", said, at="$.reference")
        if what is not Change.NONE and not _REFERENCE.fullmatch(reference):
            hint = "a rule's or control's id, a path, or a commit"
            raise DataError(
                "cases.change.reference", "this names nothing that was changed", hint=hint, at="$.reference"
            )
        made = Linked(self._ids.new("cg"), what, reference, operator, self._clock.now())
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            keep_item(connection, tenant, case_id, "change", made.id, made, time=made.time)
            self._add(connection, tenant, case_id, operator, ChangeLinked(what, reference))
        return made


def read_review(connection: Connection, tenant: str, case_id: str) -> Review:
    """The review inside a transaction."""
    parts = items(connection, tenant, case_id, "review", Written)
    changes = items(connection, tenant, case_id, "change", Linked)
    return Review({each.part: each for each in parts}, tuple(changes))


def is_incident(connection: Connection, case: Case) -> bool:
    """Whether the case was ever more than analysed."""
    if case.phase in INCIDENT:
        return True
    entries = read_all(connection, case.tenant, case.id)
    return any(isinstance(each.body, PhaseChanged) and Phase(each.body.after) in INCIDENT for each in entries)


def require_review(connection: Connection, case: Case) -> None:
    """Lets an incident be closed only after its review.

    Raises:
        ConflictError: `cases.review.phase`, `cases.review.missing`.
    """
    if not is_incident(connection, case):
        return
    if case.phase is not Phase.AFTER:
        hint = f"it is in {case.phase}: move it to {Phase.AFTER}"
        raise ConflictError("cases.review.phase", "an incident is closed after its review", hint=hint, at=case.id)
    missing = read_review(connection, case.tenant, case.id).missing
    if missing:
        hint = f"missing: {', '.join(missing)}"
        raise ConflictError("cases.review.missing", "the review is not complete", hint=hint, at=case.id)
