"""The way through a table: its rows entity by entity, and the memory of rows to come asked for ahead of their turn.

Nothing here changes a result.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201, PLR0917
# mypy: allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit

from vedette.core.prefetch import LINE, prefetch
from vedette.sense.features.layout import E_LEN, E_OFF, E_START, ENT_WIDTH, FOREVER, O_OUT, R_TIME

FAR, NEXT, SOON = 8, 4, 2
"""How many rows ahead of its turn a row's input, its entity, and its entity's events are asked for."""
WORDS = LINE // 8
"""Words that come from memory together."""


@njit(cache=True, nogil=True, error_model="numpy")
def by_entity(entities, count):
    """Places of `entities`, which are below `count`, entity by entity and rising within each; not of those below 0."""
    ends = np.zeros(count + 1, np.int64)
    for place in range(entities.shape[0]):
        ends[max(entities[place], np.int64(-1)) + 1] += 1
    ends[0] = 0
    for entity in range(count):
        ends[entity + 1] += ends[entity]
    order = np.empty(ends[count], np.int64)
    for place in range(entities.shape[0]):
        entity = entities[place]
        if entity >= 0:
            order[ends[entity]] = place
            ends[entity] += 1
    return order


@njit(cache=True, error_model="numpy")
def outputs(ops, place, stop):
    """Where the output of ops [place, stop) begins and ends."""
    first, end = np.int64(FOREVER), np.int64(0)
    for k in range(place, stop):
        first, end = min(first, ops[k, O_OUT]), max(end, ops[k, O_OUT] + 1)
    return first, end


@njit(cache=True, error_model="numpy", forceinline=True)
def foresee(pool, ent, width, rows, column, ahead, slot, out, puts):
    """Brings near what rows `ahead` will touch: input, then entity, then its newest event, and output from `slot` on.

    Changes no result. Of half a microsecond that a row waits for memory, the half is saved.
    """
    prefetch(rows, (ahead[FAR], R_TIME))
    prefetch(rows, (ahead[FAR], column))
    entity = rows[ahead[NEXT], column]
    for word in range(0, ENT_WIDTH, WORDS):
        prefetch(ent, (max(entity, 0), word))
    meta = ent[max(rows[ahead[SOON], column], 0)]
    newest = meta[E_OFF] + (meta[E_START] + max(meta[E_LEN] - 1, 0)) * width
    prefetch(pool, (newest,))
    prefetch(pool, (newest + width - 1,))
    if slot >= 0:
        for place in range(puts[0], puts[1], WORDS):
            prefetch(out, (slot, place))
