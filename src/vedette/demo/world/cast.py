"""Who attacks, and who only looks as if: how many of each kind, and when they begin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vedette.demo.world.attackers.account_takeover import AccountTakeover
from vedette.demo.world.attackers.bust_out import BustOut
from vedette.demo.world.attackers.card_tester import CardTester
from vedette.demo.world.attackers.insider import Insider
from vedette.demo.world.attackers.password_spray import PasswordSpray
from vedette.demo.world.attackers.refund_abuse import RefundAbuse
from vedette.demo.world.attackers.stolen_card import StolenCard
from vedette.demo.world.attackers.stolen_key import StolenKey
from vedette.demo.world.benign.flash_sale import FlashSale
from vedette.demo.world.benign.gift_cards import GiftCards
from vedette.demo.world.benign.new_hire import NewHire
from vedette.demo.world.benign.office_move import OfficeMove
from vedette.demo.world.benign.on_call import OnCall
from vedette.demo.world.benign.returns import Returns
from vedette.demo.world.benign.traveller import Traveller
from vedette.demo.world.charges import Draft
from vedette.demo.world.customers import HISTORY_DAYS
from vedette.demo.world.mint import generator
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Stage

OF_HISTORY: Final[tuple[tuple[type[Player], float], ...]] = (
    (StolenCard, 1_150),
    (CardTester, 35),
    (AccountTakeover, 130),
    (BustOut, 9),
    (FlashSale, 4),
    (Traveller, 80),
    (GiftCards, 3),
)
"""How many began in each million payments of the history."""
THIEVES: Final = 1_150
"""Stolen cards in each million payments of the day."""
Parts = Iterable[tuple[type[Player], int, int, float, float]]
ATTACKERS: Final[Parts] = (
    (CardTester, 4, 6, -0.03, 0.97),
    (AccountTakeover, 3, 4, -0.01, 0.97),
    (StolenKey, 1, 2, 0.0, 0.9),
    (BustOut, 1, 2, 0.0, 0.02),
    (RefundAbuse, 1, 2, 0.0, 0.02),
    (Insider, 1, 2, 0.0, 1.0),
    (PasswordSpray, 1, 2, 0.0, 0.8),
)
"""Attacks of the day: fewest and most, and the tides between which they begin. What lasts long begins early, what is
short at any time, even before midnight: so all hours have their share of frauds."""
HONEST: Final[Parts] = (
    (FlashSale, 1, 1, 0.0, 0.9),
    (GiftCards, 1, 1, 0.0, 0.02),
    (Traveller, 8, 14, 0.0, 0.8),
    (OnCall, 1, 1, 0.0, 1.0),
    (NewHire, 1, 2, 0.0, 1.0),
    (OfficeMove, 1, 1, 0.0, 1.0),
)
"""Unusual honest people of the day, told in the same way."""


def players_of_history(stage: Stage, volume: npt.NDArray[Any]) -> Iterator[tuple[Draft, bool]]:
    """Payments of those who acted on the days before, and whether each is a fraud: a steady share of all payments."""
    rng = generator(stage.seed, "past players")
    total = int(volume.sum())
    for make, share in OF_HISTORY:
        for number in range(max(1, rng.poisson(total * share / 1_000_000))):
            day = int(rng.choice(len(volume), p=volume / total)) - HISTORY_DAYS
            chance, name = _chance(stage, make, "past", number)
            player = make(stage, chance, day + float(rng.random()), name)
            yield from ((deed, not make.honest) for deed in player.play(0.0) if isinstance(deed, Draft))


def attackers_of_day(stage: Stage) -> list[Player]:
    """The attacks of the day."""
    return list(_cast(stage, ATTACKERS))


def honest_of_day(stage: Stage) -> list[Player]:
    """Who looks like an attacker and is none."""
    return list(_cast(stage, HONEST))


def returns_of_day(stage: Stage) -> Returns:
    """Who sends things back, as on every day."""
    chance, name = _chance(stage, Returns, "now")
    return Returns(stage, chance, 0.0, name)


def thieves_of_day(stage: Stage, payments: int) -> list[Player]:
    """Who spends stolen cards, as on every day."""
    count = int(generator(stage.seed, "thieves").poisson(payments * THIEVES / 1_000_000))
    return list(_cast(stage, [(StolenCard, count, count, -0.01, 1.0)]))


def _cast(stage: Stage, parts: Parts) -> Iterator[Player]:
    for make, least, most, earliest, latest in parts:
        rng = generator(stage.seed, "cast", make.kind)
        for number in range(int(rng.integers(least, most + 1))):
            chance, name = _chance(stage, make, "now", number)
            yield make(stage, chance, float(rng.uniform(earliest, latest)), name)


def _chance(stage: Stage, make: type[Player], *names: object) -> tuple[np.random.Generator, str]:
    name = " ".join([make.kind, *map(str, names)])
    return generator(stage.seed, name), name
