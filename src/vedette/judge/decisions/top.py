"""The largest of a vector, without sorting it."""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def largest(weights, count):
    """Places of the `count` largest absolute values, largest first; of equals the first."""
    taken = np.zeros(weights.shape[0], np.uint8)
    places = np.empty(min(count, weights.shape[0]), np.int64)
    for rank in range(places.shape[0]):
        best = -1
        for place in range(weights.shape[0]):
            if not taken[place] and (best < 0 or abs(weights[place]) > abs(weights[best])):
                best = place
        taken[best] = 1
        places[rank] = best
    return places
