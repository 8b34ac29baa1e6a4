"""The online engine: features of one event at a time, in log order, with checkpoints."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import orjson

from vedette.core.errors import DataError, DefinitionError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.sense.features import kernel
from vedette.sense.features.definition import FeatureSet
from vedette.sense.features.state import NOBODY, Floats, Ints, State, compile_plan
from vedette.sense.features.values import read_path, to_field, to_key, to_measure

FORMAT = 2
"""Version of the checkpoint's layout."""

TIME_LIMIT = 1 << 60
"""Event times beyond this, in either direction, are treated as unusable."""


@dataclass(frozen=True, slots=True)
class History:
    """What a replay of history leaves, for an engine to go on from."""

    state: State
    ids: Sequence[Mapping[str, int]]
    """Entity row of each id, one mapping per view."""
    events: OrderedDict[str, tuple[int, ...]]
    """Events that a label may still come for: event time and entity rows."""
    mark: int
    """Newest event time."""
    labels: int
    """Labels that were taken."""
    stale: int
    """Labels that came too late."""


class Engine:
    """Features of a running system. One writer; events and labels in log order.

    For each event: `fetch`, then `apply`. A window is [event_time - w, event_time) over the events applied before, so
    neither events that come later in the log nor events of the same instant count. A label may be handed over as soon
    as it is made: no feature reads it at a time before its `observed_time`. Memory per entity is bounded
    (`State`); remembered event ids are bounded by the events of `label.keep`.

    Args:
        features: From `load_features`.
    """

    def __init__(self, features: FeatureSet) -> None:
        self.features = features
        self._names = features.names
        self.offsets: dict[str, int] = {}
        """Where the owner stands in its logs; saved with the state, so that both move together."""
        self._counts = {"ahead": 0, "label_unknown": 0, "label_stale": 0}
        self._plan = compile_plan(features)
        self._state = State(self._plan)
        self._ids: list[dict[str, int]] = [{} for _ in features.views]
        spare = [[0] * (self._plan.measures - len(view.measures)) for view in features.views]
        self._readers = [(view.key, view.measures, zeros) for view, zeros in zip(features.views, spare, strict=True)]
        self._labelled = any(view.labelled for view in features.views)
        self._events: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._pending: list[tuple[int, ...]] = []
        self._arrivals = 0
        self._mark = int(kernel.NEVER)
        self._row: Ints = np.zeros(self._plan.width, np.int64)
        self._label_row: Ints = np.zeros(self._plan.width, np.int64)
        self._fill_row = Struct(f"={self._plan.width}q").pack_into
        self._blind = False
        self._new: list[tuple[int, int, str]] = []
        self._event: Event | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names, in the order of every vector."""
        return self._names

    @property
    def entities(self) -> int:
        """Entities that have a state."""
        return sum(map(len, self._ids))

    def warm(self) -> None:
        """Compiles the kernels on an engine that is thrown away, so that no event waits for it."""
        spare = Engine(self.features)
        event = Event(id="warm", tenant="", source=self.features.source, event_time=0, ingest_time=0)
        spare.fetch(event)
        spare.apply(event)
        spare.learn(Label(event_id="warm", tenant="", fraud=False, observed_time=0))

    @property
    def counts(self) -> dict[str, int]:
        """Events and labels that were taken but not applied, by reason; a late event counts once per view."""
        state = self._state
        return {**self._counts, "late": int(state.heads[kernel.H_LATE]), "label_late": int(state.lheads[kernel.H_LATE])}

    def fetch(self, event: Event) -> Floats:
        """Every feature of an event, NaN where missing, as of its event time and everything applied before."""
        self._prepare(event)
        if self._pending and not self._blind:
            self._release(max(event.event_time, self._mark))
        state, plan = self._state, self._plan
        out = np.empty(plan.ops.shape[0])
        kernel.read(state.pool, state.lpool, state.ent, plan.views, plan.ops, plan.scales, self._row, out)
        return out

    def apply(self, event: Event) -> None:
        """Takes an event into the state of its entities. One that is too late or ahead is counted and left out."""
        self._prepare(event)
        self._event = None
        row, state, plan = self._row, self._state, self._plan
        if self._blind:
            self._counts["ahead"] += 1
            return
        self._release(max(event.event_time, self._mark))
        for place, at, key in self._new:
            row[at] = self._ids[place][key] = state.new_entity()
        state.room()
        kernel.apply(state.pool, state.heads, state.lpool, state.ent, plan.views, row)
        self._mark = max(self._mark, event.event_time)
        if event.id and self._labelled:
            self._remember(event.id, row)

    def learn(self, label: Label) -> None:
        """Takes the truth about an event that was applied. The first label of an event counts, later ones do not.

        A label observed after the newest event so far waits until an event reaches that time. One that comes too late
        is counted and left out: observed more than `keep` after its event, or handed over when the newest event is more
        than `keep` and both latenesses ahead of its event.
        """
        seen = self._events.get(label.event_id)
        if seen is None:
            self._counts["label_unknown"] += 1
        elif label.observed_time - seen[0] > self.features.label.keep or seen[0] < self._horizon:
            self._counts["label_stale"] += 1
        else:
            del self._events[label.event_id]
            self._arrivals += 1
            heapq.heappush(self._pending, (label.observed_time, self._arrivals, int(label.fraud), *seen))
            self._release(self._mark)

    @property
    def _horizon(self) -> int:
        """Events before this time take no label any more: a law of its own, so that forgetting them changes nothing."""
        rule = self.features.label
        return self._mark - rule.keep - rule.lateness - self.features.lateness

    def _release(self, time: int) -> None:
        """Applies the waiting labels that are known by `time`."""
        state = self._state
        while self._pending and self._pending[0][0] <= time:
            observed, _, fraud, event_time, *entities = heapq.heappop(self._pending)
            row = self._label_row
            row[kernel.R_TIME] = event_time
            row[kernel.R_VIEWS :: self._plan.stride] = entities
            state.room()
            kernel.learn(state.lpool, state.lheads, state.ent, self._plan.views, row, observed, fraud)

    def _remember(self, event_id: str, row: Ints) -> None:
        """Keeps what a label will need, for as long as one may come."""
        horizon = self._horizon
        while self._events and next(iter(self._events.values()))[0] < horizon:
            self._events.popitem(last=False)
        self._events[event_id] = (int(row[kernel.R_TIME]), *row[kernel.R_VIEWS :: self._plan.stride].tolist())

    def _prepare(self, event: Event) -> None:
        """Fills the kernel's input row from an event; at once for the event that was prepared last."""
        if event is self._event:
            return
        time, ingested, data = event.event_time, event.ingest_time, event.data
        usable = -TIME_LIMIT < time < TIME_LIMIT
        ahead = ingested and time > ingested + self.features.ahead
        self._blind = bool(ahead) or not usable
        row: list[int] = [time if usable else 0, self._blind]
        values = [to_field(data, field) for field in self.features.fields]
        self._new = []
        for place, (path, measures, spare) in enumerate(self._readers):
            entity = -1
            key = to_key(read_path(data, path)) if path else None
            if key is not None:
                entity = self._ids[place].get(key, NOBODY)
                if entity == NOBODY:
                    self._new.append((place, len(row), key))
            row.append(entity)
            row += [to_measure(values, one) if one.where else values[one.field] for one in measures]  # type: ignore[misc]
            row += spare
        self._fill_row(self._row.data, 0, *row)
        self._event = event

    def adopt(self, history: History) -> None:
        """Takes the state that history left as its own, in place of an empty one.

        Args:
            history: From `backfill`.
        """
        self._state = history.state
        self._ids = [dict(ids) for ids in history.ids]
        self._events = history.events
        self._mark = history.mark
        self._arrivals = history.labels
        self._counts["label_stale"] = history.stale

    def checksum(self) -> str:
        """SHA-256 of everything the engine knows; the same after any checkpoint and replay of the rest of the log."""
        digest = hashlib.sha256(self.features.version.encode())
        digest.update(orjson.dumps([self._mark, self.counts, sorted(self._pending), list(self._events.items())]))
        for ids in self._ids:
            for key in sorted(ids):
                digest.update(key.encode() + b"\0" + self._state.content(ids[key]))
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Writes a checkpoint: whole or not at all, synced."""
        state, views = self._state, len(self.features.views)
        meta = {
            "format": FORMAT,
            "version": self.features.version,
            "offsets": self.offsets,
            "counts": self._counts,
            "mark": self._mark,
            "arrivals": self._arrivals,
            "keys": [list(ids) for ids in self._ids],
            "events": list(self._events),
        }
        arrays: dict[str, Any] = {
            "meta": np.frombuffer(orjson.dumps(meta), np.uint8),
            "ids": np.array([entity for ids in self._ids for entity in ids.values()], np.int64),
            "events": np.array(list(self._events.values()), np.int64).reshape(len(self._events), 1 + views),
            "pending": np.array(self._pending, np.int64).reshape(len(self._pending), 4 + views),
            "ent": state.ent[: state.entities],
            "pool": state.pool[: state.heads[0]],
            "lpool": state.lpool[: state.lheads[0]],
            "heads": np.stack([state.heads, state.lheads]),
        }
        arrays["digest"] = _digest(arrays)
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @classmethod
    def load(cls, path: Path, features: FeatureSet) -> Engine:
        """Goes on from a checkpoint.

        Raises:
            DataError: `features.checkpoint.corrupt` when it is not what was saved.
            DefinitionError: `features.checkpoint.version` when it was made by other definitions.
        """
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            meta = orjson.loads(arrays["meta"].tobytes())
            known = (meta["format"], meta["version"]) == (FORMAT, features.version)
            whole = not known or bytes(arrays.pop("digest")) == bytes(_digest(arrays))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DataError("features.checkpoint.corrupt", f"`{path}` is no checkpoint") from error
        if not known:
            raise DefinitionError(
                "features.checkpoint.version",
                f"`{path}` holds the state of other feature definitions",
                hint="rebuild the state by replaying the log",
            )
        if not whole:
            raise DataError("features.checkpoint.corrupt", f"`{path}` is damaged: its checksum differs")
        engine = cls(features)
        try:
            engine._fill(meta, arrays)
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise DataError("features.checkpoint.corrupt", f"`{path}` is damaged") from error
        return engine

    def _fill(self, meta: dict[str, Any], arrays: dict[str, Any]) -> None:
        state = self._state
        self.offsets, self._counts = meta["offsets"], meta["counts"]
        self._mark, self._arrivals = meta["mark"], meta["arrivals"]
        ids = iter(arrays["ids"].tolist())
        self._ids = [{key: next(ids) for key in keys} for keys in meta["keys"]]
        self._events = OrderedDict(zip(meta["events"], map(tuple, arrays["events"].tolist()), strict=True))
        self._pending = [tuple(row) for row in arrays["pending"].tolist()]
        state.entities = len(arrays["ent"])
        state.room_entities(state.entities)
        state.ent[: state.entities] = arrays["ent"]
        for name, pool in (("pool", state.pool), ("lpool", state.lpool)):
            grown = np.zeros((len(arrays[name]) + len(pool), pool.shape[1]), np.int64)
            grown[: len(arrays[name])] = arrays[name]
            setattr(state, name, grown)
        state.heads[:], state.lheads[:] = arrays["heads"]


def _digest(arrays: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """SHA-256 over every array with its name and shape."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    return np.frombuffer(digest.digest(), np.uint8)
