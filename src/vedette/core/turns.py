"""Whose turn it is on the machine's processors: who answers comes at once, what follows the log comes after.

Linux gives every thread turns of some milliseconds, and one that wakes mostly waits for the end of another's. From
version 6.12 on a thread may ask for shorter turns instead: it gets no more of the processor, but when it wakes it need
not wait for who asked for longer ones. Elsewhere asking has no effect.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

TURN_NS: Final = 100_000
"""The shortest turn that Linux gives."""
NICENESS: Final = 10
"""Of what nobody waits for, on a machine that has not processors enough for it and for payments. It runs as a batch
too: when it wakes it takes no processor from a payment that is being decided on."""

_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""Number of the system call, for which Python has no name."""
_ATTRIBUTES: Final = struct.Struct("IIQiIQQQII")
"""`struct sched_attr`: size, policy, flags, nice, priority, runtime, deadline, period, least and most use."""
_OTHER: Final = 0
"""The usual policy."""


def come_first() -> bool:
    """Asks for short turns, for this thread and those that it will start; whether the machine lets us ask.

    No privilege is needed. Its share of the processor, and its niceness, stay.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None or platform.system() != "Linux" or os.sched_getscheduler(0) != _OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, _OTHER, 0, nice, 0, TURN_NS, 0, 0, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, wanted, 0) == 0)


def let_finish() -> None:
    """Takes no processor from who is at work when this thread wakes, nor do those that it will start; on Linux only.

    Its share of the processors stays.
    """
    if platform.system() == "Linux":
        with suppress(OSError):  # where the machine does not let us, it interrupts others as before
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def step_back() -> None:
    """Leaves processors to others, for this thread and those that it will start; on Linux only.

    The turns that `come_first` asked for stay short. Once is enough: doing it again changes nothing.
    """
    if platform.system() != "Linux" or os.sched_getscheduler(0) == os.SCHED_BATCH:
        return
    os.nice(NICENESS)
    let_finish()


def let_others_pass() -> None:
    """Leaves processors to whoever else wants them, for every thread of this process but the caller's; on Linux only.

    Such a thread is stopped at once for any other, where one that only stepped back may end its turn. It gets next to
    nothing while others want all processors, and cannot be given its place back: watch `Shares`, and begin anew. Where
    the machine does not count them, nothing changes.
    """
    if _times() == (0, 0):
        return
    for thread in _threads():
        if int(thread.name) != threading.get_native_id():
            with suppress(OSError):  # it ended just now, or the machine does not let us
                os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))


class Shares:
    """What the threads of this process had of the processors since the last look, of what they wanted."""

    def __init__(self) -> None:
        self._before = _times()

    def look(self) -> tuple[float, float]:
        """Seconds that they ran, and seconds that they were ready to and did not; zeros where nobody counts them."""
        before, self._before = self._before, _times()
        since = [(now - was) / 1e9 for was, now in zip(before, self._before, strict=True)]
        return max(0.0, since[0]), max(0.0, since[1])


def _threads() -> Iterator[Path]:
    return Path("/proc/self/task").glob("[0-9]*")


def _times() -> tuple[int, int]:
    """Nanoseconds that the threads ran and waited so far."""
    ran = waited = 0
    for thread in _threads():
        with suppress(OSError):
            first, second, _ = (thread / "schedstat").read_bytes().split()
            ran, waited = ran + int(first), waited + int(second)
    return ran, waited
