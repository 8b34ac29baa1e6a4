"""Cases: people's work on alerts, with a timeline that only grows, and evidence by digest and reference.

Every read and write names a tenant and sees nothing of another. What a durable step writes carries a key and is written
once, however often the step runs. What is privileged is withheld from every reader who is not privy to the case.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from vedette.act.cases.custody import Intake, link_evidence
from vedette.act.cases.nouns import (
    MAX_LIST,
    NEXT,
    NOBODY,
    PRIVY,
    Case,
    CaseFilter,
    CasePage,
    CaseState,
    Evidence,
    Member,
)
from vedette.act.cases.phases import Phase, next_phases, time_in_phases
from vedette.act.cases.review import require_review
from vedette.act.cases.store import Store, check_text, here, items, linked, load, read_all, read_entries, this, to_case
from vedette.act.cases.tables import ALERT, CASE, ENTRY, EVIDENCE, ITEM
from vedette.act.timeline import (
    AlertLinked,
    Body,
    Entry,
    EvidenceAdded,
    Noted,
    Opened,
    OwnerChanged,
    PhaseChanged,
    StateChanged,
)
from vedette.core.db import Connection, insert_new, sa
from vedette.core.errors import ConflictError, DataError, DeniedError
from vedette.core.signal import Level

MAX_TERMS = 8
_CURSOR = re.compile(r"([0-9]{1,18})\.([A-Za-z0-9_]{1,64})")
_NOTE = '{"kind":"noted","text":"'
_PRIVILEGED = '"privileged":true}'


class Cases(Store):
    """The cases of all tenants."""

    def open(
        self,
        tenant: str,
        title: str,
        *,
        operator: str,
        level: Level,
        alert_id: str = "",
        phase: Phase = Phase.ANALYSIS,
    ) -> Case:
        """Opens a case; with `alert_id`, the case of that alert, which is opened once.

        Args:
            tenant: Whose.
            title: What it is about.
            operator: Who opens it.
            level: How bad it looks.
            alert_id: Alert that it is opened for.
            phase: `preparation` for an exercise or a hunt, else detection and analysis.

        Raises:
            DataError: `cases.text.invalid`: the title is empty or too long; `cases.phase.first`.
        """
        check_text(title)
        if phase not in {Phase.PREPARATION, Phase.ANALYSIS}:
            raise DataError("cases.phase.first", f"no case begins in {phase}", at="$.phase")
        case_id = f"cs_{_hash(tenant, alert_id)}" if alert_id else self._ids.new("cs")
        now = self._clock.now()
        with self._database.begin() as connection:
            held = _case_of(connection, tenant, alert_id) if alert_id else None
            if held:
                return load(connection, tenant, held)
            row = {"title": title, "level": str(level), "state": "new", "phase": str(phase)}
            times = {"created_time": now, "updated_time": now, "next_seq": 1}
            if insert_new(connection, CASE, tenant=tenant, id=case_id, **row, **times):
                self._add(connection, tenant, case_id, operator, Opened(title), key="opened")
                if alert_id:
                    self._link(connection, tenant, case_id, operator, alert_id)
            return load(connection, tenant, case_id)

    def get(self, tenant: str, case_id: str) -> Case:
        """One case.

        Raises:
            NotFoundError: `cases.case.unknown`, also for another tenant's.
        """
        with self._database.read() as connection:
            return load(connection, tenant, case_id)

    def find(self, tenant: str, *, states: Sequence[CaseState] = (), limit: int = 100) -> list[Case]:
        """Newest change first."""
        return self.page(tenant, CaseFilter(state=tuple(states)), limit=limit).cases

    def page(self, tenant: str, wanted: CaseFilter, *, after: str = "", limit: int = 100, reader: str = "") -> CasePage:
        """One page of the queue, newest change first.

        Args:
            tenant: Whose.
            wanted: Which cases.
            after: `next` of the page before; empty: the first page.
            limit: Most cases of the page, at most `MAX_LIST`.
            reader: Who looks: words are searched in the notes that they may read. Empty: nobody's privileged ones.

        Raises:
            DataError: `cases.cursor.invalid`.
        """
        place = sa.tuple_(CASE.c.updated_time, CASE.c.id)
        query = CASE.select().where(*_conditions(tenant, wanted, reader))
        if after:
            query = query.where(place < sa.tuple_(*_place(after)))
        size = max(1, min(limit, MAX_LIST))
        with self._database.read() as connection:
            order = (CASE.c.updated_time.desc(), CASE.c.id.desc())
            rows = connection.execute(query.order_by(*order).limit(size + 1)).all()
            alerts = linked(connection, tenant, [row.id for row in rows])
        shown = [to_case(row, alerts.get(row.id, ())) for row in rows[:size]]
        return CasePage(shown, f"{shown[-1].updated_time}.{shown[-1].id}" if len(rows) > size else "")

    def counts(self, tenant: str, wanted: CaseFilter, *, reader: str = "") -> dict[str, dict[str, int]]:
        """Facet -> value -> cases that the other facets of the filter would leave with it."""
        found: dict[str, dict[str, int]] = {}
        with self._database.read() as connection:
            for name in ("state", "phase", "level", "owner"):
                others = msgspec.structs.replace(wanted, **{name: ()})
                column = CASE.c[name]
                where = _conditions(tenant, others, reader)
                rows = connection.execute(sa.select(column, sa.func.count()).where(*where).group_by(column)).all()
                ordered = sorted(rows, key=lambda row: (-row[1], row[0]))
                found[name] = {row[0] or NOBODY: row[1] for row in ordered}
        return found

    def of_alert(self, tenant: str, alert_id: str) -> str | None:
        """Id of the case that holds an alert, if any does."""
        with self._database.read() as connection:
            return _case_of(connection, tenant, alert_id)

    def timeline(
        self, tenant: str, case_id: str, *, after: int = 0, limit: int = MAX_LIST, reader: str = ""
    ) -> list[Entry]:
        """Entries in order, from `seq` after `after` on; what the reader is not privy to is withheld.

        Args:
            tenant: Whose.
            case_id: Which.
            after: Last `seq` that is known.
            limit: Most entries, at most `MAX_LIST`.
            reader: Id of the person who reads; empty: nobody in particular, so nothing privileged.
        """
        with self._database.read() as connection:
            load(connection, tenant, case_id)
            privy = bool(reader) and _is_privy(connection, tenant, case_id, reader)
            return read_entries(connection, tenant, case_id, after=after, limit=min(limit, MAX_LIST), privy=privy)

    def phases(self, tenant: str, case_id: str) -> dict[Phase, int]:
        """Microseconds that the case was in each phase it entered, until it was closed, or now."""
        with self._database.read() as connection:
            case = load(connection, tenant, case_id)
            entries = read_all(connection, tenant, case_id)
        closed = [each.time for each in entries if isinstance(each.body, StateChanged) and each.body.after == "closed"]
        until = closed[-1] if closed and case.state is CaseState.CLOSED else self._clock.now()
        moves = [each.body for each in entries if isinstance(each.body, PhaseChanged)]
        first = Phase(moves[0].before) if moves else case.phase
        return time_in_phases(entries, first, case.created_time, until)

    def evidence(self, tenant: str, case_id: str) -> list[Evidence]:
        """Its artefacts, oldest first."""
        with self._database.read() as connection:
            load(connection, tenant, case_id)
            query = EVIDENCE.select().where(here(EVIDENCE, tenant, case_id))
            rows = connection.execute(query.order_by(EVIDENCE.c.time, EVIDENCE.c.digest).limit(MAX_LIST)).all()
        return [Evidence(row.digest, row.reference, row.what, row.time) for row in rows]

    def link_alert(self, tenant: str, case_id: str, alert_id: str, *, operator: str, why: str = "") -> None:
        """Adds an alert; once is enough.

        Raises:
            ConflictError: `cases.alert.taken`: another case holds it.
        """
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            held = _case_of(connection, tenant, alert_id)
            if held not in (None, case_id):
                raise ConflictError("cases.alert.taken", f"the alert is in case `{held}`", at=alert_id)
            if held is None:
                self._link(connection, tenant, case_id, operator, alert_id, why)

    def add_evidence(
        self, tenant: str, case_id: str, *, digest: str, reference: str, what: str, operator: str, how: str = ""
    ) -> None:
        """Adds an artefact by its digest, to the case and to its chain of custody; again changes nothing."""
        now = self._clock.now()
        row = {"digest": digest, "reference": reference, "what": what, "time": now}
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            if insert_new(connection, EVIDENCE, tenant=tenant, case_id=case_id, **row):
                intake = Intake(digest=digest, reference=reference, name=what, who=operator, how=how or what)
                link_evidence(connection, tenant, case_id, intake, now)
                self._add(connection, tenant, case_id, operator, EvidenceAdded(digest, reference, what))

    def note(self, tenant: str, case_id: str, text: str, *, operator: str, privileged: bool = False) -> None:
        """Adds a person's words, at most `MAX_TEXT` characters.

        Raises:
            DeniedError: `cases.note.privileged`: only who is privy writes such notes, as nobody else could read them.
        """
        check_text(text)
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            if privileged and not _is_privy(connection, tenant, case_id, operator):
                hint = "ask to be made commander or legal of the case"
                raise DeniedError("cases.note.privileged", "you are not privy to this case", hint=hint)
            self._add(connection, tenant, case_id, operator, Noted(text, privileged))

    def set_state(self, tenant: str, case_id: str, state: CaseState, *, operator: str) -> Case:
        """Moves the case on; the state it is in changes nothing.

        Raises:
            ConflictError: `cases.state.forbidden`: there is no way from the state it is in; `cases.review.missing`,
                `cases.review.phase`: an incident is closed after its review, in the phase of it.
        """
        with self._database.begin() as connection:
            case = load(connection, tenant, case_id, lock=True)
            if state is not case.state:
                if state not in NEXT[case.state]:
                    allowed = ", ".join(sorted(NEXT[case.state]))
                    raise _forbidden("state", case_id, f"a case that is {case.state} cannot become {state}", allowed)
                if state is CaseState.CLOSED:
                    require_review(connection, case)
                connection.execute(CASE.update().where(this(tenant, case_id)).values(state=str(state)))
                self._add(connection, tenant, case_id, operator, StateChanged(case.state, state))
            return load(connection, tenant, case_id)

    def set_phase(self, tenant: str, case_id: str, phase: Phase, *, operator: str) -> Case:
        """Enters a phase of the response; the one it is in changes nothing.

        Raises:
            ConflictError: `cases.phase.forbidden`: there is no way from the phase it is in, or it is closed.
        """
        with self._database.begin() as connection:
            case = load(connection, tenant, case_id, lock=True)
            if phase is not case.phase:
                allowed = [] if case.state is CaseState.CLOSED else next_phases(case.phase)
                if phase not in allowed:
                    said = f"a case in {case.phase} cannot enter {phase}"
                    closed = "none, it is closed: work on it again first"
                    raise _forbidden("phase", case_id, said, ", ".join(allowed) or closed)
                connection.execute(CASE.update().where(this(tenant, case_id)).values(phase=str(phase)))
                self._add(connection, tenant, case_id, operator, PhaseChanged(case.phase, phase))
            return load(connection, tenant, case_id)

    def set_owner(self, tenant: str, case_id: str, owner: str, *, operator: str) -> Case:
        """Gives the case to a person; empty: to nobody."""
        with self._database.begin() as connection:
            case = load(connection, tenant, case_id, lock=True)
            if owner != case.owner:
                connection.execute(CASE.update().where(this(tenant, case_id)).values(owner=owner))
                self._add(connection, tenant, case_id, operator, OwnerChanged(case.owner, owner))
            return load(connection, tenant, case_id)

    def record(self, tenant: str, case_id: str, body: Body, *, operator: str, key: str = "") -> None:
        """Adds an entry; with a `key`, once."""
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            self._add(connection, tenant, case_id, operator, body, key=key)

    def _link(  # noqa: PLR0917 - the columns of a row
        self, connection: Connection, tenant: str, case_id: str, operator: str, alert_id: str, why: str = ""
    ) -> None:
        seq = connection.execute(sa.select(CASE.c.next_seq).where(this(tenant, case_id))).scalar_one()
        if insert_new(connection, ALERT, tenant=tenant, alert_id=alert_id, case_id=case_id, seq=seq):
            self._add(connection, tenant, case_id, operator, AlertLinked(alert_id, why))


def _forbidden(what: str, case_id: str, message: str, allowed: str) -> ConflictError:
    return ConflictError(f"cases.{what}.forbidden", message, hint=f"allowed: {allowed}", at=case_id)


def _case_of(connection: Connection, tenant: str, alert_id: str) -> str | None:
    query = sa.select(ALERT.c.case_id).where(ALERT.c.tenant == tenant, ALERT.c.alert_id == alert_id)
    return connection.execute(query).scalar()


def _is_privy(connection: Connection, tenant: str, case_id: str, person: str) -> bool:
    members = items(connection, tenant, case_id, "member", Member)
    return any(each.person == person and each.role in PRIVY for each in members)


def _hash(*parts: str) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:26]


def _conditions(tenant: str, wanted: CaseFilter, reader: str) -> list[Any]:
    found: list[Any] = [CASE.c.tenant == tenant]
    for name in ("state", "phase", "level", "owner"):
        values = [str(value) for value in getattr(wanted, name)]
        if values:
            found.append(CASE.c[name].in_(["" if value == NOBODY else value for value in values]))
    terms = wanted.text.replace("\x00", "").split()[:MAX_TERMS]
    return found + [
        sa.or_(CASE.c.title.icontains(term, autoescape=True), CASE.c.id == term, _noted(term, reader)) for term in terms
    ]


def _noted(term: str, reader: str) -> Any:
    """A note of the case that the reader may read holds the term."""
    words = sa.func.substr(ENTRY.c.body, len(_NOTE) + 1)
    mine = (ENTRY.c.tenant == CASE.c.tenant) & (ENTRY.c.case_id == CASE.c.id)
    readable: Any = sa.not_(ENTRY.c.body.endswith(_PRIVILEGED, autoescape=True))
    if reader:
        names = [f"{role}:{reader}" for role in PRIVY]
        member = (ITEM.c.tenant == CASE.c.tenant) & (ITEM.c.case_id == CASE.c.id) & (ITEM.c.kind == "member")
        readable |= sa.exists().where(member, ITEM.c.id.in_(names))
    kind = ENTRY.c.body.startswith(_NOTE, autoescape=True)
    return sa.exists().where(mine, kind, words.icontains(term, autoescape=True), readable)


def _place(after: str) -> tuple[int, str]:
    place = _CURSOR.fullmatch(after)
    if place is None:
        raise DataError("cases.cursor.invalid", "this is no place in the queue", hint="take `next` from a page")
    return int(place[1]), place[2]
