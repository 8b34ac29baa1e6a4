"""State of a feature set as flat arrays, and the tables that the kernel reads the definitions from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt

import numpy as np
import numpy.typing as npt

from vedette.sense.features import layout
from vedette.sense.features.feature import (
    ADDED,
    LABELLED,
    SCANNED,
    SINCE,
    Aggregation,
    Feature,
    FeatureSet,
    View,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NOBODY = 0
"""Entity row that is always empty: what a new entity looks like before its first event."""

RESERVED = 1 << 24
"""Words that a pool starts with. The system gives memory when a word is first used; until then they are addresses only,
and growing a pool, which copies it while a payment waits, is rare."""
MARGIN = 2
"""A segment of twice the rows that an entity may keep is moved together at most once for each row that comes."""

_CODES = {
    Aggregation.VALUE: layout.VALUE,
    Aggregation.HOUR: layout.HOUR,
    Aggregation.WEEKDAY: layout.WEEKDAY,
    Aggregation.WEEKEND: layout.WEEKEND,
    Aggregation.NIGHT: layout.NIGHT,
    Aggregation.COUNT: layout.COUNT,
    Aggregation.SUM: layout.SUM,
    Aggregation.MEAN: layout.MEAN,
    Aggregation.STD: layout.STD,
    Aggregation.VELOCITY_CHANGE: layout.VELOCITY,
    Aggregation.MIN: layout.MIN,
    Aggregation.MAX: layout.MAX,
    Aggregation.LAST: layout.LAST_VALUE,
    Aggregation.FIRST: layout.FIRST_VALUE,
    Aggregation.DISTINCT: layout.DISTINCT,
    Aggregation.TOP_K: layout.TOP,
    Aggregation.TOP_SHARE: layout.TOP_SHARE,
    Aggregation.ENTROPY: layout.ENTROPY,
    Aggregation.EWMA: layout.EWMA,
    Aggregation.SECONDS_SINCE_PREVIOUS: layout.SINCE_PREVIOUS,
    Aggregation.SECONDS_SINCE_LAST: layout.SINCE_LAST,
    Aggregation.SECONDS_SINCE_FIRST: layout.SINCE_FIRST,
    Aggregation.RATIO: layout.RATIO,
    Aggregation.LABEL_COUNT: layout.LABELS,
    Aggregation.FRAUD_COUNT: layout.FRAUDS,
    Aggregation.FRAUD_RATE: layout.FRAUD_RATE,
    Aggregation.LAST_LABEL: layout.LAST_LABEL,
    Aggregation.FRAUD_RUN: layout.FRAUD_RUN,
    Aggregation.SECONDS_SINCE_FIRST_FRAUD: layout.SINCE_FIRST_FRAUD,
    Aggregation.SECONDS_SINCE_LAST_FRAUD: layout.SINCE_LAST_FRAUD,
    Aggregation.GENUINE_SINCE_FRAUD: layout.GENUINE_SINCE,
}
_WORDS = {
    Aggregation.COUNT: layout.COUNTED,
    Aggregation.VELOCITY_CHANGE: layout.COUNTED,
    Aggregation.SUM: layout.SUMMED,
    Aggregation.MEAN: layout.SUMMED,
    Aggregation.STD: layout.SQUARED,
}
_HASHED = frozenset({Aggregation.DISTINCT, Aggregation.TOP_SHARE, Aggregation.ENTROPY})


@dataclass(frozen=True, slots=True)
class Plan:
    """A feature set as the kernel reads it."""

    views: Ints
    ops: Ints
    cols: Ints
    measures: int
    """Measures of the view with most; every view has that many places in an input row."""
    slack: int
    """Free words that a pool needs before one event or label is taken, so that no kernel call runs out."""
    hashed: int
    """Values that a scan may have to tell apart."""

    @property
    def stride(self) -> int:
        """Width of one view's part of an input row: the entity and its measures."""
        return 1 + self.measures

    @property
    def width(self) -> int:
        """Width of an input row."""
        return layout.R_VIEWS + len(self.views) * self.stride

    def stored(self, place: int) -> tuple[int, int]:
        """Words of what a shared store keeps of an entity of a view: of its base, and of each event."""
        cols = self.cols[self.views[place, layout.V_COLS] : self.views[place, layout.V_COLS_END]]
        return 2 + int((cols[:, layout.C_WORDS] - 1).sum()), 1 + len(cols)

    def bytes_of(self, place: int) -> tuple[int, int]:
        """Most bytes that an entity of the view at `place` may take: for its events, and for its labels."""
        view = self.views[place]
        if not view[layout.V_KEYED]:
            return 0, 0
        capacity = int(view[layout.V_CAPACITY])
        events = _segment(capacity, int(view[layout.V_WIDTH]))
        labels = _segment(layout.LABEL_ROWS * capacity, layout.L_WIDTH) if view[layout.V_LABELS] else 0
        return 8 * (layout.ENT_WIDTH + events), 8 * labels


def _segment(capacity: int, width: int) -> int:
    """Words of the largest segment that `capacity` rows may come to need."""
    words = layout.SMALLEST
    while words < MARGIN * (capacity + 1) * width:
        words *= 2
    return words


def _most(capacity: int, width: int) -> int:
    """Words that one event or one label of an entity may take from a pool."""
    return 2 * max(_segment(capacity, width), _segment(layout.LABEL_ROWS * capacity, layout.L_WIDTH))


def compile_plan(features: FeatureSet) -> Plan:
    """Tables of a feature set: ops by view, events before labels, scans in chains, windows growing; ratios last."""
    views: list[list[int]] = []
    ops: list[list[int]] = []
    cols: list[list[int]] = []
    first = 0
    for view in features.views:
        table = _columns(view)
        own = list(zip(view.features, range(first, first + len(view.features)), strict=True))
        first += len(own)
        mine = sorted((item for item in own if item[0].aggregation is not Aggregation.RATIO), key=_order)
        labels = sum(one.aggregation in LABELLED for one, _ in mine)
        first_window = len(ops)
        windows = _windows(mine)
        ops += [[0, 0, window, *[0] * (layout.OP_WIDTH - 3)] for window in windows]
        start = len(ops)
        chains: dict[object, int] = {}
        for feature, place in mine:
            chain = chains.setdefault(_chain(feature), len(chains))
            seen = [windows.index(window) if window in windows else 0 for window in _looks(feature)]
            ops.append([chain, *_op(features, view, feature, place, table), *seen])
        views.append(
            [
                view.capacity,
                view.retain + features.lateness,
                view.label_retain + features.lateness + features.label.lateness,
                *(features.lateness, view.labelled, bool(view.keys)),
                *(start, len(ops) - labels, len(ops)),
                1 + sum(words for _, _, words in table),
                *(len(cols), len(cols) + len(table), first_window),
            ]
        )
        cols += table
    ops += _ratios(features)
    keyed = [view for view in features.views if view.keys]
    return Plan(
        views=np.array(views, np.int64),
        ops=np.array(ops, np.int64).reshape(len(ops), layout.OP_WIDTH),
        cols=np.array(cols, np.int64).reshape(len(cols), 3),
        measures=max(len(view.measures) for view in features.views),
        slack=sum(_most(view.capacity, row[layout.V_WIDTH]) for view, row in zip(features.views, views, strict=True)),
        hashed=max((v.capacity + 1 for v in keyed for f in v.features if f.aggregation in _HASHED), default=1),
    )


def _columns(view: View) -> list[list[int]]:
    """`cols` of a view: each measure's place in the input, its column, and the words its aggregations need."""
    found: list[list[int]] = []
    column = 1
    for place, measure in enumerate(view.measures, 1):
        users = [feature.aggregation for feature in view.features if feature.measure == measure]
        words = max(_WORDS.get(one, layout.RAW) for one in users)
        found.append([place, column, words])
        column += words
    return found


def _looks(feature: Feature) -> tuple[int, int]:
    """The window of a feature as its op has it, and the one that it is compared to; 0 without one."""
    window = feature.window
    if not window and feature.aggregation in ADDED:
        window = int(layout.FOREVER)
    return window, feature.argument if feature.aggregation is Aggregation.VELOCITY_CHANGE else 0


def _windows(ordered: list[tuple[Feature, int]]) -> list[int]:
    """The windows of a view's events that its ops look at, growing."""
    return sorted({each for one, _ in ordered if one.aggregation not in LABELLED for each in _looks(one) if each})


def _op(features: FeatureSet, view: View, feature: Feature, place: int, table: list[list[int]]) -> list[int]:
    """An op without its chain and windows' places."""
    code, (window, _) = _CODES[feature.aggregation], _looks(feature)
    measure = -1 if feature.measure is None else view.measures.index(feature.measure)
    if not window and feature.aggregation is Aggregation.SECONDS_SINCE_FIRST:
        code = layout.SINCE_EVER
    scale = features.fields[feature.measure.field].scale if feature.measure and feature.measure.field >= 0 else 1
    held = [-1, -1] if measure < 0 else [table[measure][layout.C_INPUT], table[measure][layout.C_COLUMN]]
    return [code, window, *held, feature.include_current, place, feature.argument, max(scale, 1)]


def _ratios(features: FeatureSet) -> list[list[int]]:
    place = {name: at for at, name in enumerate(features.names)}
    ratios = (one for view in features.views for one in view.features if one.aggregation is Aggregation.RATIO)
    return [[0, layout.RATIO, 0, place[one.of[0]], place[one.of[1]], 0, place[one.name], 0, 1, 0, 0] for one in ratios]


def _chain(feature: Feature) -> object:
    """What scans that differ in their window only have in common."""
    kind: object = feature.aggregation
    if feature.aggregation in _HASHED:
        kind = "hashed"
    elif feature.aggregation is Aggregation.EWMA:
        kind = ("ewma", feature.argument)
    return (str(kind), repr(feature.measure), feature.include_current)


def _order(item: tuple[Feature, int]) -> tuple[object, ...]:
    """Events before labels; sums by window, so that one search serves all of a window; scans chain by chain."""
    feature = item[0]
    scanned = feature.aggregation in SCANNED | SINCE
    chain = repr(_chain(feature)) if scanned else ""
    ever = not feature.window and feature.aggregation in ADDED
    return (feature.aggregation in LABELLED, scanned, chain, ever, feature.window)


@lru_cache(maxsize=1)
def _decay() -> Ints:
    """Weights 2^(-step / DECAY_STEPS) in whole 2^-DECAY_BITS, rounded down, by integer roots: the same everywhere."""
    root = 1 << 255
    for _ in range(layout.DECAY_STEPS.bit_length() - 1):
        root = isqrt(root << 256)
    weights, weight = [], 1 << 256
    for _ in range(layout.DECAY_STEPS):
        weights.append(weight >> (256 - layout.DECAY_BITS))
        weight = weight * root >> 256
    return np.array(weights, np.int64)


@lru_cache(maxsize=4)
def _logs(count: int) -> Ints:
    """C * log2(c) of 0..count in whole 2^-LOG_BITS, by repeated squaring of whole numbers: the same everywhere."""
    found = [0, 0]
    for number in range(2, count + 1):
        whole = number.bit_length() - 1
        mantissa, fraction = number << (60 - whole), 0
        for _ in range(layout.LOG_BITS + 15):
            mantissa = mantissa * mantissa >> 60
            carry = mantissa >> 61
            mantissa >>= carry
            fraction = fraction * 2 + carry
        found.append(number * ((whole << (layout.LOG_BITS + 15)) + fraction) >> 15)
    return np.array(found, np.int64)


def new_scratch(plan: Plan) -> Ints:
    """Room for one scan at a time, and the tables of constants."""
    size = 2
    while size < 2 * plan.hashed:
        size *= 2
    codes = set(plan.ops[:, layout.O_CODE].tolist())
    decay = _decay() if layout.EWMA in codes else np.zeros(0, np.int64)
    logs = _logs(plan.hashed) if layout.ENTROPY in codes else np.zeros(0, np.int64)
    at = layout.X_TABLE + 4 * size
    windows = int((plan.views[:, layout.V_OPS] - plan.views[:, layout.V_WINDOWS]).max(initial=0))
    scratch = np.zeros(at + len(decay) + len(logs) + windows, np.int64)
    scratch[layout.X_SIZE], scratch[layout.X_DECAY], scratch[layout.X_LOG] = size, at, at + len(decay)
    scratch[layout.X_LOWS] = lows = len(scratch) - windows
    scratch[at:lows] = np.concatenate([decay, logs])
    return scratch


class State:
    """Every entity's events and labels, in arrays that grow.

    Memory of an entity: `Plan.bytes_of`. An entity with few events has a segment of 256 bytes.
    """

    def __init__(self, plan: Plan, *, reserved: int | None = None) -> None:
        self.plan = plan
        words = max(RESERVED if reserved is None else reserved, plan.slack)
        self.pool: Ints = np.zeros(words, np.int64)
        self.lpool: Ints = np.zeros(words, np.int64)
        self.heads = new_heads()
        self.lheads = new_heads()
        self.scratch = new_scratch(plan)
        self.ent: Ints = np.zeros((0, layout.ENT_WIDTH), np.int64)
        self.entities = 1
        self.room_entities(1_024 if reserved is None else 16)

    def room_entities(self, count: int) -> None:
        """Makes rows for at least `count` entities."""
        if count <= len(self.ent):
            return
        more = np.zeros((max(count, 2 * len(self.ent)) - len(self.ent), layout.ENT_WIDTH), np.int64)
        more[:] = layout.EMPTY
        self.ent = np.concatenate([self.ent, more])

    def new_entity(self) -> int:
        """A row for an entity not seen before."""
        self.room_entities(self.entities + 1)
        self.entities += 1
        return self.entities - 1

    def room(self) -> None:
        """Makes sure that neither pool runs out in the next kernel call."""
        if self.heads[0] + self.plan.slack > len(self.pool):
            self.pool = _grown(self.pool, int(self.heads[0]))
        if self.lheads[0] + self.plan.slack > len(self.lpool):
            self.lpool = _grown(self.lpool, int(self.lheads[0]))

    def content(self, entity: int, view: int) -> bytes:
        """What the state knows of one entity of a view, whatever place its rows have in the pools."""
        meta, width = self.ent[entity], int(self.plan.views[view, layout.V_WIDTH])
        events = _rows(self.pool, meta, layout.E_OFF, width)
        labels = _rows(self.lpool, meta, layout.L_OFF, layout.L_WIDTH)
        told = meta[[layout.E_MARK, layout.E_LEN, layout.E_SEEN, layout.E_FIRST, layout.L_LEN]]
        return b"".join(part.tobytes() for part in (told, meta[layout.L_BASE :], events, labels))

    def figures(self) -> Mapping[str, int]:
        """Entities, bytes in use, and how many events and labels left for want of room."""
        return {
            "entities": self.entities - 1,
            "bytes": 8 * (self.entities * layout.ENT_WIDTH + int(self.heads[0]) + int(self.lheads[0])),
            "full": int(self.heads[layout.H_FULL]),
            "label_full": int(self.lheads[layout.H_FULL]),
        }


def _rows(pool: Ints, meta: Ints, o: int, width: int) -> Ints:
    first = meta[o] + meta[o + 2] * width
    rows: Ints = pool[first : first + meta[o + 3] * width]
    return rows


def _grown(pool: Ints, used: int) -> Ints:
    """A pool of twice the size; words that were never used are not touched, so they cost no memory yet."""
    grown = np.zeros(2 * len(pool), np.int64)
    grown[:used] = pool[:used]
    return grown


def new_heads() -> Ints:
    """An empty pool's bump pointer, free lists and counters."""
    heads = np.zeros(layout.HEADS, np.int64)
    heads[layout.H_FREE : layout.H_LATE] = -1
    return heads
