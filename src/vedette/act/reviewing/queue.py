"""The review queue: who looks at what, for how long, and what they say.

A claim is a lease with a fence: every claim of an item has a higher number, a verdict names the number of its claim,
and it counts only while that lease lasts and no later claim was made. Who wakes late is refused, and nothing of theirs
is kept. A person gives one verdict on an item. Where two must agree and do not, a third decides. Nobody is told what
others said before they said their own, except the third, who is told that there is something to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from vedette.act.reviewing.amending import Amending
from vedette.act.reviewing.law import Law
from vedette.act.reviewing.measuring import measured
from vedette.act.reviewing.nouns import About, Item, ItemState, Measured, Opinion, Owed, Waiting
from vedette.act.reviewing.rows import change, check_person, clean, here, opinions_of, row_of
from vedette.act.reviewing.tables import ITEM, MIGRATIONS, OPINION, OWED, to_item
from vedette.act.reviewing.tables import item_id as id_of
from vedette.core.clock import MICROS, Clock
from vedette.core.db import Connection, Database, insert_new, sa
from vedette.core.errors import ConflictError, DeniedError
from vedette.prove.audit import Audit

MAX_PAGE = 500
MAX_HELD = 10
"""Most items that one person holds at a time: nobody hoards."""
MAX_TOLD = 200
MAX_OWED = 200


class ReviewQueue:
    """Items of all tenants; every read names a tenant and sees nothing of another.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Leases, times of verdicts, ages.
        audit: Told of claims and verdicts, after they are durable.
        law: How long a lease and a wait last; currency of costs.
    """

    def __init__(self, database: Database, clock: Clock, audit: Audit, law: Law) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self.law = law
        self.amending = Amending(database, clock, audit)
        database.migrate("reviewing", MIGRATIONS)

    # Looking

    def find(
        self,
        tenant: str,
        *,
        state: ItemState = ItemState.OPEN,
        holder: str = "",
        after: tuple[int, str] | None = None,
        limit: int = 50,
    ) -> list[Item]:
        """Items, the dearest first.

        Args:
            tenant: Whose.
            state: Which.
            holder: Only those that this person holds now.
            after: Cost and id of the last one of the page before.
            limit: Most items.
        """
        now = self._clock.now()
        query = ITEM.select().where(ITEM.c.tenant == tenant, ITEM.c.state == str(state))
        if holder:
            query = query.where(ITEM.c.holder == holder, ITEM.c.lease_until > now)
        if after is not None:
            query = query.where(sa.tuple_(ITEM.c.cost, ITEM.c.id) < sa.tuple_(*after))
        query = query.order_by(ITEM.c.cost.desc(), ITEM.c.id.desc()).limit(min(limit, MAX_PAGE))
        with self._database.read() as connection:
            return [to_item(row, now) for row in connection.execute(query)]

    def get(self, tenant: str, item_id: str) -> Item:
        """One item.

        Raises:
            NotFoundError: `reviews.item.unknown`.
        """
        with self._database.read() as connection:
            return to_item(row_of(connection, tenant, item_id), self._clock.now())

    def opinions(self, tenant: str, item_id: str, *, reader: str = "") -> list[Opinion]:
        """What was said, in its order: all of it once the item is done or disputed, else only what the reader said."""
        with self._database.read() as connection:
            row = row_of(connection, tenant, item_id)
            found = opinions_of(connection, tenant, item_id)
        whole = row.state != str(ItemState.OPEN) or row.disputed
        return [each for each in found if whole or each.reviewer == reader]

    def check_one_may(self, tenant: str, event_id: str) -> None:
        """Refuses a verdict beside the queue on what more than one person must agree on, or agreed on.

        Raises:
            ConflictError: `reviews.eyes.more`.
        """
        with self._database.read() as connection:
            row = connection.execute(here(tenant, id_of(tenant, event_id))).first()
        if row is not None and row.eyes > 1 and row.state in {str(ItemState.OPEN), str(ItemState.DONE)}:
            does = "claim it and judge it" if row.state == str(ItemState.OPEN) else "take the verdict back"
            hint = f"{does} under /v1/reviews/{row.id}"
            raise ConflictError("reviews.eyes.more", f"{row.eyes} people must agree on it", hint=hint, at=event_id[:64])

    def waiting(self, tenant: str) -> Waiting:
        """The queue in numbers."""
        now = self._clock.now()
        count = sa.func.count()
        late = ITEM.c.created_time < now - self.law.age_us
        query = sa.select(
            count,
            count.filter(ITEM.c.lease_until > now),
            count.filter(ITEM.c.disputed == 1),
            count.filter(late),
            sa.func.min(ITEM.c.created_time),
            sa.func.sum(ITEM.c.cost),
        ).where(ITEM.c.tenant == tenant, ITEM.c.state == str(ItemState.OPEN))
        with self._database.read() as connection:
            total, held, disputed, overdue, oldest, cost = connection.execute(query).one()
        return Waiting(
            open=total,
            held=held,
            disputed=disputed,
            overdue=overdue,
            oldest_s=max(0, now - oldest) // MICROS if total else 0,
            cost_minor=int(cost or 0),
            currency=self.law.currency,
        )

    # Claiming

    def claim(self, tenant: str, reviewer: str, item_id: str = "", *, origin: str = "") -> Item | None:
        """Claims an item: the named one, else the dearest that this person may judge and nobody holds.

        Who asks for the next one while they hold one gets that again, with its lease begun anew.

        Raises:
            NotFoundError: `reviews.item.unknown`.
            ConflictError: `reviews.lease.taken`, `reviews.item.done`, `reviews.lease.many`.
            DeniedError: `reviews.eyes.same`.
        """
        check_person(reviewer)
        now, until = self._clock.now(), self._clock.now() + self.law.lease_us
        with self._database.begin() as connection:
            held = _held(connection, tenant, reviewer, now)
            row = self._named(connection, tenant, reviewer, item_id, now) if item_id else None
            if not item_id:
                row = held[0] if held else self._next(connection, tenant, reviewer, now)
            if row is None:
                return None
            mine = any(each.id == row.id for each in held)
            if not mine and len(held) >= MAX_HELD:
                hint = "judge one or give it back"
                raise ConflictError("reviews.lease.many", f"a person holds at most {MAX_HELD}", hint=hint)
            values = {"holder": reviewer, "lease_until": until, "fence": row.fence + (not mine)}
            change(connection, row, values)
            found = to_item(row_of(connection, tenant, row.id), now)
        if not mine:
            self._tell(found, "reviews.claim", reviewer, origin, {"fence": str(found.fence)})
        return found

    def renew(self, tenant: str, item_id: str, reviewer: str, fence: int) -> Item:
        """Begins the lease anew; only while it lasts.

        Raises:
            ConflictError: `reviews.lease.lost`.
        """
        now = self._clock.now()
        with self._database.begin() as connection:
            row = _leased(connection, tenant, item_id, reviewer, fence, now)
            change(connection, row, {"lease_until": now + self.law.lease_us})
            return to_item(row_of(connection, tenant, item_id), now)

    def release(self, tenant: str, item_id: str, reviewer: str, fence: int, *, origin: str = "") -> Item:
        """Gives an item back.

        Raises:
            ConflictError: `reviews.lease.lost`.
        """
        now = self._clock.now()
        with self._database.begin() as connection:
            row = _leased(connection, tenant, item_id, reviewer, fence, now)
            change(connection, row, {"holder": "", "lease_until": 0})
            found = to_item(row_of(connection, tenant, item_id), now)
        self._tell(found, "reviews.release", reviewer, origin, {"fence": str(fence)})
        return found

    def _named(self, connection: Connection, tenant: str, reviewer: str, item_id: str, now: int) -> Any:
        row = row_of(connection, tenant, item_id, lock=True)
        if row.state != str(ItemState.OPEN):
            raise ConflictError("reviews.item.done", f"the item is {row.state}", at=item_id)
        if _said(connection, tenant, item_id, reviewer) is not None:
            hint = "somebody else has to look at it too"
            raise DeniedError("reviews.eyes.same", "you gave your verdict on this item", hint=hint, at=item_id)
        if row.lease_until > now and row.holder != reviewer:
            wait = (row.lease_until - now) // MICROS + 1
            raise ConflictError("reviews.lease.taken", "somebody holds it", hint=f"until {wait} s from now", at=item_id)
        return row

    @staticmethod
    def _next(connection: Connection, tenant: str, reviewer: str, now: int) -> Any:
        said = sa.exists().where(
            OPINION.c.tenant == ITEM.c.tenant, OPINION.c.item_id == ITEM.c.id, OPINION.c.reviewer == reviewer
        )
        query = (
            ITEM.select()
            .where(ITEM.c.tenant == tenant, ITEM.c.state == str(ItemState.OPEN), ITEM.c.lease_until <= now, ~said)
            .order_by(ITEM.c.cost.desc(), ITEM.c.id.desc())
            .limit(1)
            # Two who ask at once get two items: the second does not wait for the first one's.
            .with_for_update(skip_locked=True)
        )
        return connection.execute(query).first()

    # Judging

    def judge(
        self, tenant: str, item_id: str, reviewer: str, fence: int, *, fraud: bool, note: str = "", origin: str = ""
    ) -> Item:
        """Gives a verdict under a claim; the same verdict again under the same claim changes nothing.

        Args:
            tenant: Whose item.
            item_id: Which.
            reviewer: Who holds it.
            fence: Number of their claim.
            fraud: What it was.
            note: Why, for who looks later; may be empty.
            origin: Where the request came from.

        Raises:
            NotFoundError: `reviews.item.unknown`.
            ConflictError: `reviews.lease.lost`: the lease is over, or somebody claimed the item since.
            DataError: `reviews.note.long`.
        """
        note, now = clean(note, "$.note"), self._clock.now()
        with self._database.begin() as connection:
            row = row_of(connection, tenant, item_id, lock=True)
            said = _said(connection, tenant, item_id, reviewer)
            if said is not None and (said.fence, bool(said.fraud)) == (fence, fraud):
                return to_item(row, now)
            _check_lease(row, reviewer, fence, now)
            words = {"fraud": int(fraud), "note": note, "time": now, "fence": fence}
            insert_new(connection, OPINION, tenant=tenant, item_id=item_id, reviewer=reviewer, **words)
            self._settle(connection, row, now)
            found = to_item(row_of(connection, tenant, item_id), now)
        detail = {"fraud": str(fraud).lower(), "fence": str(fence), "state": str(found.state)}
        self._tell(found, "reviews.verdict", reviewer, origin, detail)
        return found

    @staticmethod
    def _settle(connection: Connection, row: Any, now: int) -> None:
        """What follows from the verdicts so far: done once as many agree as must, disputed while they do not."""
        mine = (OPINION.c.tenant == row.tenant) & (OPINION.c.item_id == row.id)
        answers = [bool(each) for each in connection.execute(sa.select(OPINION.c.fraud).where(mine)).scalars()]
        outcome = next((side for side in (True, False) if answers.count(side) >= row.eyes), None)
        values: dict[str, Any] = {"holder": "", "lease_until": 0, "given": len(answers)}
        values["disputed"] = int(len(set(answers)) > 1)
        if outcome is not None:
            values |= {"state": str(ItemState.DONE), "fraud": int(outcome), "done_time": now}
            owes = {"fence": row.fence, "fraud": int(outcome), "time": now}
            insert_new(connection, OWED, tenant=row.tenant, item_id=row.id, **owes)
        change(connection, row, values)

    # What comes of it

    def owed(self) -> list[Owed]:
        """Verdicts whose labels are not known to be in the log yet, of all tenants, oldest first."""
        here = (ITEM.c.tenant == OWED.c.tenant) & (ITEM.c.id == OWED.c.item_id)
        query = (
            sa.select(OWED, ITEM.c.body)
            .join(ITEM, here)
            .order_by(OWED.c.time, OWED.c.item_id, OWED.c.fence)
            .limit(MAX_OWED)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [
            Owed(
                row.tenant,
                row.item_id,
                msgspec.json.decode(row.body, type=About).event_id,
                bool(row.fraud),
                row.time,
                row.fence,
            )
            for row in rows
        ]

    def paid(self, owed: Owed) -> None:
        """The label is in the log; again changes nothing."""
        with self._database.begin() as connection:
            mine = (OWED.c.tenant == owed.tenant) & (OWED.c.item_id == owed.item_id)
            connection.execute(OWED.delete().where(mine, OWED.c.fence == owed.fence))

    def measure(self, tenant: str, *, since: int = 0) -> Measured:
        """How far reviewers agree, over the newest items that at least two looked at since a time of their making."""
        with self._database.read() as connection:
            return measured(connection, tenant, since)

    def tell_overdue(self, tenant: str) -> list[Item]:
        """Tells the audit trail of items that wait too long, each once; gives those that were told now."""
        now = self._clock.now()
        late = (ITEM.c.tenant == tenant) & (ITEM.c.state == str(ItemState.OPEN)) & (ITEM.c.told == 0)
        query = ITEM.select().where(late, ITEM.c.created_time < now - self.law.age_us)
        with self._database.begin() as connection:
            rows: Sequence[Any] = connection.execute(query.order_by(ITEM.c.created_time).limit(MAX_TOLD)).all()
            for row in rows:
                change(connection, row, {"told": 1})
        found = [to_item(row, now) for row in rows]
        for item in found:
            self._tell(item, "reviews.overdue", "system", "", {"age_s": str(item.age(now) // MICROS)})
        return found

    def _tell(self, item: Item, action: str, actor: str, origin: str, detail: dict[str, str]) -> None:
        told = {"event": item.about.event_id[:100], **detail}
        self._audit.record(item.tenant, action, actor=actor, target=item.id, origin=origin, detail=told)


def _held(connection: Connection, tenant: str, reviewer: str, now: int) -> Sequence[Any]:
    mine = (ITEM.c.tenant == tenant) & (ITEM.c.holder == reviewer) & (ITEM.c.lease_until > now)
    return connection.execute(ITEM.select().where(mine).order_by(ITEM.c.cost.desc(), ITEM.c.id.desc())).all()


def _said(connection: Connection, tenant: str, item_id: str, reviewer: str) -> Any:
    mine = (OPINION.c.tenant == tenant) & (OPINION.c.item_id == item_id) & (OPINION.c.reviewer == reviewer)
    return connection.execute(OPINION.select().where(mine)).first()


def _leased(connection: Connection, tenant: str, item_id: str, reviewer: str, fence: int, now: int) -> Any:  # noqa: PLR0917 - a claim's parts
    row = row_of(connection, tenant, item_id, lock=True)
    _check_lease(row, reviewer, fence, now)
    return row


def _check_lease(row: Any, reviewer: str, fence: int, now: int) -> None:
    if (row.holder, row.fence) != (reviewer, fence) or now >= row.lease_until:
        hint = "claim it again; what you found meanwhile is not kept"
        raise ConflictError("reviews.lease.lost", "this claim is over", hint=hint, at=row.id)
