"""State of a feature set as flat arrays, and the tables that the kernel reads the definitions from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vedette.sense.features import kernel
from vedette.sense.features.definition import LABELLED, Aggregation, Feature, FeatureSet

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NOBODY = 0
"""Entity row that is always empty: what a new entity looks like before its first event."""

RESERVED = 1 << 22
"""Rows that a pool starts with. The system gives memory when a row is first used; until then they are addresses only,
and growing a pool, which copies it while a payment waits, is rare."""

_CODES = {
    Aggregation.VALUE: kernel.VALUE,
    Aggregation.HOUR: kernel.HOUR,
    Aggregation.WEEKDAY: kernel.WEEKDAY,
    Aggregation.WEEKEND: kernel.WEEKEND,
    Aggregation.NIGHT: kernel.NIGHT,
    Aggregation.COUNT: kernel.COUNT,
    Aggregation.SUM: kernel.SUM,
    Aggregation.MEAN: kernel.MEAN,
    Aggregation.MIN: kernel.MIN,
    Aggregation.MAX: kernel.MAX,
    Aggregation.SECONDS_SINCE_PREVIOUS: kernel.SINCE_PREVIOUS,
    Aggregation.LABEL_COUNT: kernel.LABELS,
    Aggregation.FRAUD_COUNT: kernel.FRAUDS,
    Aggregation.FRAUD_RATE: kernel.FRAUD_RATE,
    Aggregation.LAST_LABEL: kernel.LAST_LABEL,
    Aggregation.FRAUD_RUN: kernel.FRAUD_RUN,
    Aggregation.SECONDS_SINCE_FIRST_FRAUD: kernel.SINCE_FIRST_FRAUD,
    Aggregation.SECONDS_SINCE_LAST_FRAUD: kernel.SINCE_LAST_FRAUD,
    Aggregation.GENUINE_SINCE_FRAUD: kernel.GENUINE_SINCE,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A feature set as the kernel reads it."""

    views: Ints
    ops: Ints
    scales: Floats
    measures: int
    """Measures of the view with most; every view has that many places in an input row."""
    slack: int
    """Free rows that a pool needs before one event or label is taken, so that no kernel call runs out."""

    @property
    def stride(self) -> int:
        """Width of one view's part of an input row: the entity and its measures."""
        return 1 + self.measures

    @property
    def width(self) -> int:
        """Width of an input row."""
        return kernel.R_VIEWS + len(self.views) * self.stride


def compile_plan(features: FeatureSet) -> Plan:
    """Tables of a feature set: ops by view, events before labels, extremes in chains, windows growing."""
    views: list[list[int]] = []
    ops: list[list[int]] = []
    scales: list[float] = []
    first = 0
    for view in features.views:
        retain = view.retain + features.lateness
        labels = view.label_retain + features.lateness + features.label.lateness
        limits = [view.capacity, retain, labels, features.lateness, view.labelled, bool(view.key)]
        mine = sorted(zip(view.features, range(first, first + len(view.features)), strict=True), key=_order)
        start, first = first, first + len(mine)
        views.append([*limits, start, first - sum(one.aggregation in LABELLED for one in view.features), first])
        chains: dict[object, int] = {}
        for feature, place in mine:
            measure = -1 if feature.measure is None else view.measures.index(feature.measure)
            chain = chains.setdefault((feature.aggregation, measure, feature.include_current), len(chains))
            code = _CODES[feature.aggregation]
            ops.append([chain, code, feature.window, measure, feature.include_current, place])
            field = -1 if feature.measure is None else feature.measure.field
            scales.append(float(features.fields[field].scale if field >= 0 else 1))
    keyed = [view for view in features.views if view.key]
    largest = [kernel.SMALLEST << (4 * view.capacity // kernel.SMALLEST).bit_length() for view in keyed]
    return Plan(
        views=np.array(views, np.int64),
        ops=np.array(ops, np.int64),
        scales=np.array(scales, np.float64),
        measures=max(len(view.measures) for view in features.views),
        slack=sum(largest),
    )


def _order(item: tuple[Feature, int]) -> tuple[object, ...]:
    """Events before labels; sums by window, so that one search serves all of a window; extremes chain by chain."""
    feature = item[0]
    extreme = feature.aggregation in (Aggregation.MIN, Aggregation.MAX)
    chain = repr((feature.aggregation, feature.measure, feature.include_current)) if extreme else ""
    return (feature.aggregation in LABELLED, extreme, chain, feature.window)


class State:
    """Every entity's events and labels, in arrays that grow.

    Memory per entity: 128 bytes, and at most `2 * capacity` rows (rounded up to a power of two) of
    `8 + 24 * measures` bytes for events and of 56 bytes for labels.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        rows = max(RESERVED, 2 * plan.slack)
        self.pool: Ints = np.zeros((rows, 1 + 3 * plan.measures), np.int64)
        self.lpool: Ints = np.zeros((rows, kernel.L_WIDTH), np.int64)
        self.heads = _heads()
        self.lheads = _heads()
        self.ent: Ints = np.zeros((0, kernel.ENT_WIDTH), np.int64)
        self.entities = 1
        self.room_entities(1_024)

    def room_entities(self, count: int) -> None:
        """Makes rows for at least `count` entities."""
        if count <= len(self.ent):
            return
        more = np.zeros((max(count, 2 * len(self.ent)) - len(self.ent), kernel.ENT_WIDTH), np.int64)
        more[:, [kernel.E_CLASS, kernel.L_CLASS]] = -1
        more[:, [kernel.E_MARK, kernel.L_BASE]] = kernel.NEVER
        more[:, [kernel.BASE + kernel.FIRST, kernel.BASE + kernel.LAST]] = kernel.NEVER
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

    def content(self, entity: int) -> bytes:
        """What the state knows of one entity, whatever place its rows have in the pools."""
        meta = self.ent[entity]
        first = meta[kernel.E_OFF] + meta[kernel.E_START]
        events = self.pool[first : first + meta[kernel.E_LEN]].copy()
        if len(events):
            events[:, 2::3] -= events[0, 2::3].copy()
            events[:, 3::3] -= events[0, 3::3].copy()
        first = meta[kernel.L_OFF] + meta[kernel.L_START]
        labels = self.lpool[first : first + meta[kernel.L_LEN]]
        parts = (meta[[kernel.E_MARK, kernel.E_LEN, kernel.L_LEN]], meta[kernel.L_BASE :], events, labels)
        return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def _grown(pool: Ints, used: int) -> Ints:
    """A pool of twice the size; rows that were never used are not touched, so they cost no memory yet."""
    grown = np.zeros((2 * len(pool), pool.shape[1]), np.int64)
    grown[:used] = pool[:used]
    return grown


def _heads() -> Ints:
    heads = np.zeros(kernel.HEADS, np.int64)
    heads[kernel.H_FREE : kernel.H_LATE] = -1
    return heads
