"""Who attacks: how many of each kind, and when they begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vedette.demo.world.attackers.card_tester import CardTester
from vedette.demo.world.attackers.stolen_card import StolenCard
from vedette.demo.world.charges import Draft
from vedette.demo.world.customers import HISTORY_DAYS
from vedette.demo.world.mint import generator
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Stage

Make = Callable[[Stage, np.random.Generator, float, str], Player]

OF_HISTORY: Final[tuple[tuple[Make, float], ...]] = ((StolenCard, 1_150), (CardTester, 1 / 12_000 * 1_000_000))
"""Attackers of each million payments of the history."""
DAILY: Final = 1_150
"""Stolen cards of each million payments of the day."""
OF_DAY: Final[tuple[tuple[Make, int, int], ...]] = ((CardTester, 4, 6),)
"""Attackers of the day: fewest and most."""


def frauds_of_history(stage: Stage, volume: npt.NDArray[Any]) -> Iterator[Draft]:
    """Payments of attackers on the days before, as many for each good payment on every day."""
    rng = generator(stage.seed, "old frauds")
    total = int(volume.sum())
    for make, share in OF_HISTORY:
        for number in range(max(1, rng.poisson(total * share / 1_000_000))):
            day = int(rng.choice(len(volume), p=volume / total)) - HISTORY_DAYS
            player = make(stage, _chance(stage, make, number), day + float(rng.random()), f"old {number}")
            yield from (deed for deed in player.play(float("inf")) if isinstance(deed, Draft))


def attackers_of_day(stage: Stage) -> list[Player]:
    """The attacks of the day, those that count."""
    rng = generator(stage.seed, "attackers")
    players = []
    for make, least, most in OF_DAY:
        for number in range(int(rng.integers(least, most + 1))):
            begin = float(rng.uniform(0.0, 0.92))
            players.append(make(stage, _chance(stage, make, number + 1_000_000), begin, f"attack {number}"))
    return players


def thieves_of_day(stage: Stage, payments: int) -> list[Player]:
    """The stolen cards that are spent on every day."""
    rng = generator(stage.seed, "thieves")
    count = int(rng.poisson(payments * DAILY / 1_000_000))
    return [
        StolenCard(stage, _chance(stage, StolenCard, 2_000_000 + n), float(rng.random()), f"thief {n}")
        for n in range(count)
    ]


def _chance(stage: Stage, make: Make, number: int) -> np.random.Generator:
    return generator(stage.seed, getattr(make, "kind", make.__name__), str(number))
