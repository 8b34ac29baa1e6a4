"""Features that several processes may share, in Redis: held to their share, and brought up to the log after an outage.

What Redis keeps may be late, gone or damaged at any moment. Decisions go on without it, marked; meanwhile nothing is
applied, and as soon as it answers again everything that the log holds since its place there is. When its state is lost
or damaged it is made again: from history, then from the log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from vedette.core.errors import VedetteError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import Log
from vedette.judge.decisions.bounded import Share
from vedette.judge.decisions.parts import Features, PartStalled, Vector

PART = "features"
LOOK_S = 0.25
"""How often a lost server is asked again, and one that answers whether it still has its state."""
READ = 2_000
"""Records of the log read at a time."""

Refill = Callable[[], None]
Feed = Callable[[Features, Event], None]
"""Gives the features what one record of the log says, if it concerns them."""


class Shared(Features, Protocol):
    """What is needed of a feature engine beside what decisions need."""

    @property
    def offsets(self) -> dict[str, int]:
        """Topic -> offset after the last record that was taken."""

    def clear(self) -> None:
        """Forgets everything."""


class Online(Features):
    """Features behind a server that may fail.

    Args:
        engine: Used by this object's thread alone from now on, but for `names`.
        log: Read from the engine's place on when it lost something.
        topic: Of the log.
        feed: What a record means to the features.
        refill: Called with an empty engine: puts in what was known before the log began.
        seconds: Share of the deadline that a fetch may take.
    """

    def __init__(self, engine: Shared, log: Log, *, topic: str, feed: Feed, refill: Refill, seconds: float) -> None:
        self._engine, self._log, self._topic = engine, log, topic
        self._feed, self._refill = feed, refill
        self._share = Share(PART, seconds)
        self._behind = True
        self._empty = False
        self._applied = 0
        self.passed = 0
        """Place up to which the state was brought up from the log: a fetch for an earlier event would see the event."""
        self.outages: dict[str, int] = {}
        """How often the state had to be brought up again, by error code."""
        self._ended = threading.Event()
        self._share.do(self._start)
        self._watch = threading.Thread(target=self._look, name="online-features", daemon=True)
        self._watch.start()

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of every vector."""
        return self._engine.names

    def fetch(self, event: Event) -> Vector:
        """Values as of the event; `PartStalled` when they come too late, or the state is not up to the log."""
        if self._behind or 0 < event.seq <= self.passed:
            raise PartStalled(PART)
        try:
            return self._share.ask(lambda: self._engine.fetch(event))
        except PartStalled:
            raise
        except (VedetteError, ValueError) as error:
            # A server that is gone comes back with its state; words that nobody can read must be written again.
            self._lost(_code(error), empty=not getattr(error, "retryable", False))
            raise PartStalled(PART) from error

    def apply(self, event: Event) -> None:
        """Queued behind all earlier calls."""
        self._share.tell(lambda: self._take(event))

    def learn(self, label: Label) -> None:
        """Queued behind all earlier calls."""
        self._share.tell(lambda: self._hear(label))

    def close(self) -> None:
        """Lets queued updates finish."""
        self._ended.set()
        self._watch.join()
        self._share.close()

    # In the thread of the share

    def _take(self, event: Event) -> None:
        if self._do(lambda: self._engine.apply(event)):
            self._applied = max(self._applied, event.seq)

    def _hear(self, label: Label) -> None:
        self._do(lambda: self._engine.learn(label))

    def _do(self, call: Callable[[], None]) -> bool:
        """Whether it was done: not while the state is behind, which takes everything from the log later."""
        if self._behind:
            return False
        try:
            call()
        except (VedetteError, ValueError) as error:
            self._lost(_code(error))
            return False
        return True

    def _lost(self, code: str, *, empty: bool = False) -> None:
        self.outages[code] = self.outages.get(code, 0) + 1
        self._empty = self._empty or empty
        self._behind = True

    def _start(self) -> None:
        """Goes on where Redis stands; what the log has since then the recorder replays, decision by decision."""
        try:
            self.passed = self._applied = self._place()
            self._behind = False
        except (VedetteError, ValueError) as error:
            self._lost(_code(error))

    def _place(self) -> int:
        """Where the state stands, after it was made again if it had to be."""
        place = self._engine.offsets[self._topic]
        if self._empty or place == 0 or place < self._applied:
            self._engine.clear()
            self._refill()
            self._empty, self._applied, place = False, 0, 0
        return place

    def _look(self) -> None:
        while not self._ended.wait(LOOK_S):
            self._share.do(self._catch_up if self._behind else self._check)

    def _check(self) -> None:
        """A server that was emptied answers, and has lost its place."""
        try:
            lost = self._engine.offsets[self._topic] < self._applied
        except (VedetteError, ValueError) as error:
            self._lost(_code(error))
            return
        if lost:
            self._lost("features.online.emptied")

    def _catch_up(self) -> None:
        try:
            place = self._place()
            while records := self._log.read(self._topic, 0, place, READ):
                for record in records:
                    place = record.offset + 1
                    event = _decode(record.value)
                    self._feed(self._engine, msgspec.structs.replace(event, seq=place))
        except (VedetteError, ValueError) as error:
            self._lost(_code(error))
            return
        self.passed = self._applied = place
        self._behind = False


def _code(error: Exception) -> str:
    return error.code if isinstance(error, VedetteError) else "features.online.damaged"


_decode: Any = msgspec.json.Decoder(Event).decode
