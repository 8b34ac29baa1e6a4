"""The job that computes what decisions were served with again from the log, and compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from vedette.core.clock import SystemClock
from vedette.core.decision import Decision
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import Log, SqliteLog
from vedette.core.settings import Settings
from vedette.judge.decisions.opening import BACKFILL
from vedette.judge.decisions.recorder import DECIDED, DECISIONS, EVENTS, LABEL_SOURCE, REPLAY_RECORDS
from vedette.sense.features.consistency import Consistency, check_consistency, is_sampled
from vedette.sense.features.engine import Engine
from vedette.sense.features.feature import FeatureSet
from vedette.sense.features.values import to_joint

Report = Callable[[str, int, int], None]


def check_served(
    settings: Settings,
    tenant: str,
    features: FeatureSet,
    *,
    share: float = 1.0,
    log_folder: Path | None = None,
    report: Report = lambda _what, _done, _total: None,
) -> Consistency:
    """Compares the features of a tenant's recorded decisions with those that its log gives.

    The service may be running: the log is only read. Decisions made with other definitions are left out.

    Args:
        settings: Where everything is.
        tenant: Whose decisions.
        features: Definitions that the decisions were made with.
        share: Of entities that are compared, 0..1.
        log_folder: Of the log; that of the settings by default.
        report: Called with progress.
    """
    with SqliteLog(log_folder or settings.log_folder, SystemClock()) as log:
        served = dict(_served(log, tenant, features, share))
        history = settings.home / "decisions" / tenant / BACKFILL
        engine = Engine.load(history, features) if history.exists() else Engine(features)
        return check_consistency(engine, _log(log, tenant, features, report), served, share=share)


def _served(log: Log, tenant: str, features: FeatureSet, share: float) -> Iterator[tuple[str, dict[str, float | None]]]:
    """Event id and features of every decision of the sample; the last record of an event is what was given."""
    keys = next((view.keys for view in features.views if view.keys), ())
    for place in range(log.partitions(DECISIONS)):
        at = 0
        while records := log.read(DECISIONS, place, at, REPLAY_RECORDS):
            at = records[-1].offset + 1
            for record in records:
                if record.key == f"{DECIDED}{tenant}":
                    made = msgspec.json.decode(record.value, type=Decision)
                    known = made.features_version == features.version and made.features
                    if known and is_sampled(to_joint(made.event, keys) or made.event_id, share):
                        yield made.event_id, made.features


def _log(log: Log, tenant: str, features: FeatureSet, report: Report) -> Iterator[Event | Label]:
    """What the tenant's features took, in log order."""
    at, end = 0, log.end(EVENTS, 0)
    while at < end and (records := log.read(EVENTS, 0, at, REPLAY_RECORDS)):
        at = records[-1].offset + 1
        for record in records:
            event = msgspec.json.decode(record.value, type=Event)
            if event.tenant == tenant and event.source == LABEL_SOURCE:
                yield msgspec.convert(event.data, Label)
            elif event.tenant == tenant and features.covers(event):
                yield msgspec.structs.replace(event, seq=record.offset + 1)
        report("computing", at, end)
