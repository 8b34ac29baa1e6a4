"""The recorder: events and decisions in the log, one decision per event id, going on after a crash.

Order of one event: it is appended to topic `event` (its place there is `seq`) and decided on meanwhile; once it is
there it is applied to the features, and its decision is appended to topic `decision`. A process killed between the two
appends leaves an event without a decision; the next start replays the log from the last checkpoint through the same
code, which gives the same decision, and appends it. Labels stand in topic `event` too, as events of source `label`, so
that one order rules everything.

Records of one event id may repeat in topic `decision` when an answer by policy was given before the disk answered; the
last one is what the caller got.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from vedette.core.clock import Clock
from vedette.core.decision import Decision
from vedette.core.errors import ConflictError, DataError, DefinitionError, VedetteError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import Durability, Log
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.intake import check_event
from vedette.judge.decisions.rebuild import same
from vedette.judge.decisions.seen import Seen, key_of

EVENTS, DECISIONS = "event", "decision"
DECIDED = "decide:"
"""Prefix of the log key of events that want a decision; other events of the topic only feed the features."""
LABEL_SOURCE = "label"
"""Source of the events that carry a label."""
REPLAY_RECORDS = 2_000
"""Records read at a time at start."""

_encode = msgspec.json.Encoder().encode
_event_decoder = msgspec.json.Decoder(Event)
_decision_decoder = msgspec.json.Decoder(Decision)


class Checkpoint(Protocol):
    """A feature engine that can be saved together with its place in the log."""

    offsets: dict[str, int]

    def save(self, path: Path) -> None:
        """Writes state and offsets, whole or not at all."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One event to decide on."""

    event: Event
    given: Decision | None = None
    """The answer by policy that its caller already has, because something stalled; it is recorded as it is."""
    label: Label | None = None
    """The outcome that history carries itself; it goes into the log with the event, both or neither."""
    checked: bool = False
    """True when `check_event` has passed it already."""


Answer = Decision | VedetteError


def key_in_log(tenant: str, lane: str = "") -> str:
    """Log key of the events that one recorder decides on, and of its decisions."""
    return f"{DECIDED}{tenant}/{lane}" if lane else f"{DECIDED}{tenant}"


def _label_event(label: Label, now: int) -> Event:
    return Event(
        id=f"label:{label.event_id}",
        tenant=label.tenant,
        source=LABEL_SOURCE,
        event_time=label.observed_time,
        ingest_time=now,
        data=msgspec.to_builtins(label),
    )


class Recorder:
    """Decides and records. One writer per log partition; not thread-safe.

    Args:
        log: Where events and decisions go. Its topics have one partition per writer; this one uses that of `tenant`.
        decider: Its features must be at the place of `features_next`.
        seen: Which events are decided.
        clock: Stamps nothing into decisions; checks that events are not from the future.
        tenant: Whose events these are; events of others are refused.
        durability: `written` (survives a killed process) or `synced` (survives a power cut).
        features_next: Offset of topic `event` from which on the features have seen nothing.
        lane: Of a decision point: its events are decided on here and nowhere else, whatever else the log holds.

    Raises:
        DataError: `decision.log.record` when the log holds something else.
        DefinitionError: `decision.log.partitions` when the log would spread the events over several partitions.
    """

    def __init__(
        self,
        log: Log,
        decider: Decider,
        seen: Seen,
        *,
        clock: Clock,
        tenant: str = "default",
        durability: Durability = Durability.WRITTEN,
        features_next: int = 0,
        lane: str = "",
    ) -> None:
        for topic in (EVENTS, DECISIONS):
            # Makes the topic now: making a file takes longer than a decision may.
            log.append(topic, DECIDED, [])
        if log.partitions(EVENTS) != 1 or log.partitions(DECISIONS) != 1:
            raise DefinitionError("decision.log.partitions", "events to decide on need a log of one partition")
        self._log = log
        self.decider = decider
        self._seen = seen
        self.clock = clock
        self.tenant = tenant
        self._key = key_in_log(tenant, lane)
        self._durability = durability
        self._next = features_next
        self._owed: list[Decision] = []
        self.recovered = self._recover()
        """How many events of the log had no decision yet when this recorder started, and got it."""

    # Deciding

    def decide(self, event: Event) -> Decision:
        """One event: the recorded decision, whether made now or before.

        Raises:
            DataError: What `check_event` refuses; `request.pan_refused`.
            ConflictError: `decision.event.conflict` when the id was decided on with other data.
            TransientError: `log.append.*` when the log refused; nothing was decided.
        """
        found = self.decide_many([Wanted(event)])[0]
        if isinstance(found, Decision):
            return found
        raise found

    def decide_many(self, wanted: Sequence[Wanted]) -> list[Answer]:
        """Events in order, with two commits in all. A bad event gets its error in its place and stops no other.

        Raises:
            TransientError: `log.append.*`; nothing of the group was decided.
        """
        self._pay()
        keys = [key_of(one.event.tenant, one.event.id) for one in wanted]
        seen = self._seen.get_each(keys)
        answers = [self._known(one, seen.get(key)) for one, key in zip(wanted, keys, strict=True)]
        fresh: dict[bytes, int] = {}
        for place, key in enumerate(keys):
            if answers[place] is None:
                fresh.setdefault(key, place)
        if fresh:
            self._decide_fresh([wanted[place] for place in fresh.values()], list(fresh.values()), answers)
        for place, (one, key) in enumerate(zip(wanted, keys, strict=True)):
            if answers[place] is None:
                answers[place] = self._same_or_conflict(one.event, answers[fresh[key]])
        return [answer for answer in answers if answer is not None]

    def _known(self, one: Wanted, seen: int | None) -> Answer | None:
        """An error, or the decision that the event already has, which is at place `seen`."""
        if one.event.tenant != self.tenant:
            return DataError("decision.event.tenant", "the event is another tenant's", at="$.tenant")
        try:
            if not one.checked:
                check_event(one.event, now=self.clock.now())
            return None if seen is None else self._same_or_conflict(one.event, self._read(seen))
        except DataError as error:
            return error

    @staticmethod
    def _same_or_conflict(event: Event, recorded: Answer | None) -> Answer | None:
        if not isinstance(recorded, Decision) or same(recorded.event, event.data):
            return recorded
        return ConflictError(
            "decision.event.conflict",
            "this event id was decided on with other data",
            hint="an id names one event for ever; send a new id for a new event",
            at=event.id[:80],
        )

    def _decide_fresh(self, wanted: list[Wanted], places: list[int], answers: list[Answer | None]) -> None:
        labels = [_label_event(one.label, self.clock.now()) for one in wanted if one.label]
        first = self._append(EVENTS, [_encode(event) for event in (*(one.event for one in wanted), *labels)])
        if first > self._next:
            self._replay(first)
        risks = self.decider.look([one.event for one in wanted])
        events = [msgspec.structs.replace(one.event, seq=seq) for seq, one in enumerate(wanted, first + 1)]
        decisions = self.decider.decide_many(events, risks, self._take, [one.given for one in wanted])
        for label in labels:
            self._feed(label)
        self._next += len(labels)
        # From here on the events are in the features: should the next append fail, its decisions are owed.
        self._owed = decisions
        self._pay()
        for place, decision in zip(places, decisions, strict=True):
            answers[place] = decision

    def _decide_one(self, event: Event) -> Decision:
        decision = self.decider.decide(event)
        self._apply(event)
        return decision

    def _take(self, event: Event) -> None:
        self._apply(event)
        self._next = event.seq

    def _apply(self, event: Event) -> None:
        if self.decider.features and self.decider.scores(event):
            self.decider.features.apply(event)

    def _pay(self) -> None:
        """Appends the decisions that are owed to the log."""
        if self._owed:
            self._note(self._append(DECISIONS, [_encode(decision) for decision in self._owed]), self._owed)
            self._owed = []

    def _append(self, topic: str, values: list[bytes]) -> int:
        self.decider.stage = "log"
        try:
            return self._log.append(topic, self._key, values, durability=self._durability)
        finally:
            self.decider.stage = "queue"

    def _note(self, first: int, decisions: Sequence[Decision]) -> None:
        for place, decision in enumerate(decisions, first):
            self._seen.add(key_of(decision.tenant, decision.event_id), place)

    def amend(self, given: Sequence[Decision]) -> None:
        """Records that callers got other answers than were recorded: the last record of an event is what was given."""
        if given:
            recorded = [(decision, self.find(decision.event_id)) for decision in given]
            changed = [msgspec.structs.replace(decision, seq=held.seq) for decision, held in recorded if held]
            self._note(self._append(DECISIONS, [_encode(decision) for decision in changed]), changed)

    def learn(self, labels: Sequence[Label]) -> None:
        """Records labels at their place among the events, and lets the features know them.

        Raises:
            TransientError: `log.append.*`; none of them was recorded.
        """
        if not labels:
            return
        self._pay()
        events = [_label_event(label, self.clock.now()) for label in labels]
        first = self._append(EVENTS, [_encode(event) for event in events])
        if first > self._next:
            self._replay(first)
        for event in events:
            self._feed(event)
        self._next = first + len(events)

    def find(self, event_id: str) -> Decision | None:
        """The recorded decision of an event; None when it has none.

        Raises:
            DataError: `decision.event.passed` when the log keeps it no more.
        """
        place = self._seen.get(key_of(self.tenant, event_id))
        return None if place is None else self._read(place)

    def _read(self, place: int) -> Decision:
        records = self._log.read(DECISIONS, 0, place, 1)
        if not records:
            hint = "record in a folder that keeps every decision"
            raise DataError(
                "decision.event.passed", "decided on before, and not kept", hint=hint, at=f"{DECISIONS}@{place}"
            )
        return self._decode(records[0].value, place)

    # Starting and stopping

    def checkpoint(self, engine: Checkpoint, path: Path) -> None:
        """Saves the features with their place in the log, so that the next start replays only what follows.

        The writer stands still meanwhile: about a second for a million entities' windows. A start without one costs
        some 30 microseconds an event instead, so a process checkpoints when it stops and when it is idle.
        """
        self._pay()
        engine.offsets[EVENTS] = self._next
        engine.save(path)

    def close(self) -> None:
        """Writes what is owed and the index of decided events. The log stays open: its owner closes it."""
        self._pay()
        self._seen.close()

    def _recover(self) -> int:
        for place, decision in self._decisions(self._seen.next):
            self._seen.add(key_of(decision.tenant, decision.event_id), place)
        return self._replay(self._log.end(EVENTS, 0))

    def _decisions(self, offset: int) -> Iterator[tuple[int, Decision]]:
        while records := self._log.read(DECISIONS, 0, offset, REPLAY_RECORDS):
            for record in records:
                # Ids are distinct within a lane, not between lanes: another lane's decision says nothing here.
                if record.key == self._key:
                    yield record.offset, self._decode(record.value, record.offset)
            offset = records[-1].offset + 1

    def _replay(self, end: int) -> int:
        """Feeds the features everything of topic `event` up to `end`, deciding on what has no decision yet."""
        decided = 0
        while self._next < end:
            for record in self._log.read(EVENTS, 0, self._next, min(REPLAY_RECORDS, end - self._next)):
                event = self._decode_event(record.value, record.offset)
                if record.key == self._key and event.source != LABEL_SOURCE and self._undecided(event):
                    self._owed.append(self._decide_one(event))
                    decided += 1
                else:
                    self._feed(event)
                self._next = record.offset + 1
            self._pay()
        return decided

    def _undecided(self, event: Event) -> bool:
        return self._seen.get(key_of(event.tenant, event.id)) is None

    def _feed(self, event: Event) -> None:
        features = self.decider.features
        if features is None or event.tenant != self.tenant:
            return
        if event.source == LABEL_SOURCE:
            features.learn(msgspec.convert(event.data, Label))
        elif self.decider.scores(event):
            features.apply(event)

    @staticmethod
    def _decode(value: bytes, offset: int) -> Decision:
        try:
            return _decision_decoder.decode(value)
        except msgspec.DecodeError as error:
            raise DataError("decision.log.record", f"no decision: {error}", at=f"{DECISIONS}@{offset}") from error

    @staticmethod
    def _decode_event(value: bytes, offset: int) -> Event:
        try:
            event = _event_decoder.decode(value)
        except msgspec.DecodeError as error:
            raise DataError("decision.log.record", f"no event: {error}", at=f"{EVENTS}@{offset}") from error
        return msgspec.structs.replace(event, seq=offset + 1)
