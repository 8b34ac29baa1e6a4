"""A day of records as columns, so that a step's lines are cut out and written quickly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class Columns:
    """Columns of equal length, in order of their times.

    Args:
        time: Microseconds from midnight; not yet in order.
        columns: What else a line says: arrays, or lists of texts.
    """

    def __init__(self, time: Ints, *columns: Any) -> None:
        order = np.argsort(time, kind="stable")
        self._time = time[order]
        self._columns = [
            column[order] if isinstance(column, np.ndarray) else [column[place] for place in order.tolist()]
            for column in columns
        ]

    def __len__(self) -> int:
        return len(self._time)

    def rows(self, begin: int, end: int) -> Iterator[tuple[Any, ...]]:
        """Time and columns of what is in [begin, end)."""
        first, last = np.searchsorted(self._time, [begin, end]).tolist()
        parts = [self._time, *self._columns]
        cut = (part[first:last] for part in parts)
        yield from zip(*(part.tolist() if isinstance(part, np.ndarray) else part for part in cut), strict=True)
