"""Players: whoever acts on the stage move by move, and sees the answers. Attackers and unusual honest people alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from vedette.demo.world.charges import Draft
from vedette.demo.world.deeds import Deed
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

    def observe(self, draft: Draft, outcome: Outcome) -> None:
        """Sees how one of its payments ended; some do not care."""
        return

    def own(self, *entities: str) -> None:
        """Notes what is its own."""
        self.entities.update(entities)
