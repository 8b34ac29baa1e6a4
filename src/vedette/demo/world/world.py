"""The world: a seeded company with its history, and a day that is told step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from vedette.core.clock import DAY, from_datetime
from vedette.demo.world.history import History, make_history, to_table
from vedette.demo.world.nouns import Key, Merchant, Outcome, Person, Step
from vedette.demo.world.play import STEP, Play
from vedette.demo.world.record import write_records
from vedette.demo.world.stage import make_stage


class World:
    """A seeded payments company. The same seed and scale tell the same story on any day.

    Args:
        seed: Which story.
        day: Midnight UTC of the day that is played.
        scale: 1.0 is 2,000 merchants, 100,000 cards, some 700,000 payments of history and 100,000 on the day.
    """

    def __init__(self, seed: int, day: datetime, scale: float = 1.0) -> None:
        self.seed = seed
        self.scale = scale
        self._day = from_datetime(day)
        self._stage = make_stage(seed, scale)

    def history(self) -> pa.Table:
        """Payments of the sixty days before, in order of time, in the columns of source `product`.

        `fraud` is 1 (disputed), 0 (not disputed within seven days) or null (younger than that).
        """
        return to_table(self._history, self._stage.merchants, self._stage.texts, self._day)

    def merchants(self) -> list[Merchant]:
        """All merchants."""
        return [self._stage.merchants.noun(number) for number in range(len(self._stage.merchants))]

    def people(self) -> list[Person]:
        """Everybody who works at the company."""
        return [Person(one.name, one.email, one.role) for one in self._stage.staff.people]

    def keys(self) -> list[Key]:
        """API keys that must be there before the day: those that payments are sent with over HTTP."""
        return [self._stage.key_of(merchant) for merchant in self._stage.senders]

    def bind(self, keys: Mapping[str, str]) -> None:
        """Tells the ids that the platform gave to the keys, by their names: logs speak of them. Before `steps`."""
        self._stage.key_ids.update(keys)

    def steps(self) -> Iterator[Step]:
        """The day, once, five minutes at a time. Tell the answers of a step through `observe` before the next."""
        for begin in range(0, DAY, STEP):
            yield self._play.step(begin, begin + STEP)

    def observe(self, answers: Mapping[str, Outcome]) -> None:
        """Tells how requests ended, by their ids; whoever sent them may change what comes next."""
        self._play.observe(answers)

    def write_truth(self, path: Path) -> None:
        """Writes what really happened, for the score board, when the day is over."""
        write_records(path, self._play.records())

    @cached_property
    def _history(self) -> History:
        return make_history(self._stage)

    @cached_property
    def _play(self) -> Play:
        return Play(self._stage, self._history, day=self._day, scale=self.scale)
