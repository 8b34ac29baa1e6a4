"""What amends an item of the review queue: a verdict taken back, and what came of its event another way.

A verdict that is taken back opens its item again; the label that went out stands until people have judged anew, which
gives a later one. A label that came another way is done with an item that one person may judge. Where two must agree
it is told to who looks and decides nothing: nobody goes past the second pair of eyes by a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from vedette.act.reviewing.nouns import Item, ItemState, News, Opinion, TakenBack
from vedette.act.reviewing.rows import change, check_person, clean, here, opinions_of, row_of
from vedette.act.reviewing.tables import NEWS, OPINION, TAKEN_BACK, to_item, to_news, to_taken_back
from vedette.act.reviewing.tables import item_id as id_of
from vedette.core.clock import Clock
from vedette.core.db import Connection, Database, insert_new, sa
from vedette.core.errors import ConflictError, DataError, DeniedError
from vedette.prove.audit import Audit

VERDICT = "verdict"
"""Kind of the labels that people give."""
MAX_TURNS = 20
"""How often an item is taken back at most."""
MAX_NEWS = 50
"""Most of what came another way that an item keeps."""


class Amending:
    """Amends items; the tables are the queue's.

    Args:
        database: That of the queue, migrated by it.
        clock: Times of what is taken back.
        audit: Told of each amendment, after it is durable.
    """

    def __init__(self, database: Database, clock: Clock, audit: Audit) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit

    def taken_back(self, tenant: str, item_id: str, *, reader: str = "") -> list[TakenBack]:
        """What was said of an item and taken back, in its order.

        While the item is open, what one said before all had spoken is told to that one only.
        """
        found = [to_taken_back(row) for row in self._beside(TAKEN_BACK, tenant, item_id, TAKEN_BACK.c.turn)]
        with self._database.read() as connection:
            still = row_of(connection, tenant, item_id).state == str(ItemState.OPEN)
        return [_blind(each) if still and each.fraud is None and reader != each.person else each for each in found]

    def news(self, tenant: str, item_id: str, *, reader: str = "") -> list[News]:
        """What came of the event another way; what a person found only where the queue's opinions are told too."""
        found = [to_news(row) for row in self._beside(NEWS, tenant, item_id, NEWS.c.time)]
        with self._database.read() as connection:
            row = row_of(connection, tenant, item_id)
            said = {each.reviewer for each in opinions_of(connection, tenant, item_id)}
        whole = row.state != str(ItemState.OPEN) or row.disputed or reader in said
        return [each for each in found if whole or each.kind != VERDICT]

    def _beside(self, table: sa.Table, tenant: str, item_id: str, order: sa.Column[Any]) -> Sequence[Any]:
        query = table.select().where(table.c.tenant == tenant, table.c.item_id == item_id).order_by(order)
        with self._database.read() as connection:
            return connection.execute(query).all()

    def take_back(self, tenant: str, item_id: str, person: str, *, why: str, origin: str = "") -> Item:
        """Sets aside what was said of an item, which is open again and needs as many people as before.

        Anybody may take back what an item was found to be; before it has come to that, who said it may. The label
        that went out stands until people have judged anew, which gives a later one; both stay in the log.

        Args:
            tenant: Whose item.
            item_id: Which.
            person: Who takes it back.
            why: For who looks later; never empty.
            origin: Where the request came from.

        Raises:
            NotFoundError: `reviews.item.unknown`.
            ConflictError: `reviews.verdict.none` (there is nothing to take back), `reviews.verdict.disputed` (a third
                decides first), `reviews.turns.many`.
            DeniedError: `reviews.verdict.theirs`.
            DataError: `reviews.why.missing`, `reviews.note.long`.
        """
        check_person(person)
        why = clean(why, "$.why")
        if not why:
            raise DataError("reviews.why.missing", "say why it is taken back", at="$.why")
        now = self._clock.now()
        with self._database.begin() as connection:
            row = row_of(connection, tenant, item_id, lock=True)
            said = opinions_of(connection, tenant, item_id)
            _check_taking(row, said, person)
            mine = {"tenant": tenant, "item_id": item_id}
            told = {"person": person, "time": now, "why": why, "fraud": row.fraud, "done_time": row.done_time}
            insert_new(
                connection,
                TAKEN_BACK,
                turn=row.taken_back + 1,
                said=msgspec.json.encode(said).decode(),
                **(mine | told),
            )
            connection.execute(OPINION.delete().where(OPINION.c.tenant == tenant, OPINION.c.item_id == item_id))
            anew = {"state": str(ItemState.OPEN), "fraud": None, "done_time": 0, "given": 0, "disputed": 0}
            change(connection, row, anew | {"taken_back": row.taken_back + 1})
            found = to_item(row_of(connection, tenant, item_id), now)
        stood = {} if row.fraud is None else {"fraud": str(bool(row.fraud)).lower()}
        self._tell(found, "reviews.take_back", person, origin, {"why": why[:200], **stood})
        return found

    def inform(self, tenant: str, event_id: str, news: News, *, settles: bool = False) -> Item | None:
        """Takes what came of an event another way; again changes nothing.

        Args:
            tenant: Whose event.
            event_id: Which.
            news: What came.
            settles: It is the label of the event: an open item that one person may judge is done with. Where two
                must agree it is told to who looks, and decides nothing.

        Returns:
            The item as it is now; None when there is none, when it was known, or when it is the queue's own verdict.
        """
        now, item_id = self._clock.now(), id_of(tenant, event_id)
        with self._database.read() as connection:
            if connection.execute(here(tenant, item_id)).first() is None:
                return None
        with self._database.begin() as connection:
            row = row_of(connection, tenant, item_id, lock=True)
            if _is_own(connection, row, news) or _count(connection, NEWS, tenant, item_id) >= MAX_NEWS:
                return None
            values = {"kind": news.kind, "time": news.time, "fraud": None if news.fraud is None else int(news.fraud)}
            if not insert_new(connection, NEWS, tenant=tenant, item_id=item_id, **values):
                return None
            if settles and row.state == str(ItemState.OPEN) and row.eyes == 1:
                done = {"state": str(ItemState.LABELLED), "fraud": values["fraud"], "done_time": now}
                change(connection, row, done | {"holder": "", "lease_until": 0})
            found = to_item(row_of(connection, tenant, item_id), now)
        told = {} if news.fraud is None else {"fraud": str(news.fraud).lower()}
        self._tell(found, "reviews.news", "system", "", {"kind": news.kind, "state": str(found.state), **told})
        return found

    def _tell(self, item: Item, action: str, actor: str, origin: str, detail: dict[str, str]) -> None:
        told = {"event": item.about.event_id[:100], **detail}
        self._audit.record(item.tenant, action, actor=actor, target=item.id, origin=origin, detail=told)


def _blind(turn: TakenBack) -> TakenBack:
    return msgspec.structs.replace(turn, said=(), why="")


def _count(connection: Connection, table: sa.Table, tenant: str, item_id: str) -> int:
    mine = (table.c.tenant == tenant) & (table.c.item_id == item_id)
    return connection.execute(sa.select(sa.func.count()).select_from(table).where(mine)).scalar_one()


def _check_taking(row: Any, said: Sequence[Opinion], person: str) -> None:
    if row.state not in {str(ItemState.OPEN), str(ItemState.DONE)} or not said:
        raise ConflictError("reviews.verdict.none", "there is no verdict to take back", at=row.id)
    if row.state == str(ItemState.OPEN) and row.disputed:
        hint = "give yours, or leave it to somebody else"
        raise ConflictError("reviews.verdict.disputed", "a third decides first", hint=hint, at=row.id)
    if row.state == str(ItemState.OPEN) and person not in {each.reviewer for each in said}:
        raise DeniedError("reviews.verdict.theirs", "only who gave this verdict takes it back", at=row.id)
    if row.taken_back >= MAX_TURNS:
        raise ConflictError("reviews.turns.many", f"it was taken back {MAX_TURNS} times", at=row.id)


def _is_own(connection: Connection, row: Any, news: News) -> bool:
    """Whether it is a label that this queue gave, come back from the log."""
    if news.kind != VERDICT or news.fraud is None:
        return False
    mine = (TAKEN_BACK.c.tenant == row.tenant) & (TAKEN_BACK.c.item_id == row.id)
    gone = connection.execute(sa.select(TAKEN_BACK.c.fraud, TAKEN_BACK.c.done_time).where(mine)).all()
    return (int(news.fraud), news.time) in {(row.fraud, row.done_time), *((each[0], each[1]) for each in gone)}
