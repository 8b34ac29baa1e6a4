"""Driving stages over the log until there is nothing new, or until told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vedette.core.log import Log
from vedette.run.metrics import Meters

BATCH = 2_000
"""Records a stage takes at most at once: bounds memory, and the work repeated after a kill."""
IDLE_S = 0.05
"""Wait between looks at a log that had nothing new."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Something with state that follows a topic of the log.

    A stage keeps its place inside its own state, moved in one transaction with its effect, or applies idempotently
    before it moves: handing it the same records again changes nothing.
    """

    name: str
    topic: str
    step: Callable[[], int]
    """Handles the next batch and gives how many records that was. What it raises leaves its place where it was."""
    place: Callable[[int], int]
    """Partition -> offset of the next record."""

    def lag(self, log: Log) -> int:
        """Records between its place and the end of the log."""
        return sum(log.end(self.topic, part) - self.place(part) for part in range(log.partitions(self.topic)))


def advance(log: Log, stages: Sequence[Stage], meters: Meters) -> int:
    """Gives every stage one turn. Returns how many records they took in all."""
    total = 0
    for stage in stages:
        taken = stage.step()
        meters.taken(stage.name, taken)
        meters.lag(stage.name, stage.lag(log))
        total += taken
    return total


def drain(log: Log, stages: Sequence[Stage], meters: Meters) -> int:
    """Turns until no stage finds anything new: one stage may feed another's topic."""
    total = 0
    while taken := advance(log, stages, meters):
        total += taken
    return total


def follow(log: Log, stages: Sequence[Stage], meters: Meters, stop: threading.Event) -> None:
    """Turns until `stop` is set; a turn in hand is finished first."""
    while not stop.is_set():
        if not advance(log, stages, meters):
            stop.wait(IDLE_S)
