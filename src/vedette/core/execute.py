"""Durable execution: runs that survive a killed process, behind a small port; DBOS does the work, here only.

A run is one generic interpreter over versioned data: the interpreter's code may change between restarts, the data it
interprets never does. What an interpreter does goes through `Steps`; every step's outcome is recorded in runs.db before
the next one starts, so a restart repeats no finished step. A step that was interrupted runs again: its body must be
idempotent by a key made of the run and the step. Definitions, inputs, outcomes and messages are plain JSON values.

One process executes the runs of a database at a time (`Executor`); any process may start, watch and message them
(`Runs`). No port is opened, nothing is sent over the network but to the database.

Example:
    >>> def greet(steps: Steps, definition: Json, inputs: Json) -> Json:
    ...     return steps.step("greet", lambda: f"{definition['word']} {inputs['name']}").value
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Executor(pathlib.Path(folder) / "runs.db", {"greet": greet}) as runs:
    ...         _ = runs.start("r1", "greet", {"word": "hello"}, {"name": "Ada"})
    ...         print(runs.wait("r1", timeout_s=10).result)
    hello Ada
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
import sqlalchemy as sa

from vedette.core.errors import ConflictError, DefinitionError, NotFoundError, TransientError, VedetteError

Json = Any
"""None, bool, int, float, str, list or dict with text keys."""

VERSION = "vedette-runs-1"
"""Version of the interpreter contract, pinned. The default would be a hash of the source: after any change of it, runs
begun before would wait for ever. What may change is the data's own version, which the interpreter reads."""

POLL_S = 0.2
"""How often a waiting run looks for a message, and the executor for runs another process started."""

MAX_ATTEMPTS = 20
"""Most attempts of one step."""

MAX_LIST = 1_000
"""Most runs one `list_runs` gives."""

BUSY_MS = 30_000
_QUEUE = "vedette_runs"
_WORKFLOW = "vedette.run"
_SCHEMA = "runs"
_NOTHING = "vedette.nothing"

GRACE_S = 5.0
"""How long `close` waits for step bodies under way."""


class State(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    RUNNING = "running"
    """Executing, or waiting for a message or a time; also what a killed process left, until an executor resumes it."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STUCK = "stuck"
    """Its process died on it too many times; `resume` tries again."""

    @property
    def finished(self) -> bool:
        """True when nothing happens any more by itself."""
        return self not in (State.QUEUED, State.RUNNING)


_STATES = {
    "ENQUEUED": State.QUEUED,
    "DELAYED": State.QUEUED,
    "PENDING": State.RUNNING,
    "SUCCESS": State.SUCCEEDED,
    "ERROR": State.FAILED,
    "CANCELLED": State.CANCELLED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": State.STUCK,
}


class Retry(msgspec.Struct, frozen=True):
    """When a step that failed for a passing reason is tried again. The waits are durable."""

    attempts: int = 1
    """1 to `MAX_ATTEMPTS`, the first one included."""
    delay_s: float = 1.0
    """Seconds before the second attempt; the error's own `retry_after` wins when it is longer."""
    backoff: float = 2.0
    """Factor from one wait to the next."""
    max_delay_s: float = 300.0

    def delay(self, attempt: int, retry_after: float = 0.0) -> float:
        """Seconds to wait after attempt number `attempt` (from 1)."""
        return max(min(self.delay_s * self.backoff ** (attempt - 1), self.max_delay_s), retry_after)


ONCE = Retry()
"""No second attempt."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a step: a value, or the coded error of its last attempt. A failure is data, never an exception."""

    ok: bool
    value: Json = None
    code: str = ""
    message: str = ""
    retryable: bool = False
    retry_after: float = 0.0
    attempts: int = 1


class StepRecord(msgspec.Struct, frozen=True):
    """One recorded line of a run's history."""

    number: int
    name: str
    output: Json
    started_time: int
    """Microseconds UTC; 0 when not known."""
    ended_time: int


class Run(msgspec.Struct, frozen=True):
    """A run as recorded."""

    id: str
    kind: str
    state: State
    definition: Json
    inputs: Json
    result: Json
    """What the interpreter returned; None before."""
    error: str
    """Code and message when it failed, else empty."""
    created_time: int
    updated_time: int


class Steps(Protocol):
    """What an interpreter may do that has an effect. It must call these in an order that only its data decides."""

    @property
    def run_id(self) -> str:
        """Identity of the run; with a step's name it makes the idempotency key."""

    def step(self, name: str, body: Callable[[], Json], *, retry: Retry = ONCE, timeout_s: float = 0.0) -> Outcome:
        """Runs `body` until an attempt is recorded: at least once, and never again once recorded.

        Args:
            name: Stable name within the run.
            body: Idempotent; gives a JSON value or raises a `VedetteError`.
            retry: Applies to errors whose `retryable` is true, and to a database or connection that fails.
            timeout_s: Seconds for one attempt, 0 = none. A body that is late is left behind (it may still have its
                effect, under its key) and the attempt fails with `execute.step.timeout`, which is retryable.
        """

    def wait(self, topic: str, *, timeout_s: float) -> Json | None:
        """The oldest unread message of `topic`; None when none came in time.

        The deadline survives a restart; a message sent before it is delivered even when the run resumes after it.
        """

    def sleep(self, seconds: float) -> None:
        """Waits; a restart waits only for the rest."""

    def parallel(self, branches: Sequence[Branch]) -> list[Json]:
        """Carries out branches at the same time; gives their results in the order of `branches` when all are over.

        Each is a run of its own, named `<run>/<branch>`: it survives a kill by itself, and one that waits holds up no
        other. What a branch raises is raised here, after the others are over.
        """


class Branch(msgspec.Struct, frozen=True):
    """One of several things to do at the same time."""

    name: str
    """Stable within the run."""
    kind: str
    definition: Json
    inputs: Json


Interpreter = Callable[[Steps, Json, Json], Json]
"""(steps, definition, inputs) -> result. What it raises fails the run."""


def attempt(body: Callable[[], Json], timeout_s: float = 0.0) -> Outcome:
    """One attempt of a step's body; its error becomes data."""
    if timeout_s <= 0:
        return _guarded(body)
    box: list[Outcome] = []
    thread = threading.Thread(target=lambda: box.append(_guarded(body)), name="vedette-step", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if box:
        return box[0]
    return Outcome(False, None, "execute.step.timeout", f"the step took longer than {timeout_s:g} s", retryable=True)


def _guarded(body: Callable[[], Json]) -> Outcome:
    try:
        return Outcome(ok=True, value=msgspec.json.decode(msgspec.json.encode(body())))
    except VedetteError as error:
        after = error.retry_after if isinstance(error, TransientError) else 0.0
        return Outcome(False, None, error.code, error.message, error.retryable, after)
    except (sa.exc.OperationalError, sa.exc.TimeoutError, ConnectionError):
        # A locked database or a lost connection passes; a missing table does not, and runs out of attempts.
        return Outcome(False, None, "execute.step.unavailable", "a database or connection failed", retryable=True)
    except Exception as error:  # noqa: BLE001 - a bug in one action must not lose the run; it is recorded as its outcome
        # Only the type: the text of a foreign error may hold a secret.
        return Outcome(False, None, "execute.step.crashed", f"the step raised {type(error).__name__}")


class DurableSteps:
    """`Steps` on DBOS: each attempt and each wait is one recorded operation."""

    def __init__(self, dbos: Any, run_id: str, begin: Callable[[str, str, Json, Json], Any]) -> None:
        self._dbos = dbos
        self._run_id = run_id
        self._begin = begin

    @property
    def run_id(self) -> str:
        """See `Steps`."""
        return self._run_id

    def step(self, name: str, body: Callable[[], Json], *, retry: Retry = ONCE, timeout_s: float = 0.0) -> Outcome:
        """See `Steps`."""
        number = 1
        while True:
            raw = self._dbos.run_step({"name": name}, lambda: msgspec.to_builtins(attempt(body, timeout_s)))
            outcome = msgspec.structs.replace(msgspec.convert(raw, Outcome), attempts=number)
            if outcome.ok or not outcome.retryable or number >= min(retry.attempts, MAX_ATTEMPTS):
                return outcome
            self.sleep(retry.delay(number, outcome.retry_after))
            number += 1

    def wait(self, topic: str, *, timeout_s: float) -> Json | None:
        """See `Steps`."""
        return self._dbos.recv(topic, max(0.0, timeout_s))

    def sleep(self, seconds: float) -> None:
        """See `Steps`."""
        # Waiting for a message that never comes: unlike the library's own sleep, it can be interrupted by `close`.
        if seconds > 0:
            self._dbos.recv(_NOTHING, seconds)

    def parallel(self, branches: Sequence[Branch]) -> list[Json]:
        """See `Steps`."""
        begun = [self._begin(f"{self._run_id}/{b.name}", b.kind, b.definition, b.inputs) for b in branches]
        results, errors = [], []
        for each in begun:
            try:
                results.append(each.get_result(polling_interval_sec=POLL_S))
            except Exception as error:  # noqa: BLE001 - the other branches are waited for first
                errors.append(error)
        if errors:
            raise errors[0]
        return results


class Runs:
    """Starts, messages and watches runs; executes none. Safe beside a running `Executor` in any process.

    Args:
        target: Path of runs.db (made by the first `Executor`), or a `postgresql://` URL.
    """

    def __init__(self, target: Path | str) -> None:
        self.target = target
        self._engine = _engine(target)
        self._lazy_client: Any = None

    @property
    def _client(self) -> Any:
        if self._lazy_client is None:
            from dbos import DBOSClient, DBOSPortableJSONSerializer

            self._lazy_client = DBOSClient(
                system_database_engine=self._engine,
                dbos_system_schema=_SCHEMA,
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
        options = {"queue_name": _QUEUE, "workflow_name": _WORKFLOW, "workflow_id": run_id, "app_version": VERSION}
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
                self._client.resume_workflow(run.id, queue_name=_QUEUE)

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


_WATCH_S = 0.05


class Executor(Runs):
    """Executes runs: those it starts, those other processes start, and at start-up those a dead process left.

    DBOS is one per process, so is this. A second process on the same database is refused while the first one lives.

    Args:
        target: Path of runs.db (made when missing), or a `postgresql://` URL.
        interpreters: Kind of run -> its interpreter.
        name: Identity of this executor; a restart under the same name resumes its runs.

    Raises:
        ConflictError: `execute.executor.busy`: another process executes this database; `execute.executor.second`: this
            process has an executor already.
    """

    _one = threading.Lock()
    """Held while this process has an executor: the library would silently give a second one the first database."""

    def __init__(self, target: Path | str, interpreters: Mapping[str, Interpreter], *, name: str = "local") -> None:
        self._held = ExitStack()
        self._closed = threading.Event()
        self._busy = threading.Condition()
        self._walks = 0
        if not isinstance(target, str) or not target.startswith("postgresql"):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        super().__init__(target)
        sa.event.listen(self._engine, "checkout", self._refuse_when_closed)
        if not Executor._one.acquire(blocking=False):
            super().close()
            raise ConflictError("execute.executor.second", "this process has an executor already", hint="share it")
        self._held.callback(Executor._one.release)
        try:
            _hold(self._held, self._engine, target, name)
            self._launch(dict(interpreters), name)
        except BaseException:
            self.close()
            raise

    def _launch(self, interpreters: Mapping[str, Interpreter], name: str) -> None:
        from dbos import DBOS, DBOSPortableJSONSerializer

        # A handler of our own keeps DBOS from writing to the terminal; what matters still reaches the root logger.
        log = logging.getLogger("dbos")
        if not log.handlers:
            log.addHandler(logging.NullHandler())
        self._held.callback(self._stop)
        self._dbos = DBOS(
            config={
                "name": "vedette",
                "system_database_engine": self._engine,
                "dbos_system_schema": _SCHEMA,
                "application_version": VERSION,
                "executor_id": name,
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "CRITICAL",
                "enable_otlp": False,
                "notification_listener_polling_interval_sec": POLL_S,
            }
        )

        @DBOS.workflow(name=_WORKFLOW)  # type: ignore[untyped-decorator]
        def execute(kind: str, definition: Json, inputs: Json) -> Json:
            interpreter = interpreters.get(kind)
            if interpreter is None:
                raise DefinitionError("execute.interpreter.unknown", f"no interpreter for runs of kind `{kind}`")
            with self._walking():
                return interpreter(DurableSteps(DBOS, str(DBOS.workflow_id), self._begin), definition, inputs)

        self._workflow = execute
        DBOS.launch()
        DBOS.register_queue(_QUEUE, polling_interval_sec=POLL_S)

    def _begin(self, run_id: str, kind: str, definition: Json, inputs: Json) -> Any:
        from dbos import DBOS, SetWorkflowID

        with SetWorkflowID(run_id):
            return DBOS.start_workflow(self._workflow, kind, definition, inputs)

    @contextmanager
    def _walking(self) -> Iterator[None]:
        with self._busy:
            self._walks += 1
        try:
            yield
        finally:
            with self._busy:
                self._walks -= 1
                self._busy.notify_all()

    def _refuse_when_closed(self, *_connection: object) -> None:
        if self._closed.is_set():
            raise _ClosedError

    def _stop(self) -> None:
        """Ends DBOS, then the runs that wait: its own shutdown leaves their threads waiting, for hours if need be.

        Each is woken, finds the database closed to it and unwinds without recording anything, so it stays pending.
        """
        from dbos import DBOS

        system = self._dbos._sys_db_field  # noqa: SLF001 - the library has no public way to wake its waiting threads
        DBOS.destroy(destroy_registry=True)
        self._closed.set()
        waiting = system.notifications_map.snapshot() if system is not None else []
        for _key, _components, signal in waiting:
            signal.set()
        with self._busy:
            self._busy.wait_for(lambda: not self._walks, timeout=GRACE_S)

    def close(self) -> None:
        """Stops executing; unfinished runs stay for the next executor. Step bodies under way get `GRACE_S` seconds."""
        self._held.close()
        super().close()


class _ClosedError(BaseException):
    """The executor is closed. No `Exception`, so that nothing on the way up takes it for the run's own failure."""


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


def _engine(target: Path | str) -> sa.Engine:
    if isinstance(target, str) and target.startswith("postgresql"):
        return sa.create_engine(target.replace("postgresql://", "postgresql+psycopg://", 1), pool_size=10)
    engine = sa.create_engine(f"sqlite:///{target}", connect_args={"check_same_thread": False}, pool_size=10)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        # DBOS expects the driver to open a write transaction by itself at the first write.
        connection.isolation_level = "IMMEDIATE"

    return engine


def _hold(held: ExitStack, engine: sa.Engine, target: Path | str, name: str) -> None:
    busy = ConflictError(
        "execute.executor.busy",
        "another process is executing the runs of this database",
        hint="start and approve runs there; this process may still watch and message them",
        at=f"{Path(target).name if engine.dialect.name == 'sqlite' else 'postgresql'}",
    )
    if engine.dialect.name == "sqlite":
        lock = Path(f"{target}.lock").open("a")  # noqa: SIM115 - held until the executor closes
        held.callback(lock.close)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise busy from None
        return
    connection = held.enter_context(engine.connect().execution_options(isolation_level="AUTOCOMMIT"))
    if not connection.scalar(sa.text("select pg_try_advisory_lock(hashtext(:name))"), {"name": f"vedette_runs_{name}"}):
        raise busy
