"""A recorded run walked again by the interpreter of now, without doing anything: does it still go the same way?

Every operation that the interpreter asks for is answered from the record. Asking for another one than was recorded
means that a pending run of this kind would break under the new code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from vedette.core.errors import VedetteError
from vedette.core.execute import DurableSteps, Interpreter, Json, Run, StepRecord

_RECV, _SLEEP, _RESULT, _BRANCH = "DBOS.recv", "DBOS.sleep", "DBOS.getResult", "vedette.run"


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay found."""

    run_id: str
    operations: int
    """Recorded operations that were asked for again, in order."""
    finished: bool
    """The walk came to its end; else it came as far as the run has recorded."""
    divergence: str = ""
    """Where the code of now goes another way; empty: nowhere."""


class _EndOfRecordError(BaseException):
    """The run has recorded no more. No `Exception`, so that nothing on the way up takes it for a failure."""


class _DivergedError(BaseException):
    """Another operation was recorded."""


class _Record:
    """What `DurableSteps` asks of the library, answered from a history."""

    def __init__(self, history: Sequence[StepRecord]) -> None:
        self._left = deque(sorted(history, key=lambda step: step.number))
        self.taken = 0

    def take(self, name: str) -> Json:
        if not self._left:
            raise _EndOfRecordError
        step = self._left.popleft()
        if step.name != name:
            raise _DivergedError(f"operation {step.number} is `{step.name}` in the record, `{name}` is asked for")
        self.taken += 1
        return step.output

    def run_step(self, options: Mapping[str, str], _body: Callable[[], Json]) -> Json:
        return self.take(options["name"])

    def recv(self, _topic: str, _seconds: float) -> Json:
        # The wait is recorded when it begins, what came when it is over.
        if len(self._left) == 1 and self._left[0].name == _SLEEP:
            raise _EndOfRecordError
        found = self.take(_RECV)
        if self._left and self._left[0].name == _SLEEP:
            self.take(_SLEEP)
        return found

    def get_result(self, **_options: Any) -> Json:
        return self.take(_RESULT)

    def begin(self, _run_id: str, _kind: str, _definition: Json, _inputs: Json) -> _Record:
        self.take(_BRANCH)
        return self

    @property
    def rest(self) -> str:
        """The first operation that nobody asked for."""
        return self._left[0].name if self._left else ""


def replay(run: Run, history: Sequence[StepRecord], interpreter: Interpreter) -> Replayed:
    """Walks one run, or one branch, again. Nothing is done: no step's body is called."""
    record = _Record(history)
    finished, error, result = False, "", None
    divergence = ""
    try:
        result = interpreter(DurableSteps(record, run.id, record.begin), run.definition, run.inputs)
        finished = True
    except VedetteError as failure:
        finished, error = True, failure.code
    except _EndOfRecordError:
        pass
    except _DivergedError as other:
        divergence = str(other)
    if finished and not divergence:
        divergence = _compare(run, record.rest, result, error)
    return Replayed(run_id=run.id, operations=record.taken, finished=finished, divergence=divergence)


def _compare(run: Run, rest: str, result: Json, error: str) -> str:
    if rest:
        return f"`{rest}` is in the record, and is not asked for any more"
    if run.state.finished and error and error not in run.error:
        return f"it fails with {error}, which it did not"
    if run.state.finished and not error and msgspec.to_builtins(result) != run.result:
        return "it ends with another result"
    return ""
