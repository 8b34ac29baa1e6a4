"""Unsigned numbers wider than a database integer."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from vedette.core.db import Connection, sa


class Unsigned(sa.types.TypeDecorator[int]):
    """An unsigned integer of `size` bytes: a big-endian BLOB on SQLite, NUMERIC on PostgreSQL.

    Both compare and sort as numbers do. Sums are made in Python: SQLite cannot add BLOBs.

    Args:
        size: 8 or 16.
    """

    impl = sa.LargeBinary
    cache_ok = True

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def load_dialect_impl(self, dialect: sa.engine.Dialect) -> sa.types.TypeEngine[Any]:
        """BLOB where numbers are narrow, NUMERIC(39) or NUMERIC(20) where they are wide."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.LargeBinary(self.size))
        return dialect.type_descriptor(sa.Numeric(len(str(256**self.size - 1)), 0))

    def bind_processor(self, dialect: sa.engine.Dialect) -> Callable[[int | None], Any]:
        """To the database. One call a value: a batch binds a hundred thousand of them."""
        size = self.size
        if dialect.name == "sqlite":
            return lambda value: None if value is None else value.to_bytes(size, "big")
        return lambda value: None if value is None else Decimal(value)

    def result_processor(
        self,
        dialect: sa.engine.Dialect,
        coltype: object,  # noqa: ARG002  # the signature is SQLAlchemy's
    ) -> Callable[[Any], int | None]:
        """From the database."""
        if dialect.name == "sqlite":
            return lambda value: None if value is None else int.from_bytes(value, "big")
        return lambda value: None if value is None else int(value)


def packer(connection: Connection) -> Callable[[int], Any]:
    """Makes a number of 16 bytes a value of the driver's own."""
    return (lambda number: number.to_bytes(16, "big")) if connection.dialect.name == "sqlite" else Decimal
