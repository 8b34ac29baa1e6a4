"""The online engine: features of one event at a time, in log order, with checkpoints."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
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
from vedette.sense.features import kernel, layout
from vedette.sense.features.feature import FeatureSet
from vedette.sense.features.intake import Intake
from vedette.sense.features.state import NOBODY, Floats, Ints, State, compile_plan

FORMAT = 3
"""Version of the checkpoint's layout."""


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
    stale: int
    """Labels that came too late."""


class Engine:
    """Features of a running system. One writer; events and labels in log order.

    For each event: `fetch`, then `apply`. A window is [event_time - w, event_time) over the events applied before, so
    neither events that come later in the log nor events of the same instant count. A label may be handed over as soon
    as it is made: no feature reads it at a time before its `observed_time`. Memory per entity is bounded
    (`Plan.bytes_of`); remembered event ids are bounded by the events of `label.keep`.

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
        self._intake = Intake(features, self._plan)
        self._labelled = any(view.labelled for view in features.views)
        self._events: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._mark = int(layout.NEVER)
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
        return {**self._counts, "late": int(state.heads[layout.H_LATE]), "label_late": int(state.lheads[layout.H_LATE])}

    @property
    def figures(self) -> Mapping[str, int]:
        """`entities`, `bytes` of their state, and events and labels that left for want of room (`full`)."""
        return self._state.figures()

    def fetch(self, event: Event) -> Floats:
        """Every feature of an event, NaN where missing, as of its event time and everything applied before."""
        self._prepare(event)
        state, plan = self._state, self._plan
        out = np.empty(len(self._names))
        kernel.read(state.pool, state.lpool, state.ent, plan.views, plan.ops, self._row, out, state.scratch)
        return out

    def apply(self, event: Event) -> None:
        """Takes an event into the state of its entities. One that is too late or ahead is counted and left out."""
        self._prepare(event)
        self._event = None
        row, state, plan = self._row, self._state, self._plan
        if self._blind:
            self._counts["ahead"] += 1
            return
        for place, at, key in self._new:
            row[at] = self._ids[place][key] = state.new_entity()
        state.room()
        kernel.apply(state.pool, state.heads, state.lpool, state.lheads, state.ent, plan.views, plan.cols, row)
        self._mark = max(self._mark, event.event_time)
        if event.id and self._labelled:
            self._remember(event.id, row)

    def learn(self, label: Label) -> None:
        """Takes the truth about an event that was applied. The first label of an event counts, later ones do not.

        No feature reads a label before its `observed_time`, and it takes the place of an older one only once its
        entity has an event at or after that time. One that comes too late is counted and left out: observed more than
        `keep` after its event, or handed over when the newest event is more than `keep` and both latenesses ahead of
        its event.
        """
        seen = self._events.get(label.event_id)
        if seen is None:
            self._counts["label_unknown"] += 1
        elif label.observed_time - seen[0] > self.features.label.keep or seen[0] < self._horizon:
            self._counts["label_stale"] += 1
        else:
            del self._events[label.event_id]
            state, row = self._state, self._label_row
            row[layout.R_TIME] = seen[0]
            row[layout.R_VIEWS :: self._plan.stride] = seen[1:]
            state.room()
            views = self._plan.views
            kernel.learn(state.lpool, state.lheads, state.ent, views, row, label.observed_time, int(label.fraud))

    @property
    def _horizon(self) -> int:
        """Events before this time take no label any more: a law of its own, so that forgetting them changes nothing."""
        rule = self.features.label
        return self._mark - rule.keep - rule.lateness - self.features.lateness

    def _remember(self, event_id: str, row: Ints) -> None:
        """Keeps what a label will need, for as long as one may come."""
        horizon = self._horizon
        while self._events and next(iter(self._events.values()))[0] < horizon:
            self._events.popitem(last=False)
        self._events[event_id] = (int(row[layout.R_TIME]), *row[layout.R_VIEWS :: self._plan.stride].tolist())

    def _prepare(self, event: Event) -> None:
        """Fills the kernel's input row from an event; at once for the event that was prepared last."""
        if event is self._event:
            return
        intake = self._intake
        values, entities = intake.values_of(event), []
        self._new = []
        for place, key in enumerate(intake.keys_of(event.data)):
            entity = -1
            if key is not None:
                entity = self._ids[place].get(key, NOBODY)
                if entity == NOBODY:
                    self._new.append((place, layout.R_VIEWS + place * self._plan.stride, key))
            entities.append(entity)
        self._fill_row(self._row.data, 0, *intake.row_of(values, entities))
        self._blind = bool(values[layout.R_BLIND])
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
        self._counts["label_stale"] = history.stale

    def checksum(self) -> str:
        """SHA-256 of everything the engine knows; the same after any checkpoint and replay of the rest of the log."""
        told = orjson.dumps([self._mark, self.counts, list(self._events.items()), self.entity_checksum()])
        return hashlib.sha256(told).hexdigest()

    def entity_checksum(self) -> str:
        """SHA-256 of every entity's state alone: what another engine must have for the same events and labels."""
        return checksum_of(self.features.version, self.contents())

    @property
    def state(self) -> State:
        """Every entity's rows."""
        return self._state

    @property
    def ids(self) -> Sequence[Mapping[str, int]]:
        """Entity row of each id, one mapping per view."""
        return self._ids

    @property
    def awaiting(self) -> Mapping[str, tuple[int, ...]]:
        """Events that a label may still come for: event time and entity rows."""
        return self._events

    @property
    def mark(self) -> int:
        """Newest event time."""
        return self._mark

    def contents(self) -> Iterator[tuple[bytes, bytes]]:
        """Each entity's view and id, and its state as bytes, in order of the ids."""
        for place, ids in enumerate(self._ids):
            named = sorted((key.encode("utf-8", "surrogatepass"), row) for key, row in ids.items())
            for key, row in named:
                yield f"{place}:".encode() + key + b"\0", self._state.content(row, place)

    def save(self, path: Path) -> None:
        """Writes a checkpoint: whole or not at all, synced."""
        state, views = self._state, len(self.features.views)
        meta = {
            "format": FORMAT,
            "version": self.features.version,
            "offsets": self.offsets,
            "counts": self._counts,
            "mark": self._mark,
            "keys": [list(ids) for ids in self._ids],
            "events": list(self._events),
        }
        arrays: dict[str, Any] = {
            "meta": np.frombuffer(orjson.dumps(meta), np.uint8),
            "ids": np.array([entity for ids in self._ids for entity in ids.values()], np.int64),
            "events": np.array(list(self._events.values()), np.int64).reshape(len(self._events), 1 + views),
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
        self.offsets, self._counts, self._mark = meta["offsets"], meta["counts"], meta["mark"]
        ids = iter(arrays["ids"].tolist())
        self._ids = [{key: next(ids) for key in keys} for keys in meta["keys"]]
        self._events = OrderedDict(zip(meta["events"], map(tuple, arrays["events"].tolist()), strict=True))
        state.entities = len(arrays["ent"])
        state.room_entities(state.entities)
        state.ent[: state.entities] = arrays["ent"]
        for name, pool in (("pool", state.pool), ("lpool", state.lpool)):
            grown = np.zeros(len(arrays[name]) + len(pool), np.int64)
            grown[: len(arrays[name])] = arrays[name]
            setattr(state, name, grown)
        state.heads[:], state.lheads[:] = arrays["heads"]


def checksum_of(version: str, contents: Iterator[tuple[bytes, bytes]]) -> str:
    """SHA-256 over definitions and entities, in the order of `Engine.contents`."""
    digest = hashlib.sha256(version.encode())
    for name, content in contents:
        digest.update(name)
        digest.update(content)
    return digest.hexdigest()


def _digest(arrays: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """SHA-256 over every array with its name and shape."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    return np.frombuffer(digest.digest(), np.uint8)
