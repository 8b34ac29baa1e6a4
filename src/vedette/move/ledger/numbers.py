"""Unsigned numbers wider than a database integer."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from vedette.core.db import sa


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

    def process_bind_param(self, value: int | None, dialect: sa.engine.Dialect) -> Any:
        """To the database."""
        if value is None:
            return None
        return value.to_bytes(self.size, "big") if dialect.name == "sqlite" else Decimal(value)

    def process_result_value(self, value: Any, dialect: sa.engine.Dialect) -> int | None:
        """From the database."""
        if value is None:
            return None
        return int.from_bytes(value, "big") if dialect.name == "sqlite" else int(value)
