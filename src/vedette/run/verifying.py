"""Verification of the evidence beside the service: in a process of its own, so that decisions never wait for it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from vedette.core.clock import Clock, SystemClock
from vedette.core.db import open_database
from vedette.core.errors import ConflictError, VedetteError
from vedette.core.log import SqliteLog
from vedette.core.settings import Settings
from vedette.prove.evidence import FileAnchor, verify
from vedette.prove.evidence.collect import from_log

NICE = 10
"""The verifier steps back behind everything else on the machine."""


class Verification(msgspec.Struct, frozen=True):
    """One run of the verifier."""

    started: int
    """Microseconds UTC."""
    by: str = ""
    """Id of who asked."""
    ended: int = 0
    """0 while it runs."""
    done: int = 0
    total: int = 0
    """Records read so far, and of how many."""
    report: dict[str, Any] | None = None
    """`Report.to_json()`."""
    error: str = ""
    """Why there is no report."""


class Verifier:
    """Verifies when somebody asks, one run at a time, and keeps the newest result in memory.

    Args:
        settings: Whose evidence.
        clock: Times of runs.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._child: multiprocessing.process.BaseProcess | None = None
        self._newest: Verification | None = None

    @property
    def newest(self) -> Verification | None:
        """The run that goes on, else the last one; None before the first."""
        return self._newest

    def start(self, *, by: str) -> None:
        """Starts a run.

        Raises:
            ConflictError: `audit.verify.running`.
        """
        with self._lock:
            if self._newest and not self._newest.ended:
                raise ConflictError("audit.verify.running", "the evidence is being verified", hint="wait for its end")
            begun = Verification(self._clock.now(), by)
            # Never a fork: this process has threads, and its log may not cross one.
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe(duplex=False)
            child = context.Process(target=_verify, args=(theirs, self._settings), name="verify", daemon=True)
            child.start()
            theirs.close()
            self._child, self._newest = child, begun
            threading.Thread(target=self._listen, args=(begun, ours, child), name="verify", daemon=True).start()

    def close(self) -> None:
        """Stops a run that goes on."""
        with self._lock:
            if self._child:
                self._child.kill()
                self._child.join()

    def _listen(self, begun: Verification, pipe: Connection, child: multiprocessing.process.BaseProcess) -> None:
        told: dict[str, Any] = {}
        with pipe:
            while "report" not in told and "error" not in told:
                try:
                    told |= pipe.recv()
                except (EOFError, OSError):
                    break
                self._newest = msgspec.structs.replace(begun, done=told.get("done", 0), total=told.get("total", 0))
        child.join()
        if "report" not in told:
            told.setdefault("error", f"the verifier ended with code {child.exitcode}")
        self._newest = msgspec.structs.replace(begun, ended=self._clock.now(), **told)


def _verify(pipe: Connection, settings: Settings) -> None:
    """The child: tells its progress, then its report."""
    os.nice(NICE)

    def tell(done: int, total: int) -> None:
        pipe.send({"done": done, "total": total})

    try:
        database = open_database(settings.database_url or settings.state_file, schema=settings.following_schema)
        with SqliteLog(settings.log_folder, SystemClock()) as log:
            report = verify(database, FileAnchor(settings.anchor_folder), content=from_log(log), progress=tell)
        database.close()
        pipe.send({"report": report.to_json()})
    except VedetteError as error:
        pipe.send({"error": f"{error.code}: {error.message}"})
