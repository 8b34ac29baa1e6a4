"""What a serving process takes from itself: memory that others could read, in a dump or through a debugger."""

from __future__ import annotations

import ctypes
import resource
import sys

PR_SET_DUMPABLE = 4
"""prctl(2): without it nobody of the same user attaches a debugger, and the process leaves no core."""


def forbid_dumps() -> None:
    """From here on this process leaves no core dump, and no process of the same user reads its memory.

    A card number in a wrong field is refused, and yet it stood in memory for as long as the request was read.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
