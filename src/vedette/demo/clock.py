"""The clock of a day that is played: simulated time from a file, which goes on being real time once the day is over."""

from __future__ import annotations

import mmap
from pathlib import Path

from vedette.core.clock import SystemClock

_BYTES = 8
_REAL = 0


class DayClock:
    """A clock whose wall time is the number in a file, microseconds UTC; real time when that is 0.

    Processes that open one file share one time: the player sets it, the served process reads it. The monotonic side is
    always real, so that latencies are. Reading and setting are single stores of eight bytes.

    Args:
        path: Made when missing, at real time.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES)
        self._now = memoryview(self._map).cast("q")
        self._system = SystemClock()

    def now(self) -> int:
        """Simulated time, or the machine's when none is set."""
        return self._now[0] or self._system.now()

    def monotonic(self) -> float:
        """Real seconds."""
        return self._system.monotonic()

    def set(self, now: int) -> None:
        """Moves simulated time; it does not go back."""
        self._now[0] = max(now, self._now[0])

    def release(self) -> None:
        """Real time from now on."""
        self._now[0] = _REAL

    def close(self) -> None:
        """Gives the file back."""
        self._now.release()
        self._map.close()
