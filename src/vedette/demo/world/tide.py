"""The tide: how much of a day's business is done by a moment. Who acts by the tide hides in the crowd.

Attackers act evenly in tide time, so the hour of a payment says nothing about whether it is fraud.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vedette.core.clock import DAY

SECOND = 1 / 86_400
"""Of a day that is equally busy at all hours; at night it lasts longer."""

Floats = npt.NDArray[np.floating]


class Tide:
    """Turns moments of a day into shares of its business and back.

    Args:
        edges: Moments of a day, microseconds, from 0 to a day.
        done: Share of the business done by each of them, from 0 to 1.
    """

    def __init__(self, edges: Floats, done: Floats) -> None:
        self._edges = edges
        self._done = done

    def moment(self, tide: float) -> int:
        """Microseconds from midnight of day 0 for a tide in days: 0.5 is when half of day 0 is done."""
        day = int(np.floor(tide))
        return day * DAY + int(np.interp(tide - day, self._done, self._edges))

    def tide(self, moment: int) -> float:
        """The tide at a moment from midnight of day 0, in days."""
        day = moment // DAY
        return day + float(np.interp(moment - day * DAY, self._edges, self._done))
