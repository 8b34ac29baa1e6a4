"""Merges: alerts that people say belong together, and how that is taken back without loss.

A merge is a list of members beside the alerts. No alert is changed by it: each keeps its signals, its state and its
history, goes on growing by its own law, and stands by itself again when it is taken out. A merge is open while one of
its members is; that one was closed closes no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from vedette.act.alert_tables import ENTITY
from vedette.act.alerts import load_alert
from vedette.act.groups import MAX_GROUPS, Group, fetch_parts, group_parts, similar
from vedette.core.clock import Clock
from vedette.core.db import LONG, Database, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.audit import Audit

MAX_MERGED = 500
MAX_TITLE = 200
MAX_SHARED = 2_000
"""Most alerts that name an observable for it to be compared by; what more name says nothing."""

_METADATA = sa.MetaData()
_MERGE = sa.Table(
    "alert_merge",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("operator", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sqlite_strict=True,
)
_MEMBER = sa.Table(
    "alert_merged",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("alert_id", sa.Text, primary_key=True),
    sa.Column("merge_id", sa.Text, nullable=False),
    sa.Index("alert_merged_of", "tenant", "merge_id"),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "merges", create(_METADATA)),)


class Merge(msgspec.Struct, frozen=True):
    """Alerts that people put together."""

    id: str
    title: str
    operator: str
    time: int
    alerts: tuple[str, ...]


class Similar(msgspec.Struct, frozen=True):
    """An alert that shares observables with another."""

    alert_id: str
    score: float
    """0 to 1: how much of what the other names it names too, rare things first."""
    shared: tuple[str, ...]


class Merging:
    """Merges, groups and likenesses of the alerts of all tenants.

    Args:
        database: Where the alerts are.
        clock: Times.
        ids: Ids of merges.
        audit: Told of merges and of what is taken out.
    """

    def __init__(self, database: Database, clock: Clock, ids: Ids, audit: Audit) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        database.migrate("merging", MIGRATIONS)

    def merge(self, tenant: str, alert_ids: Sequence[str], *, title: str, operator: str, origin: str = "") -> Merge:
        """Puts alerts together; those of merges that are there already bring all their members.

        Raises:
            DataError: `alerts.merge.size`, `alerts.merge.title`.
            NotFoundError: `alerts.alert.unknown`.
        """
        wanted = sorted(set(alert_ids))
        if not title.strip() or len(title) > MAX_TITLE:
            raise DataError("alerts.merge.title", f"a title has 1 to {MAX_TITLE} characters", at="$.title")
        made = self._ids.new("mg")
        row = {"title": title.strip(), "operator": operator, "time": self._clock.now()}
        with self._database.begin() as connection:
            for alert_id in wanted:
                load_alert(connection, tenant, alert_id)
            mine = _MEMBER.c.tenant == tenant
            query = sa.select(_MEMBER.c.merge_id).where(mine, _MEMBER.c.alert_id.in_(wanted)).distinct()
            old = list(connection.execute(query).scalars())
            held = sa.select(_MEMBER.c.alert_id).where(mine, _MEMBER.c.merge_id.in_(old))
            members = sorted({*wanted, *connection.execute(held).scalars()})
            if not 1 < len(members) <= MAX_MERGED:
                raise DataError("alerts.merge.size", f"a merge has 2 to {MAX_MERGED} alerts, not {len(members)}")
            connection.execute(_MEMBER.delete().where(mine, _MEMBER.c.alert_id.in_(members)))
            connection.execute(_MERGE.delete().where(_MERGE.c.tenant == tenant, _MERGE.c.id.in_(old)))
            insert_new(connection, _MERGE, tenant=tenant, id=made, **row)
            for alert_id in members:
                insert_new(connection, _MEMBER, tenant=tenant, alert_id=alert_id, merge_id=made)
        detail = {"alerts": str(len(members)), "title": title[:200]}
        self._audit.record(tenant, "alerts.merge", actor=operator, target=made, origin=origin, detail=detail)
        return self.get(tenant, made)

    def unmerge(self, tenant: str, alert_ids: Sequence[str], *, operator: str, origin: str = "") -> int:
        """Takes alerts out of their merges; a merge with one member left is no more. Gives how many were taken out.

        Raises:
            NotFoundError: `alerts.alert.unknown`.
            ConflictError: `alerts.merge.none`: none of them was in one.
        """
        mine, wanted = _MEMBER.c.tenant == tenant, sorted(set(alert_ids))[:MAX_MERGED]
        with self._database.begin() as connection:
            for alert_id in wanted:
                load_alert(connection, tenant, alert_id)
            query = sa.select(_MEMBER.c.merge_id).where(mine, _MEMBER.c.alert_id.in_(wanted)).distinct()
            merges = list(connection.execute(query).scalars())
            if not merges:
                raise ConflictError("alerts.merge.none", "none of these alerts is in a merge")
            gone = _MEMBER.delete().where(mine, _MEMBER.c.alert_id.in_(wanted)).returning(_MEMBER.c.alert_id)
            taken = list(connection.execute(gone).scalars())
            for merge_id in merges:
                left = sa.select(sa.func.count()).select_from(_MEMBER).where(mine, _MEMBER.c.merge_id == merge_id)
                if connection.execute(left).scalar_one() <= 1:
                    connection.execute(_MEMBER.delete().where(mine, _MEMBER.c.merge_id == merge_id))
                    connection.execute(_MERGE.delete().where(_MERGE.c.tenant == tenant, _MERGE.c.id == merge_id))
        detail = {"alerts": " ".join(taken)[:1_000]}
        for merge_id in merges:
            self._audit.record(tenant, "alerts.unmerge", actor=operator, target=merge_id, origin=origin, detail=detail)
        return len(taken)

    def get(self, tenant: str, merge_id: str) -> Merge:
        """One merge.

        Raises:
            NotFoundError: `alerts.merge.unknown`.
        """
        with self._database.read() as connection:
            row = connection.execute(_MERGE.select().where(_MERGE.c.tenant == tenant, _MERGE.c.id == merge_id)).first()
            if row is None:
                raise NotFoundError("alerts.merge.unknown", "no such merge", at=merge_id[:64])
            where = (_MEMBER.c.tenant == tenant) & (_MEMBER.c.merge_id == merge_id)
            query = sa.select(_MEMBER.c.alert_id).where(where).order_by(_MEMBER.c.alert_id)
            return Merge(row.id, row.title, row.operator, row.time, tuple(connection.execute(query).scalars()))

    def of_alert(self, tenant: str, alert_id: str) -> str | None:
        """Id of the merge that an alert is in, if it is in one."""
        where = (_MEMBER.c.tenant == tenant) & (_MEMBER.c.alert_id == alert_id)
        with self._database.read() as connection:
            return connection.execute(sa.select(_MEMBER.c.merge_id).where(where)).scalar()

    def groups(self, tenant: str, *, limit: int = 100) -> list[Group]:
        """The open alerts of the last day as groups, the highest score first."""
        with self._database.read() as connection:
            merged: Mapping[str, str] = {
                row.alert_id: row.merge_id
                for row in connection.execute(_MEMBER.select().where(_MEMBER.c.tenant == tenant))
            }
            titles = {row.id: row.title for row in connection.execute(_MERGE.select().where(_MERGE.c.tenant == tenant))}
            now = self._clock.now()
            parts = fetch_parts(connection, tenant, now=now, merged=merged)
        return group_parts(parts, now, titles, limit=min(limit, MAX_GROUPS))

    def similar(self, tenant: str, alert_id: str, *, limit: int = 10) -> list[Similar]:
        """Other alerts that name the same observables, what tells most first.

        Raises:
            NotFoundError: `alerts.alert.unknown`.
        """
        mine = ENTITY.c.tenant == tenant
        with self._database.read() as connection:
            load_alert(connection, tenant, alert_id)
            named = sa.select(ENTITY.c.entity).where(mine, ENTITY.c.alert_id == alert_id)
            of = list(connection.execute(named).scalars())
            held: dict[str, list[str]] = {}
            counts: dict[str, int] = {}
            for entity in of:
                query = sa.select(ENTITY.c.alert_id).where(mine, ENTITY.c.entity == entity).limit(MAX_SHARED)
                found = list(connection.execute(query).scalars())
                counts[entity] = len(found)
                if len(found) < MAX_SHARED:
                    for other in found:
                        held.setdefault(other, []).append(entity)
        held.pop(alert_id, None)
        return [Similar(*one) for one in similar(of, held, counts, limit)]
