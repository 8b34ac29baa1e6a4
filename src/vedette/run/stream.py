"""Stages: what follows the log, each with its own place, and one turn of them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vedette.core.log import Log
from vedette.run.guard import guarded
from vedette.run.metrics import Meters

BATCH = 2_000
"""Records a stage takes at most at once: bounds memory, and the work repeated after a kill."""


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


def advance(log: Log, stages: Sequence[Stage], meters: Meters, *, guard: bool = False) -> Mapping[str, int]:
    """Gives every stage one turn. Returns how many records each took.

    Args:
        log: What the stages follow.
        stages: In the order of their turns.
        meters: Counts records and lags.
        guard: Count and tell what a stage raises, and go on with the others; its place stays where it was, and its
            next turn tries again. Without it the error ends the turn.
    """
    taken: dict[str, int] = {}
    for stage in stages:
        taken[stage.name] = guarded(stage.name, stage.step, meters, 0) if guard else stage.step()
        meters.taken(stage.name, taken[stage.name])
        meters.lag(stage.name, stage.lag(log))
    return taken
