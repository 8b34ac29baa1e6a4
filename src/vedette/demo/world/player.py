"""Players: whoever acts on the stage move by move, and sees the answers. Attackers and unusual honest people alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from vedette.demo.world.charges import Draft
from vedette.demo.world.deeds import Deed, Line
from vedette.demo.world.nouns import Outcome
from vedette.demo.world.stage import Props, Stage


class Player(ABC):
    """Acts at moments of its own choosing.

    Args:
        stage: Where it acts.
        rng: Its own chance.
        begin: Tide of its first move, days from midnight of the day.
        name: Its own, so that what it makes is always the same.
    """

    kind: ClassVar[str]
    honest: ClassVar[bool] = False

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        self.stage = stage
        self.rng = rng
        self.props = Props(stage, rng, name)
        self.name = name
        self.next = begin
        """Tide of its next move."""
        self.done = False
        self.entities: set[str] = set()
        """What is its own, `type:id`: an alert that names one of these has found it."""

    @abstractmethod
    def move(self, now: float) -> Iterable[Deed]:
        """One move; sets `next` to the tide of the one after, or `done`."""

    def play(self, until: float) -> list[Deed]:
        """All moves before a tide."""
        deeds: list[Deed] = []
        while not self.done and self.next < until:
            deeds += self.move(self.next)
        return deeds

    def observe(self, draft: Draft, payment: str, outcome: Outcome) -> None:
        """Sees how one of its payments ended; some do not care."""
        return

    def event(self, now: float, kind: str, **fields: Any) -> Line:
        """An event of the product at a tide; fields without a value are left out."""
        record = {"id": self.props.mint.id("evt"), "type": kind, **{k: v for k, v in fields.items() if v}}
        return Line(self.stage.tide.moment(now), "product", record)

    def own(self, *entities: str) -> None:
        """Notes what is its own."""
        self.entities.update(entities)


class Scripted(Player):
    """Does what is written down, line by line, whatever is answered."""

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        self.script = deque(sorted(self.lines(), key=lambda line: line.time))
        self.next = stage.tide.tide(self.script[0].time)

    @abstractmethod
    def lines(self) -> Iterable[Line]:
        """What is written down."""

    def move(self, now: float) -> Iterable[Deed]:
        """The next line."""
        yield self.script.popleft()
        self.done = not self.script
        if self.script:
            self.next = self.stage.tide.tide(self.script[0].time)
