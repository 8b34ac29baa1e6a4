"""Reports, from the first word to disclosure: states, clocks, the thread with the reporter, duplicates, the case.

A report goes from new over triaged, fixing and fixed to disclosed, or is closed for a reason. Three clocks run: triage
and disclosure from the day it came, the fix from triage on, by its level. A disclosure is put off only by agreement, in
all by no more than the rubric allows. Reports of one root cause are duplicates of the first that was triaged, which
alone is worked on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from vedette.act.bounty.report import OPEN, Message, Report, ReportState, Standing
from vedette.act.bounty.rubric import Facts, Rubric, weigh
from vedette.core.clock import DAY, MICROS, Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.audit import Audit

MAX_TITLE, MAX_TEXT, MAX_NAME = 200, 20_000, 200
MAX_PAGE = 500
MAX_TOLD = 200

_METADATA = sa.MetaData()
_REPORT = sa.Table(
    "bounty_report",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("severity_id", sa.Integer, nullable=False),
    sa.Column("created_time", LONG, nullable=False),
    sa.Column("due", LONG, nullable=False),
    sa.Column("root", sa.Text, nullable=False, server_default=""),
    sa.Column("original", sa.Text, nullable=False, server_default=""),
    sa.Column("told", sa.Text, nullable=False, server_default=""),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("bounty_report_due", "tenant", "state", "due"),
    sa.Index("bounty_report_root", "tenant", "root", "created_time"),
    sqlite_strict=True,
)
_MESSAGE = sa.Table(
    "bounty_message",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("report_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("time", LONG, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "bounty reports", create(_METADATA)),)


_MOVES: dict[ReportState, frozenset[ReportState]] = {
    ReportState.NEW: frozenset({ReportState.CLOSED}),
    ReportState.TRIAGED: frozenset({ReportState.FIXING, ReportState.FIXED, ReportState.CLOSED}),
    ReportState.FIXING: frozenset({ReportState.FIXED, ReportState.TRIAGED, ReportState.CLOSED}),
    ReportState.FIXED: frozenset({ReportState.DISCLOSED, ReportState.FIXING}),
}


class Bounty:
    """Reports of all tenants; every read names a tenant and sees nothing of another.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: The clocks of reports.
        ids: Ids of reports.
        audit: Told of what is done.
        rubric: How bad, and how long.
    """

    def __init__(self, database: Database, clock: Clock, ids: Ids, audit: Audit, rubric: Rubric) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self.rubric = rubric
        database.migrate("bounty", MIGRATIONS)

    def file(
        self,
        tenant: str,
        *,
        title: str,
        text: str,
        reporter: str,
        asset: str,
        operator: str,
        external_id: str = "",
        time: int = 0,
    ) -> Report:
        """Takes a report; one whose `external_id` is known is given back as it is.

        Args:
            tenant: Whose product it is about.
            title: In one line.
            text: What was found, and how to make it happen.
            reporter: Who found it.
            asset: Where.
            operator: Who takes it in.
            external_id: Its id where it came from.
            time: When it came, microseconds UTC; 0 or later than now: now.

        Raises:
            DataError: `bounty.text.size`.
        """
        values = {"title": title, "text": text, "reporter": reporter, "asset": asset}
        for name, each in values.items():
            most = {"title": MAX_TITLE, "text": MAX_TEXT}.get(name, MAX_NAME)
            if not each.strip() or len(each) > most:
                raise DataError("bounty.text.size", f"`{name}` has 1 to {most} characters", at=f"$.{name}")
        if len(external_id) > MAX_NAME:
            raise DataError("bounty.text.size", f"`external_id` has at most {MAX_NAME} characters", at="$.external_id")
        now, times = self._clock.now(), self.rubric.times
        since = time if 0 < time < now else now
        name = _of(tenant, external_id) if external_id else self._ids.new("br")
        made = Report(
            id=name,
            tenant=tenant,
            title=title.strip(),
            text=text.strip(),
            reporter=reporter.strip(),
            asset=asset.strip(),
            external_id=external_id,
            state=ReportState.NEW,
            created_time=since,
            triage_due=since + times.of(times.triage),
            disclose_due=since + times.of(times.disclose),
        )
        with self._database.begin() as connection:
            fresh = insert_new(connection, _REPORT, **_row(made))
            found = made if fresh else _load(connection, tenant, name)
        if fresh:
            self._tell(made, "bounty.report", operator, {"reporter": made.reporter[:100], "asset": made.asset[:100]})
        return found

    def find(self, tenant: str, *, states: Sequence[ReportState] = OPEN, limit: int = 100) -> list[Report]:
        """Reports, the next clock first; what has none comes last, the newest first."""
        names = [str(state) for state in states or ReportState]
        query = _REPORT.select().where(_REPORT.c.tenant == tenant, _REPORT.c.state.in_(names))
        query = query.order_by(_REPORT.c.due == 0, _REPORT.c.due, _REPORT.c.created_time.desc(), _REPORT.c.id)
        with self._database.read() as connection:
            return [_decode(row.body) for row in connection.execute(query.limit(min(limit, MAX_PAGE)))]

    def get(self, tenant: str, report_id: str) -> Report:
        """One report.

        Raises:
            NotFoundError: `bounty.report.unknown`.
        """
        with self._database.read() as connection:
            return _load(connection, tenant, report_id)

    def duplicates(self, tenant: str, report_id: str) -> list[str]:
        """Ids of the duplicates of a report, oldest first."""
        query = sa.select(_REPORT.c.id).where(_REPORT.c.tenant == tenant, _REPORT.c.original == report_id)
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(_REPORT.c.created_time, _REPORT.c.id)).scalars())

    def triage(self, tenant: str, report_id: str, facts: Facts, *, root: str, operator: str) -> Report:
        """Weighs a report, starts the clock of its fix, and links it with what has the same root cause.

        Args:
            tenant: Whose.
            report_id: Which; one that was triaged before is weighed anew, and keeps its clock's beginning.
            facts: What was found.
            root: The cause in few words, the same for reports that one fix ends; empty: not known yet.
            operator: Who triages.

        Raises:
            DataError: `bounty.cwe.unknown`, `bounty.vector.invalid`, `bounty.text.size`.
            ConflictError: `bounty.state.forbidden`.
        """
        cause = " ".join(root.casefold().replace("\x00", " ").split())
        if len(cause) > MAX_NAME:
            raise DataError("bounty.text.size", f"`root` has at most {MAX_NAME} characters", at="$.root")
        found, now, times = weigh(facts, self.rubric), self._clock.now(), self.rubric.times
        with self._database.begin() as connection:
            held = _load(connection, tenant, report_id, lock=True)
            if held.state not in {ReportState.NEW, ReportState.TRIAGED, ReportState.FIXING, ReportState.DUPLICATE}:
                raise ConflictError("bounty.state.forbidden", f"a report that is {held.state} is not triaged")
            first = _first_of(connection, tenant, cause, held) if cause else None
            since = held.triaged_time or now
            after = ReportState.FIXING if held.state is ReportState.FIXING else ReportState.TRIAGED
            made = msgspec.structs.replace(
                held,
                facts=facts,
                weighed=found,
                root=cause,
                original=first or "",
                state=ReportState.DUPLICATE if first else after,
                triaged_time=since,
                fix_due=since + times.of(times.fix[found.level]),
            )
            _store(connection, made)
        detail = {"level": str(found.level), "cwe": facts.cwe, "rubric": found.line, "original": made.original}
        self._tell(made, "bounty.triage", operator, detail)
        return made

    def move(self, tenant: str, report_id: str, state: ReportState, *, operator: str, reason: str = "") -> Report:
        """Goes to another state.

        Raises:
            ConflictError: `bounty.state.forbidden`.
            DataError: `bounty.reason.missing`: closing says why.
        """
        if state is ReportState.CLOSED and not reason.strip():
            raise DataError("bounty.reason.missing", "closing a report says why", at="$.reason")
        now = self._clock.now()
        with self._database.begin() as connection:
            held = _load(connection, tenant, report_id, lock=True)
            allowed = _MOVES.get(held.state, frozenset())
            if state not in allowed:
                hint = f"from here: {', '.join(sorted(allowed)) or 'nowhere'}"
                raise ConflictError("bounty.state.forbidden", f"the report is {held.state}", hint=hint, at=report_id)
            made = msgspec.structs.replace(
                held,
                state=state,
                fixed_time=held.fixed_time or now if state is ReportState.FIXED else held.fixed_time,
                disclosed_time=now if state is ReportState.DISCLOSED else 0,
            )
            _store(connection, made)
        self._tell(made, "bounty.move", operator, {"from": str(held.state), "to": str(state), "reason": reason[:200]})
        return made

    @staticmethod
    def moves(report: Report) -> list[ReportState]:
        """The states that a report can be moved to."""
        return sorted(_MOVES.get(report.state, frozenset()), key=list(ReportState).index)

    def extend(self, tenant: str, report_id: str, days: int, *, reason: str, operator: str) -> Report:
        """Puts the disclosure off, as was agreed with the reporter.

        Raises:
            DataError: `bounty.extension.size`, `bounty.reason.missing`.
            ConflictError: `bounty.state.forbidden`: nothing is to be disclosed any more.
        """
        if not reason.strip():
            raise DataError("bounty.reason.missing", "an extension says what was agreed", at="$.reason")
        most = self.rubric.times.of(self.rubric.times.extend)
        with self._database.begin() as connection:
            held = _load(connection, tenant, report_id, lock=True)
            if held.state not in OPEN:
                raise ConflictError("bounty.state.forbidden", f"the report is {held.state}", at=report_id)
            if days < 1 or held.extended + days * DAY > most:
                left = (most - held.extended) // DAY
                raise DataError("bounty.extension.size", f"at most {left} days more", at="$.days")
            more = days * DAY
            due, whole = held.disclose_due + more, held.extended + more
            made = msgspec.structs.replace(held, disclose_due=due, extended=whole)
            _store(connection, made)
        self._tell(made, "bounty.extend", operator, {"days": str(days), "reason": reason[:200]})
        return made

    def link(self, tenant: str, report_id: str, case_id: str, *, operator: str) -> Report:
        """Says which case a report is worked on in."""
        with self._database.begin() as connection:
            made = msgspec.structs.replace(_load(connection, tenant, report_id, lock=True), case_id=case_id)
            _store(connection, made)
        self._tell(made, "bounty.link", operator, {"case": case_id})
        return made

    def say(
        self, tenant: str, report_id: str, text: str, *, author: str, ours: bool = True, internal: bool = False
    ) -> Message:
        """Adds a line to the thread.

        Raises:
            DataError: `bounty.text.size`.
        """
        if not text.strip() or len(text) > MAX_TEXT:
            raise DataError("bounty.text.size", f"`text` has 1 to {MAX_TEXT} characters", at="$.text")
        with self._database.begin() as connection:
            _load(connection, tenant, report_id, lock=True)
            mine = (_MESSAGE.c.tenant == tenant) & (_MESSAGE.c.report_id == report_id)
            seq = (connection.execute(sa.select(sa.func.max(_MESSAGE.c.seq)).where(mine)).scalar() or 0) + 1
            made = Message(seq, self._clock.now(), author[:MAX_NAME], ours, text.strip(), internal)
            body = msgspec.json.encode(made).decode()
            insert_new(connection, _MESSAGE, tenant=tenant, report_id=report_id, seq=seq, time=made.time, body=body)
        return made

    def thread(self, tenant: str, report_id: str) -> list[Message]:
        """What was said, oldest first."""
        query = sa.select(_MESSAGE.c.body).where(_MESSAGE.c.tenant == tenant, _MESSAGE.c.report_id == report_id)
        with self._database.read() as connection:
            _load(connection, tenant, report_id)
            bodies = connection.execute(query.order_by(_MESSAGE.c.seq).limit(MAX_PAGE)).scalars()
            return [msgspec.json.decode(body, type=Message) for body in bodies]

    def standing(self, tenant: str) -> Standing:
        """The reports in numbers."""
        count, now = sa.func.count(), self._clock.now()
        mine = _REPORT.c.tenant == tenant
        with self._database.read() as connection:
            states = connection.execute(sa.select(_REPORT.c.state, count).where(mine).group_by(_REPORT.c.state)).all()
            late = sa.select(count).where(mine, _REPORT.c.due > 0, _REPORT.c.due < now)
            overdue = connection.execute(late).scalar_one()
            bodies = connection.execute(sa.select(_REPORT.c.body).where(mine).limit(20 * MAX_PAGE)).scalars()
            found = [_decode(body) for body in bodies]
        triaged = sorted(each.triaged_time - each.created_time for each in found if each.triaged_time)
        fixed = sorted(each.fixed_time - each.created_time for each in found if each.fixed_time)
        return Standing(
            states={row[0]: row[1] for row in states},
            overdue=overdue,
            triage_s=triaged[len(triaged) // 2] // MICROS if triaged else None,
            fix_s=fixed[len(fixed) // 2] // MICROS if fixed else None,
        )

    def tell_overdue(self, tenant: str) -> int:
        """Tells the audit trail of clocks that ran out, each once; gives how many."""
        now, told = self._clock.now(), list[tuple[Report, str]]()
        query = _REPORT.select().where(_REPORT.c.tenant == tenant, _REPORT.c.due > 0, _REPORT.c.due < now)
        with self._database.begin() as connection:
            for row in connection.execute(query.order_by(_REPORT.c.due).limit(MAX_TOLD)).all():
                report = _decode(row.body)
                mark = f"{report.clock[0]}:{report.clock[1]}"
                if mark != row.told:
                    here = (_REPORT.c.tenant == tenant) & (_REPORT.c.id == row.id)
                    connection.execute(_REPORT.update().where(here).values(told=mark))
                    told.append((report, report.clock[0]))
        for report, clock in told:
            self._tell(report, "bounty.overdue", "system", {"clock": clock})
        return len(told)

    def _tell(self, report: Report, action: str, operator: str, detail: dict[str, str]) -> None:
        self._audit.record(report.tenant, action, actor=operator, target=report.id, detail=detail)


def _of(tenant: str, external_id: str) -> str:
    return "br_" + hashlib.sha256(msgspec.json.encode([tenant, external_id])).hexdigest()[:26]


def _decode(body: str) -> Report:
    return msgspec.json.decode(body, type=Report)


def _row(report: Report) -> dict[str, Any]:
    return {
        "tenant": report.tenant,
        "id": report.id,
        "state": str(report.state),
        "severity_id": report.weighed.level.severity_id if report.weighed else 0,
        "created_time": report.created_time,
        "due": report.clock[1],
        "root": report.root,
        "original": report.original,
        "body": msgspec.json.encode(report).decode(),
    }


def _load(connection: Connection, tenant: str, report_id: str, *, lock: bool = False) -> Report:
    query = sa.select(_REPORT.c.body).where(_REPORT.c.tenant == tenant, _REPORT.c.id == report_id)
    body = connection.execute(query.with_for_update() if lock else query).scalar()
    if body is None:
        raise NotFoundError("bounty.report.unknown", "no such report", at=report_id[:64])
    return _decode(body)


def _store(connection: Connection, report: Report) -> None:
    here = (_REPORT.c.tenant == report.tenant) & (_REPORT.c.id == report.id)
    connection.execute(_REPORT.update().where(here).values(**_row(report)))


def _first_of(connection: Connection, tenant: str, root: str, report: Report) -> str | None:
    """The report that others of a root cause are duplicates of: the oldest triaged as it that is none itself."""
    mine = (_REPORT.c.tenant == tenant) & (_REPORT.c.root == root) & (_REPORT.c.original == "")
    others = mine & (_REPORT.c.id != report.id) & (_REPORT.c.state != str(ReportState.CLOSED))
    query = sa.select(_REPORT.c.id).where(others).order_by(_REPORT.c.created_time, _REPORT.c.id)
    return connection.execute(query.limit(1)).scalar()
