"""Returns: now and then somebody honest sends back what was bought, and asks for the money."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import ClassVar

import numpy as np

from vedette.demo.world.charges import Draft
from vedette.demo.world.deeds import Deed, Line, Return
from vedette.demo.world.nouns import Answer, Outcome
from vedette.demo.world.places import HOUR, MINUTE
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Stage
from vedette.demo.world.tide import SECOND


class Returns(Player):
    """Hears of some honest payments, and asks for the money of those that were captured some hours later."""

    kind: ClassVar[str] = "returns"
    honest: ClassVar[bool] = True

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        self._due: list[tuple[int, str, Draft]] = []

    def move(self, now: float) -> Iterable[Deed]:
        """Asks for what is due."""
        moment = self.stage.tide.moment(now)
        while self._due and self._due[0][0] <= moment:
            time, payment, draft = heappop(self._due)
            yield self._claim(max(time, moment), draft)
            yield Return(max(time, moment) + MINUTE // 60, payment, draft.amount)
        self.next = now + 120 * SECOND

    def observe(self, draft: Draft, payment: str, outcome: Outcome) -> None:
        """What was not captured cannot be given back."""
        if outcome.status is Answer.CAPTURED:
            heappush(self._due, (draft.time + 20 * MINUTE + int(self.rng.exponential(3 * HOUR)), payment, draft))

    def _claim(self, time: int, draft: Draft) -> Line:
        line = self.event(
            0.0,
            "refund.requested",
            merchant=self.stage.merchants.ids[draft.merchant],
            customer=draft.customer,
            source=draft.card,
            device=draft.device,
            ip=draft.address,
            amount_minor=draft.amount,
            currency=self.stage.merchants.currency(draft.merchant),
            reason="changed_mind",
        )
        return line._replace(time=time)
