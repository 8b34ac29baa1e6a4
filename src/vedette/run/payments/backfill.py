"""The job that gives a tenant's online features what happened before its log began."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from vedette.core.clock import to_iso
from vedette.core.errors import DataError
from vedette.core.settings import Settings
from vedette.judge.decisions.opening import store_backfill
from vedette.sense.features.backfill import backfill as replay_history
from vedette.sense.features.definition import FeatureSet
from vedette.sense.features.replay import CHUNK
from vedette.sense.features.table import event_times, read_tables, rows_of

Report = Callable[[str, int, int], None]
"""Called with what is being done, steps done and steps in all."""


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What a backfill did."""

    rows: int
    entities: int
    first: str
    """Time of the oldest event, ISO 8601."""
    last: str


def backfill(
    settings: Settings,
    tenant: str,
    files: Sequence[Path],
    features: FeatureSet,
    *,
    delay: int,
    until: int,
    report: Report = lambda _what, _done, _total: None,
) -> Backfilled:
    """Replays history and keeps what it leaves, for the tenant's decision service to start from.

    The state is what the service would hold had it taken every event, and every label as it became known. History
    stands before the log: events that the log has already are replayed over it at the next start. Doing it again
    replaces the history. The service must not be running.

    Args:
        settings: Where everything is.
        tenant: Whose features.
        files: Labelled history as for `model train`, oldest first.
        features: Definitions that the service uses: its model's own.
        delay: Microseconds from an event until its label is known.
        until: Labels known later than this have not come yet. Microseconds UTC.
        report: Called with progress.

    Raises:
        DataError: `features.table.*`, `features.backfill.duplicate`, `backfill.rows.missing`.
    """
    span = _Span(features)
    engine = replay_history(
        features,
        map(span.seen, read_tables(files, features, rows=CHUNK)),
        delay=delay,
        until=until,
        progress=lambda done, total: report("features", done, total),
        total=rows_of(files),
    )
    if not span.rows:
        raise DataError("backfill.rows.missing", "the files hold no usable row")
    report("saving", 0, 1)
    store_backfill(settings.home / "decisions" / tenant, engine)
    report("saving", 1, 1)
    return Backfilled(span.rows, engine.entities, to_iso(span.first), to_iso(span.last))


class _Span:
    """How many rows went by, and between which times."""

    def __init__(self, features: FeatureSet) -> None:
        self._features = features
        self.rows = 0
        self.first = self.last = 0

    def seen(self, table: pa.Table) -> pa.Table:
        """The table, once looked at."""
        if len(table):
            times = event_times(table, self._features)
            first, last = int(times.min()), int(times.max())
            self.first = min(self.first, first) if self.rows else first
            self.last = max(self.last, last) if self.rows else last
            self.rows += len(table)
        return table
