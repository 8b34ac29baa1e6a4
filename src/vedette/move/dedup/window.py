"""The filter of one process: a dictionary of ids, and a journal if it is to survive the process."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import Final

from vedette.core.clock import MICROS, Clock
from vedette.core.errors import DefinitionError, TransientError
from vedette.move.dedup.port import WINDOW_S, Effect, check, in_flight

MAX_IDS: Final = 1_000_000
"""Ids that are held, about 200 bytes each."""
SLACK: Final = 10_000
"""Lines beyond twice the held ids after which the journal is written anew."""


class Window:
    """Ids of this process. Thread-safe.

    Args:
        clock: Its wall side: a window outlives the process when there is a journal.
        window_s: How long an id is known.
        max_ids: Bounds the memory. When so many are in one window new ones are refused: an id that must be known is
            never forgotten to make room.
        journal: File that takes every mark, read again at the next start; one process at a time. None: a restart
            forgets everything.
        synced: Wait for the disk with each mark. False: marks survive a killed process, not a power cut.

    Raises:
        DefinitionError: `dedup.journal.in_use`.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        window_s: float = WINDOW_S,
        max_ids: int = MAX_IDS,
        journal: Path | None = None,
        synced: bool = False,
    ) -> None:
        self._clock = clock
        self._window = round(window_s * MICROS)
        self._max = max_ids
        self._marks: dict[str, int] = {}
        """Oldest first."""
        self._busy: set[str] = set()
        self._latest = 0
        self._purged = 0
        self._lock = threading.Lock()
        self._journal = _Journal(journal, synced=synced) if journal is not None else None
        if self._journal is not None:
            self._marks = self._journal.read(self._now() - self._window)
            self._journal.rewrite(self._marks)

    def __len__(self) -> int:
        return len(self._marks)

    def once(self, id_: str, effect: Effect) -> bool:
        """See `Dedup`. The effect and its mark are two steps: a process that dies between them does it again."""
        with self._lock:
            now = self._now()
            if not self._is_new(id_, now):
                return False
            self._busy.add(id_)
        try:
            effect(None)
        except BaseException:
            with self._lock:
                self._busy.discard(id_)
            raise
        with self._lock:
            self._busy.discard(id_)
            self._mark(id_, now)
        return True

    def admit(self, id_: str) -> bool:
        """See `Dedup`."""
        with self._lock:
            now = self._now()
            if not self._is_new(id_, now):
                return False
            self._mark(id_, now)
            return True

    def close(self) -> None:
        """Closes the journal."""
        if self._journal is not None:
            self._journal.close()

    def _now(self) -> int:
        # A clock that was set back must not make old marks young.
        self._latest = max(self._latest, self._clock.now())
        return self._latest

    def _is_new(self, id_: str, now: int) -> bool:
        marked = self._marks.get(check(id_))
        if marked is not None and now - marked < self._window:
            return False
        if id_ in self._busy:
            raise in_flight(1.0)
        if len(self._marks) + len(self._busy) >= self._max or now - self._purged > self._window // 32:
            self._purge(now)
            if len(self._marks) + len(self._busy) >= self._max:
                oldest = next(iter(self._marks.values()), now)
                wait = (oldest + self._window - now) / MICROS
                raise TransientError("dedup.window.full", f"{self._max} ids in one window", retry_after=wait)
        return True

    def _mark(self, id_: str, now: int) -> None:
        self._marks.pop(id_, None)
        self._marks[id_] = now
        if self._journal is not None:
            self._journal.append(id_, now)
            if self._journal.lines > 2 * len(self._marks) + SLACK:
                self._journal.rewrite(self._marks)

    def _purge(self, now: int) -> None:
        self._purged = now
        old = []
        for id_, marked in self._marks.items():
            if now - marked < self._window:
                break
            old.append(id_)
        for id_ in old:
            del self._marks[id_]


class _Journal:
    """A line a mark, `<microseconds> <id>`; the last one may be torn. The file is locked while it is open."""

    def __init__(self, path: Path, *, synced: bool) -> None:
        self._path = path
        self._synced = synced
        self.lines = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        # The lock is a file of its own, because the journal is replaced when it is written anew.
        self._guard = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._guard)
            raise DefinitionError("dedup.journal.in_use", "another process writes this journal", at=str(path)) from None
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def read(self, since: int) -> dict[str, int]:
        """The marks after a moment, oldest first."""
        marks: dict[str, int] = {}
        with self._path.open("rb") as file:
            for line in file:
                time, _, name = line.rstrip(b"\n").partition(b" ")
                if line.endswith(b"\n") and time.isdigit() and name and int(time) > since:
                    id_ = name.decode("utf-8", "surrogateescape")
                    marks.pop(id_, None)
                    marks[id_] = int(time)
        return marks

    def append(self, id_: str, time: int) -> None:
        """Adds a mark; it survives the process when this returns."""
        os.write(self._file, b"%d %s\n" % (time, id_.encode()))
        self.lines += 1
        if self._synced:
            os.fsync(self._file)

    def rewrite(self, marks: dict[str, int]) -> None:
        """Writes the file anew, without what is forgotten; a crash leaves the old or the new one."""
        fresh = self._path.with_name(self._path.name + ".new")
        with fresh.open("wb") as file:
            file.writelines(b"%d %s\n" % (time, id_.encode()) for id_, time in marks.items())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        os.close(self._file)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.lines = len(marks)

    def close(self) -> None:
        os.close(self._file)
        os.close(self._guard)
