"""From the log into the queue: decisions whose answer is `review`, each once.

The place in the log is a row of the same transaction as the items, and an item's id follows from its event: a killed
consumer, a record that is read twice and a decision that was written twice all give one item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vedette.act.reviewing.law import Law
from vedette.act.reviewing.nouns import About, ItemState
from vedette.act.reviewing.tables import CURSOR, ITEM, item_id
from vedette.core.clock import Clock
from vedette.core.db import Connection, Database, insert_all_new, insert_new, sa
from vedette.core.decision import Action, Reason
from vedette.core.event import Entity
from vedette.core.log import Log, Record
from vedette.judge.decisions.register import to_amount

TOPIC = "decision"
BATCH = 500
MAX_REASONS = 6
MAX_ENTITIES = 12

Entities = Callable[[str, dict[str, Any]], tuple[Entity, ...]]
"""Source and data of a decided event -> what it is about."""


class _Record(msgspec.Struct):
    """What of a decision the queue needs."""

    event_id: str
    tenant: str
    action: Action
    score: float | None = None
    reasons: tuple[Reason, ...] = ()
    time: int = 0
    source: str = ""
    event: dict[str, Any] = {}


class _Answer(msgspec.Struct):
    """Enough to pass over what is no matter of the queue."""

    event_id: str
    tenant: str
    action: Action


_answer = msgspec.json.Decoder(_Answer).decode
_record = msgspec.json.Decoder(_Record).decode


class ReviewIntake:
    """Follows topic `decision`.

    Args:
        database: state.db, or its PostgreSQL schema; with the tables of the queue.
        clock: Says what is too old to be queued.
        law: What items cost.
        entities: Says what a decided event is about.
    """

    def __init__(self, database: Database, clock: Clock, law: Law, entities: Entities) -> None:
        self._database = database
        self._clock = clock
        self._law = law
        self._entities = entities

    def consume(self, log: Log, *, limit: int = BATCH) -> int:
        """Takes what is new in the log, and marks it taken in the same commit; gives how many records that was."""
        taken = 0
        for partition in range(log.partitions(TOPIC)):
            if log.end(TOPIC, partition) > self.place(partition):
                # Items and place go together: what a power cut takes back is in the log, and is read again.
                with self._database.begin(synced=False) as connection:
                    taken += self._consume(connection, log, partition, limit)
        return taken

    def apply(self, records: Sequence[Record]) -> None:
        """Takes records as they stand in the log, without moving the place in it; again changes nothing."""
        with self._database.begin() as connection:
            self._apply(connection, records)

    def place(self, partition: int) -> int:
        """Offset of the next record to take from a partition of the log."""
        here = (CURSOR.c.topic == TOPIC) & (CURSOR.c.partition == partition)
        with self._database.read() as connection:
            return connection.execute(sa.select(CURSOR.c.next_offset).where(here)).scalar() or 0

    def _consume(self, connection: Connection, log: Log, partition: int, limit: int) -> int:
        here = (CURSOR.c.topic == TOPIC) & (CURSOR.c.partition == partition)
        insert_new(connection, CURSOR, topic=TOPIC, partition=partition, next_offset=0)
        # Two consumers of one partition take turns here.
        offset: int = connection.execute(sa.select(CURSOR.c.next_offset).where(here).with_for_update()).scalar_one()
        records = log.read(TOPIC, partition, offset, limit)
        if records:
            self._apply(connection, records)
            after = records[-1].offset + 1
            connection.execute(CURSOR.update().where(here).values(next_offset=after))
        return len(records)

    def _apply(self, connection: Connection, records: Sequence[Record]) -> None:
        # The last record of an event counts, as everywhere.
        last: dict[tuple[str, str], tuple[Action, Record]] = {}
        since = self._clock.now() - self._law.horizon_us
        for record in records:
            if record.time < since:
                continue
            try:
                answer = _answer(record.value)
            except msgspec.MsgspecError:
                continue  # the decision service refuses such a log with its place
            last[answer.tenant, item_id(answer.tenant, answer.event_id)] = answer.action, record
        rows = [self._row(name, record) for (_, name), (action, record) in last.items() if action is Action.REVIEW]
        fresh = [row for row in rows if row is not None]
        made = insert_all_new(connection, ITEM, sorted(fresh, key=lambda row: (row["tenant"], row["id"])), "id")
        again = [(row["tenant"], row["id"]) for row in fresh if row["id"] not in made]
        self._turn(connection, again, ItemState.WITHDRAWN, ItemState.OPEN)
        others = [key for key, (action, _) in last.items() if action is not Action.REVIEW]
        self._turn(connection, others, ItemState.OPEN, ItemState.WITHDRAWN)

    @staticmethod
    def _turn(connection: Connection, keys: Sequence[tuple[str, str]], before: ItemState, after: ItemState) -> None:
        """Moves items that nobody has judged from one state to another."""
        for tenant in sorted({tenant for tenant, _ in keys}):
            mine = (ITEM.c.tenant == tenant) & ITEM.c.id.in_([name for owner, name in keys if owner == tenant])
            # Found by key first, and there are few: one update of all would walk through every item of that state.
            for name in connection.execute(sa.select(ITEM.c.id).where(mine)).scalars().all():
                this = (ITEM.c.tenant == tenant) & (ITEM.c.id == name)
                unseen = (ITEM.c.state == str(before)) & (ITEM.c.given == 0) & (ITEM.c.taken_back == 0)
                connection.execute(ITEM.update().where(this, unseen).values(state=str(after)))

    def _row(self, name: str, record: Record) -> dict[str, Any] | None:
        try:
            found = _record(record.value)
        except msgspec.MsgspecError:
            return None
        law = self._law
        amount, currency = to_amount(found.source, found.event)
        entities = self._entities(found.source, found.event)
        about = About(
            event_id=found.event_id,
            source=found.source,
            event_time=found.time,
            amount_minor=amount,
            currency=currency,
            score=found.score,
            merchant=next((entity.id for entity in entities if entity.type == "merchant"), ""),
            entities=entities[:MAX_ENTITIES],
            reasons=found.reasons[:MAX_REASONS],
        )
        exposure, sampled = law.exposure(amount, currency, found.source), law.sampled(name)
        return {
            "tenant": found.tenant,
            "id": name,
            "state": str(ItemState.OPEN),
            "created_time": record.time,
            "exposure": exposure,
            "cost": law.cost(found.score, exposure),
            "eyes": law.eyes(exposure, sampled=sampled),
            "sampled": int(sampled),
            "body": msgspec.json.encode(about).decode(),
        }
