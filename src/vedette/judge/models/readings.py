"""Readings: inputs of a model as its splits read them, so that every split is one comparison.

LightGBM sends what is missing the default way of the split. That is said once for all splits that read an input by the
same law: what goes left without being compared becomes minus infinity, what goes right NaN, which is at most nothing.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

ZERO = float(np.float32(1e-35))
"""LightGBM reads smaller absolute values as 0."""
NAN_LEFT, ZERO_MISSING = 1, 2
"""A law, in bits: NaN goes left; 0 is read as NaN."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


class Readings(NamedTuple):
    """What is read of the inputs, each input by each law that a split has for it."""

    inputs: Ints
    zeros: Floats
    """What 0 is read as: 0 or NaN."""
    nans: Floats
    """What NaN is read as: minus infinity or NaN."""


def to_readings(inputs: Ints, laws: Ints) -> tuple[Readings, Ints]:
    """What all splits read, and the place of each split's reading therein."""
    (each, law), places = np.unique(np.stack([inputs, laws]), axis=1, return_inverse=True)
    zeros = np.where(law & ZERO_MISSING, np.nan, 0.0)
    nans = np.where(law & NAN_LEFT, -np.inf, np.nan)
    return Readings(np.ascontiguousarray(each), zeros, nans), places.reshape(-1).astype(np.int32)


@njit(cache=True)
def read(inputs, zeros, nans, vector):
    """The readings of one vector, without a branch."""
    out = np.empty(inputs.shape[0])
    for place in range(inputs.shape[0]):
        value, zero, nan = vector[inputs[place]], zeros[place], nans[place]
        value = zero if abs(value) <= ZERO else value
        out[place] = value if value == value else nan  # noqa: PLR0124 - false for not-a-number only
    return out


@njit(cache=True, nogil=True)
def read_all(inputs, zeros, nans, vectors):
    """`read` of each row."""
    out = np.empty((vectors.shape[0], inputs.shape[0]))
    for row in range(vectors.shape[0]):
        out[row] = read(inputs, zeros, nans, vectors[row])
    return out
