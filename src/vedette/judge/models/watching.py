"""Watching a model over events or recorded decisions, window by window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import pyarrow as pa

from vedette.core.decision import Decision
from vedette.core.errors import DataError
from vedette.judge.models.drift import Watch, Watched
from vedette.judge.models.model import Model
from vedette.sense.features.replay import replay
from vedette.sense.features.table import event_times, to_labels

EVERY = 5_000
"""Rows of a window."""


class Window(msgspec.Struct, frozen=True):
    """What was seen in some rows in a row."""

    since: int
    """Event time of the first, microseconds UTC."""
    until: int
    """Of the last."""
    watched: Watched


def watch_of(model: Model) -> Watch:
    """A watch for a model.

    Raises:
        DataError: `model.profile.missing`.
    """
    if model.profile is None:
        raise DataError("model.profile.missing", "the model has no profile to compare with", hint="train it again")
    return Watch(model.profile)


def over_events(model: Model, table: pa.Table, *, every: int = EVERY, since: int = 0) -> Iterator[Window]:
    """Windows of a table's events, labels known or not.

    Args:
        model: What is watched.
        table: From `read_table`.
        every: Rows of a window.
        since: Event time from which on windows begin; what is before only feeds the features.
    """
    watch, features = watch_of(model), model.feature_set
    labelled = features.label.path in table.column_names
    labels = to_labels(table, features, delay=model.label_delay) if labelled else None
    times = event_times(table, features)
    rows = times >= since
    if not rows.any():
        return
    vectors = replay(features, table, labels=labels, wanted=rows)
    truth = np.full(len(table), -1, np.int64)
    if labels is not None:
        truth[labels.rows] = labels.fraud
    times, truth = times[rows], truth[rows]
    for at in range(0, len(vectors), every):
        some = slice(at, at + every)
        watch.add(vectors[some], model.scores(vectors[some]))
        held = truth[some]
        watch.learn(held[held >= 0])
        yield Window(int(times[some].min()), int(times[some].max()), watch.look())
        watch.clear()


def over_decisions(model: Model, decisions: Iterable[Decision], *, every: int = EVERY) -> Iterator[Window]:
    """Windows of recorded decisions that this model scored."""
    watch = watch_of(model)
    rows: list[list[float]] = []
    scores: list[float] = []
    times: list[int] = []

    def window() -> Window:
        watch.add(np.array(rows), np.array(scores))
        found = Window(min(times), max(times), watch.look())
        watch.clear()
        for held in (rows, scores, times):
            held.clear()
        return found

    for one in decisions:
        if one.score is None or one.model is None or one.model.sha256 != model.sha256:
            continue
        held = one.features
        rows.append([math.nan if (value := held.get(name)) is None else value for name in model.features])
        scores.append(one.score)
        times.append(one.time)
        if len(rows) >= every:
            yield window()
    if rows:
        yield window()
