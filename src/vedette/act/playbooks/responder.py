"""Runs of playbooks: started, shown, decided upon, stopped and begun again from a step.

An alert and a playbook version have one run, and so has each occasion of another kind: an interval of a schedule, a
delivery of a webhook, a key that a person gives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vedette.act.alerts import Alerts
from vedette.act.approvals import Approval, Approvals, ApprovalState
from vedette.act.cases import Cases
from vedette.act.playbooks.asking import topic
from vedette.act.playbooks.inputs import alert_scope, bind_inputs
from vedette.act.playbooks.playbook import (
    ActionStep,
    Playbook,
    PlaybookStep,
    Step,
    from_definition,
    to_definition,
    walk,
)
from vedette.act.playbooks.pulses import Overdue, Pulses
from vedette.act.playbooks.world import KIND, Request
from vedette.core.clock import Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.core.execute import Outcome, Run, Runs, State, StepRecord
from vedette.core.signal import Level

__all__ = ["Responder", "RunView", "alert_scope", "bind", "run_identity"]

MAX_LIST = 1_000

_METADATA = sa.MetaData()
_RUN = sa.Table(
    "playbook_run",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("alert_id", sa.Text, nullable=False),
    sa.Column("playbook", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("definition", sa.Text, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("created_time", LONG, nullable=False),
    sa.Index("playbook_run_newest", "tenant", "created_time"),
    sqlite_strict=True,
)
_FIRED = sa.Table(
    "playbook_fired",
    sa.MetaData(),
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("playbook", sa.Text, primary_key=True),
    sa.Column("occasion", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (
    Migration(1, "playbooks", create(_METADATA)),
    Migration(2, "what triggered playbooks", create(_FIRED.metadata)),
)

START_S = 60.0
"""How long a run may be queued before it is overdue."""


class Occasion(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is about, when it is no alert."""

    key: str
    """The same key has one run of a playbook version: `schedule:<start>`, `case:<id>`, `webhook:<delivery>`."""
    trigger: dict[str, Any]
    """`type`, and what came with it, as `${trigger...}` reads it."""
    case_id: str = ""
    """The case it works on; empty: one is opened if there is a title, or if the playbook does something drastic."""
    title: str = ""
    level: Level = Level.MEDIUM


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run as people look at it."""

    id: str
    playbook: str
    version: int
    alert_id: str
    case_id: str
    requester: str
    state: str
    """`queued`, `running`, `waiting` (for an approval), `completed`, `incomplete` (steps that may fail did), `denied`,
    `expired`, `failed`, `cancelled`, `stuck`."""
    error: str
    created_time: int
    approval: Approval | None
    """The one it waits for; of several, that with the earliest deadline."""
    approvals: tuple[Approval, ...] = ()
    """All that it waits for: parallel branches each ask for their own."""
    trigger: dict[str, Any] = {}
    """What started it; empty: a person, for its alert."""
    overdue: str = ""
    """The step at which it was to be heard of and was not; empty: all is well."""
    steps: tuple[StepRecord, ...] = ()
    """Recorded attempts, waits left out; empty in a list."""


class Responder:
    """Answers alerts with playbooks.

    Args:
        runs: The durable executor, or its remote view.
        database: state.db, or its PostgreSQL schema.
        alerts: Where alerts are read.
        cases: Where the work is recorded.
        approvals: Where decisions are taken.
        clock: Times of starts.
        pulses: Until when each run is to be heard of.
    """

    def __init__(
        self,
        *,
        runs: Runs,
        database: Database,
        alerts: Alerts,
        cases: Cases,
        approvals: Approvals,
        clock: Clock,
        pulses: Pulses,
    ) -> None:
        self._pulses = pulses
        self._runs = runs
        self._database = database
        self._alerts = alerts
        self._cases = cases
        self._approvals = approvals
        self._clock = clock
        database.migrate("playbooks", MIGRATIONS)

    def start(
        self,
        tenant: str,
        playbook: Playbook,
        alert_id: str,
        *,
        requester: str,
        inputs: Mapping[str, Any] | None = None,
        authors: tuple[str, ...] = (),
        trigger: Mapping[str, Any] | None = None,
        once: str = "",
    ) -> RunView:
        """Starts the run of this alert and playbook version; a second start gives the first one's run.

        Args:
            tenant: Whose alert.
            playbook: Loaded and checked.
            alert_id: What it answers.
            requester: Who wants it; may not approve it.
            inputs: Values given by hand; the others are taken from the alert.
            authors: Owners of the rule that raised the alert; may not approve. Owners of playbooks are added.
            trigger: What started it, when it was no person.
            once: Under this name the playbook is started once, whatever its version; empty: once a version.

        Raises:
            NotFoundError: `alerts.alert.unknown`.
            Problems: inputs are missing or of another type.
            ConflictError: `playbook.version.changed`: this version ran for this alert with another content.
        """
        alert = self._alerts.get(tenant, alert_id)
        given = bind(playbook, alert_scope(alert), inputs or {})
        run_id = run_identity(tenant, alert_id, playbook)
        case = self._cases.open(tenant, alert.title, operator=requester, level=alert.level, alert_id=alert_id)
        request = Request(
            tenant=tenant,
            alert_id=alert_id,
            case_id=case.id,
            requester=requester,
            authors=_authors(playbook, authors),
            alert=alert_scope(alert),
            inputs=given,
            trigger=dict(trigger or {}),
        )
        self._begin(tenant, run_id, playbook, request, once)
        return self.show(tenant, run_id)

    def launch(
        self,
        tenant: str,
        playbook: Playbook,
        occasion: Occasion,
        *,
        requester: str,
        inputs: Mapping[str, Any] | None = None,
        once: str = "",
    ) -> RunView:
        """Starts the run of an occasion that is no alert; the same occasion again gives the first one's run.

        Args:
            tenant: Whose.
            playbook: Loaded and checked.
            occasion: What it is about.
            requester: Who wants it; may not approve it.
            inputs: Values given by hand; the others are taken from what triggered it.
            once: Under this name the playbook is started once, whatever its version; empty: once a version.

        Raises:
            Problems: inputs are missing or of another type.
            ConflictError: `playbook.version.changed`.
        """
        given = bind_inputs(playbook.inputs, {"trigger": occasion.trigger, "alert": {}}, inputs or {})
        run_id = run_identity(tenant, occasion.key, playbook)
        case_id, title = occasion.case_id, occasion.title or (playbook.title if _drastic(playbook.steps) else "")
        if not case_id and title and not self._known(tenant, run_id):
            case_id = self._cases.open(tenant, title, operator=requester, level=occasion.level).id
        request = Request(
            tenant=tenant,
            alert_id="",
            case_id=case_id,
            requester=requester,
            authors=_authors(playbook, ()),
            alert={},
            inputs=given,
            trigger=occasion.trigger,
        )
        self._begin(tenant, run_id, playbook, request, once)
        return self.show(tenant, run_id)

    def fired(self, tenant: str, playbook: str, occasion: str) -> bool:
        """Whether a trigger has started a playbook for an occasion already."""
        here = (_FIRED.c.tenant == tenant) & (_FIRED.c.playbook == playbook) & (_FIRED.c.occasion == occasion)
        with self._database.read() as connection:
            return connection.execute(sa.select(_FIRED.c.run_id).where(here)).first() is not None

    def _begin(self, tenant: str, run_id: str, playbook: Playbook, request: Request, once: str = "") -> None:
        row = {
            "alert_id": request.alert_id,
            "playbook": playbook.id,
            "version": playbook.version,
            "digest": playbook.digest,
            "definition": msgspec.json.encode(to_definition(playbook)).decode(),
            "request": msgspec.json.encode(request).decode(),
            "created_time": self._clock.now(),
        }
        with self._database.begin() as connection:
            if once:
                # In one transaction with the run: a trigger is never taken without its run, nor twice.
                fired = {"tenant": tenant, "playbook": playbook.id, "occasion": once}
                if not insert_new(connection, _FIRED, **fired, run_id=run_id) and not _row(connection, tenant, run_id):
                    raise ConflictError("playbook.trigger.taken", "it was started for this already", at=once)
            insert_new(connection, _RUN, tenant=tenant, id=run_id, **row)
            held = _load(connection, tenant, run_id)
        # Not by digest: a run that an older program began knows nothing of newer fields.
        if from_definition(msgspec.json.decode(held.definition)) != playbook:
            raise ConflictError(
                "playbook.version.changed",
                f"version {playbook.version} of `{playbook.id}` ran for this with another content",
                hint="raise the playbook's version",
                at=run_id,
            )
        self._hand_over(held)

    def _hand_over(self, held: Any) -> None:
        """Gives a stored run to the executor; again changes nothing."""
        try:
            self._runs.status(held.id)
        except NotFoundError:
            self._pulses.beat(held.tenant, held.id, "", "run.start", START_S)
        # The stored request, not a new one: the alert may have grown since the first start.
        self._runs.start(held.id, KIND, msgspec.json.decode(held.definition), msgspec.json.decode(held.request))

    def recover(self) -> int:
        """Hands over the runs whose process died between storing them and handing them over; gives how many.

        Looks at the newest `MAX_LIST` of each tenant.
        """
        with self._database.read() as connection:
            rows = connection.execute(_RUN.select().order_by(_RUN.c.created_time.desc()).limit(MAX_LIST)).all()
        known = self._runs.find([row.id for row in rows])
        lost = [row for row in rows if row.id not in known]
        for row in lost:
            self._hand_over(row)
        return len(lost)

    def cancel(self, tenant: str, run_id: str) -> RunView:
        """Stops a run before its next step, in all its branches; what it asked for is withdrawn. `resume` goes on.

        Raises:
            NotFoundError: `playbook.run.unknown`.
            ConflictError: `playbook.run.over`.
        """
        view = self.show(tenant, run_id)
        if view.state not in _GOING:
            raise ConflictError("playbook.run.over", f"the run is {view.state} already", at=run_id)
        self._runs.cancel(run_id)
        self._approvals.withdraw(tenant, run_id)
        self._pulses.end(tenant, run_id)
        return self.show(tenant, run_id)

    def resume(self, tenant: str, run_id: str) -> RunView:
        """Lets a cancelled or stuck run go on after its last finished step; one that is going is left as it is.

        Raises:
            NotFoundError: `playbook.run.unknown`.
            ConflictError: `playbook.run.over`.
        """
        view = self.show(tenant, run_id)
        if view.state in _GOING:
            return view
        if view.state not in ("cancelled", "stuck"):
            hint = "begin it again from a step"
            raise ConflictError("playbook.run.over", f"the run is {view.state}", hint=hint, at=run_id)
        self._pulses.beat(tenant, run_id, "", "resume", START_S)
        self._approvals.reopen(tenant, run_id)
        self._runs.resume(run_id)
        return self.show(tenant, run_id)

    def rerun(
        self, tenant: str, run_id: str, *, step: str, requester: str, playbook: Playbook | None = None
    ) -> RunView:
        """Begins a finished run again from a step, as a new run: what steps before it did is carried, not done again.

        Approvals are asked for again unless everything they cover is carried.

        Args:
            tenant: Whose run.
            run_id: The run before; it must be over.
            step: Id of the step to begin at.
            requester: Who wants it; may not approve it.
            playbook: A newer version; None: the one of the run before.

        Raises:
            NotFoundError: `playbook.run.unknown`, `playbook.step.unknown`.
            ConflictError: `playbook.run.going`: it is not over.
        """
        with self._database.read() as connection:
            row = _load(connection, tenant, run_id)
        view = self.show(tenant, run_id)
        if view.state in _GOING:
            raise ConflictError("playbook.run.going", f"the run is {view.state}", hint="cancel it first", at=run_id)
        book = playbook or from_definition(msgspec.json.decode(row.definition))
        held = msgspec.json.decode(row.request, type=Request)
        trigger = {"type": "rerun", "run": run_id, "step": step}
        carried = _carried(book, view.steps, step) | _still(book, held.carried, step)
        request = msgspec.structs.replace(held, requester=requester, carried=carried, trigger=held.trigger | trigger)
        fresh = run_identity(tenant, f"rerun:{run_id}:{step}:{self._clock.now()}", book)
        self._begin(tenant, fresh, book, request)
        return self.show(tenant, fresh)

    def overdue(self, tenant: str = "") -> list[Overdue]:
        """Runs that were not heard of in time; of every tenant when none is named."""
        return self._pulses.overdue(tenant=tenant)

    def decide(
        self, tenant: str, run_id: str, *, by: str, approve: bool, seen: str = "", step: str = "", reason: str = ""
    ) -> Approval:
        """Takes a person's decision and wakes the run. Works while no process executes it.

        Args:
            tenant: Whose run.
            run_id: The run.
            by: The person, proven by the caller.
            approve: False to deny.
            seen: Hash of the request they looked at; empty: the one that is pending now.
            step: Approval step; empty: the one it waits for, or the last one decided.
            reason: Their own words.

        Raises:
            NotFoundError: `playbook.run.unknown`, `approvals.approval.unknown`.
            DeniedError, ConflictError: see `Approvals.decide`.
        """
        with self._database.read() as connection:
            _load(connection, tenant, run_id)
        asked = [each for each in self._approvals.find(tenant, run_id=run_id) if step in ("", each.step)]
        if not asked:
            raise NotFoundError("approvals.approval.unknown", "the run waits for no approval", at=run_id)
        open_ones = [each for each in asked if each.state is ApprovalState.PENDING]
        if not step and not seen and len(open_ones) > 1:
            names = ", ".join(each.step for each in open_ones)
            raise DataError(
                "playbook.approval.several", "the run asks for several decisions", hint=f"name one: {names}"
            )
        matching = [each for each in open_ones if not seen or each.hash == seen]
        chosen = next(iter(matching or open_ones), asked[-1])
        decided = self._approvals.decide(
            tenant, run_id, chosen.step, by=by, seen=seen or chosen.hash, approve=approve, reason=reason
        )
        # A bell rung twice is heard once: a repeated decision may find that the first bell was lost with its process.
        key = f"{run_id}:{chosen.step}:{decided.state}"
        self._runs.send(chosen.listener or run_id, topic(chosen.step), {"decided": True}, key=key)
        return decided

    def show(self, tenant: str, run_id: str) -> RunView:
        """One run with its recorded steps.

        Raises:
            NotFoundError: `playbook.run.unknown`, also for another tenant's.
        """
        with self._database.read() as connection:
            row = _load(connection, tenant, run_id)
        own = [*self._runs.history(run_id)] if self._runs.find([run_id]) else []
        for branch in self._runs.branches(run_id) if any(step.name in _FORKS for step in own) else ():
            own += self._runs.history(branch.id)
        steps = [step for step in own if not step.name.startswith("DBOS.") and step.name not in _FORKS]
        return self._views([row], {row.id: tuple(sorted(steps, key=lambda step: step.ended_time))})[0]

    def find(
        self,
        tenant: str,
        *,
        alerts: Sequence[str] | None = None,
        playbook: str = "",
        states: Sequence[str] = (),
        limit: int = 100,
    ) -> list[RunView]:
        """Newest first.

        Args:
            tenant: Whose.
            alerts: Only the runs that answer one of them.
            playbook: Only its runs.
            states: Only those in one of these states, `overdue` among them, of the newest `MAX_LIST`.
            limit: At most so many, at most `MAX_LIST`.
        """
        query = _RUN.select().where(_RUN.c.tenant == tenant)
        if alerts is not None:
            query = query.where(_RUN.c.alert_id.in_(alerts))
        if playbook:
            query = query.where(_RUN.c.playbook == playbook)
        limit = min(limit, MAX_LIST)
        query = query.order_by(_RUN.c.created_time.desc(), _RUN.c.id).limit(MAX_LIST if states else limit)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        views = self._views(rows, {})
        if states:
            views = [view for view in views if view.state in states or ("overdue" in states and view.overdue)]
        return views[:limit]

    def _views(self, rows: Sequence[Any], steps: Mapping[str, tuple[StepRecord, ...]]) -> list[RunView]:
        if not rows:
            return []
        tenant = rows[0].tenant
        runs = self._runs.find([row.id for row in rows])
        late = {each.run_id: each.step for each in self.overdue(tenant)}
        asked: dict[str, list[Approval]] = {}
        going = [row.id for row in rows if row.id in runs and not runs[row.id].state.finished]
        for each in self._approvals.find(tenant, pending=True, limit=MAX_LIST) if going else ():
            asked.setdefault(each.run_id, []).append(each)
        return [
            _view(row, runs.get(row.id), tuple(asked.get(row.id, ())), late.get(row.id, ""), steps.get(row.id, ()))
            for row in rows
        ]

    def _known(self, tenant: str, run_id: str) -> bool:
        with self._database.read() as connection:
            return _row(connection, tenant, run_id) is not None


_GOING = frozenset({"queued", "running", "waiting"})
_FORKS = frozenset({"vedette.run"})
"""What the executor records when a branch begins."""


def _view(row: Any, run: Run | None, asked: tuple[Approval, ...], late: str, steps: tuple[StepRecord, ...]) -> RunView:
    request = msgspec.json.decode(row.request, type=Request)
    state = _state(run, waiting=bool(asked))
    waiting = asked if state == "waiting" else ()
    return RunView(
        id=row.id,
        playbook=row.playbook,
        version=row.version,
        alert_id=row.alert_id,
        case_id=request.case_id,
        requester=request.requester,
        state=state,
        error=_error(run),
        created_time=row.created_time,
        approval=waiting[0] if waiting else None,
        approvals=waiting,
        trigger=request.trigger,
        overdue=late if state in ("queued", "running", "waiting", "stuck") else "",
        steps=steps,
    )


def bind(playbook: Playbook, alert: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a run for an alert; see `bind_inputs`."""
    return bind_inputs(playbook.inputs, {"alert": alert, "trigger": {}}, given)


def _authors(playbook: Playbook, authors: Sequence[str]) -> tuple[str, ...]:
    """Who may not approve: authors of the rule, owners of the playbook and of those inside it."""
    return tuple(sorted({*authors, playbook.owner, *_owners(playbook.steps)}))


def _owners(steps: tuple[Step, ...]) -> set[str]:
    found = set()
    for step in walk(steps):
        if isinstance(step, PlaybookStep):
            found |= {step.owner, *_owners(step.steps)}
    return found


def _drastic(steps: tuple[Step, ...]) -> bool:
    return any(
        step.drastic if isinstance(step, ActionStep) else isinstance(step, PlaybookStep) and _drastic(step.steps)
        for step in walk(steps)
    )


def _names(steps: tuple[Step, ...], prefix: str = "") -> list[str]:
    """Names of steps in the order they are written, those inside other playbooks too."""
    found = []
    for step in walk(steps):
        found.append(f"{prefix}{step.id}")
        if isinstance(step, PlaybookStep):
            found += _names(step.steps, f"{prefix}{step.id}/")
    return found


def _before(book: Playbook, step: str) -> set[str]:
    names = _names(book.steps)
    if step not in names:
        raise NotFoundError("playbook.step.unknown", "the playbook has no such step", at=step[:64])
    return set(names[: names.index(step)])


def _bare(name: str) -> str:
    """The id of a step without the rounds of its loops."""
    return "/".join(part.partition("#")[0] for part in name.split("/"))


def _carried(book: Playbook, steps: Sequence[StepRecord], step: str) -> dict[str, Any]:
    """What the steps before one had found."""
    before = _before(book, step)
    found = {}
    for record in steps:
        if _bare(record.name) in before and isinstance(record.output, dict):
            outcome = msgspec.convert(record.output, Outcome)
            if outcome.ok:
                found[record.name] = outcome.value
    return found


def _still(book: Playbook, carried: Mapping[str, Any], step: str) -> dict[str, Any]:
    before = _before(book, step)
    return {name: value for name, value in carried.items() if _bare(name) in before}


def run_identity(tenant: str, alert_id: str, playbook: Playbook) -> str:
    """Id of the one run of an alert and a playbook version."""
    parts = [tenant, alert_id, playbook.id, playbook.version]
    return "run_" + hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:26]


def _error(run: Run | None) -> str:
    if run is None or run.error:
        return run.error if run else ""
    return "; ".join(run.result.get("failed", ())) if isinstance(run.result, dict) else ""


def _state(run: Run | None, *, waiting: bool) -> str:
    if run is None:
        return "queued"
    if run.state is State.SUCCEEDED and isinstance(run.result, dict):
        return str(run.result.get("state", run.state))
    return "waiting" if run.state is State.RUNNING and waiting else str(run.state)


def _row(connection: Connection, tenant: str, run_id: str) -> Any:
    return connection.execute(_RUN.select().where(_RUN.c.tenant == tenant, _RUN.c.id == run_id)).one_or_none()


def _load(connection: Connection, tenant: str, run_id: str) -> Any:
    row = _row(connection, tenant, run_id)
    if row is None:
        raise NotFoundError("playbook.run.unknown", "no such run", at=run_id)
    return row
