"""Steps: one attempt as data, and the recorded steps of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from vedette.core.errors import TransientError, VedetteError
from vedette.core.execute.nouns import MAX_ATTEMPTS, ONCE, POLL_S, Branch, Json, Outcome, Retry

_NOTHING = "vedette.nothing"


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
