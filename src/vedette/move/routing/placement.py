"""Sticky failover: where a key's requests are done, under an epoch that fences off whoever was there before.

A router alone would send the retry of a payment to another region the moment the first one is away, and back the
moment it returns: both may do it. Here the first request of a key pins it to a node, in a database that all regions
reach. It stays there until that node's lease is over; then one compare-and-set moves it, with a higher epoch. The
effect shows its epoch in its own transaction, so a node that was only slow, or cut off, finds itself refused however
late it wakes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vedette.core.clock import DAY, MICROS, Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, TransientError
from vedette.move.routing.router import Router

LEASE_S: Final = 5.0
"""How long a node counts as alive after it last said so: the time a failover takes at most."""
KEEP: Final = 7 * DAY
"""How long a placement is kept after its last use, microseconds; longer than idempotency keys are."""
SWEEP: Final = 5_000
ATTEMPTS: Final = 8

_METADATA = sa.MetaData()
_nodes = sa.Table(
    "routing_node",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("alive_until", LONG, nullable=False),
    sqlite_strict=True,
)
_places = sa.Table(
    "routing_place",
    _METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("epoch", LONG, nullable=False),
    sa.Column("moved", sa.Integer, nullable=False),
    sa.Column("used", LONG, nullable=False, index=True),
    sqlite_strict=True,
)
_MIGRATIONS = (Migration(1, "where keys are served", create(_METADATA)),)


class Placement(NamedTuple):
    """Where a key is served."""

    key: str
    node: str
    epoch: int
    """Grows with every move, and is never given twice for a key."""
    moved: bool
    """Another node was there before and may have done it. Where effects are not in this database, find out first."""


class Placements:
    """Placements of keys on a router's nodes.

    Args:
        db: Reached by every region; migrated here. With the effects in it too, fence and effect are one transaction.
        clock: For leases. Clocks that differ delay or hasten a failover; they cannot make an effect happen twice.
        router: Knows each key's order of nodes.
        lease_s: How long a node counts as alive after it last said so.
    """

    def __init__(self, db: Database, clock: Clock, router: Router, *, lease_s: float = LEASE_S) -> None:
        self._db = db
        self._clock = clock
        self._router = router
        self._lease = round(lease_s * MICROS)
        db.migrate("routing", _MIGRATIONS)

    def beat(self, node: str) -> None:
        """Says that a node is alive; call it a few times in each lease."""
        until = self._clock.now() + self._lease
        with self._db.begin(synced=False) as connection:
            if not insert_new(connection, _nodes, name=node, alive_until=until):
                connection.execute(_nodes.update().where(_nodes.c.name == node).values(alive_until=until))

    def leave(self, node: str) -> None:
        """Says that a node ends, so that nobody waits for its lease."""
        with self._db.begin() as connection:
            connection.execute(_nodes.update().where(_nodes.c.name == node).values(alive_until=0))

    def alive(self) -> set[str]:
        """Nodes whose lease is not over."""
        with self._db.read() as connection:
            return self._alive(connection)

    def place(self, key: str, *, zone: str = "") -> Placement:
        """Where a key is served now: where it was, unless that node's lease is over.

        Args:
            key: Of the effect: tenant and idempotency key, or the account whose money moves.
            zone: Where the first request is; ignored once the key is placed.

        Raises:
            TransientError: `routing.nodes.none` when no node is alive; `routing.place.contended`.
        """
        for _ in range(ATTEMPTS):
            with self._db.read() as connection:
                held = self._held(connection, key)
                alive = self._alive(connection)
            if held is not None and held.node in alive:
                return held
            node = next((name for name in self._router.ranked(key, zone=zone) if name in alive), None)
            if node is None:
                raise TransientError("routing.nodes.none", "no node is alive", retry_after=self._lease / MICROS)
            moved = self._move(key, node, held)
            if moved is not None:
                return moved
        raise TransientError("routing.place.contended", "this key is being moved", retry_after=0.1)

    def fence(self, connection: Connection, placement: Placement) -> None:
        """Shows an epoch in the effect's transaction; a failover waits until that has ended.

        Raises:
            ConflictError: `routing.epoch.lost`: the key was moved since. Nothing of the effect may stay.
        """
        at = (_places.c.key == placement.key) & (_places.c.epoch == placement.epoch)
        shown = _places.update().where(at, _places.c.node == placement.node).values(used=self._clock.now())
        if not connection.execute(shown).rowcount:
            raise ConflictError("routing.epoch.lost", "another node serves this key now", at=placement.key)

    def sweep(self) -> int:
        """Forgets placements that were not used for long, a bounded number; answers how many."""
        old = _places.c.used < self._clock.now() - KEEP
        with self._db.begin(synced=False) as connection:
            keys = connection.execute(sa.select(_places.c.key).where(old).limit(SWEEP)).scalars().all()
            if keys:
                connection.execute(_places.delete().where(_places.c.key.in_(keys), old))
        return len(keys)

    def _move(self, key: str, node: str, held: Placement | None) -> Placement | None:
        """Puts a key on a node, if nobody else moved it since; None when somebody did."""
        now = self._clock.now()
        # From the clock, so that a placement that was forgotten and made anew is above every earlier one.
        epoch = max(now, held.epoch + 1 if held else 0)
        with self._db.begin() as connection:
            if held is None:
                made = insert_new(connection, _places, key=key, node=node, epoch=epoch, moved=0, used=now)
                return Placement(key, node, epoch, moved=False) if made else None
            at = (_places.c.key == key) & (_places.c.epoch == held.epoch)
            changed = _places.update().where(at).values(node=node, epoch=epoch, moved=1, used=now)
            return Placement(key, node, epoch, moved=True) if connection.execute(changed).rowcount else None

    @staticmethod
    def _held(connection: Connection, key: str) -> Placement | None:
        query = sa.select(_places.c.node, _places.c.epoch, _places.c.moved).where(_places.c.key == key)
        row = connection.execute(query).one_or_none()
        return Placement(key, row.node, row.epoch, bool(row.moved)) if row else None

    def _alive(self, connection: Connection) -> set[str]:
        names = connection.execute(sa.select(_nodes.c.name).where(_nodes.c.alive_until > self._clock.now())).scalars()
        return {name for name in names if self._router.is_up(name)}
