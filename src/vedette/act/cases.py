"""Cases: people's work on alerts, with a timeline that only grows, and evidence by digest and reference.

Every read and write names a tenant and sees nothing of another. Timeline entries cannot be changed or deleted: the
database itself refuses. What a durable step writes carries a key and is written once, however often the step runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

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
    TaskAdded,
    TaskDone,
)
from vedette.core.clock import Clock
from vedette.core.db import LONG, Connection, Database, Migration, insert_new, sa
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.core.ids import Ids
from vedette.core.signal import Level

MAX_LIST = 1_000
MAX_TERMS = 8
MAX_TEXT = 20_000
"""Longest note or title kept, characters."""
NOBODY = "nobody"
"""How a filter names the cases without an owner."""
_CURSOR = re.compile(r"([0-9]{1,18})\.([A-Za-z0-9_]{1,64})")


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


_NEXT = {
    CaseState.NEW: {CaseState.IN_PROGRESS, CaseState.ON_HOLD, CaseState.RESOLVED},
    CaseState.IN_PROGRESS: {CaseState.ON_HOLD, CaseState.RESOLVED},
    CaseState.ON_HOLD: {CaseState.IN_PROGRESS, CaseState.RESOLVED},
    CaseState.RESOLVED: {CaseState.CLOSED, CaseState.IN_PROGRESS},
    CaseState.CLOSED: {CaseState.IN_PROGRESS},
}


def next_states(state: CaseState) -> list[CaseState]:
    """Where a case can go from a state."""
    return [each for each in CaseState if each in _NEXT[state]]


class Phase(StrEnum):
    """NIST SP 800-61r2, section 3, from the first look on."""

    ANALYSIS = "detection_and_analysis"
    CONTAINMENT = "containment"
    ERADICATION = "eradication"
    RECOVERY = "recovery"
    AFTER = "post_incident"


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
    """Words that all stand in the title or the id."""


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


_METADATA = sa.MetaData()


def _table(name: str, *columns: Any) -> sa.Table:
    tenant = sa.Column("tenant", sa.Text, primary_key=True)
    return sa.Table(name, _METADATA, tenant, *columns, sqlite_strict=True)


_CASE = _table(
    "case_file",
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("phase", sa.Text, nullable=False),
    sa.Column("created_time", LONG, nullable=False),
    sa.Column("updated_time", LONG, nullable=False),
    sa.Column("next_seq", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=False, server_default=""),
    sa.Index("case_file_queue", "tenant", "state", "updated_time"),
)
_ENTRY = _table(
    "case_entry",
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sa.Column("operator", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.UniqueConstraint("tenant", "case_id", "key"),
)
_ALERT = _table(
    "case_alert",
    sa.Column("alert_id", sa.Text, primary_key=True),
    sa.Column("case_id", sa.Text, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Index("case_alert_case", "tenant", "case_id"),
)
_EVIDENCE = _table(
    "case_evidence",
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
)
_TASK = _table(
    "case_task",
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("time", LONG, nullable=False),
)

_SEAL_SQLITE = (
    (
        "create trigger case_entry_no_update before update on case_entry begin "
        "select raise(abort, 'case entries are append-only'); end"
    ),
    (
        "create trigger case_entry_no_delete before delete on case_entry begin "
        "select raise(abort, 'case entries are append-only'); end"
    ),
)
_SEAL_POSTGRES = (
    (
        "create function case_entry_sealed() returns trigger language plpgsql as "
        "$$ begin raise exception 'case entries are append-only'; end $$"
    ),
    (
        "create trigger case_entry_sealed before update or delete on case_entry "
        "for each row execute function case_entry_sealed()"
    ),
)


def _create(connection: Connection) -> None:
    _METADATA.create_all(connection, checkfirst=False)
    for statement in _SEAL_SQLITE if connection.dialect.name == "sqlite" else _SEAL_POSTGRES:
        connection.exec_driver_sql(statement)


def _add_owner(connection: Connection) -> None:
    if "owner" not in {column["name"] for column in sa.inspect(connection).get_columns("case_file")}:
        connection.exec_driver_sql("alter table case_file add column owner text not null default ''")


MIGRATIONS = (Migration(1, "cases", _create), Migration(2, "owners", _add_owner))


class Cases:
    """The cases of all tenants.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Times of entries.
        ids: Ids of cases and tasks.
    """

    def __init__(self, database: Database, clock: Clock, ids: Ids) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        database.migrate("cases", MIGRATIONS)

    def open(self, tenant: str, title: str, *, operator: str, level: Level, alert_id: str = "") -> Case:
        """Opens a case; with `alert_id`, the case of that alert, which is opened once.

        Raises:
            DataError: `cases.text.invalid`: the title is empty or too long.
        """
        _check_text(title)
        case_id = f"cs_{_hash(tenant, alert_id)}" if alert_id else self._ids.new("cs")
        now = self._clock.now()
        with self._database.begin() as connection:
            held = self._case_of(connection, tenant, alert_id) if alert_id else None
            if held:
                return _load(connection, tenant, held)
            row = {"title": title, "level": str(level), "state": "new", "phase": str(Phase.ANALYSIS)}
            times = {"created_time": now, "updated_time": now, "next_seq": 1}
            if insert_new(connection, _CASE, tenant=tenant, id=case_id, **row, **times):
                self._add(connection, tenant, case_id, operator, Opened(title), key="opened")
                if alert_id:
                    self._link(connection, tenant, case_id, operator, alert_id)
            return _load(connection, tenant, case_id)

    def get(self, tenant: str, case_id: str) -> Case:
        """One case.

        Raises:
            NotFoundError: `cases.case.unknown`, also for another tenant's.
        """
        with self._database.read() as connection:
            return _load(connection, tenant, case_id)

    def find(self, tenant: str, *, states: Sequence[CaseState] = (), limit: int = 100) -> list[Case]:
        """Newest change first."""
        return self.page(tenant, CaseFilter(state=tuple(states)), limit=limit).cases

    def page(self, tenant: str, wanted: CaseFilter, *, after: str = "", limit: int = 100) -> CasePage:
        """One page of the queue, newest change first.

        Args:
            tenant: Whose.
            wanted: Which cases.
            after: `next` of the page before; empty: the first page.
            limit: Most cases of the page, at most `MAX_LIST`.

        Raises:
            DataError: `cases.cursor.invalid`.
        """
        place = sa.tuple_(_CASE.c.updated_time, _CASE.c.id)
        query = _CASE.select().where(*_conditions(tenant, wanted))
        if after:
            query = query.where(place < sa.tuple_(*_place(after)))
        size = max(1, min(limit, MAX_LIST))
        with self._database.read() as connection:
            order = (_CASE.c.updated_time.desc(), _CASE.c.id.desc())
            rows = connection.execute(query.order_by(*order).limit(size + 1)).all()
            linked = _linked(connection, tenant, [row.id for row in rows])
        shown = [_to_case(row, linked.get(row.id, ())) for row in rows[:size]]
        return CasePage(shown, f"{shown[-1].updated_time}.{shown[-1].id}" if len(rows) > size else "")

    def counts(self, tenant: str, wanted: CaseFilter) -> dict[str, dict[str, int]]:
        """Facet -> value -> cases that the other facets of the filter would leave with it."""
        found: dict[str, dict[str, int]] = {}
        with self._database.read() as connection:
            for name in ("state", "phase", "level", "owner"):
                others = msgspec.structs.replace(wanted, **{name: ()})
                column = _CASE.c[name]
                query = sa.select(column, sa.func.count()).where(*_conditions(tenant, others)).group_by(column)
                rows = sorted(connection.execute(query).all(), key=lambda row: (-row[1], row[0]))
                found[name] = {row[0] or NOBODY: row[1] for row in rows}
        return found

    def of_alert(self, tenant: str, alert_id: str) -> str | None:
        """Id of the case that holds an alert, if any does."""
        with self._database.read() as connection:
            return self._case_of(connection, tenant, alert_id)

    def timeline(self, tenant: str, case_id: str, *, after: int = 0, limit: int = MAX_LIST) -> list[Entry]:
        """Entries in order, from `seq` after `after` on."""
        query = (
            _ENTRY.select()
            .where(_here(_ENTRY, tenant, case_id), _ENTRY.c.seq > after)
            .order_by(_ENTRY.c.seq)
            .limit(min(limit, MAX_LIST))
        )
        with self._database.read() as connection:
            _load(connection, tenant, case_id)
            rows = connection.execute(query).all()
        return [Entry(row.seq, row.time, row.operator, msgspec.json.decode(row.body, type=Body)) for row in rows]

    def evidence(self, tenant: str, case_id: str) -> list[Evidence]:
        """Its artefacts, oldest first."""
        rows = self._rows(_EVIDENCE, tenant, case_id, _EVIDENCE.c.time, _EVIDENCE.c.digest)
        return [Evidence(row.digest, row.reference, row.what, row.time) for row in rows]

    def tasks(self, tenant: str, case_id: str) -> list[Task]:
        """Its tasks, oldest first."""
        rows = self._rows(_TASK, tenant, case_id, _TASK.c.time, _TASK.c.id)
        return [Task(row.id, row.title, bool(row.done), row.time) for row in rows]

    def link_alert(self, tenant: str, case_id: str, alert_id: str, *, operator: str) -> None:
        """Adds an alert; once is enough.

        Raises:
            ConflictError: `cases.alert.taken`: another case holds it.
        """
        with self._database.begin() as connection:
            _load(connection, tenant, case_id, lock=True)
            held = self._case_of(connection, tenant, alert_id)
            if held not in (None, case_id):
                raise ConflictError("cases.alert.taken", f"the alert is in case `{held}`", at=alert_id)
            if held is None:
                self._link(connection, tenant, case_id, operator, alert_id)

    def add_evidence(self, tenant: str, case_id: str, *, digest: str, reference: str, what: str, operator: str) -> None:
        """Adds an artefact by its digest; the same one again changes nothing."""
        row = {"digest": digest, "reference": reference, "what": what, "time": self._clock.now()}
        with self._database.begin() as connection:
            _load(connection, tenant, case_id, lock=True)
            if insert_new(connection, _EVIDENCE, tenant=tenant, case_id=case_id, **row):
                self._add(connection, tenant, case_id, operator, EvidenceAdded(digest, reference, what))

    def note(self, tenant: str, case_id: str, text: str, *, operator: str) -> None:
        """Adds a person's words, at most `MAX_TEXT` characters."""
        _check_text(text)
        self.record(tenant, case_id, Noted(text), operator=operator)

    def add_task(self, tenant: str, case_id: str, title: str, *, operator: str) -> Task:
        """Adds something to do."""
        _check_text(title)
        task = Task(self._ids.new("tk"), title, done=False, time=self._clock.now())
        row = {"id": task.id, "title": title, "done": 0, "time": task.time}
        with self._database.begin() as connection:
            _load(connection, tenant, case_id, lock=True)
            connection.execute(_TASK.insert().values(tenant=tenant, case_id=case_id, **row))
            self._add(connection, tenant, case_id, operator, TaskAdded(task.id, title))
        return task

    def finish_task(self, tenant: str, case_id: str, task_id: str, *, operator: str) -> None:
        """Marks a task done; again changes nothing.

        Raises:
            NotFoundError: `cases.task.unknown`.
        """
        with self._database.begin() as connection:
            _load(connection, tenant, case_id, lock=True)
            here = _here(_TASK, tenant, case_id) & (_TASK.c.id == task_id)
            done = connection.execute(sa.select(_TASK.c.done).where(here)).scalar()
            if done is None:
                raise NotFoundError("cases.task.unknown", "no such task in this case", at=task_id)
            if not done:
                connection.execute(_TASK.update().where(here).values(done=1))
                self._add(connection, tenant, case_id, operator, TaskDone(task_id))

    def set_state(self, tenant: str, case_id: str, state: CaseState, *, operator: str) -> Case:
        """Moves the case on; the state it is in changes nothing.

        Raises:
            ConflictError: `cases.state.forbidden`: there is no way from the state it is in.
        """
        with self._database.begin() as connection:
            case = _load(connection, tenant, case_id, lock=True)
            if state is not case.state:
                if state not in _NEXT[case.state]:
                    allowed = ", ".join(sorted(_NEXT[case.state]))
                    raise ConflictError(
                        "cases.state.forbidden",
                        f"a case that is {case.state} cannot become {state}",
                        hint=f"allowed: {allowed}",
                        at=case_id,
                    )
                connection.execute(_CASE.update().where(_this(tenant, case_id)).values(state=str(state)))
                self._add(connection, tenant, case_id, operator, StateChanged(case.state, state))
            return _load(connection, tenant, case_id)

    def set_phase(self, tenant: str, case_id: str, phase: Phase, *, operator: str) -> Case:
        """Enters a phase of the response; going back is allowed, as containment often fails."""
        with self._database.begin() as connection:
            case = _load(connection, tenant, case_id, lock=True)
            if phase is not case.phase:
                connection.execute(_CASE.update().where(_this(tenant, case_id)).values(phase=str(phase)))
                self._add(connection, tenant, case_id, operator, PhaseChanged(case.phase, phase))
            return _load(connection, tenant, case_id)

    def set_owner(self, tenant: str, case_id: str, owner: str, *, operator: str) -> Case:
        """Gives the case to a person; empty: to nobody."""
        with self._database.begin() as connection:
            case = _load(connection, tenant, case_id, lock=True)
            if owner != case.owner:
                connection.execute(_CASE.update().where(_this(tenant, case_id)).values(owner=owner))
                self._add(connection, tenant, case_id, operator, OwnerChanged(case.owner, owner))
            return _load(connection, tenant, case_id)

    def record(self, tenant: str, case_id: str, body: Body, *, operator: str, key: str = "") -> None:
        """Adds an entry; with a `key`, once."""
        with self._database.begin() as connection:
            _load(connection, tenant, case_id, lock=True)
            self._add(connection, tenant, case_id, operator, body, key=key)

    def _add(
        self, connection: Connection, tenant: str, case_id: str, operator: str, body: Body, *, key: str = ""
    ) -> None:
        # The case's row is locked: numbers have no gaps and one writer at a time.
        query = sa.select(_CASE.c.next_seq).where(_this(tenant, case_id)).with_for_update()
        seq: int = connection.execute(query).scalar_one()
        now = self._clock.now()
        row = {"time": now, "operator": operator, "body": msgspec.json.encode(body).decode()}
        if insert_new(connection, _ENTRY, tenant=tenant, case_id=case_id, seq=seq, key=key or f"#{seq}", **row):
            change = {"next_seq": seq + 1, "updated_time": now}
            connection.execute(_CASE.update().where(_this(tenant, case_id)).values(**change))

    def _link(self, connection: Connection, tenant: str, case_id: str, operator: str, alert_id: str) -> None:
        seq = connection.execute(sa.select(_CASE.c.next_seq).where(_this(tenant, case_id))).scalar_one()
        if insert_new(connection, _ALERT, tenant=tenant, alert_id=alert_id, case_id=case_id, seq=seq):
            self._add(connection, tenant, case_id, operator, AlertLinked(alert_id))

    def _case_of(self, connection: Connection, tenant: str, alert_id: str) -> str | None:
        query = sa.select(_ALERT.c.case_id).where(_ALERT.c.tenant == tenant, _ALERT.c.alert_id == alert_id)
        return connection.execute(query).scalar()

    def _rows(self, table: sa.Table, tenant: str, case_id: str, *order: Any) -> Sequence[Any]:
        with self._database.read() as connection:
            _load(connection, tenant, case_id)
            query = table.select().where(_here(table, tenant, case_id)).order_by(*order).limit(MAX_LIST)
            return connection.execute(query).all()


def _hash(*parts: str) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:26]


def _check_text(text: str) -> None:
    if not text.strip() or len(text) > MAX_TEXT:
        raise DataError("cases.text.invalid", f"the text must have 1 to {MAX_TEXT} characters")


def _here(table: sa.Table, tenant: str, case_id: str) -> Any:
    return (table.c.tenant == tenant) & (table.c.case_id == case_id)


def _this(tenant: str, case_id: str) -> Any:
    return (_CASE.c.tenant == tenant) & (_CASE.c.id == case_id)


def _load(connection: Connection, tenant: str, case_id: str, *, lock: bool = False) -> Case:
    query = _CASE.select().where(_this(tenant, case_id))
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFoundError("cases.case.unknown", "no such case", at=case_id)
    return _to_case(row, _linked(connection, tenant, [case_id]).get(case_id, ()))


def _linked(connection: Connection, tenant: str, case_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    query = sa.select(_ALERT.c.case_id, _ALERT.c.alert_id).where(_ALERT.c.tenant == tenant)
    query = query.where(_ALERT.c.case_id.in_(case_ids)).order_by(_ALERT.c.case_id, _ALERT.c.seq)
    found: dict[str, tuple[str, ...]] = {}
    for case_id, alert_id in connection.execute(query).all():
        found[case_id] = (*found.get(case_id, ()), alert_id)
    return found


def _to_case(row: Any, alerts: tuple[str, ...]) -> Case:
    words = Level(row.level), CaseState(row.state), Phase(row.phase)
    return Case(row.id, row.tenant, row.title, *words, row.created_time, row.updated_time, alerts, row.owner)


def _conditions(tenant: str, wanted: CaseFilter) -> list[Any]:
    found: list[Any] = [_CASE.c.tenant == tenant]
    for name in ("state", "phase", "level", "owner"):
        values = [str(value) for value in getattr(wanted, name)]
        if values:
            found.append(_CASE.c[name].in_(["" if value == NOBODY else value for value in values]))
    terms = wanted.text.replace("\x00", "").split()[:MAX_TERMS]
    return found + [sa.or_(_CASE.c.title.icontains(term, autoescape=True), _CASE.c.id == term) for term in terms]


def _place(after: str) -> tuple[int, str]:
    place = _CURSOR.fullmatch(after)
    if place is None:
        raise DataError("cases.cursor.invalid", "this is no place in the queue", hint="take `next` from a page")
    return int(place[1]), place[2]
