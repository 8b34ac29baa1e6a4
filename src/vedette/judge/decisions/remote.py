"""A model in a process of its own: what it does, however long it takes, is no part of the deciding process.

The child gets vectors through its standard input and answers with the score and what each input added. A child that
does not answer within its share, ends, or answers what no model can is killed and replaced, in the background; until
the next one is ready every question is answered `PartStalled` at once.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np

from vedette.judge.decisions.parts import PartStalled, Scorer, Vector
from vedette.judge.models.model import load_model

PART = "model"
READY = b"ready\n"
START_S = 60.0
"""How long a child may take to load and compile."""
FOR_EVER_S = 1e6
PAUSE_S = 0.5
"""Between a child that failed and the next."""


class RemoteScorer(Scorer):
    """A model behind a pipe. One question at a time; not thread-safe.

    Args:
        folder: Model directory, which the child loads.
        seconds: Share of the deadline that an answer may take.
        sha256: Hash that the registry names; a child with another model is not used.
        command: What to run in place of the shipped child.

    Raises:
        DataError: What `load_model` refuses: names and hash are read here, scores come from the child alone.
    """

    def __init__(self, folder: Path, seconds: float, *, sha256: str = "", command: Sequence[str] = ()) -> None:
        model = load_model(folder, sha256=sha256)
        self._id, self._sha256, self._features = model.id, model.sha256, model.features
        self._seconds = seconds
        self._command = tuple(command) or (sys.executable, "-m", __name__, str(folder), model.sha256)
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.failures: dict[str, int] = {}
        """Children that were replaced: `late`, `ended` or `wrong`."""
        self._starting = threading.Thread(target=self._start, daemon=True)
        self._starting.start()

    @property
    def id(self) -> str:
        """The model's name."""
        return self._id

    @property
    def sha256(self) -> str:
        """Hash of what it computes with."""
        return self._sha256

    @property
    def features(self) -> tuple[str, ...]:
        """Names of its inputs."""
        return self._features

    def warm(self) -> None:
        """Waits for the first child."""
        self._starting.join(START_S)

    def score(self, vector: Vector) -> float:
        """Probability of fraud; `PartStalled` when none comes in time."""
        return float(self._ask(vector, 0)[0])

    def contributions(self, vector: Vector) -> Vector:
        """Log odds of each input; `PartStalled` when they do not come in time."""
        return self._ask(vector, 1)[1:]

    def close(self) -> None:
        """Ends the child."""
        self._closed.set()
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            _end(child)
        self._starting.join()

    def _ask(self, vector: Vector, kind: int) -> Vector:
        child = self._child
        if child is None or child.stdin is None or child.stdout is None:
            raise PartStalled(PART)
        wanted = 8 * (1 + kind * len(vector))
        try:
            os.write(child.stdin.fileno(), bytes([kind]) + np.ascontiguousarray(vector, np.float64).tobytes())
            raw = _read(child.stdout.fileno(), wanted, self._seconds)
        except OSError:
            raw = b""
        if len(raw) < wanted:
            self._replace(child, "late" if child.poll() is None else "ended")
            raise PartStalled(PART)
        found = np.frombuffer(raw, np.float64).copy()
        if not (0.0 <= found[0] <= 1.0 and bool(np.isfinite(found).all())):
            self._replace(child, "wrong")
            raise PartStalled(PART)
        return found

    def _replace(self, child: subprocess.Popen[bytes], why: str) -> None:
        self.failures[why] = self.failures.get(why, 0) + 1
        self._child = None
        self._starting = threading.Thread(target=self._again, args=(child,), daemon=True)
        self._starting.start()

    def _again(self, child: subprocess.Popen[bytes]) -> None:
        _end(child)
        if not self._closed.wait(PAUSE_S):
            self._start()

    def _start(self) -> None:
        while not self._closed.is_set():
            child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - ours
            assert child.stdout is not None  # noqa: S101 - asked for
            if _read(child.stdout.fileno(), len(READY), START_S) == READY:
                with self._lock:
                    if not self._closed.is_set():
                        self._child = child
                        return
            _end(child)
            self._closed.wait(PAUSE_S)


class Remotes:
    """The processes that answer for a tenant's models, one for each model.

    Args:
        seconds: Share of the deadline that an answer may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._held: dict[str, RemoteScorer] = {}

    def of(self, folder: Path, sha256: str) -> RemoteScorer:
        """Who answers for a model; waits until a new one is ready.

        Raises:
            DataError: As `RemoteScorer`.
        """
        if sha256 not in self._held:
            self._held[sha256] = RemoteScorer(folder, self._seconds, sha256=sha256)
            self._held[sha256].warm()
        return self._held[sha256]

    def keep(self, hashes: Container[str]) -> None:
        """Ends those of other models."""
        for sha256 in [each for each in self._held if each not in hashes]:
            self._held.pop(sha256).close()

    def close(self) -> None:
        """Ends them all."""
        self.keep(())


def _read(handle: int, count: int, seconds: float) -> bytes:
    """So many bytes, or as many as came in time."""
    until, found = time.monotonic() + seconds, b""
    while len(found) < count:
        ready, _, _ = select.select([handle], [], [], max(0.0, until - time.monotonic()))
        some = os.read(handle, count - len(found)) if ready else b""
        if not some:
            break
        found += some
    return found


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _serve(folder: Path, sha256: str) -> None:
    """The child: answers until its input ends."""
    model = load_model(folder, sha256=sha256)
    model.warm()
    size = 1 + 8 * len(model.features)
    os.write(1, READY)
    while len(asked := _read(0, size, FOR_EVER_S)) == size:
        # A copy can be written to: a kernel would be compiled again for an array that cannot.
        vector = np.frombuffer(asked[1:], np.float64).copy()
        answer = [np.array([model.score(vector)])]
        if asked[0]:
            answer.append(model.contributions(vector))
        os.write(1, np.concatenate(answer).tobytes())


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
