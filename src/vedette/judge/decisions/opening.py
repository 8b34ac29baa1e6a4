"""Opening: a recorder over a folder, with its features brought to where the log stands."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec

from vedette.core.clock import Clock
from vedette.core.decision import Decision
from vedette.core.errors import DataError, DefinitionError, TransientError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import Durability, Log, SqliteLog
from vedette.core.redis import Redis
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.online import Online
from vedette.judge.decisions.parts import Features, Lane, Policy, Reasoning, Risks, Scorer
from vedette.judge.decisions.recorder import (
    DECISIONS,
    EVENTS,
    LABEL_SOURCE,
    REPLAY_RECORDS,
    Recorder,
    key_in_log,
)
from vedette.judge.decisions.seen import Seen
from vedette.judge.models.model import Model
from vedette.judge.payment.rules import PaymentRules
from vedette.sense.features.definition import FeatureSet
from vedette.sense.features.engine import Engine
from vedette.sense.features.shared import SharedEngine

CHECKPOINT, BACKFILL = "features.npz", "backfill.npz"
"""State of the features at a place in the log, and before the log began."""
FETCH_S = 0.010
"""How long a decision waits for features in Redis."""


@dataclass(frozen=True, slots=True)
class Books:
    """An open folder of decisions: `log/`, `seen.db`, `features.npz`; `backfill.npz` when there was history."""

    recorder: Recorder
    engine: Engine | None
    log: Log
    folder: Path
    owned: bool = True
    """Whether `close` closes the log too."""
    online: Online | None = None
    """Features in Redis, in place of an engine here."""

    @property
    def features(self) -> Features | None:
        """What keeps the features, wherever it is."""
        return self.online or self.engine

    def checkpoint(self) -> None:
        """Saves the features, so that the next start replays less."""
        if self.engine:
            self.recorder.checkpoint(self.engine, self.folder / CHECKPOINT)

    def close(self) -> None:
        """Checkpoints, and gives everything back."""
        self.checkpoint()
        self.recorder.close()
        if self.online:
            self.online.close()
        if self.owned:
            self.log.close()


def open_books(
    folder: Path,
    *,
    features: FeatureSet | None,
    model: Model | None,
    rules: PaymentRules,
    clock: Clock,
    tenant: str = "default",
    policy: Policy = Policy.OPEN,
    durability: Durability = Durability.WRITTEN,
    log: Log | None = None,
    risks: Risks | None = None,
    lane: Lane | None = None,
    policies: Mapping[str, Policy] = MappingProxyType({}),
    reasoning: Reasoning = Reasoning.ALWAYS,
    scorer: Scorer | None = None,
    redis: Redis | None = None,
) -> Books:
    """Opens or makes the folder; replays what the last process left undone.

    Args:
        folder: Made when missing. One process at a time.
        features: Definitions to compute; a model's own when there is a model. None leaves them missing.
        model: Scores; None leaves the score missing.
        rules: The rule set.
        clock: For latencies and to refuse events from the future.
        tenant: Whose events these are.
        policy: What to answer when a part stalls.
        durability: When a decision counts as recorded.
        log: To record in, when others share it; by default one in the folder.
        risks: What alerts say of entities; None leaves such attributes missing.
        lane: The decision point whose events these are; None: payments.
        policies: Merchant -> its own policy.
        reasoning: For which decisions the model's reasons are recorded.
        scorer: Answers for the model, such as a process that holds it.
        redis: Where features are kept in place of this process; those of a decision point stay here.

    Raises:
        VedetteError: `decision.model.features`, `decision.log.partitions`, `decision.log.record`.
    """
    book = log or SqliteLog(folder / "log", clock)
    online = _online(folder, features, redis, book, tenant) if redis and features and lane is None else None
    engine = _engine(folder, features) if features and online is None else None
    if model:
        model.warm()
    held, card, name = online or engine, lane.card if lane else None, lane.name if lane else ""
    decider = Decider(
        features=card.over(held, name) if card else held,
        model=card or scorer or model,
        rules=rules,
        clock=clock,
        policy=policy,
        features_version=features.version if features else "",
        covers=lane.covers if lane else features.covers if features else lambda _event: True,
        risks=risks,
        policies=policies,
        reasoning=reasoning,
    )
    decider.warm()
    recorder = Recorder(
        book,
        decider,
        Seen(folder / "seen.db"),
        clock=clock,
        tenant=tenant,
        durability=durability,
        features_next=_next(book, key_in_log(tenant, name), engine, online),
        lane=name,
    )
    return Books(recorder, engine, book, folder, owned=log is None, online=online)


def _next(log: Log, key: str, engine: Engine | None, online: Online | None) -> int:
    """Offset of topic `event` from which on features or decisions may lack something."""
    if engine:
        return engine.offsets.get(EVENTS, 0)
    decided = _after_last_decision(log, key)
    return min(decided, online.passed) if online else decided


def _after_last_decision(log: Log, key: str) -> int:
    """Offset of topic `event` after the key's last decided event: without features nothing before it matters."""
    end = log.end(DECISIONS, 0)
    while end > 0:
        start = max(0, end - REPLAY_RECORDS)
        for record in reversed(log.read(DECISIONS, 0, start, end - start)):
            if record.key == key:
                return msgspec.json.decode(record.value, type=Decision).seq
        end = start
    return 0


def _online(folder: Path, features: FeatureSet, redis: Redis, log: Log, tenant: str) -> Online:
    engine = SharedEngine(features, redis, tenant=tenant)

    def refill() -> None:
        if (folder / BACKFILL).exists():
            engine.fill(Engine.load(folder / BACKFILL, features))

    def feed(held: Features, event: Event) -> None:
        if event.tenant == tenant and event.source == LABEL_SOURCE:
            held.learn(msgspec.convert(event.data, Label))
        elif event.tenant == tenant and features.covers(event):
            held.apply(event)

    with suppress(TransientError):
        engine.warm()
    return Online(engine, log, topic=EVENTS, feed=feed, refill=refill, seconds=FETCH_S)


def _engine(folder: Path, features: FeatureSet) -> Engine:
    """The engine of the last checkpoint; else what history left, or an empty one: the log has everything since."""
    engine = _loaded(folder, features) or Engine(features)
    engine.warm()
    return engine


def _loaded(folder: Path, features: FeatureSet) -> Engine | None:
    for path in (folder / CHECKPOINT, folder / BACKFILL):
        if path.exists():
            with suppress(DataError, DefinitionError):
                return Engine.load(path, features)
    return None


def store_backfill(folder: Path, engine: Engine) -> None:
    """Keeps what history left, for the next start to go on from. No service may have the folder open.

    The checkpoint goes: it does not know the history. The next start replays the log over the history instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    engine.save(folder / BACKFILL)
    (folder / CHECKPOINT).unlink(missing_ok=True)
