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
from contextlib import suppress
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


def step_back() -> None:
    """Leaves processors to others, for this thread and those that it will start; on Linux only.

    The turns that `come_first` asked for stay short.
    """
    if platform.system() != "Linux":
        return
    os.nice(NICENESS)
    with suppress(OSError):  # where the machine does not let us, being nice is all
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
