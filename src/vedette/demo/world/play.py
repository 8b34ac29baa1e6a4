"""The play: the day's honest payments and all who act move by move, put together into steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vedette.demo.world.cast import attackers_of_day, honest_of_day, returns_of_day, thieves_of_day
from vedette.demo.world.charges import Charges, Draft, to_draft, to_request
from vedette.demo.world.deeds import Cash, Line, Return
from vedette.demo.world.history import LABEL_DELAY, History
from vedette.demo.world.logs.book import Book
from vedette.demo.world.logs.daily import daily_logs
from vedette.demo.world.mint import Mint, generator
from vedette.demo.world.nouns import Dispute, Outcome, Payment, Payout, Refund, Step
from vedette.demo.world.payments import make_payments
from vedette.demo.world.places import MINUTE
from vedette.demo.world.player import Player
from vedette.demo.world.record import Attack, Benign, Fraud, Good, Record
from vedette.demo.world.stage import Stage

STEP: Final = 5 * MINUTE
BUSY: Final = 1.95
"""How much busier the day is than the one before: the sales begin."""
HTTP: Final = 2_000
"""Honest payments, at scale 1, that are sent one by one."""


RETURNED: Final = 0.005
"""Share of honest payments that are asked back within hours."""


class Part:
    """A player and what became of it. An attack has a name; small frauds and honest people have none."""

    def __init__(self, player: Player, name: str = "") -> None:
        self.player = player
        self.name = name
        self.payments: list[str] = []
        self.times: list[int] = []

    def record(self, day: int) -> Record:
        """For the truth file."""
        start, end = (day + time for time in (min(self.times), max(self.times)))
        kind, entities, payments = self.player.kind, tuple(sorted(self.player.entities)), tuple(self.payments)
        if self.player.honest:
            return Benign(kind=kind, start=start, end=end, entities=entities)
        if self.name:
            return Attack(id=self.name, kind=kind, start=start, end=end, entities=entities, payments=payments)
        return Fraud(kind=kind, start=start, end=end, entities=entities, payments=payments)


class Play:
    """The day of a stage.

    Args:
        stage: Where it is played.
        history: What went before; its disputes go on arriving.
        day: Midnight UTC, microseconds.
        scale: Of the world.
    """

    def __init__(self, stage: Stage, history: History, *, day: int, scale: float) -> None:
        self._stage = stage
        self._history = history
        self._day = day
        rng = generator(stage.seed, "day")
        self._good = make_payments(rng, stage.customers, stage.merchants, stage.texts, first=0, days=1, factor=BUSY)
        self._http = _over_http(rng, self._good, stage, round(HTTP * scale))
        self._ids = Mint(stage.seed, "requests")
        self._logs = daily_logs(stage, self._good, scale=scale)
        attacks = [Part(player, f"attack-{number + 1}") for number, player in enumerate(attackers_of_day(stage))]
        others = [*honest_of_day(stage), *thieves_of_day(stage, len(self._good))]
        self._returns = returns_of_day(stage)
        self._chance = generator(stage.seed, "returned")
        self._parts = attacks + [Part(player) for player in (*others, self._returns)]
        self._honest_customers = {stage.texts.customers[one] for one in np.unique(self._good.customer).tolist()}
        self._honest_payments = 0
        self._later: list[tuple[Part, Any]] = []
        self._sent: dict[str, tuple[Player, Draft]] = {}

    def step(self, begin: int, end: int) -> Step:
        """What happens in [begin, end), microseconds from midnight."""
        book = Book(self._day)
        drafts: list[tuple[Draft, Part | None]] = [(draft, None) for draft in self._honest(begin, end)]
        refunds: list[Refund] = []
        payouts: list[Payout] = []
        for part, deed in self._deeds(end):
            part.times.append(deed.time)
            match deed:
                case Draft():
                    drafts.append((deed, part))
                case Line():
                    book.note(deed.time, deed.source, deed.record)
                case Return():
                    refunds.append(Refund(self._ids.id("ref"), self._day + deed.time, deed.payment, deed.amount))
                case Cash():
                    payouts.append(self._payout(deed))
        for log in self._logs:
            log.write(book, begin, end)
        payments = self._payments(drafts)
        return Step(self._day + end, book.lines(), payments, refunds, payouts, self._disputes(begin, end))

    def observe(self, answers: Mapping[str, Outcome]) -> None:
        """Tells players how their payments ended."""
        for request, outcome in answers.items():
            if (found := self._sent.get(request)) is not None:
                player, draft = found
                player.observe(draft, request, outcome)

    def records(self) -> list[Record]:
        """What has happened so far."""
        good = Good(customers=tuple(sorted(self._honest_customers)), payments=self._honest_payments)
        acted = (part for part in self._parts if part.times and part.player is not self._returns)
        return [*(part.record(self._day) for part in acted), good]

    def _deeds(self, end: int) -> Iterator[tuple[Part, Any]]:
        """What is done before `end`, less what was done yesterday. A move may say what is done some time after it."""
        tide = self._stage.tide.tide(end)
        waiting, self._later = self._later, []
        deeds = [(part, deed) for part in self._parts for deed in part.player.play(tide)]
        for part, deed in waiting + deeds:
            if deed.time >= end:
                self._later.append((part, deed))
            elif deed.time >= 0:
                yield part, deed

    def _honest(self, begin: int, end: int) -> Iterator[Draft]:
        first, last = np.searchsorted(self._good.time, [begin, end])
        return to_draft(self._good.take(slice(first, last)), self._stage.texts, http=self._http[first:last])

    def _payments(self, drafts: list[tuple[Draft, Part | None]]) -> list[Payment]:
        payments = []
        for draft, part in sorted(drafts, key=lambda pair: pair[0].time):
            name = self._ids.id("pay")
            if part is None or part.player.honest:
                self._honest_payments += 1
                self._honest_customers.add(draft.customer)
            if part is not None:
                part.payments.append(name)
                self._sent[name] = (part.player, draft)
            elif self._chance.random() < RETURNED and draft.device:
                self._sent[name] = (self._returns, draft)
            key = draft.key or self._stage.key_of(draft.merchant).name
            request = to_request(draft, self._stage.merchants)
            payments.append(Payment(name, self._day + draft.time, draft.http, key, request))
        return payments

    def _payout(self, cash: Cash) -> Payout:
        merchants = self._stage.merchants
        currency, merchant = merchants.currency(cash.merchant), merchants.ids[cash.merchant]
        request = {"amount_minor": cash.amount, "currency": currency, "merchant": merchant}
        return Payout(self._ids.id("po"), self._day + cash.time, request)

    def _disputes(self, begin: int, end: int) -> list[Dispute]:
        time = self._history.charges.time
        first, last = np.searchsorted(time, [begin - LABEL_DELAY, end - LABEL_DELAY])
        rows = first + np.flatnonzero(self._history.disputed[first:last])
        return [
            Dispute(self._ids.id("dp"), self._day + int(time[row]) + LABEL_DELAY, self._history.ids[row])
            for row in rows.tolist()
        ]


def _over_http(rng: np.random.Generator, good: Charges, stage: Stage, count: int) -> npt.NDArray[np.bool_]:
    """Which honest payments are sent one by one: by chance, of the merchants that have keys."""
    theirs = np.flatnonzero(np.isin(good.merchant, stage.senders))
    chosen = np.zeros(len(good), np.bool_)
    chosen[rng.choice(theirs, min(len(theirs), count), replace=False)] = True
    return chosen
