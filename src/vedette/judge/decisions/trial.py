"""A trial: a second version of what decides, beside the live one, on every payment.

In shadow its answers are counted and the live version's are given. For a share of the entities its own are given: a
stable hash of unit and entity says whose, so the same customer always meets the same version. As soon as a guard-rail
is broken its answers are given no more, before anybody has looked: the harm ends with the payment that shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from vedette.core.decision import Decision
from vedette.core.errors import VedetteError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.parts import Features, Vector
from vedette.judge.decisions.tally import Breach, Tally
from vedette.judge.shipments import among


class Beside:
    """Trial of one decider beside another.

    Args:
        decider: The version on trial.
        unit: What is on trial, for the share.
        percent: Share of the entities whose answers it gives; 0 in shadow.
        tally: Counts.
        broken: Called once, by the thread that decides, with the first guard-rail that is broken; must not wait.
    """

    def __init__(
        self,
        decider: Decider,
        *,
        unit: str,
        percent: int,
        tally: Tally,
        broken: Callable[[Breach], None] = lambda _breach: None,
    ) -> None:
        self.decider = decider
        self.tally = tally
        self._unit = unit
        self._percent = percent
        self._broken = broken
        self.breach: Breach | None = None

    def settle(self, event: Event, live: Decision) -> Decision:
        """The answer that counts: the live one, or for its share that of the trial."""
        if self.breach is not None:
            return live
        try:
            tried = self.decider.decide(event)
        except VedetteError:
            self.tally.fail()
            self.check()
            return live
        answered = among(self._unit, _entity(event), self._percent)
        self.tally.add(live, tried, answered=answered)
        self.check()
        return tried if answered else live

    def check(self) -> None:
        """Ends the trial when a guard-rail is broken."""
        found = self.tally.breach()
        if found is not None and self.breach is None:
            self.breach = found
            self._broken(found)


def _entity(event: Event) -> str:
    """Who the payment is of: the first entity of the event; the event itself without one."""
    return event.entities[0].key if event.entities else event.id


class Engines:
    """The feature engines of one tenant: every one of them takes every event, each decider reads its own.

    Args:
        version: Of the definitions of the first engine.
        engine: The first one, which is checkpointed.
        catch_up: Brings a new engine to a place in the log: called with the engine and the event's own place, by the
            thread that decides.
    """

    def __init__(self, version: str, engine: Features, catch_up: Callable[[Features, int], None]) -> None:
        self._held: dict[str, Features] = {version: engine}
        self._fresh: dict[str, Features] = {}
        self._first = version
        self._catch_up = catch_up
        self.heard: Callable[[Label], None] = lambda _label: None
        """Told of every label."""

    def view(self, version: str) -> View:
        """The features of one version."""
        return View(self, version)

    def add(self, version: str, make: Callable[[], Features]) -> None:
        """Has an engine made that has seen nothing yet, unless it is there; it catches up before it is first read."""
        if version not in self._held and version not in self._fresh:
            self._fresh[version] = make()

    def keep(self, versions: Collection[str]) -> None:
        """Lets go of all engines but the first and those of some versions."""
        for held in (self._held, self._fresh):
            for version in [one for one in held if one != self._first and one not in versions]:
                del held[version]

    def of(self, version: str) -> Features:
        """An engine, wherever it stands."""
        return self._held.get(version) or self._fresh[version]

    def fetch(self, version: str, event: Event) -> Vector:
        """Values of one version as of an event."""
        if version in self._fresh:
            engine = self._fresh.pop(version)
            self._catch_up(engine, event.seq - 1)
            self._held[version] = engine
        return self._held[version].fetch(event)

    def apply(self, event: Event) -> None:
        """Every engine takes the event."""
        for engine in list(self._held.values()):
            engine.apply(event)

    def learn(self, label: Label) -> None:
        """Every engine takes the label."""
        for engine in list(self._held.values()):
            engine.learn(label)
        self.heard(label)


class View:
    """One version of the features; what it is given goes to all of them."""

    def __init__(self, engines: Engines, version: str) -> None:
        self._engines = engines
        self._version = version

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of every vector."""
        return self._engines.of(self._version).names

    def fetch(self, event: Event) -> Vector:
        """Values as of the event."""
        return self._engines.fetch(self._version, event)

    def apply(self, event: Event) -> None:
        """Takes the event."""
        self._engines.apply(event)

    def learn(self, label: Label) -> None:
        """Takes a label."""
        self._engines.learn(label)
