"""Where everything stands in the kernels' arrays, and the numbers that stand for aggregations."""

from __future__ import annotations

import numpy as np

MISSING = np.int64(-(2**63))
"""A value that is not there."""
NEVER = np.int64(-(2**61))
"""A time before all times; far enough from the end of int64 for differences."""
FOREVER = np.int64(2**61)
"""The window that holds all time, what left the segment included."""

# ent columns
E_OFF, E_CLASS, E_START, E_LEN, E_MARK, E_SEEN, E_FIRST = 0, 1, 2, 3, 4, 5, 6
"""E_SEEN: events applied, kept or not; E_FIRST: the earliest of their times."""
L_OFF, L_CLASS, L_START, L_LEN, L_BASE = 7, 8, 9, 10, 11
"""L_BASE: observed time of the newest label that left the segment."""
BASE = 12
"""First column of the label state after every label that left the segment."""
STATE = 6
KNOWN, FRAUD, RUN, FIRST, LAST, GENUINE = 0, 1, 2, 3, 4, 5
"""Label state: labels known, frauds among them, frauds in a row at the end, event time of the first and of the last
fraud (NEVER without one), genuine labels since the last fraud."""
ENT_WIDTH = BASE + STATE
L_WIDTH = 1 + STATE

EMPTY = np.zeros(ENT_WIDTH, np.int64)
"""An entity that nothing is known of."""
EMPTY[[E_CLASS, L_CLASS]] = -1
EMPTY[[E_MARK, E_FIRST, L_BASE, BASE + FIRST, BASE + LAST]] = NEVER

# view columns
V_CAPACITY, V_RETAIN, V_LABEL_RETAIN, V_LATENESS, V_LABELS, V_KEYED = 0, 1, 2, 3, 4, 5
V_OPS, V_LABEL_OPS, V_END, V_WIDTH, V_COLS, V_COLS_END, V_WINDOWS = 6, 7, 8, 9, 10, 11, 12
"""Ops of a view: those of events in [V_OPS, V_LABEL_OPS), those of labels in [V_LABEL_OPS, V_END). V_WIDTH: words of an
event row. Its measures are rows [V_COLS, V_COLS_END) of `cols`. Before its ops, in [V_WINDOWS, V_OPS), stands each
window that they look at, once, the shortest first."""

# measure columns: place in the view's part of an input row, column in an event row, words there
C_INPUT, C_COLUMN, C_WORDS = 0, 1, 2
RAW, COUNTED, SUMMED, SQUARED = 1, 2, 3, 6
"""Words of a measure: its value, then the count, sum and the three parts of the sum of squares before it."""

# op columns
O_CHAIN, O_CODE, O_WINDOW, O_INPUT, O_COLUMN, O_CURRENT, O_OUT, O_ARG, O_SCALE = 0, 1, 2, 3, 4, 5, 6, 7, 8
O_LOW, O_LONG = 9, 10
"""O_CHAIN: a number shared by scans that differ in their window only. O_INPUT and O_COLUMN: of the measure, -1 without
one. O_ARG: what else the aggregation was told. O_LOW and O_LONG: which of the view's windows it looks at, and which
other one it is compared to."""
OP_WIDTH = 11

LABEL_ROWS = 8
"""Times `capacity` that an entity keeps labels when most of them wait for their time; one more is left out."""

# heads: bump pointer, free list of each class, counters
H_FREE = 1
CLASSES = 24
H_LATE = H_FREE + CLASSES
"""Events (or labels) that came later than the view allows and were not applied."""
H_FULL = H_LATE + 1
"""Events (or labels) that left because their entity had `capacity` newer ones."""
HEADS = H_FULL + 1
SMALLEST = 32
"""Words of a segment of class 0; each class doubles."""

# input row: event time, blind flag, then per view: entity, measures
R_TIME, R_BLIND, R_VIEWS = 0, 1, 2

# op codes; below COUNT they read the event alone
VALUE, HOUR, WEEKDAY, WEEKEND, NIGHT = 0, 1, 2, 3, 4
COUNT, SUM, MEAN, STD, VELOCITY = 10, 11, 12, 13, 14
SINCE_PREVIOUS, SINCE_EVER = 18, 19
MIN, MAX, LAST_VALUE, FIRST_VALUE, SINCE_LAST, SINCE_FIRST = 20, 21, 22, 23, 24, 25
DISTINCT, TOP_SHARE, ENTROPY, TOP, EWMA = 26, 27, 28, 29, 30
LABELS, FRAUDS, FRAUD_RATE = 40, 41, 42
LAST_LABEL, FRAUD_RUN, SINCE_FIRST_FRAUD, SINCE_LAST_FRAUD, GENUINE_SINCE = 50, 51, 52, 53, 54
RATIO = 60

# scratch: generation, table size, used slots, place of the tables of constants, slots that the scan at hand uses less
# one, place of the first row of each window, accumulators, then hash table and used
X_GEN, X_SIZE, X_USED, X_DECAY, X_LOG, X_MASK, X_LOWS, X_ACC = 0, 1, 2, 3, 4, 5, 6, 8
MAX_RANK = 16
X_TABLE = X_ACC + MAX_RANK
PRIME = np.int64(-7046029254386353131)

HALF = 23
"""Bits of the lower part of a value whose square is added up: three sums of products stay below 2^62."""
HALF_MASK = (1 << HALF) - 1
DECAY_SHIFT = 10
DECAY_STEPS = 1 << DECAY_SHIFT
"""Steps of a half-life in the table of weights."""
DECAY_BITS = 22
"""A weight is a whole number of 2^-22; after 22 half-lives it is 0."""
EWMA_SPLIT = 24
"""Bits of the lower part of a value that is weighted."""
EWMA_MASK = (1 << EWMA_SPLIT) - 1
LOG_BITS = 40
"""The table of c * log2(c) holds whole numbers of 2^-40."""

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
SECOND_US = 1_000_000
THURSDAY = 3
"""1970-01-01, counted from Monday."""
SATURDAY = 5
LAST_NIGHT_HOUR = 6
