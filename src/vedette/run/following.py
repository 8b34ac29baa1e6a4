"""What follows the log: rules and alerts, event store, index, evidence. In the server, or beside it in a process.

One process computes on one core at a time. Where payments and logs are many, these beats can run in a process of their
own over the same home: every stage moves its place in the transaction of its effect, so two processes do nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Final

from vedette.act.reviewing import intake as reviewing_module
from vedette.core.clock import Clock
from vedette.core.settings import Settings
from vedette.judge.correlation.correlator import Order
from vedette.prove.evidence import Collector
from vedette.run.cases.joining import Joining
from vedette.run.guard import Beat, beating
from vedette.run.intel.hunting import Hunt, hunt_new
from vedette.run.intel.indicators import make_lookout, noting
from vedette.run.intel.taxii import Polls
from vedette.run.metrics import Meters
from vedette.run.parts import Parts
from vedette.run.pipeline import quality as quality_module
from vedette.run.pipeline import storing as storing_module
from vedette.run.pipeline import telling as telling_module
from vedette.run.pipeline.detecting import SIGNALS, detecting
from vedette.run.pipeline.detection import Detection
from vedette.run.pipeline.indexing import indexing
from vedette.run.pipeline.quality import Quality
from vedette.run.pipeline.rollout import Rollout
from vedette.run.pipeline.storing import storing
from vedette.run.pipeline.stream import BATCH, Stage, Turns
from vedette.run.pipeline.telling import Telling
from vedette.sense.intel.bundle import kept_attack
from vedette.sense.store import Store

STREAM_S: Final = 0.05
"""How soon rules look at what came in, and what money did comes in."""
STORE_S: Final = 5.0
"""How long events that trickle in are gathered for one commit of the event store: a commit costs 0.1 CPU seconds."""
REVIEW_S: Final = 1.0
"""How long decisions that trickle in are gathered for one commit of the review queue."""
INDEX_S: Final = 1.0
"""How long records that trickle in are gathered for one commit of the index."""
POLL_S: Final = 10.0
"""How often collections of other servers are looked at, where they are due, and what was learned is hunted for."""
TIDY_S: Final = 3_600.0
"""How often what indexes data files that are gone is removed."""
JOIN_S: Final = 5.0
"""How often new alerts are compared with open cases."""
QUALITY_S: Final = 5.0
"""How often the quality of data is looked at, and silence listened for."""


class Followers:
    """The stages and beats that no request waits for.

    Args:
        parts: Whose log they follow.
        store: Where the tables of events are.
        meters: Counts what they do.
        detection: Sigma rules that run on the stream; None: nothing but what is shipped, and indicators.
        joins: Whether alerts that come later join open cases by themselves.
    """

    def __init__(
        self, parts: Parts, store: Store, meters: Meters, detection: Detection | None = None, *, joins: bool = True
    ) -> None:
        self._meters = meters
        self._turns = Turns(parts.log, meters, parts.clock)
        self._evidence = parts.evidence
        self._parts = parts
        self._polls = Polls(parts.library, parts.egress, lambda name: parts.secrets.resolve(name).reveal(), parts.clock)
        self._hunt = Hunt(parts, store, make_lookout(parts.library, parts.clock, parts.sources))
        self.telling = Telling(parts.told, parts.log, parts.settings.home / "locks" / "telling.lock")
        self.collector = Collector(parts.evidence, parts.log, parts.clock)
        self._joining = Joining(parts) if joins else None
        lookout = make_lookout(parts.library, parts.clock, parts.sources)
        self.rollout = Rollout(
            detection,
            parts.shipments,
            parts.clock,
            parts.sources,
            parts.cards,
            stage=_stage(parts),
            own=(lookout.detector,),
        )
        self._detects = detection is not None
        self._following: tuple[Stage, ...] = (
            Stage("alerts", SIGNALS, lambda: parts.alerts.consume(parts.log).read, parts.alerts.place),
            noting(parts.library, parts.log),
        )
        self.reviewing: tuple[Stage, ...] = (
            Stage(
                "reviews",
                reviewing_module.TOPIC,
                lambda: parts.review_intake.consume(parts.log),
                parts.review_intake.place,
            ),
        )
        self.storing: tuple[Stage, ...] = (storing(parts.log, store, parts.sources, meters),)
        self.indexing: tuple[Stage, ...] = indexing(parts.log, parts.register, parts.sightings)
        quality = Quality(parts.index, parts.clock, parts.sources, detection.rules if detection else None)
        self.quality = quality
        self.judging: tuple[Stage, ...] = (
            Stage(quality_module.NAME, quality_module.TOPIC, lambda: quality.consume(parts.log), quality.place),
        )

    @property
    def watching(self) -> tuple[Stage, ...]:
        """What makes signals and alerts.

        Who looks for nothing takes nothing from the log: what is looked for later sees what is in it.
        """
        if not self._detects:
            self._detects = self._parts.shipments.newest() > 0 or bool(self._parts.library.tenants())
        return (*self._detecting, *self._following) if self._detects else self._following

    @cached_property
    def _detecting(self) -> tuple[Stage, ...]:
        return detecting(self._parts.log, self.rollout, self._meters, self._parts.followed)

    @property
    def begun(self) -> tuple[Stage, ...]:
        """Those that have begun: a look at where they stand begins none, and so writes nothing."""
        watching = self.watching if self._detects else self._following
        return (*self.storing, *watching, *self.reviewing, *self.indexing, *self.judging)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All of them, in the order of their turns."""
        return (*self.storing, *self.watching, *self.reviewing, *self.indexing, *self.judging)

    def beats(self) -> tuple[Beat, ...]:
        """How often each happens. Each is safe to be killed in, and to run twice."""
        return (
            Beat("telling", STREAM_S, self.telling.turn, enough=telling_module.BATCH),
            Beat("stream", STREAM_S, lambda: self._turns.go(self.watching)),
            Beat("store", STORE_S, lambda: self._turns.go(self.storing), enough=storing_module.BATCH),
            Beat("reviews", REVIEW_S, lambda: self._turns.go(self.reviewing), enough=reviewing_module.BATCH),
            Beat("index", INDEX_S, lambda: self._turns.go(self.indexing), enough=BATCH),
            Beat("quality", QUALITY_S, lambda: self._turns.go(self.judging), enough=quality_module.BATCH),
            Beat("evidence", 1.0, self.collector.collect, enough=BATCH),
            *([Beat("joining", JOIN_S, self._joining.turn)] if self._joining else []),
            Beat("intel", POLL_S, self._learn),
            Beat("tidy", TIDY_S, lambda: self._hunt.segments.tidy(self._parts.clock.now())),
            Beat("checkpoint", 10.0, lambda: bool(self._evidence.checkpoint()) and 0),
        )

    def _learn(self) -> int:
        """Takes what other servers have, where it is due, and hunts for what was learned since the last turn."""
        came = self._polls.poll_due()
        for tenant in self._parts.library.tenants():
            hunt_new(self._parts, self._hunt, tenant)
        return came


@contextmanager
def following(
    settings: Settings, clock: Clock, detection: Detection | None = None, *, joins: bool = True
) -> Iterator[None]:
    """Runs these beats over a home until the block ends; its server leaves them out (`Platform(apart=True)`)."""
    meters = Meters()
    with Parts(settings, clock=clock) as parts:
        followers = Followers(parts, Store(settings.store_folder), meters, detection, joins=joins)
        with beating(followers.beats(), meters):
            yield


def _stage(parts: Parts) -> Order | None:
    """The order of an attack by the ATT&CK that was imported; None without one."""
    imported = kept_attack(parts.settings.home)
    return imported.attack.stage if imported else None
