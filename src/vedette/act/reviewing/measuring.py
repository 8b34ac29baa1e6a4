"""How far reviewers agree, over items that two looked at: the two who said the first, blind to each other.

The third of a disputed item knows that there is a dispute, and who judges an item that was taken back may know what
was said before: neither is an independent witness, so neither counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vedette.act.reviewing.agreement import kappa, pairs
from vedette.act.reviewing.nouns import Measured
from vedette.act.reviewing.tables import ITEM, OPINION, TAKEN_BACK, to_taken_back
from vedette.core.db import Connection, sa

MAX_MEASURED = 20_000
"""Newest items over which agreement is measured."""

_Said = tuple[str, bool]


def measured(connection: Connection, tenant: str, since: int) -> Measured:
    """Agreement over the newest items that were made since a time, microseconds UTC."""
    held: dict[str, list[_Said]] = {}
    drawn: set[str] = set()
    for name, sampled, said in (*_standing(connection, tenant, since), *_taken_back(connection, tenant, since)):
        held.setdefault(name, []).extend(said)
        drawn.update([name] if sampled else [])
    both = {name: (said[0], said[1]) for name, said in sorted(held.items()) if len(said) > 1}
    answers = {name: (one[1], other[1]) for name, (one, other) in both.items()}
    return Measured(
        sample=kappa(answers[name] for name in sorted(drawn & answers.keys())),
        every=kappa(answers.values()),
        pairs=pairs(both.values()),
    )


def _standing(connection: Connection, tenant: str, since: int) -> Iterable[tuple[str, bool, list[_Said]]]:
    double = (ITEM.c.tenant == tenant) & (ITEM.c.given > 1) & (ITEM.c.taken_back == 0) & (ITEM.c.created_time >= since)
    newest = sa.select(ITEM.c.id).where(double).order_by(ITEM.c.created_time.desc()).limit(MAX_MEASURED)
    query = (
        sa.select(OPINION.c.item_id, OPINION.c.reviewer, OPINION.c.fraud, ITEM.c.sampled)
        .join(ITEM, (ITEM.c.tenant == OPINION.c.tenant) & (ITEM.c.id == OPINION.c.item_id))
        .where(OPINION.c.tenant == tenant, OPINION.c.item_id.in_(newest))
        .order_by(OPINION.c.item_id, OPINION.c.fence)
    )
    for name, reviewer, fraud, sampled in connection.execute(query):
        yield name, bool(sampled), [(reviewer, bool(fraud))]


def _taken_back(connection: Connection, tenant: str, since: int) -> Iterable[tuple[str, bool, list[_Said]]]:
    query = (
        sa.select(TAKEN_BACK, ITEM.c.sampled)
        .join(ITEM, (ITEM.c.tenant == TAKEN_BACK.c.tenant) & (ITEM.c.id == TAKEN_BACK.c.item_id))
        .where(TAKEN_BACK.c.tenant == tenant, TAKEN_BACK.c.turn == 1, ITEM.c.created_time >= since)
        .order_by(ITEM.c.created_time.desc())
        .limit(MAX_MEASURED)
    )
    rows: Sequence[Any] = connection.execute(query).all()
    for row in rows:
        yield row.item_id, bool(row.sampled), [(each.reviewer, each.fraud) for each in to_taken_back(row).said]
