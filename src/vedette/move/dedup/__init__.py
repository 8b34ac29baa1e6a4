"""Letting each event pass once: exact filters for ids that come again.

| Filter | Mark and effect | Survives |
|---|---|---|
| `Window` | two steps | with a journal: the process |
| `SqlDedup` | one transaction | what the database survives |
| `RedisDedup` | two steps, under a lease | what the server survives |

Example:
    >>> from vedette.core.clock import SystemClock
    >>> window = Window(SystemClock(), window_s=60)
    >>> [window.admit(event) for event in ("evt_1", "evt_2", "evt_1")]
    [True, True, False]
"""

from vedette.move.dedup.port import MAX_ID, WINDOW_S, Dedup, Effect
from vedette.move.dedup.shared import RedisDedup
from vedette.move.dedup.sql import SqlDedup
from vedette.move.dedup.window import Window

__all__ = ["MAX_ID", "WINDOW_S", "Dedup", "Effect", "RedisDedup", "SqlDedup", "Window"]
