"""Runs of playbooks: one per alert and playbook version; started, shown, decided upon."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vedette.act.alerts import Alerts
from vedette.act.approvals import Approval, Approvals, ApprovalState
from vedette.act.cases import Cases
from vedette.act.grouping import Alert
from vedette.act.playbooks.interpreter import KIND, Request, topic
from vedette.act.playbooks.playbook import Input, InputType, Playbook, to_definition
from vedette.act.playbooks.references import fill
from vedette.core.clock import Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DataError, NotFoundError, Problems, VedetteError
from vedette.core.execute import Run, Runs, State, StepRecord

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
MIGRATIONS = (Migration(1, "playbooks", create(_METADATA)),)


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
    """The one it waits for."""
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
    """

    def __init__(
        self, *, runs: Runs, database: Database, alerts: Alerts, cases: Cases, approvals: Approvals, clock: Clock
    ) -> None:
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
    ) -> RunView:
        """Starts the run of this alert and playbook version; a second start gives the first one's run.

        Args:
            tenant: Whose alert.
            playbook: Loaded and checked.
            alert_id: What it answers.
            requester: Who wants it; may not approve it.
            inputs: Values given by hand; the others are taken from the alert.
            authors: Owners of the rule that raised the alert; may not approve. The playbook's owner is added.

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
            authors=tuple(sorted({*authors, playbook.owner})),
            alert=alert_scope(alert),
            inputs=given,
        )
        row = {
            "alert_id": alert_id,
            "playbook": playbook.id,
            "version": playbook.version,
            "digest": playbook.digest,
            "definition": msgspec.json.encode(to_definition(playbook)).decode(),
            "request": msgspec.json.encode(request).decode(),
            "created_time": self._clock.now(),
        }
        with self._database.begin() as connection:
            insert_new(connection, _RUN, tenant=tenant, id=run_id, **row)
            held = _load(connection, tenant, run_id)
        if held.digest != playbook.digest:
            raise ConflictError(
                "playbook.version.changed",
                f"version {playbook.version} of `{playbook.id}` ran for this alert with another content",
                hint="raise the playbook's version",
                at=run_id,
            )
        # The stored request, not this one: the alert may have grown since the first start.
        self._runs.start(run_id, KIND, msgspec.json.decode(held.definition), msgspec.json.decode(held.request))
        return self.show(tenant, run_id)

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
        chosen = next((each for each in asked if each.state is ApprovalState.PENDING), asked[-1])
        decided = self._approvals.decide(
            tenant, run_id, chosen.step, by=by, seen=seen or chosen.hash, approve=approve, reason=reason
        )
        # A bell rung twice is heard once: a repeated decision may find that the first bell was lost with its process.
        self._runs.send(run_id, topic(chosen.step), {"decided": True}, key=f"{run_id}:{chosen.step}:{decided.state}")
        return decided

    def show(self, tenant: str, run_id: str) -> RunView:
        """One run with its recorded steps.

        Raises:
            NotFoundError: `playbook.run.unknown`, also for another tenant's.
        """
        with self._database.read() as connection:
            row = _load(connection, tenant, run_id)
        steps = tuple(step for step in self._runs.history(run_id) if not step.name.startswith("DBOS."))
        return self._view(row, steps)

    def find(self, tenant: str, *, alerts: Sequence[str] | None = None, limit: int = 100) -> list[RunView]:
        """Newest first; with `alerts`, only the runs that answer one of them."""
        query = _RUN.select().where(_RUN.c.tenant == tenant)
        if alerts is not None:
            query = query.where(_RUN.c.alert_id.in_(alerts))
        query = query.order_by(_RUN.c.created_time.desc(), _RUN.c.id).limit(min(limit, MAX_LIST))
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [self._view(row, ()) for row in rows]

    def _view(self, row: Any, steps: tuple[StepRecord, ...]) -> RunView:
        request = msgspec.json.decode(row.request, type=Request)
        try:
            run: Run | None = self._runs.status(row.id)
        except NotFoundError:
            run = None  # killed between the two files: the next start goes on
        asked = self._approvals.find(row.tenant, run_id=row.id, pending=True)
        state = _state(run, waiting=bool(asked))
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
            approval=asked[0] if asked and state == "waiting" else None,
            steps=steps,
        )


def run_identity(tenant: str, alert_id: str, playbook: Playbook) -> str:
    """Id of the one run of an alert and a playbook version."""
    parts = [tenant, alert_id, playbook.id, playbook.version]
    return "run_" + hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:26]


def alert_scope(alert: Alert) -> dict[str, Any]:
    """What `${alert...}` reads. `entities.<type>` is the first entity of that type."""
    entities: dict[str, str] = {}
    for entity in alert.entities:
        entities.setdefault(entity.type, entity.id)
    return {
        "id": alert.id,
        "rule_id": alert.rule_id,
        "title": alert.title,
        "level": str(alert.level),
        "severity_id": alert.severity_id,
        "source": alert.source,
        "signal_count": alert.signal_count,
        "first_time": alert.first_time,
        "last_time": alert.last_time,
        "entity": {"type": alert.entity.type, "id": alert.entity.id} if alert.entity else {},
        "entities": entities,
    }


def bind(playbook: Playbook, alert: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a run: given by hand, else taken from the alert.

    Raises:
        Problems: `playbook.input.unknown`, `playbook.input.missing`, `playbook.input.type`, all of them at once.
    """
    problems: list[VedetteError] = [
        DataError("playbook.input.unknown", f"the playbook has no input `{name}`", at=name)
        for name in given
        if name not in playbook.inputs
    ]
    bound: dict[str, Any] = {}
    for name, spec in playbook.inputs.items():
        try:
            value = given[name] if name in given else fill(spec.source, {"alert": alert}) if spec.source else None
        except DataError:
            value = None
        if value is None:
            if spec.required:
                hint = f"give it: --input {name}=..."
                problems.append(DataError("playbook.input.missing", f"input `{name}` is missing", hint=hint, at=name))
            continue
        try:
            bound[name] = _convert(name, spec, value)
        except DataError as error:
            problems.append(error)
    if problems:
        raise Problems(problems)
    return bound


_KINDS = {InputType.TEXT: str, InputType.INTEGER: int, InputType.BOOLEAN: bool}


def _convert(name: str, spec: Input, value: Any) -> Any:
    kind = _KINDS[spec.type]
    if type(value) is kind and value != "":
        return value
    if isinstance(value, str) and spec.type is not InputType.TEXT:
        try:
            return msgspec.json.decode(value.encode(), type=kind)
        except msgspec.MsgspecError:
            pass
    raise DataError("playbook.input.type", f"input `{name}` must be a {spec.type}", at=name)


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


def _load(connection: Connection, tenant: str, run_id: str) -> Any:
    row = connection.execute(_RUN.select().where(_RUN.c.tenant == tenant, _RUN.c.id == run_id)).one_or_none()
    if row is None:
        raise NotFoundError("playbook.run.unknown", "no such run", at=run_id)
    return row
