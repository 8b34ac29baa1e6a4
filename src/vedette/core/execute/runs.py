"""Runs seen from outside: started, messaged and watched by any process."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import sqlalchemy as sa

from vedette.core.errors import ConflictError, NotFoundError
from vedette.core.execute import nouns
from vedette.core.execute.nouns import MAX_LIST, Json, Run, State, StepRecord

BUSY_MS = 30_000
QUEUE = "vedette_runs"
WORKFLOW = "vedette.run"
SCHEMA = "runs"
"""Of PostgreSQL."""
_WATCH_S = 0.05
POOL = 5

_STATES = {
    "ENQUEUED": State.QUEUED,
    "DELAYED": State.QUEUED,
    "PENDING": State.RUNNING,
    "SUCCESS": State.SUCCEEDED,
    "ERROR": State.FAILED,
    "CANCELLED": State.CANCELLED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": State.STUCK,
}


class Runs:
    """Starts, messages and watches runs; executes none. Safe beside a running `Executor` in any process.

    Args:
        target: Path of runs.db (made by the first `Executor`), or a `postgresql://` URL.
    """

    def __init__(self, target: Path | str) -> None:
        self.target = target
        self._engine = open_engine(target)
        self._lazy_client: Any = None

    @property
    def _client(self) -> Any:
        if self._lazy_client is None:
            from dbos import DBOSClient, DBOSPortableJSONSerializer

            self._lazy_client = DBOSClient(
                system_database_engine=self._engine,
                dbos_system_schema=SCHEMA,
                serializer=DBOSPortableJSONSerializer(),
                application_name="vedette",
                lazy=True,
            )
        return self._lazy_client

    def start(self, run_id: str, kind: str, definition: Json, inputs: Json) -> Run:
        """Starts a run unless `run_id` is known; then it gives the known run.

        Raises:
            ConflictError: `execute.run.conflict`: `run_id` is known with another kind, definition or inputs.
        """
        self._begin(run_id, kind, definition, inputs)
        run = self.status(run_id)
        asked = [kind, definition, inputs]
        if _digest([run.kind, run.definition, run.inputs]) != _digest(asked):
            raise ConflictError(
                "execute.run.conflict",
                "a run of this id has another definition or other inputs",
                hint="raise the definition's version when its content changes",
                at=run_id,
            )
        return run

    def _begin(self, run_id: str, kind: str, definition: Json, inputs: Json) -> Any:
        options = {"queue_name": QUEUE, "workflow_name": WORKFLOW, "workflow_id": run_id, "app_version": nouns.VERSION}
        self._client.enqueue(options, kind, definition, inputs)

    def send(self, run_id: str, topic: str, message: Json, *, key: str) -> None:
        """Sends a message; it is kept while nobody executes the run. A second one with the same `key` is ignored.

        Raises:
            NotFoundError: `execute.run.unknown`.
        """
        self.status(run_id)
        self._client.send(run_id, message, topic, key)

    def status(self, run_id: str) -> Run:
        """One run.

        Raises:
            NotFoundError: `execute.run.unknown`.
        """
        found = self._client.list_workflows(workflow_ids=[run_id])
        if not found:
            raise NotFoundError("execute.run.unknown", "no such run", at=run_id)
        return _to_run(found[0])

    def find(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Those of the runs that are known, by their ids."""
        found = self._client.list_workflows(workflow_ids=list(run_ids)) if run_ids else []
        return {each.workflow_id: _to_run(each) for each in found}

    def list_runs(self, *, states: Sequence[State] = (), limit: int = 100) -> list[Run]:
        """Newest first; branches of runs are left out."""
        names = [name for name, state in _STATES.items() if state in states] or None
        found = self._client.list_workflows(status=names, limit=min(limit, MAX_LIST), sort_desc=True, has_parent=False)
        return [_to_run(each) for each in found]

    def branches(self, run_id: str) -> list[Run]:
        """The branches of a run, at any depth, oldest first."""
        found = self._client.list_workflows(workflow_id_prefix=f"{run_id}/", limit=MAX_LIST)
        return [_to_run(each) for each in found]

    def history(self, run_id: str) -> list[StepRecord]:
        """What the run has recorded so far, in order: one line an attempt, a wait, a message."""
        return [
            StepRecord(
                step["function_id"],
                step["function_name"],
                step["output"],
                (step.get("started_at_epoch_ms") or 0) * 1_000,
                (step.get("completed_at_epoch_ms") or 0) * 1_000,
            )
            for step in self._client.list_workflow_steps(run_id)
        ]

    def cancel(self, run_id: str) -> None:
        """Stops a run and its branches before their next steps. What it did stays done; a finished run is left."""
        if not self.status(run_id).state.finished:
            self._client.cancel_workflow(run_id, cancel_children=True)

    def resume(self, run_id: str) -> None:
        """Continues a cancelled or stuck run, and its branches that are, from the last recorded steps."""
        for run in (*self.branches(run_id), self.status(run_id)):
            if run.state in (State.CANCELLED, State.STUCK):
                self._client.resume_workflow(run.id, queue_name=QUEUE)

    def wait(self, run_id: str, *, timeout_s: float, until: Callable[[Run], bool] | None = None) -> Run:
        """Watches until the run is finished (or `until` says so) or the time is over; gives the run as it then is."""
        done = until or (lambda run: run.state.finished)
        pause = threading.Event()
        looks = max(1, int(timeout_s / _WATCH_S))
        run = self.status(run_id)
        for _ in range(looks):
            if done(run):
                break
            pause.wait(_WATCH_S)
            run = self.status(run_id)
        return run

    def close(self) -> None:
        """Gives back the connections."""
        if self._lazy_client is not None:
            self._lazy_client.destroy()
            self._lazy_client = None
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _to_run(status: Any) -> Run:
    args = [*(status.input or {}).get("args", ()), None, None, None]
    error = status.error
    code = getattr(error, "code", None) or (type(error).__name__ if error is not None else "")
    return Run(
        id=status.workflow_id,
        kind=str(args[0] or ""),
        state=_STATES[status.status],
        definition=args[1],
        inputs=args[2],
        result=status.output,
        error=f"{error} [{code}]" if error is not None and f"[{code}]" not in str(error) else str(error or ""),
        created_time=(status.created_at or 0) * 1_000,
        updated_time=(status.updated_at or 0) * 1_000,
    )


def _digest(value: Json) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def open_engine(target: Path | str, *, pool: int = POOL, **options: Any) -> sa.Engine:
    """Connections to a database of runs, made and closed as they are used; `options` are the driver's."""
    if isinstance(target, str) and target.startswith("postgresql"):
        url = target.replace("postgresql://", "postgresql+psycopg://", 1)
        return sa.create_engine(url, pool_size=pool, connect_args=options)
    engine = sa.create_engine(f"sqlite:///{target}", connect_args={"check_same_thread": False}, pool_size=pool)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        # DBOS expects the driver to open a write transaction by itself at the first write.
        connection.isolation_level = "IMMEDIATE"

    return engine
