"""Nouns of durable execution: runs, steps and their outcomes, and what an interpreter may do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

Json = Any
"""None, bool, int, float, str, list or dict with text keys."""

VERSION = "vedette-runs-1"
"""Version of the interpreter contract, pinned. The default would be a hash of the source: after any change of it, runs
begun before would wait for ever. What may change is the data's own version, which the interpreter reads."""

POLL_S = 0.2
"""How often a waiting run looks for a message."""
QUEUE_S = 1.0
"""How often the executor looks for runs that another process started. Its own begin at once."""

MAX_ATTEMPTS = 20
"""Most attempts of one step."""

MAX_LIST = 1_000
"""Most runs one `list_runs` gives."""


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
