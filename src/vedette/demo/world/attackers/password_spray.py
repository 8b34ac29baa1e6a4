"""Password spray: one common password for everybody's account, so that none is locked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from vedette.demo.world.deeds import Deed, Line
from vedette.demo.world.logs.identity import SSO, START, signed
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Stage
from vedette.demo.world.tide import SECOND

AGENT = "Mozilla/5.0 (X11; Linux x86_64) Browser/115.0"


class PasswordSpray(Player):
    """Loud from one address, or slow from many; with luck somebody's account opens and has no second factor."""

    kind: ClassVar[str] = "password_spray"

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        self.slow = self.props.chance(0.35)
        people = list(stage.staff.people)
        rng.shuffle(people)
        self.targets = people[: int(rng.integers(35, 70))] if self.slow else people[: int(rng.integers(70, 150))]
        self.lucky = len(self.targets) * 3 // 4 if self.props.chance(0.5) else -1
        self.entered = False
        self.tried = 0
        self._move_on()

    def _move_on(self) -> None:
        self.address = self.props.mint.address(self.props.place())
        self.own(f"ip:{self.address}")

    def move(self, now: float) -> Iterable[Deed]:
        """Tries one account, or opens an application with the account that opened."""
        person = self.targets[self.tried]
        opens = self.tried == self.lucky
        if self.slow and self.tried % 4 == 3:
            self._move_on()
        time = self.stage.tide.moment(now)
        sign = signed(self.props.mint.uuid(), person, START, self.address, failed=not opens, agent=AGENT)
        yield Line(time, "identity", sign)
        if opens:
            self.own(f"user:{person.email}")
            app = signed(self.props.mint.uuid(), person, SSO, self.address, agent=AGENT)
            app["target"].append({"alternateId": "Ledger admin", "type": "AppInstance"})
            yield Line(time + 90_000_000, "identity", app)
        self.tried += 1
        self.done = self.tried >= len(self.targets)
        pause = 150 + self.rng.exponential(120) if self.slow else 3 + self.rng.exponential(12)
        self.next = now + float(pause) * SECOND
