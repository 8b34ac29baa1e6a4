"""Stages: what follows the log, each with its own place, and one turn of them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vedette.core.clock import Clock
from vedette.core.log import Log
from vedette.run.guard import guarded
from vedette.run.metrics import Meters

BATCH = 2_000
"""Records a stage takes at most at once: bounds memory, and the work repeated after a kill."""
LOOK_S = 1.0
"""How often a stage is given a turn though nothing came: some have more to do than to take records."""


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


class Turns:
    """Turns that pass over a stage which stood at the end of its topic, until something comes or `LOOK_S` is over.

    To look whether something came costs some microseconds, a turn that takes nothing a transaction of the stage's own.

    Args:
        log: What the stages follow.
        meters: See `advance`.
        clock: Says when to look all the same.
    """

    def __init__(self, log: Log, meters: Meters, clock: Clock) -> None:
        self._log = log
        self._meters = meters
        self._clock = clock
        self._done: dict[str, tuple[float, list[int]]] = {}
        """Stage -> when it stood at the end of its topic, and where that was."""

    def go(self, stages: Sequence[Stage]) -> int:
        """Gives every stage that may have something to do one guarded turn; answers how many records were taken."""
        return sum(map(self._one, stages))

    def _one(self, stage: Stage) -> int:
        parts = range(self._log.partitions(stage.topic))
        ends, now = [self._log.end(stage.topic, part) for part in parts], self._clock.monotonic()
        since, held = self._done.get(stage.name, (now, None))
        if held == ends and now - since < LOOK_S:
            return 0
        taken = advance(self._log, [stage], self._meters, guard=True)[stage.name]
        # A turn that failed took nothing either: where it stands counts.
        if not taken and [stage.place(part) for part in parts] == ends:
            self._done[stage.name] = now, ends
        return taken
