"""The online engine of several serving processes: state in Redis, answers from the same kernel.

Redis keeps of each entity a text of 64-bit words that only grows at its end: a header (what already left, as sums),
then one row for each event in the order taken, `[time, values]`. A fetch gets the entities of an event in one round
trip and lets the kernel rebuild its segments from them, so every aggregation is computed by the code that also serves a
single process and a training table: equal to the bit, by construction. Taking an event is one script call for all its
entities, whole or not at all: it appends a row and moves the entity's newest time. What is past is summed up into the
header now and then, by whoever notices; a row that came meanwhile stays.

Order: an entity's events stand in the order in which Redis took them. With one writer for each partition of entities
that is the order of the log; each writer's last `seq` is kept with the state, and an event that was taken already is
not taken again. Keys of one tenant and definition share a hash tag, so that they live on one node of a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.redis import Redis, Script, passing
from vedette.sense.features import kernel, layout
from vedette.sense.features.engine import Engine, checksum_of
from vedette.sense.features.feature import FeatureSet
from vedette.sense.features.intake import Intake
from vedette.sense.features.state import NOBODY, Floats, Ints, State, compile_plan

EVENT_HEAD, LABEL_HEAD = 2, 1
"""Words before the base: version and newest time; version."""
LABEL_BASE = 1 + layout.STATE
WASTE = 64
"""Events that left may stay in Redis until there are this many of them, and a quarter of those that count."""
FILL = 1_000
"""Entities written at a time."""

_TAKE = Script("""
local seq, time = tonumber(ARGV[1]), tonumber(ARGV[2])
if seq > 0 then
  if seq <= tonumber(redis.call('GET', KEYS[1]) or '0') then return 0 end
  redis.call('SET', KEYS[1], ARGV[1])
end
if ARGV[3] == '1' then redis.call('HINCRBY', KEYS[2], 'ahead', 1) return 1 end
local mark = redis.call('HGET', KEYS[2], 'mark')
if not mark or time > tonumber(mark) then redis.call('HSET', KEYS[2], 'mark', ARGV[2]) end
local lateness, taken = tonumber(ARGV[5]), struct.pack('<i8', time)
for i = 4, #KEYS do
  local head, row = ARGV[2 * i - 2], ARGV[2 * i - 1]
  local held = redis.call('GETRANGE', KEYS[i], 8, 15)
  local named = struct.pack('<i4', #KEYS[i]) .. KEYS[i]
  if held == '' then
    redis.call('SET', KEYS[i], head .. row)
  else
    local newest = struct.unpack('<i8', held)
    if time < newest - lateness then
      redis.call('HINCRBY', KEYS[2], 'late', 1)
      named = ''
    else
      if time > newest then redis.call('SETRANGE', KEYS[i], 8, struct.pack('<i8', time)) end
      redis.call('APPEND', KEYS[i], row)
    end
  end
  taken = taken .. named
end
if tonumber(ARGV[4]) > 0 then redis.call('SET', KEYS[3], taken, 'PX', ARGV[4]) end
return 1
""")
"""KEYS: the writer's place, the counters, the event, then entities. ARGV: seq, time, ahead, how long labels may come
(ms), lateness, then for each entity the head of a new one and the row. 0 when the event was taken before."""

_LEARN = Script("""
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
local told = struct.pack('<i8i8i8', tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]))
for i = 2, #KEYS, 2 do
  local row = told .. redis.call('GETRANGE', KEYS[i], 8, 15)
  if redis.call('EXISTS', KEYS[i + 1]) == 0 then row = ARGV[4] .. row end
  redis.call('APPEND', KEYS[i + 1], row)
end
return 1
""")
"""KEYS: the event, then events and labels of each entity. ARGV: observed and event time, fraud, head of a new one."""

_SUM_UP = Script("""
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then return 0 end
local rest = redis.call('GETRANGE', KEYS[1], tonumber(ARGV[2]), -1)
local newest = redis.call('GETRANGE', KEYS[1], 8, 15)
redis.call('SET', KEYS[1], ARGV[3] .. rest)
if ARGV[4] == '1' then redis.call('SETRANGE', KEYS[1], 8, newest) end
return 1
""")
"""KEYS: one text. ARGV: its version, bytes summed up, what replaces them, whether its second word is the newest time.
What was appended meanwhile stays behind it."""


class _Held(NamedTuple):
    """One entity of the event at hand."""

    place: int
    id: str
    row: bytes
    """What the event appends."""


class SharedEngine:
    """Features kept in Redis: the same calls, laws and bits as `Engine`, for several processes at once.

    For each event: `fetch`, then `apply`. Not thread-safe: one for each thread. A call that fails may have been done:
    `apply` the same event again, it counts once.

    Args:
        features: From `load_features`. State of other definitions is kept apart.
        redis: The server. Calls wait as long as it says; give it a short time to answer in.
        tenant: Whose features these are; tenants share nothing.
        writer: Name of who applies events, one for each log (partition) that events come from. Within one writer `seq`
            rises; an event without `seq` (0) is taken whenever it comes.

    Every call raises TransientError `core.redis.unavailable`.
    """

    def __init__(self, features: FeatureSet, redis: Redis, *, tenant: str = "default", writer: str = "0") -> None:
        self.features = features
        self._redis = redis
        self._client: Any = redis.client
        self._prefix = f"vedette:{{{tenant}/{features.version[:16]}}}:".encode()
        self._plan = compile_plan(features)
        self._state = State(self._plan, reserved=0)
        self._state.room_entities(len(features.views) + 1)
        self._intake = Intake(features, self._plan)
        self._writer, self._counters = self._prefix + f"writer:{writer}".encode(), self._prefix + b"counts"
        self._heads = [np.array([0, 0, 0, layout.NEVER] + [0] * (self._base(place) - 2)) for place in self._places]
        self._label_head = np.array([0, *layout.EMPTY[layout.L_BASE :]], np.int64).tobytes()
        rule = features.label
        labelled = any(view.labelled for view in features.views)
        self._open_ms = (rule.keep + rule.lateness + features.lateness) // 1_000 + 86_400_000 if labelled else 0
        self._event: Event | None = None
        self._row: Ints = np.zeros(self._plan.width, np.int64)
        self._entities: list[_Held] = []
        self._due: list[tuple[bytes, bytes, int, bytes, int]] = []

    @property
    def _places(self) -> range:
        return range(len(self.features.views))

    def _base(self, place: int) -> int:
        return self._plan.stored(place)[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names, in the order of every vector."""
        return self.features.names

    def warm(self) -> None:
        """Compiles the kernels and tries the connection, so that no event waits for it."""
        event = Event(id="", tenant="", source=self.features.source, event_time=0, ingest_time=0)
        self.fetch(event)
        self._event = None
        self._fill(bytes(8), [[0, 1, 0, 0, 0, 0, 0, 0]])
        with passing():
            self._client.ping()

    @property
    def counts(self) -> dict[str, int]:
        """Events and labels that were taken but not applied, by reason, of all writers."""
        with passing():
            held = self._client.hgetall(self._counters)
        names = ("ahead", "label_unknown", "label_stale", "late")
        return {name: int(held.get(name.encode(), 0)) for name in names}

    @property
    def offsets(self) -> dict[str, int]:
        """Where this writer's log goes on: `event` is the offset after the last event that was taken."""
        with passing():
            return {"event": int(self._client.get(self._writer) or 0)}

    def save(self, path: Path) -> None:
        """Nothing: the state is in Redis, with its place in the log."""

    def fetch(self, event: Event) -> Floats:
        """Every feature of an event, NaN where missing, as of its event time and everything applied before."""
        self._prepare(event)
        self._due = []
        if self._entities and not self._row[layout.R_BLIND]:
            with passing():
                held = self._client.mget([key for one in self._entities for key in self._keys(one)])
            self._restore(iter(held))
        state, plan = self._state, self._plan
        out = np.empty(len(self.names))
        kernel.read(state.pool, state.lpool, state.ent, plan.views, plan.ops, self._row, out, state.scratch)
        return out

    def apply(self, event: Event) -> None:
        """Takes an event into the state of its entities. One that is too late or ahead is counted and left out."""
        self._prepare(event)
        self._event = None
        row = self._row
        keys = [self._writer, self._counters, self._event_key(event.id)]
        open_ms = self._open_ms if event.id else 0
        told: list[Any] = [event.seq, int(row[0]), int(row[layout.R_BLIND]), open_ms, self.features.lateness]
        if not row[layout.R_BLIND]:
            for one in self._entities:
                head = self._heads[one.place]
                head[1] = row[0]
                keys.append(self._key("e", one.place, one.id))
                told += [head.tobytes(), one.row]
        with passing():
            self._redis.call(_TAKE, keys, told)
            for key, *rest in self._due:
                self._redis.call(_SUM_UP, [key], cast("list[bytes | int]", rest))
        self._due = []

    def learn(self, label: Label) -> None:
        """Takes the truth about an event that was applied. The first label of an event counts, later ones do not."""
        key = self._event_key(label.event_id)
        with passing():
            seen, mark = self._client.pipeline(transaction=False).get(key).hget(self._counters, "mark").execute()
            wrong = "label_unknown" if seen is None else self._stale(label, _time_of(seen), int(mark))
            if wrong:
                self._client.hincrby(self._counters, wrong, 1)
                return
            keys = [key]
            for entity in _entities_of(seen):
                rest = entity[len(self._prefix) + 1 :]
                if self.features.views[int(rest.partition(b":")[0])].labelled:
                    keys += [entity, self._prefix + b"l" + rest]
            self._redis.call(_LEARN, keys, [label.observed_time, _time_of(seen), int(label.fraud), self._label_head])

    def _stale(self, label: Label, time: int, mark: int) -> str:
        rule = self.features.label
        late = time < mark - rule.keep - rule.lateness - self.features.lateness
        return "label_stale" if late or label.observed_time - time > rule.keep else ""

    # Reading

    def _key(self, kind: str, place: int, entity: str) -> bytes:
        return self._prefix + f"{kind}{place}:{entity}".encode("utf-8", "surrogatepass")

    def _event_key(self, event_id: str) -> bytes:
        return self._prefix + f"v:{event_id}".encode("utf-8", "surrogatepass")

    def _keys(self, one: _Held) -> list[bytes]:
        labelled = self.features.views[one.place].labelled
        return [self._key(kind, one.place, one.id) for kind in ("el" if labelled else "e")]

    def _prepare(self, event: Event) -> None:
        """The event's input row and its entities; at once for the event that was prepared last."""
        if event is self._event:
            return
        values, keys = self._intake.values_of(event), self._intake.keys_of(event.data)
        self._entities = [
            _Held(place, key, np.array([values[0], *self._intake.measures_of(values, place)], np.int64).tobytes())
            for place, key in enumerate(keys)
            if key is not None
        ]
        self._row[:] = self._intake.row_of(values, [-1 if key is None else NOBODY for key in keys])
        self._event = event

    def _restore(self, held: Iterator[bytes | None]) -> None:
        """Rebuilds the entities of the event at hand from what Redis keeps of them."""
        texts = [
            (next(held) or b"", (next(held) if self.features.views[one.place].labelled else None) or b"")
            for one in self._entities
        ]
        spans, at = [], 0
        for one, (events, labels) in zip(self._entities, texts, strict=True):
            self._check(one.place, events, labels)
            self._row[layout.R_VIEWS + one.place * self._plan.stride] = one.place + 1 if events else NOBODY
            spans.append(self._span(one.place, one.place + 1, at, len(events) // 8, len(labels) // 8))
            at = spans[-1][-1]
        self._fill(b"".join(text for pair in texts for text in pair), spans)
        for one, (events, labels) in zip(self._entities, texts, strict=True):
            self._note_waste(one, events, labels)

    def _check(self, place: int, events: bytes, labels: bytes) -> None:
        """Whether two texts can be what this engine wrote, as far as their lengths tell."""
        base, stride = self._plan.stored(place)
        for text, head, row in ((events, EVENT_HEAD + base, stride), (labels, LABEL_HEAD + LABEL_BASE, 4)):
            if text and (len(text) < 8 * head or (len(text) - 8 * head) % (8 * row)):
                raise DataError("features.shared.damaged", "an entity's state in Redis is not what was written")

    def _span(self, place: int, entity: int, at: int, events: int, labels: int) -> list[int]:
        """Where the parts of an entity's two texts stand, in words, when the first of them begins at `at`."""
        middle, end = at + events, at + events + labels
        first = [at + EVENT_HEAD, at + EVENT_HEAD + self._base(place)] if events else [at, at]
        second = [middle + LABEL_HEAD, middle + LABEL_HEAD + LABEL_BASE] if labels else [end, end]
        return [place, entity, *first, middle, *second, end]

    def _fill(self, text: bytes, spans: list[list[int]]) -> None:
        state, plan = self._state, self._plan
        pools = (state.pool, state.heads, state.lpool, state.lheads)
        words, table = np.frombuffer(text, np.int64), np.array(spans, np.int64)
        kernel.restore(*pools, state.ent, plan.views, plan.cols, words, table)

    def _note_waste(self, one: _Held, events: bytes, labels: bytes) -> None:
        """Plans to sum up what left, when there is much of it."""
        state, row = self._state, one.place + 1
        base, stride = self._plan.stored(one.place)
        if _wasteful(len(events) // 8 - EVENT_HEAD - base, stride, int(state.ent[row, layout.E_LEN])):
            words = _events_of(state, one.place, row)
            self._due.append(self._summed(self._key("e", one.place, one.id), events, words, newest=True))
        if _wasteful(len(labels) // 8 - LABEL_HEAD - LABEL_BASE, 4, int(state.ent[row, layout.L_LEN])):
            words = _labels_of(state, row)
            self._due.append(self._summed(self._key("l", one.place, one.id), labels, words, newest=False))

    @staticmethod
    def _summed(key: bytes, text: bytes, words: Ints, *, newest: bool) -> tuple[bytes, bytes, int, bytes, int]:
        """Arguments of the script that puts `words` in the place of `text`, under the next version."""
        version = int.from_bytes(text[:8], "little", signed=True) + 1
        head = version.to_bytes(8, "little") + (text[8:16] if newest else b"")
        return key, text[:8], len(text), head + words.tobytes(), int(newest)

    # The whole of it

    def fill(self, engine: Engine) -> None:
        """Writes what an in-process engine knows, such as one that `backfill` made, in place of what Redis has."""
        self.clear()
        names: dict[int, bytes] = {}
        with passing():
            pipeline = self._client.pipeline(transaction=False)
            for place, ids in enumerate(engine.ids):
                for name, row in ids.items():
                    names[row] = key = self._key("e", place, name)
                    head = np.array([0, engine.state.ent[row, layout.E_MARK]], np.int64)
                    pipeline.set(key, head.tobytes() + _events_of(engine.state, place, row).tobytes())
                    if self.features.views[place].labelled:
                        words = _labels_of(engine.state, row)
                        pipeline.set(self._key("l", place, name), bytes(8) + words.tobytes())
                    _flush(pipeline)
            for event_id, (time, *rows) in engine.awaiting.items():
                entities = (len(names[row]).to_bytes(4, "little") + names[row] for row in rows if row > NOBODY)
                text = time.to_bytes(8, "little", signed=True) + b"".join(entities)
                pipeline.set(self._event_key(event_id), text, px=self._open_ms)
                _flush(pipeline)
            pipeline.hset(self._counters, mapping={"mark": engine.mark, **engine.counts})
            pipeline.execute()

    def clear(self) -> None:
        """Forgets everything about this tenant's features of these definitions."""
        with passing():
            found = self._scan(b"")
            while keys := list(islice(found, FILL)):
                self._client.delete(*keys)

    def _scan(self, start: bytes) -> Iterator[bytes]:
        found: Iterator[bytes] = self._client.scan_iter(match=_escaped(self._prefix + start) + b"*", count=FILL)
        return found

    def contents(self) -> Iterator[tuple[bytes, bytes]]:
        """As `Engine.contents`: each entity's view and id, and its state as bytes."""
        for place in self._places:
            start = f"e{place}:".encode()
            with passing():
                keys = sorted(set(self._scan(start)))
            for key in keys:
                name = key[len(self._prefix) + len(start) :]
                with passing():
                    events, labels = self._client.mget([key, self._prefix + f"l{place}:".encode() + name])
                events, labels = events or b"", labels or b""
                self._fill(events + labels, [self._span(place, place + 1, 0, len(events) // 8, len(labels) // 8)])
                yield f"{place}:".encode() + name + b"\0", self._state.content(place + 1, place)

    def checksum(self) -> str:
        """SHA-256 of every entity's state: that of `Engine.entity_checksum` for the same events and labels."""
        return checksum_of(self.features.version, self.contents())


def _wasteful(words: int, stride: int, kept: int) -> bool:
    return words // stride - kept > max(WASTE, kept // 4)


def _events_of(state: State, place: int, row: int) -> Ints:
    """Base and rows of an entity's events."""
    base, stride = state.plan.stored(place)
    words: Ints = np.empty(base + int(state.ent[row, layout.E_LEN]) * stride, np.int64)
    kernel.dump_events(state.pool, state.ent[row], state.plan.views[place], state.plan.cols, words)
    return words


def _labels_of(state: State, row: int) -> Ints:
    """Base and rows of its labels."""
    words: Ints = np.empty(LABEL_BASE + 4 * int(state.ent[row, layout.L_LEN]), np.int64)
    kernel.dump_labels(state.lpool, state.ent[row], words)
    return words


def _time_of(seen: bytes) -> int:
    return int.from_bytes(seen[:8], "little", signed=True)


def _entities_of(seen: bytes) -> Iterator[bytes]:
    """The keys that a remembered event names, each behind its length."""
    at = 8
    while at < len(seen):
        size = int.from_bytes(seen[at : at + 4], "little")
        yield seen[at + 4 : at + 4 + size]
        at += 4 + size


def _escaped(text: bytes) -> bytes:
    return re.sub(rb"([*?\[\]\\])", rb"\\\1", text)


def _flush(pipeline: Any) -> None:
    if len(pipeline) >= FILL:
        pipeline.execute()
