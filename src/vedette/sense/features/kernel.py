"""The one implementation of every aggregation: numba kernels over flat arrays, used online, offline and in training.

State is integers only. An entity is a row of `ent`; its events are rows `[time, then per measure: value and what was
before it]` of one segment of `pool`, its labels rows `[observed time, state after it]` of one segment of `lpool`, both
sorted. Counts, sums and squares over a window are two binary searches and a difference of prefixes; 64-bit wrap around
cancels in the difference. What needs the values themselves (extremes, distinct values, averages by age) scans a window
from its newest event back, and a longer window goes on from where the shorter one ended. Floats appear only where a
feature is read, each made by one stated sequence of IEEE operations.

Segments come from a bump pointer and one free list per size (`heads`). Nothing here allocates, reads a clock or fails.
`layout` says where things stand, `scans` what a window answers, `ahead` in what order a table is gone through.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201, ANN202, PLR0917, PLR0911
# mypy: allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit

from vedette.sense.features.ahead import FAR, SOON, by_entity, foresee, outputs
from vedette.sense.features.layout import (
    BASE,
    C_COLUMN,
    C_INPUT,
    C_WORDS,
    DAY_US,
    E_FIRST,
    E_LEN,
    E_MARK,
    E_OFF,
    E_SEEN,
    E_START,
    EMPTY,
    ENT_WIDTH,
    FIRST,
    FOREVER,
    FRAUD,
    FRAUD_RUN,
    FRAUDS,
    GENUINE,
    H_FREE,
    H_FULL,
    H_LATE,
    HOUR,
    HOUR_US,
    KNOWN,
    L_BASE,
    L_LEN,
    L_OFF,
    L_START,
    L_WIDTH,
    LABEL_ROWS,
    LABELS,
    LAST,
    LAST_LABEL,
    LAST_NIGHT_HOUR,
    MIN,
    MISSING,
    NEVER,
    O_ARG,
    O_CHAIN,
    O_CODE,
    O_COLUMN,
    O_CURRENT,
    O_INPUT,
    O_LONG,
    O_LOW,
    O_OUT,
    O_SCALE,
    O_WINDOW,
    R_BLIND,
    R_TIME,
    R_VIEWS,
    RUN,
    SATURDAY,
    SECOND_US,
    SINCE_EVER,
    SINCE_FIRST_FRAUD,
    SINCE_LAST_FRAUD,
    SINCE_PREVIOUS,
    SMALLEST,
    STATE,
    THURSDAY,
    V_CAPACITY,
    V_COLS,
    V_COLS_END,
    V_END,
    V_KEYED,
    V_LABEL_OPS,
    V_LABEL_RETAIN,
    V_LABELS,
    V_LATENESS,
    V_OPS,
    V_RETAIN,
    V_WIDTH,
    V_WINDOWS,
    VALUE,
    WEEKDAY,
    WEEKEND,
    X_LOWS,
)
from vedette.sense.features.scans import begin, gather, own, scan, scanned, windowed

__all__ = [
    "EMPTY",
    "MISSING",
    "NEVER",
    "R_TIME",
    "R_VIEWS",
    "apply",
    "by_entity",
    "dump_events",
    "dump_labels",
    "learn",
    "read",
    "restore",
    "run_plain",
    "run_ratios",
    "run_view",
]

PARTS = "dd87323693eb0127"
"""Digest of `layout.py`, `scans.py`, `ahead.py` and `core/prefetch.py`: numba's cache sees a change of this file alone,
so one of theirs has to show here."""


@njit(cache=True, error_model="numpy", forceinline=True)
def _lower(pool, origin, width, low, high, time):
    """First row in [low, high) at or after `time`. Most often there is none: events come in order."""
    if high > low and pool[origin + (high - 1) * width] < time:
        return high
    count = high - low
    while count > 0:
        # Which half it is nobody can foretell: a choice of values costs less than a branch.
        half = count >> 1
        earlier = pool[origin + (low + half) * width] < time
        low = low + half + 1 if earlier else low
        count = count - half - 1 if earlier else half
    return low


@njit(cache=True, error_model="numpy", forceinline=True)
def _upper(pool, origin, width, low, high, time):
    """First row in [low, high) after `time`."""
    if high > low and pool[origin + (high - 1) * width] <= time:
        return high
    count = high - low
    while count > 0:
        half = count >> 1
        earlier = pool[origin + (low + half) * width] <= time
        low = low + half + 1 if earlier else low
        count = count - half - 1 if earlier else half
    return low


@njit(cache=True, error_model="numpy")
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


# What labels answer


@njit(cache=True, error_model="numpy", forceinline=True)
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


@njit(cache=True, error_model="numpy", forceinline=True)
def _label_window(lpool, meta, start, known, low, window, code):
    """Labels of rows [low, known); all there ever were when `window` is 0."""
    origin = meta[L_OFF]
    last = meta[BASE + KNOWN]
    fraud = meta[BASE + FRAUD]
    first = np.int64(0)
    frauds = np.int64(0)
    if window > 0:
        at = origin + (low - 1) * L_WIDTH + 1
        first = lpool[at + KNOWN] if low > start else last
        frauds = lpool[at + FRAUD] if low > start else fraud
    if known > start:
        at = origin + (known - 1) * L_WIDTH + 1
        last = lpool[at + KNOWN]
        fraud = lpool[at + FRAUD]
    if code == LABELS:
        return float(last - first)
    if code == FRAUDS:
        return float(fraud - frauds)
    return np.nan if last == first else (fraud - frauds) / (last - first)


# Reading


@njit(cache=True, error_model="numpy", forceinline=True)
def _read_events(pool, meta, width, ops, first, place, stop, row, column, out, scratch):
    """Event features of one view, ops [place, stop): windows [time - w, time), each searched once, ops [first, place).

    Windows grow within a chain of scans.
    """
    time = row[R_TIME]
    origin = meta[E_OFF]
    start = meta[E_START]
    end = start + meta[E_LEN]
    before = _lower(pool, origin, width, start, end, time)
    gone = meta[E_SEEN] - meta[E_LEN]
    lows = scratch[X_LOWS]
    low = before
    for k in range(first, place):
        low = _lower(pool, origin, width, start, low, time - ops[k, O_WINDOW])
        scratch[lows + k - first] = low
    chain = np.int64(-1)
    reached = before
    for k in range(place, stop):
        code, put = ops[k, O_CODE], ops[k, O_OUT]
        if code == SINCE_PREVIOUS:
            out[put] = (time - pool[origin + (before - 1) * width]) / SECOND_US if before > start else np.nan
            continue
        if code == SINCE_EVER:
            out[put] = (time - meta[E_FIRST]) / SECOND_US if meta[E_SEEN] > 0 and meta[E_FIRST] < time else np.nan
            continue
        low = scratch[lows + ops[k, O_LOW]]
        here = row[column + ops[k, O_INPUT]] if ops[k, O_INPUT] >= 0 else MISSING
        if code < MIN:
            longer = scratch[lows + ops[k, O_LONG]]
            out[put] = windowed(pool, origin, width, start, end, low, before, ops, k, here, gone, longer)
            continue
        arg = ops[k, O_ARG]
        if ops[k, O_CHAIN] != chain:
            chain = ops[k, O_CHAIN]
            reached = before
            begin(scratch, before - start + 1)
            if ops[k, O_CURRENT] != 0:
                gather(scratch, code, arg, here, time, time)
        if low < reached:
            scan(pool, origin, width, low, reached, ops[k, O_COLUMN], code, arg, time, scratch)
            reached = low
        out[put] = scanned(scratch, code, arg, time, float(ops[k, O_SCALE]))


@njit(cache=True, error_model="numpy", forceinline=True)
def _read_labels(lpool, meta, ops, place, stop, time, out):
    """Label features of one view, ops [place, stop): windows (time - w, time], growing.

    Missing at a time before the newest label that left the segment.
    """
    origin, start = meta[L_OFF], meta[L_START]
    known = _upper(lpool, origin, L_WIDTH, start, start + meta[L_LEN], time)
    low = known
    searched = np.int64(0)
    for k in range(place, stop):
        code, window = ops[k, O_CODE], ops[k, O_WINDOW]
        value = np.nan
        if time >= meta[L_BASE]:
            if code < LAST_LABEL:
                if window > searched:
                    low = _upper(lpool, origin, L_WIDTH, start, low, time - window)
                    searched = window
                value = _label_window(lpool, meta, start, known, low, window, code)
            elif known > start:
                value = _label_run(lpool, origin + (known - 1) * L_WIDTH + 1, time, code)
            else:
                value = _label_run(meta, BASE, time, code)
        out[ops[k, O_OUT]] = value


@njit(cache=True, error_model="numpy")
def _read_view(pool, lpool, ent, views, view, ops, row, out, scratch):
    """The features of one view of one event into `out`."""
    column = R_VIEWS + view * ((row.shape[0] - R_VIEWS) // views.shape[0])
    place, labels, stop = views[view, V_OPS], views[view, V_LABEL_OPS], views[view, V_END]
    entity = row[column]
    if views[view, V_KEYED] == 0:
        for k in range(place, stop):
            here = row[column + ops[k, O_INPUT]] if ops[k, O_INPUT] >= 0 else MISSING
            out[ops[k, O_OUT]] = _plain(ops[k, O_CODE], row[R_TIME], here, float(ops[k, O_SCALE]))
    elif row[R_BLIND] != 0 or entity < 0 or row[R_TIME] < ent[entity, E_MARK] - views[view, V_LATENESS]:
        for k in range(place, stop):
            out[ops[k, O_OUT]] = np.nan
    else:
        meta = ent[entity]
        if place < labels:
            first, width = views[view, V_WINDOWS], views[view, V_WIDTH]
            _read_events(pool, meta, width, ops, first, place, labels, row, column, out, scratch)
        if labels < stop:
            _read_labels(lpool, meta, ops, labels, stop, row[R_TIME], out)


@njit(cache=True, error_model="numpy", forceinline=True)
def _divide(views, ops, out):
    """Ratios of other features; O_INPUT and O_COLUMN are their places."""
    for k in range(views[views.shape[0] - 1, V_END], ops.shape[0]):
        over = out[ops[k, O_COLUMN]]
        out[ops[k, O_OUT]] = np.nan if over == 0.0 else out[ops[k, O_INPUT]] / over


@njit(cache=True, error_model="numpy")
def read(pool, lpool, ent, views, ops, row, out, scratch):
    """Every feature of one event into `out`."""
    for view in range(views.shape[0]):
        _read_view(pool, lpool, ent, views, view, ops, row, out, scratch)
    _divide(views, ops, out)


# Writing


@njit(cache=True, error_model="numpy")
def _take(heads, size_class, pool):
    """A segment of that class: a freed one, else new words from the bump pointer."""
    free = heads[H_FREE + size_class]
    if free >= 0:
        heads[H_FREE + size_class] = pool[free]
        return free
    offset = heads[0]
    heads[0] = offset + (SMALLEST << size_class)
    return offset


@njit(cache=True, error_model="numpy")
def _room(pool, heads, meta, o, width):
    """Makes sure that the segment at columns `o`.. of `meta` has a row after its last one."""
    size_class, start, length = meta[o + 1], meta[o + 2], meta[o + 3]
    if size_class < 0:
        size_class = 0
        while (SMALLEST << size_class) < 2 * width:
            size_class += 1
        meta[o] = _take(heads, size_class, pool)
        meta[o + 1] = size_class
        meta[o + 2] = 0
        return
    rows = (SMALLEST << size_class) // width
    if start + length < rows:
        return
    old = meta[o]
    offset = old
    if length * 2 > rows:
        offset = _take(heads, size_class + 1, pool)
    first = old + start * width
    for word in range(length * width):
        pool[offset + word] = pool[first + word]
    if offset != old:
        pool[old] = heads[H_FREE + size_class]
        heads[H_FREE + size_class] = old
        meta[o + 1] = size_class + 1
    meta[o] = offset
    meta[o + 2] = 0


@njit(cache=True, error_model="numpy")
def _shift(pool, first, last, width):
    """Moves rows that begin at words [first, last) one row on."""
    for word in range(last - 1, first - 1, -1):
        pool[word + width] = pool[word]


@njit(cache=True, error_model="numpy", forceinline=True)
def _insert_event(pool, meta, width, cols, first_col, last_col, row, column, time):
    """Puts the event behind every one of the same time or earlier, and mends the prefixes after it.

    A row's prefixes hold what left the segment too, so that the first row's are the totals of all that is gone.
    """
    origin = meta[E_OFF]
    begin = origin + meta[E_START] * width
    end = begin + meta[E_LEN] * width
    at = origin + width * _upper(pool, origin, width, meta[E_START], meta[E_START] + meta[E_LEN], time)
    _shift(pool, at, end, width)
    pool[at] = time
    for c in range(first_col, last_col):
        place, parts = at + cols[c, C_COLUMN], cols[c, C_WORDS] - 1
        value = row[column + cols[c, C_INPUT]]
        pool[place] = value
        for part in range(parts):
            if at > begin:
                before = place - width
                pool[place + 1 + part] = pool[before + 1 + part] + own(pool[before], part)
            elif end == begin:
                pool[place + 1 + part] = 0
            else:
                pool[place + 1 + part] = pool[place + width + 1 + part]
            added = own(value, part)
            for later in range(place + width, end + cols[c, C_COLUMN] + 1, width):
                pool[later + 1 + part] += added
    meta[E_LEN] += 1


@njit(cache=True, error_model="numpy", forceinline=True)
def _expire_events(pool, heads, meta, width, capacity, retain):
    """Lets events older than `retain`, and those over the capacity, leave; the newest always stays."""
    horizon = meta[E_MARK] - retain
    while meta[E_LEN] > 1:
        old = pool[meta[E_OFF] + meta[E_START] * width] < horizon
        if not old and meta[E_LEN] <= capacity:
            return
        heads[H_FULL] += 0 if old else 1
        meta[E_START] += 1
        meta[E_LEN] -= 1


@njit(cache=True, error_model="numpy", forceinline=True)
def _expire_labels(lpool, lheads, meta, capacity, retain):
    """Lets known labels observed long ago, and those over the capacity, leave into the base state.

    A label is known once its entity has an event at or after its observed time; those that wait are not counted.
    """
    start = meta[L_START]
    if meta[L_LEN] <= capacity and (meta[L_LEN] == 0 or lpool[meta[L_OFF] + start * L_WIDTH] >= meta[E_MARK] - retain):
        return
    known = _upper(lpool, meta[L_OFF], L_WIDTH, start, start + meta[L_LEN], meta[E_MARK]) - start
    while known > 0:
        first = meta[L_OFF] + meta[L_START] * L_WIDTH
        old = lpool[first] < meta[E_MARK] - retain
        if not old and known <= capacity:
            return
        lheads[H_FULL] += 0 if old else 1
        meta[L_BASE] = lpool[first]
        for s in range(STATE):
            meta[BASE + s] = lpool[first + 1 + s]
        meta[L_START] += 1
        meta[L_LEN] -= 1
        known -= 1


@njit(cache=True, error_model="numpy", forceinline=True)
def _apply_view(pool, heads, lpool, lheads, ent, views, view, cols, row):
    """Takes one event into the state of its entity of one view."""
    column = R_VIEWS + view * ((row.shape[0] - R_VIEWS) // views.shape[0])
    entity, time = row[column], row[R_TIME]
    if views[view, V_KEYED] == 0 or entity < 0:
        return
    meta = ent[entity]
    if time < meta[E_MARK] - views[view, V_LATENESS]:
        heads[H_LATE] += 1
        row[column] = -1
        return
    _admit(pool, heads, meta, views[view], cols, row, column, time)
    _expire_events(pool, heads, meta, views[view, V_WIDTH], views[view, V_CAPACITY], views[view, V_RETAIN])
    _expire_labels(lpool, lheads, meta, views[view, V_CAPACITY], views[view, V_LABEL_RETAIN])


@njit(cache=True, error_model="numpy")
def apply(pool, heads, lpool, lheads, ent, views, cols, row):
    """Takes one event into the state of each of its entities.

    A view that it reaches later than the view's lateness counts it and leaves it out: the entity in `row` becomes -1.
    """
    if row[R_BLIND] == 0:
        for view in range(views.shape[0]):
            _apply_view(pool, heads, lpool, lheads, ent, views, view, cols, row)


@njit(cache=True, error_model="numpy", forceinline=True)
def _admit(pool, heads, meta, view, cols, row, column, time):
    """One event into one entity, before anything leaves."""
    meta[E_FIRST] = time if meta[E_SEEN] == 0 else min(meta[E_FIRST], time)
    meta[E_MARK] = max(meta[E_MARK], time)
    meta[E_SEEN] += 1
    _room(pool, heads, meta, E_OFF, view[V_WIDTH])
    _insert_event(pool, meta, view[V_WIDTH], cols, view[V_COLS], view[V_COLS_END], row, column, time)


@njit(cache=True, error_model="numpy")
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


@njit(cache=True, error_model="numpy")
def _insert_label(lpool, meta, observed, event_time, fraud):
    """Puts the label behind every one observed at the same time or earlier; later states are made again."""
    origin, start = meta[L_OFF], meta[L_START]
    end = start + meta[L_LEN]
    place = _upper(lpool, origin, L_WIDTH, start, end, observed)
    at = origin + place * L_WIDTH
    _shift(lpool, at, origin + end * L_WIDTH, L_WIDTH)
    lpool[at] = observed
    if place == end:
        before = (meta, BASE) if place == start else (lpool, at - L_WIDTH + 1)
        _next_state(before[0], before[1], lpool, at + 1, event_time, fraud)
        meta[L_LEN] += 1
        return
    # What each shifted label was is the difference between its own state and the state before it.
    old = np.empty(STATE, np.int64)
    for s in range(STATE):
        old[s] = meta[BASE + s] if place == start else lpool[at - L_WIDTH + 1 + s]
    _next_state(old, 0, lpool, at + 1, event_time, fraud)
    for later in range(at + L_WIDTH, origin + (end + 1) * L_WIDTH, L_WIDTH):
        its_fraud = lpool[later + 1 + FRAUD] - old[FRAUD]
        its_time = lpool[later + 1 + LAST]
        for s in range(STATE):
            old[s] = lpool[later + 1 + s]
        _next_state(lpool, later - L_WIDTH + 1, lpool, later + 1, its_time, its_fraud)
    meta[L_LEN] += 1


@njit(cache=True, error_model="numpy")
def _learn_one(lpool, lheads, meta, view, observed, event_time, fraud):
    """One label into one entity; counted and left out when it was observed before one that left, or too many wait."""
    if observed < meta[L_BASE] or meta[L_LEN] >= LABEL_ROWS * view[V_CAPACITY]:
        lheads[H_LATE] += 1
        return
    _room(lpool, lheads, meta, L_OFF, L_WIDTH)
    _insert_label(lpool, meta, observed, event_time, fraud)
    _expire_labels(lpool, lheads, meta, view[V_CAPACITY], view[V_LABEL_RETAIN])


@njit(cache=True, error_model="numpy")
def learn(lpool, lheads, ent, views, row, observed, fraud):
    """Takes the label of the event in `row` into the state of each entity that the event was applied to."""
    if row[R_BLIND] != 0:
        return
    count = views.shape[0]
    stride = (row.shape[0] - R_VIEWS) // count
    for view in range(count):
        entity = row[R_VIEWS + view * stride]
        if views[view, V_LABELS] != 0 and entity >= 0:
            _learn_one(lpool, lheads, ent[entity], views[view], observed, row[R_TIME], fraud)


# A table at once


@njit(cache=True, nogil=True, error_model="numpy")
def run_view(
    pool,
    heads,
    lpool,
    lheads,
    ent,
    views,
    ops,
    cols,
    scratch,
    rows,
    view,
    order,
    labels,
    owners,
    at,
    label,
    slots,
    first,
    out,
    slack,
):
    """One view over rows `order` of a table, which stand entity by entity, each entity's in log order.

    Entities know nothing of each other, so that this gives what row after row would give, while one entity's state
    stays in the nearest cache. `labels` rows are `[place, observed time, event row, fraud]`, entity by entity
    (`owners`), in the order they become known: before row `place`. `slots` are places of rows from `first` on in `out`,
    -1 for rows that nobody wants.
    Stops early when a pool has fewer than `slack` words left. Returns the next of `order` and the next label.
    """
    column = R_VIEWS + view * ((rows.shape[1] - R_VIEWS) // views.shape[0])
    puts = outputs(ops, views[view, V_OPS], views[view, V_END])
    while at < order.shape[0] or label < labels.shape[0]:
        if heads[0] + slack > pool.shape[0] or lheads[0] + slack > lpool.shape[0]:
            return at, label
        row = order[at] if at < order.shape[0] else np.int64(-1)
        entity = rows[row, column] if row >= 0 else FOREVER
        if label < labels.shape[0] and (
            owners[label] < entity or (owners[label] == entity and labels[label, 0] <= row)
        ):
            source = rows[labels[label, 2]]
            # Below 0: the event came too late and was left out.
            if source[column] >= 0 and views[view, V_LABELS] != 0:
                meta = ent[source[column]]
                _learn_one(lpool, lheads, meta, views[view], labels[label, 1], source[R_TIME], labels[label, 3])
            label += 1
            continue
        slot = slots[row - first]
        if at + FAR < order.shape[0]:
            ahead = order[at : at + FAR + 1]
            foresee(pool, ent, views[view, V_WIDTH], rows, column, ahead, slots[ahead[SOON] - first], out, puts)
        if slot >= 0:
            _read_view(pool, lpool, ent, views, view, ops, rows[row], out[slot], scratch)
        _apply_view(pool, heads, lpool, lheads, ent, views, view, cols, rows[row])
        at += 1
    return at, label


@njit(cache=True, nogil=True, error_model="numpy")
def run_plain(pool, lpool, ent, views, view, ops, scratch, rows, first, slots, out):
    """A view without entities, or the events that name none of a view, over the rows that `slots` wants."""
    column = R_VIEWS + view * ((rows.shape[1] - R_VIEWS) // views.shape[0])
    for row in range(first, first + slots.shape[0]):
        if slots[row - first] >= 0 and rows[row, column] < 0:
            _read_view(pool, lpool, ent, views, view, ops, rows[row], out[slots[row - first]], scratch)


@njit(cache=True, nogil=True, error_model="numpy")
def run_ratios(views, ops, out):
    """Ratios of every row of `out`."""
    for row in range(out.shape[0]):
        _divide(views, ops, out[row])


# An entity kept elsewhere


@njit(cache=True, error_model="numpy")
def _restore_events(pool, heads, meta, view, cols, base, raw):
    """Fills an empty entity from what a shared store keeps of it, then lets leave what has to.

    `base` is `[events that left, earliest of their times, prefixes of the first row]`; `raw` are rows `[time, values]`
    in the order applied. Events leave in an order that does not depend on when: only the newest `capacity` stay.
    """
    first_col, last_col = view[V_COLS], view[V_COLS_END]
    stride = 1 + last_col - first_col
    row = np.empty(stride, np.int64)
    meta[E_SEEN], meta[E_FIRST] = base[0], base[1]
    for at in range(0, raw.shape[0], stride):
        row[1:] = raw[at + 1 : at + stride]
        _admit(pool, heads, meta, view, cols, row, 0, raw[at])
        if at == 0:
            place = 2
            for c in range(first_col, last_col):
                for part in range(cols[c, C_WORDS] - 1):
                    pool[meta[E_OFF] + cols[c, C_COLUMN] + 1 + part] = base[place]
                    place += 1
        # A segment is made for the events that may stay; the rest leaves as it comes.
        if meta[E_LEN] > view[V_CAPACITY]:
            _expire_events(pool, heads, meta, view[V_WIDTH], view[V_CAPACITY], view[V_RETAIN])
    _expire_events(pool, heads, meta, view[V_WIDTH], view[V_CAPACITY], view[V_RETAIN])


@njit(cache=True, error_model="numpy")
def _restore_labels(lpool, lheads, meta, view, base, raw):
    """Fills an entity's labels; `base` is `[L_BASE, base state]`, `raw` rows `[observed, event time, fraud, mark]`.

    `mark` is the entity's newest event time when the label came: what had left by then decides whether it is late.
    """
    mark = meta[E_MARK]
    meta[L_BASE] = base[0]
    for s in range(STATE):
        meta[BASE + s] = base[1 + s]
    for at in range(0, raw.shape[0], 4):
        meta[E_MARK] = raw[at + 3]
        _expire_labels(lpool, lheads, meta, view[V_CAPACITY], view[V_LABEL_RETAIN])
        _learn_one(lpool, lheads, meta, view, raw[at], raw[at + 1], raw[at + 2])
    meta[E_MARK] = mark
    _expire_labels(lpool, lheads, meta, view[V_CAPACITY], view[V_LABEL_RETAIN])


# Columns of `spans`: view and entity row; where the base and rows of its events begin and end; the same of its labels.
S_VIEW, S_ENTITY, S_BASE, S_ROWS, S_ROWS_END, S_LABEL_BASE, S_LABEL_ROWS, S_END = 0, 1, 2, 3, 4, 5, 6, 7


@njit(cache=True, error_model="numpy")
def restore(pool, heads, lpool, lheads, ent, views, cols, words, spans):
    """Empties the pools and fills entities from `words`, what a shared store keeps of them, one for each span."""
    for each in (heads, lheads):
        each[:] = 0
        each[H_FREE:H_LATE] = -1
    for n in range(spans.shape[0]):
        span = spans[n]
        meta, view = ent[span[S_ENTITY]], views[span[S_VIEW]]
        for word in range(ENT_WIDTH):
            meta[word] = EMPTY[word]
        base, rows, end = span[S_BASE], span[S_ROWS], span[S_ROWS_END]
        if rows < end:
            _restore_events(pool, heads, meta, view, cols, words[base:rows], words[rows:end])
        base, rows, end = span[S_LABEL_BASE], span[S_LABEL_ROWS], span[S_END]
        if base < rows:
            _restore_labels(lpool, lheads, meta, view, words[base:rows], words[rows:end])


@njit(cache=True, error_model="numpy")
def dump_events(pool, meta, view, cols, out):
    """What a shared store keeps of an entity's events: base and rows, as `restore` takes them."""
    first_col, last_col, width = view[V_COLS], view[V_COLS_END], view[V_WIDTH]
    at = meta[E_OFF] + meta[E_START] * width
    out[0], out[1] = meta[E_SEEN] - meta[E_LEN], meta[E_FIRST]
    place = 2
    for c in range(first_col, last_col):
        for part in range(cols[c, C_WORDS] - 1):
            out[place] = pool[at + cols[c, C_COLUMN] + 1 + part]
            place += 1
    for n in range(meta[E_LEN]):
        out[place] = pool[at + n * width]
        place += 1
        for c in range(first_col, last_col):
            out[place] = pool[at + n * width + cols[c, C_COLUMN]]
            place += 1


@njit(cache=True, error_model="numpy")
def dump_labels(lpool, meta, out):
    """What a shared store keeps of an entity's labels. Those that stayed were not late: their mark is NEVER."""
    for s in range(1 + STATE):
        out[s] = meta[L_BASE + s]
    fraud = meta[BASE + FRAUD]
    for n in range(meta[L_LEN]):
        row = meta[L_OFF] + (meta[L_START] + n) * L_WIDTH
        place = 1 + STATE + 4 * n
        out[place], out[place + 1] = lpool[row], lpool[row + 1 + LAST]
        out[place + 2], out[place + 3] = lpool[row + 1 + FRAUD] - fraud, NEVER
        fraud = lpool[row + 1 + FRAUD]
