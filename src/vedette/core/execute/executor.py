"""Runs executed: by the one process whose turn it is; others stand by."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from vedette.core.errors import ConflictError, DefinitionError
from vedette.core.execute import nouns
from vedette.core.execute.nouns import POLL_S, QUEUE_S, Interpreter, Json
from vedette.core.execute.runs import QUEUE, SCHEMA, WORKFLOW, Runs
from vedette.core.execute.steps import DurableSteps
from vedette.core.execute.turn import WALKING, Turn, open_turn, refuse

GRACE_S = 5.0
"""How long `close` waits for step bodies under way."""
LOOK_S = 0.5
"""How often who stands by looks whether it is its turn."""
PATIENCE_S = 60.0
"""How long who stands by waits for the first one to make the tables."""

_LOG = logging.getLogger("vedette.execute")


class Execution:
    """DBOS in this process, for one turn.

    Args:
        engine: Connections of this turn; closed at its end.
        interpreters: Kind of run -> its interpreter.
        name: Identity under which runs are begun, and found again by the next one.
    """

    def __init__(self, engine: sa.Engine, interpreters: Mapping[str, Interpreter], name: str) -> None:
        self._engine = engine
        self._interpreters = interpreters
        self._closed = threading.Event()
        self._busy = threading.Condition()
        self._walks = 0
        sa.event.listen(engine, "checkout", self._refuse_when_closed)
        try:
            self._launch(name)
        except BaseException:
            self.stop()
            raise

    def _launch(self, name: str) -> None:
        from dbos import DBOS, DBOSPortableJSONSerializer

        # A handler of our own keeps DBOS from writing to the terminal; what matters still reaches the root logger.
        log = logging.getLogger("dbos")
        if not log.handlers:
            log.addHandler(logging.NullHandler())
        self._dbos = DBOS(
            config={
                "name": "vedette",
                "system_database_engine": self._engine,
                "dbos_system_schema": SCHEMA,
                "application_version": nouns.VERSION,
                "executor_id": name,
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "CRITICAL",
                "enable_otlp": False,
                "notification_listener_polling_interval_sec": POLL_S,
            }
        )

        @DBOS.workflow(name=WORKFLOW)  # type: ignore[untyped-decorator]
        def execute(kind: str, definition: Json, inputs: Json) -> Json:
            interpreter = self._interpreters.get(kind)
            if interpreter is None:
                raise DefinitionError("execute.interpreter.unknown", f"no interpreter for runs of kind `{kind}`")
            with self._walking():
                return interpreter(
                    DurableSteps(_Walked(DBOS, self._check), str(DBOS.workflow_id), self.begin), definition, inputs
                )

        self._workflow = execute
        DBOS.launch()
        DBOS.register_queue(QUEUE, polling_interval_sec=QUEUE_S)

    def begin(self, run_id: str, kind: str, definition: Json, inputs: Json) -> Any:
        """Begins a run at once, or finds it begun."""
        from dbos import DBOS, SetWorkflowID

        self._check()
        with SetWorkflowID(run_id):
            return DBOS.start_workflow(self._workflow, kind, definition, inputs)

    def _check(self) -> None:
        """The library is one per process: a walk that outlived its turn must not record through the next one."""
        if self._closed.is_set():
            refuse()

    @contextmanager
    def _walking(self) -> Iterator[None]:
        with self._busy:
            self._walks += 1
        token = WALKING.set(True)
        try:
            yield
        finally:
            WALKING.reset(token)
            with self._busy:
                self._walks -= 1
                self._busy.notify_all()

    def _refuse_when_closed(self, *_connection: object) -> None:
        self._check()

    def stop(self) -> None:
        """Ends DBOS, then the runs that wait: its own shutdown leaves their threads waiting, for hours if need be.

        Each is woken, finds the database closed to it and unwinds without recording anything, so it stays pending.
        """
        from dbos import DBOS

        system = self._dbos._sys_db_field if hasattr(self, "_dbos") else None  # noqa: SLF001 - the library has no public way to wake its waiting threads
        DBOS.destroy(destroy_registry=True)
        self._closed.set()
        waiting = system.notifications_map.snapshot() if system is not None else []
        for _key, _components, signal in waiting:
            signal.set()
        with self._busy:
            self._busy.wait_for(lambda: not self._walks, timeout=GRACE_S)
        self._engine.dispose()


class _Walked:
    """The library as a walk sees it, as long as its turn lasts."""

    def __init__(self, dbos: Any, check: Callable[[], None]) -> None:
        self._dbos = dbos
        self._check = check

    def run_step(self, options: Mapping[str, str], body: Callable[[], Json]) -> Json:
        self._check()
        return self._dbos.run_step(options, body)

    def recv(self, topic: str, seconds: float) -> Json:
        self._check()
        return self._dbos.recv(topic, seconds)


class Executor(Runs):
    """Executes runs: those it starts, those other processes start, and at its turn those a dead process left.

    DBOS is one per process, so is this. Of several processes on one database one executes at a time.

    Args:
        target: Path of runs.db (made when missing), or a `postgresql://` URL.
        interpreters: Kind of run -> its interpreter.
        name: Identity of this executor; whoever has the turn under the same name goes on with its runs.
        standby: On PostgreSQL: begin without the turn while another process has it, and take it when that one is gone.

    Raises:
        ConflictError: `execute.executor.busy`: another process executes this database; `execute.executor.second`: this
            process has an executor already.
    """

    _one = threading.Lock()
    """Held while this process has an executor: the library would silently give a second one the first database."""

    def __init__(
        self,
        target: Path | str,
        interpreters: Mapping[str, Interpreter],
        *,
        name: str = "local",
        standby: bool = False,
    ) -> None:
        if not isinstance(target, str) or not target.startswith("postgresql"):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        super().__init__(target)
        self._interpreters = dict(interpreters)
        self._name = name
        self._execution: Execution | None = None
        self._leaving = threading.Event()
        self._watcher: threading.Thread | None = None
        self._turn: Turn | None = None
        self._only = False
        if not Executor._one.acquire(blocking=False):
            super().close()
            raise ConflictError("execute.executor.second", "this process has an executor already", hint="share it")
        self._only = True
        try:
            self._turn = open_turn(target, name)
            self._join(self._turn, standby=standby)
        except BaseException:
            self.close()
            raise

    @property
    def executing(self) -> bool:
        """Whether it is this process's turn."""
        return self._execution is not None

    def _join(self, turn: Turn, *, standby: bool) -> None:
        """Begins the turn, or stands by once there is something to stand by for."""
        looks = int(PATIENCE_S / POLL_S) if standby and turn.shared else 1
        for _ in range(looks):
            if turn.take():
                self._begin_turn(turn)
                break
            if looks > 1 and turn.prepared():
                break
            self._leaving.wait(POLL_S if looks > 1 else 0)
        else:
            raise _busy(self.target)
        if turn.shared:
            self._watcher = threading.Thread(target=self._watch, args=(turn,), name="vedette-turn", daemon=True)
            self._watcher.start()

    def _begin_turn(self, turn: Turn) -> None:
        self._execution = Execution(turn.open(), self._interpreters, self._name)
        turn.prepare()

    def _end_turn(self) -> None:
        execution, self._execution = self._execution, None
        if execution is not None:
            execution.stop()

    def _watch(self, turn: Turn) -> None:
        while not self._leaving.wait(LOOK_S):
            if self._execution is None:
                self._try(turn)
            elif not turn.keep():
                _LOG.warning("another process executes the runs now")
                self._end_turn()

    def _try(self, turn: Turn) -> None:
        if not turn.take():
            return
        try:
            self._begin_turn(turn)
            _LOG.warning("this process executes the runs now")
        except Exception as error:  # noqa: BLE001 - it is tried again, or another one takes it
            _LOG.warning("the turn to execute runs could not begin: %s", type(error).__name__)
            self._end_turn()

    def _begin(self, run_id: str, kind: str, definition: Json, inputs: Json) -> Any:
        execution = self._execution
        # Where the turn may pass to another process, runs wait in the queue for whoever has it.
        if execution is None or self._turn is None or self._turn.shared:
            return super()._begin(run_id, kind, definition, inputs)
        return execution.begin(run_id, kind, definition, inputs)

    def close(self) -> None:
        """Stops executing; unfinished runs stay for the next one. Step bodies under way get `GRACE_S` seconds."""
        self._leaving.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        self._end_turn()
        if self._turn is not None:
            self._turn.leave()
            self._turn = None
        if self._only:
            self._only = False
            Executor._one.release()
        super().close()


def _busy(target: Path | str) -> ConflictError:
    return ConflictError(
        "execute.executor.busy",
        "another process is executing the runs of this database",
        hint="start and approve runs there; this process may still watch and message them",
        at="postgresql" if isinstance(target, str) and target.startswith("postgresql") else Path(target).name,
    )
