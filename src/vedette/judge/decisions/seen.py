"""Seen: which events are decided, and where each decision is in the log.

A map from a hash of tenant and event id to the offset of the decision. The newest entries are in memory, older ones in
a SQLite file that is written in the background. The file knows up to which offset of the log it is complete; after a
crash the rest is read from the log again, so nothing here can be lost that the log still holds.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

FLUSH_ENTRIES = 2_000
"""Entries gathered in memory before they are written."""
KEY_BYTES = 16
MOST_ASKED = 500
"""Keys of one question to the file."""

_SCHEMA = """
create table if not exists seen (key blob primary key, place integer not null) strict, without rowid;
create table if not exists mark (one integer primary key check (one = 1), next integer not null) strict;
"""
# One statement: for each of many, decisions that are being made would wait for the interpreter.
_ADD = f"""
insert into seen select substr(:keys, {KEY_BYTES} * key + 1, {KEY_BYTES}), value from json_each(:places) where true
on conflict (key) do update set place = excluded.place
"""


def key_of(tenant: str, event_id: str) -> bytes:
    """16 bytes of SHA-256 over tenant and event id."""
    return hashlib.sha256(f"{len(tenant)}:{tenant}{event_id}".encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]


class Seen:
    """The map. One writer; memory is bounded by twice `FLUSH_ENTRIES`, a lookup costs about 10 microseconds.

    Args:
        path: The SQLite file; made when missing, its folder too. Deleting it loses nothing but time.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._read = _connect(path)
        self._read.executescript(_SCHEMA)
        row = self._read.execute("select next from mark").fetchone()
        self.next: int = row[0] if row else 0
        """Offset of the decision log from which on entries must be added again."""
        self._new: dict[bytes, int] = {}
        self._leaving: dict[bytes, int] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="seen")
        self._writing: Future[None] | None = None

    def get(self, key: bytes) -> int | None:
        """Offset of the event's decision; None when it has none."""
        return self.get_each([key]).get(key)

    def get_each(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Offsets of the decisions of those events that have one; all others are looked up together."""
        found = {}
        asked = []
        for key in keys:
            place = self._new.get(key)
            if place is None:
                place = self._leaving.get(key)
            if place is None:
                asked.append(key)
            else:
                found[key] = place
        for start in range(0, len(asked), MOST_ASKED):
            some = asked[start : start + MOST_ASKED]
            marks = ", ".join("?" * len(some))
            rows = self._read.execute(f"select key, place from seen where key in ({marks})", some)
            found |= dict(rows.fetchall())
        return found

    def add(self, key: bytes, place: int) -> None:
        """Notes a decision; a later one of the same event replaces it. In the order of the log."""
        self._new[key] = place
        self.next = place + 1
        if len(self._new) >= FLUSH_ENTRIES and (self._writing is None or self._writing.done()):
            self._flush()

    def close(self) -> None:
        """Writes everything and closes the file."""
        if self._writing:
            self._writing.result()
        if self._new:
            self._flush().result()
        self._worker.shutdown()
        self._read.close()

    def _flush(self) -> Future[None]:
        if self._writing:
            self._writing.result()
        self._leaving, self._new = self._new, {}
        self._writing = self._worker.submit(_write, self._path, self._leaving, self.next)
        return self._writing


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "trusted_schema=OFF"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _write(path: Path, entries: dict[bytes, int], following: int) -> None:
    """Entries and mark in one transaction: both or neither."""
    connection = _connect(path)
    try:
        ordered = sorted(entries.items())
        keys, places = b"".join(key for key, _ in ordered), json.dumps([place for _, place in ordered])
        connection.execute("begin immediate")
        connection.execute(_ADD, {"keys": keys, "places": places})
        connection.execute(
            "insert into mark values (1, ?) on conflict (one) do update set next = excluded.next", (following,)
        )
        connection.execute("commit")
    finally:
        connection.close()
