"""Verdicts of people become labels in the log: each once, and none is lost by a kill.

The room that took the verdict owes its label until the label has been seen in the log itself. Handing it over is only
the way there: the writer that puts it into the log may be killed before it does. So a label is handed over once by a
process, and again by the next one only when that has read everything that was in the log when it began.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vedette.core.label import Label
from vedette.core.log import Log
from vedette.sense.sightings import TOPIC, Sightings


class Handing:
    """Hands labels to who records them.

    Args:
        log: Where labels are once they are learned.
        sightings: Finds them in it.
        learn: Takes a label to be recorded.
    """

    def __init__(self, log: Log, sightings: Sightings, learn: Callable[[Label], None]) -> None:
        self._log = log
        self._sightings = sightings
        self._learn = learn
        self._before = [log.end(TOPIC, part) for part in range(log.partitions(TOPIC))]
        self._handed: set[Label] = set()

    def hand(self, label: Label) -> bool:
        """Hands a label over unless that was done; whether it is in the log by now."""
        if self._is_written(label):
            self._handed.discard(label)
            return True
        read = all(self._sightings.place(part) >= end for part, end in enumerate(self._before))
        if read and label not in self._handed:
            self._learn(label)
            self._handed.add(label)
        return False

    def _is_written(self, label: Label) -> bool:
        told = msgspec.to_builtins(label)
        return any(event.data == told for event in self._sightings.labels(self._log, label.tenant, label.event_id))
