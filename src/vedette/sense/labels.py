"""Labels come late: when each is known, and its place in the log when only times are known.

A label enters a feature at time t only if its `observed_time` is at most t. History whose rows carry their own truth
gets labels by a stated delay: observed at event time + delay.

Example:
    >>> import numpy as np
    >>> times = np.array([0, 10, 20, 30])
    >>> places(times, observed=times[:2] + 15, rows=np.array([0, 1]))
    array([2, 3])
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vedette.core.event import Event
from vedette.core.label import Label
from vedette.sense.features.feature import LabelRule
from vedette.sense.features.values import read_path, to_fraud

Ints = npt.NDArray[np.int64]


def to_label(event: Event, rule: LabelRule, *, delay: int) -> Label | None:
    """The label that an event of labelled history carries, known `delay` microseconds after it; None without one."""
    fraud = to_fraud(read_path(event.data, rule.path)) if rule.path else None
    if fraud is None:
        return None
    return Label(
        event_id=event.id,
        tenant=event.tenant,
        fraud=bool(fraud),
        observed_time=event.event_time + delay,
        kind="verdict",
    )


def places(times: Ints, *, observed: Ints, rows: Ints, mark: int | None = None) -> Ints:
    """Row before which each label becomes known: the first one, after its own, when time has reached `observed`.

    Args:
        times: Event times of all rows in log order, microseconds; they may go back.
        observed: When each label was learned, microseconds.
        rows: Row of the event that each label is about; below 0 for events before these.
        mark: Newest time before these rows; None when there were none.

    Returns:
        One place per label; `len(times)` when no row is late enough.
    """
    newest = np.maximum.accumulate(times)
    if mark is not None:
        newest = np.maximum(newest, mark)
    reached = np.searchsorted(newest, observed, side="left")
    return np.maximum(reached, rows + 1).astype(np.int64)
