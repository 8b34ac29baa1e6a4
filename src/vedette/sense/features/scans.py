"""What a window answers: from running totals at a price that does not depend on its length, or by a scan of its events.

A scan goes from the newest event back, and a longer window goes on from where the shorter one ended. Sums are whole
numbers; a float is made once, at the end, by one stated sequence of IEEE operations.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201, ANN202, PLR0917, PLR0911, PLR0912, C901
# mypy: allow-untyped-defs
from __future__ import annotations

import math

import numpy as np
from numba import njit

from vedette.sense.features.layout import (
    COUNT,
    DECAY_BITS,
    DECAY_SHIFT,
    DECAY_STEPS,
    DISTINCT,
    ENTROPY,
    EWMA,
    EWMA_MASK,
    EWMA_SPLIT,
    FIRST_VALUE,
    FOREVER,
    HALF,
    HALF_MASK,
    LAST_VALUE,
    LOG_BITS,
    MAX,
    MAX_RANK,
    MEAN,
    MIN,
    MISSING,
    O_ARG,
    O_CODE,
    O_COLUMN,
    O_CURRENT,
    O_SCALE,
    O_WINDOW,
    PRIME,
    SECOND_US,
    SINCE_FIRST,
    SINCE_LAST,
    SUM,
    TOP,
    TOP_SHARE,
    VELOCITY,
    X_ACC,
    X_DECAY,
    X_GEN,
    X_LOG,
    X_MASK,
    X_SIZE,
    X_TABLE,
    X_USED,
)

# What prefixes answer


@njit(cache=True, error_model="numpy", forceinline=True)
def own(value, part):
    """What one value adds to prefix `part`: 0 count, 1 sum, 2..4 the parts of its square."""
    if value == MISSING:
        return np.int64(0)
    if part == 0:
        return np.int64(1)
    if part == 1:
        return value
    high, low = value >> HALF, value & HALF_MASK
    if part == 2:  # noqa: PLR2004
        return high * high
    return high * low if part == 3 else low * low  # noqa: PLR2004


@njit(cache=True, error_model="numpy", forceinline=True)
def _total(pool, origin, width, start, end, low, high, column, part, window):
    """Prefix `part` over rows [low, high); over everything before row `high` when the window is FOREVER."""
    total = np.int64(0)
    if high > low:
        at = origin + (high - 1) * width + column
        total = pool[at + 1 + part] + own(pool[at], part)
        if window != FOREVER:
            total -= pool[origin + low * width + column + 1 + part]
    elif window == FOREVER and end > start:
        total = pool[origin + start * width + column + 1 + part]
    return total


@njit(cache=True, error_model="numpy", forceinline=True)
def _deviation(count, total, high, middle, low, scale):
    """Sample standard deviation from the exact sums of the values and of the parts of their squares.

    With m = floor(total / count) the sum of (v - m)^2 is a whole number below 2^108, held in three limbs of 23 bits.
    """
    if count < 2:  # noqa: PLR2004
        return np.nan
    mean = total // count
    rest = total - mean * count
    mean_high, mean_low = mean >> HALF, mean & HALF_MASK
    high -= count * mean_high * mean_high
    middle = 2 * (middle - count * mean_high * mean_low - mean_high * rest)
    low -= count * mean_low * mean_low + 2 * mean_low * rest
    middle += low >> HALF
    high += middle >> HALF
    squares = (float(high) * (HALF_MASK + 1) + float(middle & HALF_MASK)) * (HALF_MASK + 1) + float(low & HALF_MASK)
    around = squares - float(rest * rest) / float(count)
    return math.sqrt(max(around, 0.0) / float(count - 1)) / scale


@njit(cache=True, error_model="numpy", forceinline=True)
def windowed(pool, origin, width, start, end, low, high, ops, k, here, gone, longer):
    """A count, sum, mean, deviation or change of velocity of rows [low, high), with `here` when it is counted.

    Args are those of `_total`; `gone` events have left the segment, and `longer` is the low row of the base window.
    """
    code, window, column, counted = ops[k, O_CODE], ops[k, O_WINDOW], ops[k, O_COLUMN], ops[k, O_CURRENT]
    if column < 0:
        count = high - low + counted + (gone if window == FOREVER else 0)
        base = high - longer + counted
    else:
        mine = 1 if counted != 0 and here != MISSING else 0
        count = _total(pool, origin, width, start, end, low, high, column, 0, window) + mine
        base = count
        if code == VELOCITY:
            base = _total(pool, origin, width, start, end, longer, high, column, 0, window) + mine
    if code == COUNT:
        return float(count)
    if code == VELOCITY:
        return np.nan if base == 0 else (float(count) * ops[k, O_ARG]) / (float(base) * window)
    scale = float(ops[k, O_SCALE])
    total = _total(pool, origin, width, start, end, low, high, column, 1, window)
    if counted != 0:
        total += own(here, 1)
    if code == SUM:
        return total / scale
    if code == MEAN:
        return np.nan if count == 0 else total / (count * scale)
    two = _total(pool, origin, width, start, end, low, high, column, 2, window)
    three = _total(pool, origin, width, start, end, low, high, column, 3, window)
    four = _total(pool, origin, width, start, end, low, high, column, 4, window)
    if counted != 0:
        two, three, four = two + own(here, 2), three + own(here, 3), four + own(here, 4)
    return _deviation(count, total, two, three, four, scale)


# What scans answer


@njit(cache=True, error_model="numpy", forceinline=True)
def begin(scratch, values):
    """Forgets what the last scan gathered; `values` are at most to come. A small table stays in the nearest cache."""
    slots = 4
    while slots < 2 * values:
        slots *= 2
    scratch[X_MASK] = min(slots, scratch[X_SIZE]) - 1
    scratch[X_GEN] += 1
    scratch[X_USED] = 0
    for place in range(MAX_RANK):
        scratch[X_ACC + place] = MISSING


@njit(cache=True, error_model="numpy", forceinline=True)
def _note(scratch, value, generation, mask):
    """Counts a value in the hash table; slots of an older generation are empty."""
    slot = (((value ^ (value >> 29)) * PRIME) >> 20) & mask
    at = X_TABLE + 3 * slot
    while scratch[at + 2] == generation and scratch[at] != value:
        slot = (slot + 1) & mask
        at = X_TABLE + 3 * slot
    # Whether a value was seen before nobody can foretell: both are written alike, without a branch.
    seen = 1 if scratch[at + 2] == generation else 0
    scratch[at], scratch[at + 1], scratch[at + 2] = value, scratch[at + 1] * seen + 1, generation
    scratch[X_TABLE + 3 * scratch[X_SIZE] + scratch[X_USED]] = at
    scratch[X_USED] += 1 - seen


@njit(cache=True, error_model="numpy", forceinline=True)
def _rank(scratch, value, ranks):
    """Puts a value in its place among the `ranks` greatest so far."""
    for place in range(ranks):
        held = scratch[X_ACC + place]
        if held == MISSING or value > held:
            scratch[X_ACC + place] = value
            if held == MISSING:
                return
            value = held


@njit(cache=True, error_model="numpy", forceinline=True)
def _weight(scratch, age, half_life):
    """2^(-age / half-life) in whole 2^-DECAY_BITS, from the table; 0 for what is too old to count."""
    # The quotient by a product, then mended: a division would take as long as all else here.
    steps = np.int64(float(age) * (DECAY_STEPS / float(half_life)))
    if steps > (DECAY_BITS + 2) * DECAY_STEPS:
        return np.int64(0)
    rest = age * DECAY_STEPS - steps * half_life
    if rest < 0:
        steps -= 1
    elif rest >= half_life:
        steps += 1
    return scratch[scratch[X_DECAY] + (steps & (DECAY_STEPS - 1))] >> (steps >> DECAY_SHIFT)


@njit(cache=True, error_model="numpy", forceinline=True)
def _weigh(scratch, high, low, weight):
    """Adds to the sums of the high parts of weighted values, of their low parts and of the weights."""
    if weight == 0:
        return
    if scratch[X_ACC] == MISSING:
        scratch[X_ACC] = scratch[X_ACC + 1] = scratch[X_ACC + 2] = 0
    scratch[X_ACC] += high
    scratch[X_ACC + 1] += low
    scratch[X_ACC + 2] += weight


@njit(cache=True, error_model="numpy")
def gather(scratch, code, arg, value, at, time):
    """Takes one value, of an event at `at`, into the scan. Values come from the newest back."""
    if value == MISSING:
        return
    best = scratch[X_ACC]
    if code == MIN:
        scratch[X_ACC] = value if best == MISSING or value < best else best
    elif code == MAX:
        scratch[X_ACC] = value if best == MISSING or value > best else best
    elif code == LAST_VALUE:
        scratch[X_ACC] = value if best == MISSING else best
    elif code == FIRST_VALUE:
        scratch[X_ACC] = value
    elif code == SINCE_LAST:
        scratch[X_ACC] = at if best == MISSING else best
    elif code == SINCE_FIRST:
        scratch[X_ACC] = at
    elif code == TOP:
        _rank(scratch, value, MAX_RANK)
    elif code == EWMA:
        weight = _weight(scratch, time - at, arg)
        _weigh(scratch, (value >> EWMA_SPLIT) * weight, (value & EWMA_MASK) * weight, weight)
    else:
        _note(scratch, value, scratch[X_GEN], scratch[X_MASK])


@njit(cache=True, error_model="numpy", forceinline=True)
def scan(pool, origin, width, low, high, column, code, arg, time, scratch):
    """Takes rows [low, high) into the scan, the newest first; without a measure every event counts as 1."""
    if code in (LAST_VALUE, SINCE_LAST) and scratch[X_ACC] != MISSING:
        return
    if code in (MIN, MAX):
        best = scratch[X_ACC]
        for row in range(low, high):
            value = pool[origin + row * width + column]
            if value != MISSING and (best == MISSING or (value < best if code == MIN else value > best)):
                best = value
        scratch[X_ACC] = best
        return
    if code in (DISTINCT, TOP_SHARE, ENTROPY):
        generation, mask = scratch[X_GEN], scratch[X_MASK]
        for row in range(high - 1, low - 1, -1):
            value = pool[origin + row * width + column]
            if value != MISSING:
                _note(scratch, value, generation, mask)
        return
    if code == EWMA:
        highs = lows = weights = np.int64(0)
        for row in range(high - 1, low - 1, -1):
            at = origin + row * width
            value = pool[at + column]
            if value != MISSING:
                weight = _weight(scratch, time - pool[at], arg)
                highs += (value >> EWMA_SPLIT) * weight
                lows += (value & EWMA_MASK) * weight
                weights += weight
        _weigh(scratch, highs, lows, weights)
        return
    forward = code in (FIRST_VALUE, SINCE_FIRST)
    for place in range(high - low):
        row = low + place if forward else high - 1 - place
        at = origin + row * width
        value = pool[at + column] if column >= 0 else np.int64(1)
        if value == MISSING:
            continue
        gather(scratch, code, arg, value, pool[at], time)
        # The first one found from its end is the answer of these.
        if forward or code in (LAST_VALUE, SINCE_LAST):
            return


@njit(cache=True, error_model="numpy", forceinline=True)
def _share(scratch, ranks):
    """Share of the values seen that are one of the `ranks` commonest. Which of equally common ones does not matter."""
    for place in range(ranks):
        scratch[X_ACC + place] = MISSING
    total = np.int64(0)
    used = X_TABLE + 3 * scratch[X_SIZE]
    for place in range(scratch[X_USED]):
        count = scratch[scratch[used + place] + 1]
        total += count
        _rank(scratch, count, ranks)
    common = np.int64(0)
    for place in range(ranks):
        if scratch[X_ACC + place] != MISSING:
            common += scratch[X_ACC + place]
    return np.nan if total == 0 else float(common) / float(total)


@njit(cache=True, error_model="numpy", forceinline=True)
def _entropy(scratch):
    """Entropy in bits of the values seen: (n log n - sum of c log c) / n, with logarithms from the table."""
    table = scratch[X_LOG]
    total = np.int64(0)
    parts = np.int64(0)
    used = X_TABLE + 3 * scratch[X_SIZE]
    for place in range(scratch[X_USED]):
        count = scratch[scratch[used + place] + 1]
        total += count
        parts += scratch[table + count]
    if total == 0:
        return np.nan
    return float(scratch[table + total] - parts) / (float(total) * (1 << LOG_BITS))


@njit(cache=True, error_model="numpy", forceinline=True)
def scanned(scratch, code, arg, time, scale):
    """What the scan so far answers."""
    if code == DISTINCT:
        return float(min(scratch[X_USED], arg) if arg > 0 else scratch[X_USED])
    if code == TOP_SHARE:
        return _share(scratch, arg)
    if code == ENTROPY:
        return _entropy(scratch)
    if code == TOP:
        value = scratch[X_ACC + arg]
        return np.nan if value == MISSING else value / scale
    value = scratch[X_ACC]
    if value == MISSING:
        return np.nan
    if code in (SINCE_LAST, SINCE_FIRST):
        return (time - value) / SECOND_US
    if code != EWMA:
        return value / scale
    weight = scratch[X_ACC + 2]
    if weight == 0:
        return np.nan
    whole = value + (scratch[X_ACC + 1] >> EWMA_SPLIT)
    return (float(whole) * (EWMA_MASK + 1) + float(scratch[X_ACC + 1] & EWMA_MASK)) / (float(weight) * scale)
