"""Durable execution: runs that survive a killed process, behind a small port; DBOS does the work, here only.

A run is one generic interpreter over versioned data: the interpreter's code may change between restarts, the data it
interprets never does. What an interpreter does goes through `Steps`; every step's outcome is recorded in runs.db before
the next one starts, so a restart repeats no finished step. A step that was interrupted runs again: its body must be
idempotent by a key made of the run and the step. Definitions, inputs, outcomes and messages are plain JSON values.

One process executes the runs of a database at a time (`Executor`), and another takes over when it is gone (`turn`); any
process may start, watch and message them (`Runs`). No port is opened, nothing is sent over the network but to the
database.

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

from vedette.core.execute.executor import Executor
from vedette.core.execute.nouns import (
    MAX_ATTEMPTS,
    ONCE,
    Branch,
    Interpreter,
    Json,
    Outcome,
    Retry,
    Run,
    State,
    StepRecord,
    Steps,
)
from vedette.core.execute.runs import Runs
from vedette.core.execute.steps import DurableSteps, attempt

__all__ = [
    "MAX_ATTEMPTS",
    "ONCE",
    "Branch",
    "DurableSteps",
    "Executor",
    "Interpreter",
    "Json",
    "Outcome",
    "Retry",
    "Run",
    "Runs",
    "State",
    "StepRecord",
    "Steps",
    "attempt",
]
