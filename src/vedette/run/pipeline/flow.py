"""Where a pipeline is held up: what each stage takes, how its queue grows, and which stage is the slow one.

Two looks at the log and at every stage's place are enough: what came meanwhile, what each stage took, and what waits.
The slow stage is the one whose queue grew most; where none grew, the one that needs longest for what waits. A pipeline
whose stages all have nothing to do has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from vedette.core.log import Log
from vedette.run.pipeline.stream import Stage

STEADY = 0.01
"""A queue that grew by less than this share of what came is not growing."""


class Look(msgspec.Struct, frozen=True):
    """One moment."""

    time: float
    """Seconds on a clock that never goes back."""
    ends: Mapping[str, int]
    """Stage -> records of its topic so far."""
    places: Mapping[str, int]
    """Stage -> records it has taken so far."""


class Flow(msgspec.Struct, frozen=True):
    """One stage between two looks. Rates are records a second."""

    stage: str
    topic: str
    waiting: int
    """Records at the second look."""
    arriving: float
    taking: float
    growing: float
    """How fast the queue grows; below 0 it shrinks."""
    left_s: float | None
    """Seconds until nothing waits, at this pace; None when it never will."""
    slow: bool = False
    """The one that holds up the pipeline."""


def look(log: Log, stages: Sequence[Stage], time: float) -> Look:
    """Where every stage is now."""
    parts = {stage.topic: range(log.partitions(stage.topic)) for stage in stages}
    # Places first: a record that comes in between must not seem to be taken before it came.
    places = {stage.name: sum(map(stage.place, parts[stage.topic])) for stage in stages}
    ends = {topic: sum(log.end(topic, part) for part in numbers) for topic, numbers in parts.items()}
    return Look(time, {stage.name: ends[stage.topic] for stage in stages}, places)


def flows(stages: Sequence[Stage], before: Look, after: Look) -> list[Flow]:
    """What happened between two looks, stage by stage, with the slow one marked."""
    found = [_flow(stage, before, after) for stage in stages]
    busy = [one for one in found if one.waiting]
    grown = [one for one in busy if one.growing > STEADY * one.arriving]
    slowest = (
        max(grown, key=lambda one: (one.growing, one.waiting))
        if grown
        else max(busy, key=lambda one: (one.left_s is None, one.left_s or 0.0, one.waiting), default=None)
    )
    return [msgspec.structs.replace(one, slow=one is slowest) for one in found]


def _flow(stage: Stage, before: Look, after: Look) -> Flow:
    name = stage.name
    seconds = max(after.time - before.time, 1e-9)
    arriving = (after.ends[name] - before.ends[name]) / seconds
    taking = (after.places[name] - before.places[name]) / seconds
    waiting = after.ends[name] - after.places[name]
    growing = arriving - taking
    left = 0.0 if not waiting else waiting / -growing if growing < 0 else None
    return Flow(name, stage.topic, waiting, round(arriving, 1), round(taking, 1), round(growing, 1), left)
