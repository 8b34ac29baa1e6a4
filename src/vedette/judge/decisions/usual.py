"""Usual values: where the features of recent decisions lay, to set one decision's beside them.

Features are kept as 32-bit floats, four bytes each: they are shown, never decided with.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

FEATURES = """
create table if not exists register_features (
  seq integer primary key, definition integer not null, features blob not null
) strict;
create table if not exists register_definition (
  id integer primary key, version text not null, names blob not null, unique (version, names)
) strict
"""

Valued = tuple[str, dict[str, float | None]]
"""Version of the definitions, and values by name."""

_encode = msgspec.json.Encoder().encode


class Range(NamedTuple):
    """Where most values of a feature lie."""

    low: float
    """5 % of the values are below."""
    middle: float
    """The median."""
    high: float
    """5 % of the values are above."""
    seen: int
    """Decisions that had a value."""


def store_features(connection: sqlite3.Connection, features: Mapping[int, Valued]) -> None:
    """Keeps what each decision read, by its place; replaces what was kept."""
    definitions: dict[tuple[str, bytes], int] = {}
    rows = []
    for seq, (version, values) in features.items():
        if not values:
            continue
        key = version, _encode(list(values))
        if key not in definitions:
            connection.execute("insert or ignore into register_definition (version, names) values (?, ?)", key)
            found = connection.execute("select id from register_definition where version = ? and names = ?", key)
            definitions[key] = found.fetchone()[0]
        # Features are floats of any size; beyond float32 they are infinite here, and only where they are compared.
        with np.errstate(over="ignore"):
            blob = np.array(list(values.values()), np.float64).astype(np.float32).tobytes()
        rows.append((seq, definitions[key], blob))
    connection.executemany("insert or replace into register_features values (?, ?, ?)", rows)


def _ranges(names: Sequence[str], values: npt.NDArray[np.float32]) -> dict[str, Range]:
    table = values.reshape(-1, len(names)).astype(np.float64)
    counts = np.count_nonzero(~np.isnan(table), axis=0)
    found = {}
    for place in np.flatnonzero(counts).tolist():
        column = table[:, place]
        low, middle, high = np.quantile(column[~np.isnan(column)], (0.05, 0.5, 0.95), method="nearest").tolist()
        found[names[place]] = Range(low, middle, high, int(counts[place]))
    return found


def usual(connection: sqlite3.Connection, version: str, seqs: str, values: Sequence[Any]) -> dict[str, Range]:
    """Ranges over the decisions that a query of places selects; empty when none has these definitions.

    Args:
        connection: Of the register.
        version: SHA-256 of the feature definitions.
        seqs: A query that gives places.
        values: For its marks.
    """
    held = connection.execute(
        "select d.names, f.features from register_features f join register_definition d on d.id = f.definition"
        f" where d.version = ? and f.seq in ({seqs})",
        (version, *values),
    ).fetchall()
    by_names: dict[bytes, list[bytes]] = defaultdict(list)
    for names, blob in held:
        by_names[names].append(blob)
    if not by_names:
        return {}
    names, blobs = max(by_names.items(), key=lambda item: len(item[1]))
    return _ranges(msgspec.json.decode(names), np.frombuffer(b"".join(blobs), np.float32))
