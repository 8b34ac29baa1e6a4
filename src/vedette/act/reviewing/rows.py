"""Rows and words that the queue and what amends it have in common."""

from __future__ import annotations

from typing import Any

from vedette.act.reviewing.nouns import Opinion
from vedette.act.reviewing.tables import ITEM, OPINION, to_opinion
from vedette.core.db import Connection, sa
from vedette.core.errors import DataError, NotFoundError

MAX_NOTE = 2_000


def here(tenant: str, item_id: str) -> sa.Select[Any]:
    """The query of an item."""
    return ITEM.select().where(ITEM.c.tenant == tenant, ITEM.c.id == item_id)


def row_of(connection: Connection, tenant: str, item_id: str, *, lock: bool = False) -> Any:
    """The row of an item.

    Raises:
        NotFoundError: `reviews.item.unknown`.
    """
    query = here(tenant, item_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFoundError("reviews.item.unknown", "no such item", at=item_id[:64])
    return row


def opinions_of(connection: Connection, tenant: str, item_id: str) -> list[Opinion]:
    """What was said of an item and stands, in its order."""
    query = OPINION.select().where(OPINION.c.tenant == tenant, OPINION.c.item_id == item_id)
    return [to_opinion(row) for row in connection.execute(query.order_by(OPINION.c.fence))]


def clean(text: str, at: str) -> str:
    """What somebody wrote, as it is kept.

    Raises:
        DataError: `reviews.note.long`.
    """
    if len(text) > MAX_NOTE:
        raise DataError("reviews.note.long", f"a note has at most {MAX_NOTE} characters", at=at)
    return text.replace("\x00", " ").strip()


def check_person(reviewer: str) -> None:
    """Refuses a name that is none.

    Raises:
        DataError: `reviews.reviewer.invalid`.
    """
    if not reviewer.strip() or len(reviewer) > 200 or "\x00" in reviewer:  # noqa: PLR2004 - as other names
        raise DataError("reviews.reviewer.invalid", "a reviewer has a name of 1 to 200 characters")


def change(connection: Connection, row: Any, values: dict[str, Any]) -> None:
    """Writes columns of an item."""
    connection.execute(ITEM.update().where(ITEM.c.tenant == row.tenant, ITEM.c.id == row.id).values(**values))
