"""Parts that may block, held to their share of the deadline: a feature store or a model behind a network.

Each part has one thread and its calls keep their order. While a call is overdue the part is not asked again, so a hung
part costs one share once, and then nothing until it answers. The embedded engine and the flattened trees are finite by
construction and are not wrapped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Overdue
from typing import TypeVar

from vedette.core.errors import VedetteError
from vedette.core.event import Entity, Event
from vedette.core.label import Label
from vedette.judge.decisions.parts import Features, PartStalled, Risks, Scorer, Vector

MAX_BACKLOG = 10_000
"""Updates that may wait behind a hung part; the writer waits when it is full, so that none is lost."""

T = TypeVar("T")


class Share:
    """One part's thread and share.

    Args:
        part: Its name, as in `fallback.<part>`.
        seconds: How long one call may take.
    """

    def __init__(self, part: str, seconds: float) -> None:
        self.part = part
        self._seconds = seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"share-{part}")
        self._overdue: Future[object] | None = None
        self._room = threading.BoundedSemaphore(MAX_BACKLOG)

    def ask(self, call: Callable[[], T]) -> T:
        """The call's answer.

        Raises:
            PartStalled: When it does not come in time, or an earlier call is still overdue.
        """
        if self._overdue is not None and not self._overdue.done():
            raise PartStalled(self.part)
        future = self._thread.submit(call)
        try:
            return future.result(self._seconds)
        except Overdue:
            if not future.cancel():
                self._overdue = future  # type: ignore[assignment] # only asked whether it is done
            raise PartStalled(self.part) from None

    def do(self, call: Callable[[], None]) -> None:
        """The call, behind all earlier ones, however long it takes."""
        self._thread.submit(call).result()

    def tell(self, call: Callable[[], None]) -> None:
        """Queues a call whose answer nobody needs, behind all earlier ones."""
        self._room.acquire()
        self._thread.submit(call).add_done_callback(lambda _future: self._room.release())

    def close(self) -> None:
        """Lets queued calls finish, and ends the thread."""
        self._thread.shutdown()


class BoundedFeatures(Features):
    """A feature store held to its share."""

    def __init__(self, features: Features, seconds: float) -> None:
        self._features = features
        self._share = Share("features", seconds)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of every vector."""
        return self._features.names

    def fetch(self, event: Event) -> Vector:
        """Values as of the event; `PartStalled` when they come too late."""
        return self._share.ask(lambda: self._features.fetch(event))

    def apply(self, event: Event) -> None:
        """Queued behind all earlier calls."""
        self._share.tell(lambda: self._features.apply(event))

    def learn(self, label: Label) -> None:
        """Queued behind all earlier calls."""
        self._share.tell(lambda: self._features.learn(label))

    def close(self) -> None:
        """Lets queued updates finish."""
        self._share.close()


class BoundedScorer(Scorer):
    """A model held to its share."""

    def __init__(self, model: Scorer, seconds: float) -> None:
        self._model = model
        self._share = Share("model", seconds)

    @property
    def id(self) -> str:
        """The model's name."""
        return self._model.id

    @property
    def sha256(self) -> str:
        """Hash of what it computes with."""
        return self._model.sha256

    @property
    def features(self) -> tuple[str, ...]:
        """Names of its inputs."""
        return self._model.features

    def score(self, vector: Vector) -> float:
        """Probability of fraud; `PartStalled` when it comes too late."""
        return self._share.ask(lambda: self._model.score(vector))

    def contributions(self, vector: Vector) -> Vector:
        """Log odds of each feature; `PartStalled` when they come too late."""
        return self._share.ask(lambda: self._model.contributions(vector))

    def close(self) -> None:
        """Ends the thread."""
        self._share.close()


class BoundedRisks(Risks):
    """What alerts say, held to its share: a decision does without rather than wait.

    Args:
        ask: (tenant, entities) -> risks; may block and may fail.
        seconds: How long one question may take.
        failed: Told the code each time it could not be answered.
    """

    def __init__(
        self,
        ask: Callable[[str, Sequence[Entity]], Mapping[Entity, int]],
        seconds: float,
        failed: Callable[[str], None] = lambda _code: None,
    ) -> None:
        self._ask = ask
        self._share = Share("risks", seconds)
        self._failed = failed

    def look(self, tenant: str, entities: Sequence[Entity]) -> Mapping[Entity, int] | None:
        """Risks of entities; None when they come too late or not at all."""
        try:
            return self._share.ask(lambda: self._ask(tenant, entities))
        except VedetteError as error:
            self._failed(error.code)
            return None

    def close(self) -> None:
        """Ends the thread."""
        self._share.close()
