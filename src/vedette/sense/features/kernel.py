"""The one implementation of every aggregation: numba kernels over flat arrays, used online, offline and in training.

State is integers only. An entity is a row of `ent`; its events are rows `[time, (value, count before, sum before) per
measure]` of `pool`, its labels rows `[observed time, state after it]` of `lpool`, both sorted, both in one contiguous
segment per entity. Counts and sums over a window are two binary searches and a difference of prefixes; 64-bit wrap
around cancels in the difference. Floats appear only where a feature is read.

Segments come from a bump pointer and one free list per size (`heads`). Nothing here allocates, reads a clock or fails.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201, ANN202, PLR0917, PLR0911
# mypy: allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit

MISSING = np.int64(-(2**63))
"""A value that is not there."""
NEVER = np.int64(-(2**61))
"""A time before all times; far enough from the end of int64 for differences."""

# ent columns
E_OFF, E_CLASS, E_START, E_LEN, E_MARK = 0, 1, 2, 3, 4
L_OFF, L_CLASS, L_START, L_LEN, L_BASE = 5, 6, 7, 8, 9
"""L_BASE: observed time of the newest label that left the segment."""
BASE = 10
"""First column of the label state after every label that left the segment."""
STATE = 6
KNOWN, FRAUD, RUN, FIRST, LAST, GENUINE = 0, 1, 2, 3, 4, 5
"""Label state: labels known, frauds among them, frauds in a row at the end, event time of the first and of the last
fraud (NEVER without one), genuine labels since the last fraud."""
ENT_WIDTH = BASE + STATE
L_WIDTH = 1 + STATE

# view columns
V_CAPACITY, V_RETAIN, V_LABEL_RETAIN, V_LATENESS, V_LABELS, V_KEYED = 0, 1, 2, 3, 4, 5
V_OPS, V_LABEL_OPS, V_END = 6, 7, 8
"""Ops of a view: those of events in [V_OPS, V_LABEL_OPS), those of labels in [V_LABEL_OPS, V_END)."""

# op columns
O_CHAIN, O_CODE, O_WINDOW, O_MEASURE, O_CURRENT, O_OUT = 0, 1, 2, 3, 4, 5
"""O_CHAIN: a number shared by extremes that differ in their window only."""

# heads: bump pointer, free list of each class, counters
H_FREE = 1
CLASSES = 24
H_LATE = H_FREE + CLASSES
"""Events (or labels) that came later than the view allows and were not applied."""
HEADS = H_LATE + 1
SMALLEST = 8
"""Rows of a segment of class 0; each class doubles."""

# input row: event time, blind flag, then per view: entity, measures
R_TIME, R_BLIND, R_VIEWS = 0, 1, 2

# op codes; below COUNT they read the event alone
VALUE, HOUR, WEEKDAY, WEEKEND, NIGHT = 0, 1, 2, 3, 4
COUNT, SUM, MEAN, MIN, MAX, SINCE_PREVIOUS = 10, 11, 12, 13, 14, 15
LABELS, FRAUDS, FRAUD_RATE = 20, 21, 22
LAST_LABEL, FRAUD_RUN, SINCE_FIRST_FRAUD, SINCE_LAST_FRAUD, GENUINE_SINCE = 30, 31, 32, 33, 34

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
SECOND_US = 1_000_000
THURSDAY = 3
"""1970-01-01, counted from Monday."""
SATURDAY = 5
LAST_NIGHT_HOUR = 6


@njit(cache=True)
def _lower(pool, low, high, time):
    """First row in [low, high) at or after `time`."""
    while low < high:
        middle = (low + high) >> 1
        if pool[middle, 0] < time:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _upper(pool, low, high, time):
    """First row in [low, high) after `time`."""
    while low < high:
        middle = (low + high) >> 1
        if pool[middle, 0] <= time:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _plain(code, time, value, scale):
    """What an event says by itself."""
    if code == VALUE:
        return np.nan if value == MISSING else value / scale
    hour = (time // HOUR_US) % 24
    weekday = (time // DAY_US + THURSDAY) % 7
    if code == HOUR:
        return float(hour)
    if code == WEEKDAY:
        return float(weekday)
    if code == WEEKEND:
        return 1.0 if weekday >= SATURDAY else 0.0
    return 1.0 if hour <= LAST_NIGHT_HOUR else 0.0


@njit(cache=True)
def _extreme(pool, low, high, column, best, code):
    """The least or greatest value of rows [low, high) and `best`."""
    for row in range(low, high):
        value = pool[row, column]
        if value != MISSING and (best == MISSING or (value < best if code == MIN else value > best)):
            best = value
    return best


@njit(cache=True)
def _windowed(pool, low, high, code, measure, here, counted, scale):
    """A count, sum or mean of rows [low, high), and of the current value `here` when it is `counted`."""
    if measure < 0:
        return float(high - low + (1 if counted else 0))
    column = 1 + 3 * measure
    count = np.int64(0)
    total = np.int64(0)
    if high > low:
        newest = pool[high - 1, column]
        count = pool[high - 1, column + 1] - pool[low, column + 1]
        total = pool[high - 1, column + 2] - pool[low, column + 2]
        if newest != MISSING:
            count += 1
            total += newest
    if counted and here != MISSING:
        count += 1
        total += here
    if code == COUNT:
        return float(count)
    if code == SUM:
        return total / scale
    return np.nan if count == 0 else total / (count * scale)


@njit(cache=True)
def _label_run(state, column, time, code):
    """What the label state in `state[column:]` says at `time`."""
    known = state[column + KNOWN]
    if known == 0:
        return np.nan
    if code == LAST_LABEL:
        return 1.0 if state[column + RUN] > 0 else 0.0
    if code == FRAUD_RUN:
        return float(state[column + RUN])
    if state[column + FRAUD] == 0:
        return np.nan
    if code == SINCE_FIRST_FRAUD:
        return (time - state[column + FIRST]) / SECOND_US
    if code == SINCE_LAST_FRAUD:
        return (time - state[column + LAST]) / SECOND_US
    return float(state[column + GENUINE])


@njit(cache=True)
def _label_window(lpool, base, start, known, low, window, code):
    """Labels of rows [low, known); all there ever were when `window` is 0."""
    last = base[BASE + KNOWN]
    fraud = base[BASE + FRAUD]
    first = np.int64(0)
    frauds = np.int64(0)
    if window > 0:
        first = lpool[low - 1, 1 + KNOWN] if low > start else last
        frauds = lpool[low - 1, 1 + FRAUD] if low > start else fraud
    if known > start:
        last = lpool[known - 1, 1 + KNOWN]
        fraud = lpool[known - 1, 1 + FRAUD]
    if code == LABELS:
        return float(last - first)
    if code == FRAUDS:
        return float(fraud - frauds)
    return np.nan if last == first else (fraud - frauds) / (last - first)


@njit(cache=True)
def _read_events(pool, meta, ops, scales, place, stop, row, column, out):
    """Event features of one view, ops [place, stop): windows [time - w, time), growing within their order."""
    time = row[R_TIME]
    start = meta[E_OFF] + meta[E_START]
    before = _lower(pool, start, start + meta[E_LEN], time)
    low = before
    window = np.int64(-1)
    chain = np.int64(-1)
    best = MISSING
    for k in range(place, stop):
        code, measure, counted = ops[k, O_CODE], ops[k, O_MEASURE], ops[k, O_CURRENT] != 0
        here = row[column + 1 + measure] if measure >= 0 else MISSING
        value = np.nan
        if code == SINCE_PREVIOUS:
            if before > start:
                value = (time - pool[before - 1, 0]) / SECOND_US
            out[ops[k, O_OUT]] = value
            continue
        last = low if ops[k, O_WINDOW] >= window else before
        if ops[k, O_WINDOW] != window:
            window = ops[k, O_WINDOW]
            low = _lower(pool, start, last, time - window)
        if code in (MIN, MAX):
            # The next longer window of the same extreme goes on from where the shorter one ended.
            if ops[k, O_CHAIN] != chain:
                chain = ops[k, O_CHAIN]
                best = here if counted else MISSING
                last = before
            best = _extreme(pool, low, last, 1 + 3 * measure, best, code)
            if best != MISSING:
                value = best / scales[k]
        else:
            value = _windowed(pool, low, before, code, measure, here, counted, scales[k])
        out[ops[k, O_OUT]] = value


@njit(cache=True)
def _read_labels(lpool, meta, ops, place, stop, time, out):
    """Label features of one view, ops [place, stop): windows (time - w, time], growing.

    Missing at a time before the newest label that left the segment.
    """
    start = meta[L_OFF] + meta[L_START]
    known = _upper(lpool, start, start + meta[L_LEN], time)
    low = known
    for k in range(place, stop):
        code, window = ops[k, O_CODE], ops[k, O_WINDOW]
        value = np.nan
        if time >= meta[L_BASE]:
            if code < LAST_LABEL:
                if window > 0:
                    low = _upper(lpool, start, low, time - window)
                value = _label_window(lpool, meta, start, known, low, window, code)
            elif known > start:
                value = _label_run(lpool[known - 1], 1, time, code)
            else:
                value = _label_run(meta, BASE, time, code)
        out[ops[k, O_OUT]] = value


@njit(cache=True)
def read(pool, lpool, ent, views, ops, scales, row, out):
    """Every feature of one event into `out`."""
    stride = (row.shape[0] - R_VIEWS) // views.shape[0]
    time = row[R_TIME]
    for view in range(views.shape[0]):
        column = R_VIEWS + view * stride
        place, labels, stop = views[view, V_OPS], views[view, V_LABEL_OPS], views[view, V_END]
        entity = row[column]
        if views[view, V_KEYED] == 0:
            for k in range(place, stop):
                measure = ops[k, O_MEASURE]
                here = row[column + 1 + measure] if measure >= 0 else MISSING
                out[ops[k, O_OUT]] = _plain(ops[k, O_CODE], time, here, scales[k])
        elif row[R_BLIND] != 0 or entity < 0 or time < ent[entity, E_MARK] - views[view, V_LATENESS]:
            for k in range(place, stop):
                out[ops[k, O_OUT]] = np.nan
        else:
            _read_events(pool, ent[entity], ops, scales, place, labels, row, column, out)
            _read_labels(lpool, ent[entity], ops, labels, stop, time, out)


@njit(cache=True)
def _take(heads, size_class, pool):
    """A segment of that class: a freed one, else new rows from the bump pointer."""
    free = heads[H_FREE + size_class]
    if free >= 0:
        heads[H_FREE + size_class] = pool[free, 0]
        return free
    offset = heads[0]
    heads[0] = offset + (SMALLEST << size_class)
    return offset


@njit(cache=True)
def _room(pool, heads, meta, o):
    """Makes sure that the segment at columns `o`.. of `meta` has a row after its last one."""
    size_class, start, length = meta[o + 1], meta[o + 2], meta[o + 3]
    if size_class < 0:
        meta[o] = _take(heads, 0, pool)
        meta[o + 1] = 0
        meta[o + 2] = 0
        return
    size = SMALLEST << size_class
    if start + length < size:
        return
    old = meta[o]
    offset = old
    if length * 2 > size:
        offset = _take(heads, size_class + 1, pool)
    for row in range(length):
        pool[offset + row] = pool[old + start + row]
    if offset != old:
        pool[old, 0] = heads[H_FREE + size_class]
        heads[H_FREE + size_class] = old
        meta[o + 1] = size_class + 1
    meta[o] = offset
    meta[o + 2] = 0


@njit(cache=True)
def _insert_event(pool, meta, row, column, measures, time):
    """Puts the event behind every one of the same time or earlier, and mends the prefixes after it."""
    start = meta[E_OFF] + meta[E_START]
    end = start + meta[E_LEN]
    place = _upper(pool, start, end, time)
    for at in range(end, place, -1):
        pool[at] = pool[at - 1]
    pool[place, 0] = time
    for m in range(measures):
        pool[place, 1 + 3 * m] = row[column + 1 + m]
    for at in range(place, end + 1):
        for m in range(measures):
            c = 1 + 3 * m
            if at == start:
                pool[at, c + 1] = 0
                pool[at, c + 2] = 0
            else:
                value = pool[at - 1, c]
                present = value != MISSING
                pool[at, c + 1] = pool[at - 1, c + 1] + (1 if present else 0)
                pool[at, c + 2] = pool[at - 1, c + 2] + (value if present else 0)
    meta[E_LEN] += 1


@njit(cache=True)
def _expire_labels(lpool, meta, horizon, capacity):
    """Lets labels observed before `horizon`, and those over the capacity, leave into the base state."""
    while meta[L_LEN] > 0:
        first = meta[L_OFF] + meta[L_START]
        if meta[L_LEN] <= capacity and lpool[first, 0] >= horizon:
            return
        meta[L_BASE] = lpool[first, 0]
        for s in range(STATE):
            meta[BASE + s] = lpool[first, 1 + s]
        meta[L_START] += 1
        meta[L_LEN] -= 1


@njit(cache=True)
def apply(pool, heads, lpool, ent, views, row):
    """Takes one event into the state of each of its entities.

    A view that it reaches later than the view's lateness counts it and leaves it out: the entity in `row` becomes -1.
    """
    if row[R_BLIND] != 0:
        return
    count = views.shape[0]
    stride = (row.shape[0] - R_VIEWS) // count
    time = row[R_TIME]
    for view in range(count):
        column = R_VIEWS + view * stride
        entity = row[column]
        if views[view, V_KEYED] == 0 or entity < 0:
            continue
        meta = ent[entity]
        if time < meta[E_MARK] - views[view, V_LATENESS]:
            heads[H_LATE] += 1
            row[column] = -1
            continue
        meta[E_MARK] = max(meta[E_MARK], time)
        horizon = meta[E_MARK] - views[view, V_RETAIN]
        while meta[E_LEN] > 0 and pool[meta[E_OFF] + meta[E_START], 0] < horizon:
            meta[E_START] += 1
            meta[E_LEN] -= 1
        _room(pool, heads, meta, E_OFF)
        _insert_event(pool, meta, row, column, stride - 1, time)
        if meta[E_LEN] > views[view, V_CAPACITY]:
            meta[E_START] += 1
            meta[E_LEN] -= 1
        _expire_labels(lpool, meta, meta[E_MARK] - views[view, V_LABEL_RETAIN], views[view, V_CAPACITY])


@njit(cache=True)
def _next_state(before, b, after, a, event_time, fraud):
    """State `after[a:]` of one label more than `before[b:]`."""
    after[a + KNOWN] = before[b + KNOWN] + 1
    after[a + FRAUD] = before[b + FRAUD] + fraud
    if fraud == 1:
        after[a + RUN] = before[b + RUN] + 1
        after[a + FIRST] = event_time if before[b + FRAUD] == 0 else before[b + FIRST]
        after[a + LAST] = event_time
        after[a + GENUINE] = 0
    else:
        after[a + RUN] = 0
        after[a + FIRST] = before[b + FIRST]
        after[a + LAST] = before[b + LAST]
        after[a + GENUINE] = before[b + GENUINE] + (1 if before[b + FRAUD] > 0 else 0)


@njit(cache=True)
def _insert_label(lpool, meta, observed, event_time, fraud):
    """Puts the label behind every one observed at the same time or earlier; later states are made again."""
    start = meta[L_OFF] + meta[L_START]
    end = start + meta[L_LEN]
    place = _upper(lpool, start, end, observed)
    for at in range(end, place, -1):
        lpool[at] = lpool[at - 1]
    lpool[place, 0] = observed
    # What each shifted label was is the difference between its own state and the state before it.
    old = np.empty(STATE, np.int64)
    for s in range(STATE):
        old[s] = meta[BASE + s] if place == start else lpool[place - 1, 1 + s]
    _next_state(old, 0, lpool[place], 1, event_time, fraud)
    for at in range(place + 1, end + 1):
        its_fraud = lpool[at, 1 + FRAUD] - old[FRAUD]
        its_time = lpool[at, 1 + LAST]
        for s in range(STATE):
            old[s] = lpool[at, 1 + s]
        _next_state(lpool[at - 1], 1, lpool[at], 1, its_time, its_fraud)
    meta[L_LEN] += 1


@njit(cache=True)
def learn(lpool, lheads, ent, views, row, observed, fraud):
    """Takes the label of the event in `row` into the state of each entity that the event was applied to.

    A label observed before one that already left the segment is counted and left out.
    """
    if row[R_BLIND] != 0:
        return
    count = views.shape[0]
    stride = (row.shape[0] - R_VIEWS) // count
    for view in range(count):
        entity = row[R_VIEWS + view * stride]
        if views[view, V_LABELS] == 0 or entity < 0:
            continue
        meta = ent[entity]
        if observed < meta[L_BASE]:
            lheads[H_LATE] += 1
            continue
        _room(lpool, lheads, meta, L_OFF)
        _insert_label(lpool, meta, observed, row[R_TIME], fraud)
        _expire_labels(lpool, meta, meta[E_MARK] - views[view, V_LABEL_RETAIN], views[view, V_CAPACITY])


@njit(cache=True, nogil=True)
def run(
    pool, heads, lpool, lheads, ent, views, ops, scales, rows, labels, place, label, stop, wanted, out, filled, slack
):
    """Rows [place, stop) in order: labels due, then features of wanted rows, then the event itself.

    `labels` rows are `[place, observed time, event row, fraud]` in the order they become known. Stops early when a
    pool has fewer than `slack` rows left or `out` is full. Returns the next row, the next label and rows of `out` used.
    """
    for at in range(place, stop):
        while label < labels.shape[0] and labels[label, 0] <= at:
            if lheads[0] + slack > lpool.shape[0]:
                return at, label, filled
            source = labels[label, 2]
            learn(lpool, lheads, ent, views, rows[source], labels[label, 1], labels[label, 3])
            label += 1
        if heads[0] + slack > pool.shape[0] or (wanted[at] and filled == out.shape[0]):
            return at, label, filled
        if wanted[at]:
            read(pool, lpool, ent, views, ops, scales, rows[at], out[filled])
            filled += 1
        apply(pool, heads, lpool, ent, views, rows[at])
    return stop, label, filled
