"""Who must be told by when: notices to regulators, customers and networks, as data, each a clock in a case.

A clock starts at awareness, not when somebody gets round to it. Its notice is drafted from a template, approved by
the role that its file names, and sent by people, who write down the reference they got. What is near its deadline or
over it is told in the timeline by the product itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from vedette.act.cases.nouns import CaseRole, Member
from vedette.act.cases.store import Store, check_text, due_items, find_item, items, keep_item, load
from vedette.act.timeline import ClockMoved, ClockStarted, ClockWarned
from vedette.core.clock import MICROS, Clock, seconds_of, to_iso
from vedette.core.db import Database
from vedette.core.documents import load_yaml
from vedette.core.errors import ConflictError, DataError, DefinitionError, DeniedError, NotFoundError
from vedette.core.ids import Ids

_PLACE = re.compile(r"\$\{([a-z_.]+)\}")
_WORDS = ("case", "title", "aware", "due", "what", "entities", "money", "contained", "recipient")


class Notice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A duty to tell somebody, from its file."""

    id: str
    title: str
    jurisdiction: str
    recipient: str
    law: str
    """Where the duty is written."""
    deadline: str
    """From awareness: `72h`, `30d`."""
    warn: str
    """So long before the deadline people are warned."""
    approval: CaseRole
    """Whose yes it needs before it is sent."""
    note: str = ""
    """When the duty applies; people decide."""
    template: str

    @property
    def span(self) -> int:
        """Length of the clock, microseconds."""
        return (seconds_of(self.deadline) or 0) * MICROS

    @property
    def warning(self) -> int:
        """How long before the deadline people are warned, microseconds."""
        return (seconds_of(self.warn) or 0) * MICROS


class ClockState(StrEnum):
    """Where a notice stands."""

    RUNNING = "running"
    DRAFTED = "drafted"
    APPROVED = "approved"
    SENT = "sent"
    WAIVED = "waived"
    """Found not to be needed, by who approves it."""


Move = Callable[["Running"], "Running"]
_DONE = {ClockState.SENT, ClockState.WAIVED}


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The clock of a notice in a case."""

    id: str
    """Of the notice."""
    state: ClockState
    aware: int
    """When we knew, microseconds UTC."""
    due: int
    text: str = ""
    """The draft, as it was approved."""
    approved_by: str = ""
    approved_time: int = 0
    sent_time: int = 0
    reference: str = ""
    """What its recipient gave back; of a waived one the reason."""

    def overdue(self, now: int) -> bool:
        """Neither sent in time nor waived."""
        return self.state not in _DONE and now > self.due

    @property
    def late(self) -> bool:
        """Sent after its deadline."""
        return self.sent_time > self.due


def load_notices(folder: Path) -> dict[str, Notice]:
    """The notices of a folder by their ids.

    Raises:
        DefinitionError: `notices.file.invalid`, `notices.deadline.invalid`, `notices.id.invalid`,
            `notices.template.unknown`; what reading raises.
    """
    found: dict[str, Notice] = {}
    for path in sorted(folder.glob("*.yaml")):
        document = load_yaml(path.read_text(encoding="utf-8"), path=str(path))
        try:
            notice = msgspec.convert(document.data, Notice)
        except msgspec.ValidationError as error:
            raise DefinitionError("notices.file.invalid", str(error), span=document.span()) from error
        if not 0 < notice.warning < notice.span:
            said = "`deadline` and `warn` are times such as `72h`, `warn` the shorter one"
            raise DefinitionError("notices.deadline.invalid", said, span=document.span("$.deadline"))
        if notice.id != path.stem:
            said = f"the id of `{path.name}` is the name of its file"
            raise DefinitionError("notices.id.invalid", said, span=document.span("$.id"))
        unknown = sorted(set(_PLACE.findall(notice.template)) - set(_WORDS))
        if unknown:
            hint = f"one of {', '.join(_WORDS)}"
            said = f"`{unknown[0]}` is nothing that a template names"
            raise DefinitionError("notices.template.unknown", said, span=document.span("$.template"), hint=hint)
        found[notice.id] = notice
    return found


class Clocks(Store):
    """The clocks of cases.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: The one clock.
        ids: Unused ids of the store.
        notices: The known duties by their ids.
    """

    def __init__(self, database: Database, clock: Clock, ids: Ids, notices: Mapping[str, Notice]) -> None:
        super().__init__(database, clock, ids)
        self.notices = notices

    def find(self, tenant: str, case_id: str) -> list[Running]:
        """The clocks of a case, the next deadline first."""
        return sorted(self._items(tenant, case_id, "clock", Running), key=lambda one: (one.due, one.id))

    def start(self, tenant: str, case_id: str, notice_id: str, *, operator: str, aware: int = 0) -> Running:
        """Starts the clock of a notice; again gives the one that runs.

        Args:
            tenant: Whose case.
            case_id: Which.
            notice_id: Which duty.
            operator: Who says that it applies.
            aware: When we knew, microseconds UTC; 0: when the case was opened.

        Raises:
            NotFoundError: `cases.notice.unknown`.
            DataError: `cases.clock.aware`: nobody knows before it is so.
        """
        notice = self._notice(notice_id)
        with self._database.begin() as connection:
            case = load(connection, tenant, case_id, lock=True)
            held = {each.id: each for each in items(connection, tenant, case_id, "clock", Running)}
            if notice_id in held:
                return held[notice_id]
            since, now = aware or case.created_time, self._clock.now()
            if since > now:
                raise DataError("cases.clock.aware", "awareness is not in the future", at="$.aware")
            made = Running(id=notice_id, state=ClockState.RUNNING, aware=since, due=since + notice.span)
            alarm = max(made.due - notice.warning, 1)
            keep_item(connection, tenant, case_id, "clock", notice_id, made, time=now, alarm=alarm)
            self._add(connection, tenant, case_id, operator, ClockStarted(notice_id, made.due))
        return made

    def draft(self, tenant: str, case_id: str, notice_id: str, facts: Mapping[str, str], *, operator: str) -> Running:
        """Writes the draft from the template; a draft that was approved is not written again.

        Args:
            tenant: Whose case.
            case_id: Which.
            notice_id: Which.
            facts: `what`, `entities`, `money`, `contained` of the case; what is missing is left to be filled in.
            operator: Who asks for it.
        """
        notice = self._notice(notice_id)

        def write(held: Running) -> Running:
            own = {"case": case_id, "aware": to_iso(held.aware), "due": to_iso(held.due), "recipient": notice.recipient}
            text = _PLACE.sub(lambda place: {**facts, **own}.get(place[1]) or f"[{place[1]}]", notice.template)
            return msgspec.structs.replace(held, state=ClockState.DRAFTED, text=text)

        return self._move(tenant, case_id, notice_id, {ClockState.RUNNING, ClockState.DRAFTED}, write, operator)

    def approve(self, tenant: str, case_id: str, notice_id: str, *, operator: str, text: str = "") -> Running:
        """Approves the draft, with the words that are to be sent. Only who has the role that the notice names.

        Raises:
            DeniedError: `cases.clock.approval`.
            ConflictError: `cases.clock.state`.
        """
        now = self._clock.now()

        def write(held: Running) -> Running:
            words = {"text": text or held.text, "approved_by": operator, "approved_time": now}
            return msgspec.structs.replace(held, state=ClockState.APPROVED, **words)

        return self._move(tenant, case_id, notice_id, {ClockState.DRAFTED}, write, operator, gate=True)

    def send(self, tenant: str, case_id: str, notice_id: str, *, reference: str, operator: str) -> Running:
        """Records that people sent the approved notice, and what they got for it.

        Raises:
            ConflictError: `cases.clock.state`: it was not approved.
        """
        check_text(reference)
        now = self._clock.now()

        def write(held: Running) -> Running:
            return msgspec.structs.replace(held, state=ClockState.SENT, sent_time=now, reference=reference)

        return self._move(tenant, case_id, notice_id, {ClockState.APPROVED}, write, operator, reason=reference)

    def waive(self, tenant: str, case_id: str, notice_id: str, *, reason: str, operator: str) -> Running:
        """Finds that the duty does not apply: who would approve the notice says so, and why.

        Raises:
            DeniedError: `cases.clock.approval`.
        """
        check_text(reason)

        def write(held: Running) -> Running:
            return msgspec.structs.replace(held, state=ClockState.WAIVED, reference=reason)

        allowed = {ClockState.RUNNING, ClockState.DRAFTED, ClockState.APPROVED}
        return self._move(tenant, case_id, notice_id, allowed, write, operator, gate=True, reason=reason)

    def warn(self) -> int:
        """Writes warnings that are due, of all tenants; gives how many. A kill in between repeats none."""
        now, count = self._clock.now(), 0
        with self._database.read() as connection:
            due = due_items(connection, "clock", now)
        for tenant, case_id, notice_id in due:
            with self._database.begin() as connection:
                load(connection, tenant, case_id, lock=True)
                held = find_item(connection, tenant, case_id, "clock", notice_id, Running)
                late, open_ = held.overdue(now), held.state not in _DONE
                alarm = held.due + 1 if open_ and not late else 0
                keep_item(connection, tenant, case_id, "clock", notice_id, held, time=now, alarm=alarm)
                if open_:
                    key = f"clock:{notice_id}:{'late' if late else 'soon'}"
                    count += self._add(connection, tenant, case_id, "system", ClockWarned(notice_id, late), key=key)
        return count

    def _notice(self, notice_id: str) -> Notice:
        if notice_id not in self.notices:
            hint = f"one of {', '.join(sorted(self.notices))}"
            raise NotFoundError("cases.notice.unknown", "no such notice", hint=hint, at=notice_id[:64])
        return self.notices[notice_id]

    def _move(  # noqa: PLR0917 - who moves what, from where, how
        self,
        tenant: str,
        case_id: str,
        notice_id: str,
        allowed: set[ClockState],
        write: Move,
        operator: str,
        *,
        gate: bool = False,
        reason: str = "",
    ) -> Running:
        notice = self._notice(notice_id)
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            held = find_item(connection, tenant, case_id, "clock", notice_id, Running)
            if gate and not any(
                each.person == operator and each.role is notice.approval
                for each in items(connection, tenant, case_id, "member", Member)
            ):
                said = f"`{notice_id}` is approved by the {notice.approval} of the case"
                raise DeniedError("cases.clock.approval", said, at=notice_id)
            if held.state not in allowed:
                said = f"the notice is {held.state}"
                hint = f"this needs: {', '.join(sorted(allowed))}"
                raise ConflictError("cases.clock.state", said, hint=hint, at=notice_id)
            made = write(held)
            alarm = 0 if made.state in _DONE else max(made.due - notice.warning, 1)
            keep_item(connection, tenant, case_id, "clock", notice_id, made, time=held.aware, alarm=alarm)
            self._add(connection, tenant, case_id, operator, ClockMoved(notice_id, made.state, reason))
        return made
