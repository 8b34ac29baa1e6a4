"""Postings: sorted keys, each with the rows it stands in, in a file of which only the needed blocks are read.

A file is a head and blocks of 4 KB. The head holds the first key of each block of keys, so that one block answers for
one key, and a checksum of every block; a block is looked at only when its checksum is right. A file appears whole or
not at all, and one that was cut or changed is told by `intel.postings.damaged`, never by a wrong answer.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.core.errors import DataError

BLOCK = 4_096
"""Bytes of a block."""
MAGIC = b"postings"
MANY = 4_096
"""Keys that are asked for one by one; of more, all blocks are read in turn."""

Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.uint32]


class Postings(NamedTuple):
    """Keys and the rows of each."""

    keys: Keys
    """Distinct, rising."""
    starts: Rows
    """Where the rows of each key begin in `rows`, and where the last ones end."""
    rows: Rows
    """Of each key distinct, rising."""


def postings(keys: Sequence[int], rows: Sequence[int]) -> Postings:
    """The postings of pairs of a key and a row, in any order."""
    key, row = np.array(keys, np.uint64), np.array(rows, np.uint32)
    order = np.lexsort((row, key))
    key, row = key[order], row[order]
    first = np.append(True, key[1:] != key[:-1])[: len(key)]
    fresh = first | np.append(True, row[1:] != row[:-1])[: len(row)]
    key, row, first = key[fresh], row[fresh], first[fresh]
    return Postings(key[first], np.append(np.flatnonzero(first), len(row)).astype(np.uint32), row)


class _Part(msgspec.Struct, frozen=True, array_like=True):
    """Where one of a file's postings stand."""

    keys: int
    rows: int
    fences: bytes
    """The first key of each block of keys."""


class _Head(msgspec.Struct, frozen=True, array_like=True):
    parts: list[_Part]
    checks: bytes
    """Checksum of each block."""


def write_postings(path: Path, parts: Iterable[Postings]) -> None:
    """Writes a file in place of what is there; a process that is killed leaves what was there."""
    held, blocks = [], []
    for one in parts:
        per = BLOCK // one.keys.itemsize
        held.append(_Part(len(one.keys), len(one.rows), one.keys[::per].tobytes()))
        for array in one:
            raw = array.tobytes()
            raw += bytes(-len(raw) % BLOCK)
            blocks += [raw[at : at + BLOCK] for at in range(0, len(raw), BLOCK)]
    checks = np.array([zlib.crc32(each) for each in blocks], np.uint32).tobytes()
    head = msgspec.msgpack.encode(_Head(held, checks))
    begin = MAGIC + len(head).to_bytes(4, "little") + zlib.crc32(head).to_bytes(4, "little") + head
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.writelines([begin, bytes(-len(begin) % BLOCK), *blocks])
        fresh.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            fresh.unlink()
        raise


class PostingsFile:
    """A file of postings, open for reading until the block ends.

    Args:
        path: The file.

    Raises:
        DataError: `intel.postings.damaged`, also while it is read.
        FileNotFoundError: There is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDONLY)
        try:
            head = self._head()
        except BaseException:
            os.close(self._file)
            raise
        self.parts: list[_Reader] = []
        """Its postings, in the order in which they were written."""
        place = 0
        for part in head.parts:
            self.parts.append(_Reader(self, part, place))
            place = self.parts[-1].end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._file)

    def _head(self) -> _Head:
        fixed, size = len(MAGIC) + 8, os.fstat(self._file).st_size
        start = os.pread(self._file, BLOCK, 0)
        length, check = (int.from_bytes(start[at : at + 4], "little") for at in (len(MAGIC), len(MAGIC) + 4))
        raw = start[fixed : fixed + length]
        if len(raw) < length <= size:
            raw += os.pread(self._file, length - len(raw), fixed + len(raw))
        if not start.startswith(MAGIC) or len(raw) != length or zlib.crc32(raw) != check:
            raise self._damaged("its head cannot be read")
        head = msgspec.msgpack.decode(raw, type=_Head)
        self._checks = np.frombuffer(head.checks, np.uint32)
        self._base = _blocks(fixed + length) * BLOCK
        if size != self._base + BLOCK * len(self._checks):
            raise self._damaged("its length is not what it says")
        return head

    def read(self, first: int, count: int) -> bytes:
        """Blocks one after another, each as it was written."""
        raw = os.pread(self._file, count * BLOCK, self._base + first * BLOCK)
        view = memoryview(raw)
        good = len(raw) == count * BLOCK and all(
            zlib.crc32(view[number * BLOCK : (number + 1) * BLOCK]) == self._checks[first + number]
            for number in range(count)
        )
        if not good:
            raise self._damaged("a block is not as it was written")
        return raw

    def _damaged(self, why: str) -> DataError:
        return DataError("intel.postings.damaged", f"an index file is damaged: {why}", at=self._path.name)


class _Reader:
    """One of a file's postings."""

    def __init__(self, file: PostingsFile, part: _Part, place: int) -> None:
        self._file = file
        self._count = part.keys
        self._fences = np.frombuffer(part.fences, np.uint64)
        self._keys_at = place
        self._starts_at = place + len(self._fences)
        self._rows_at = self._starts_at + _blocks(4 * (part.keys + 1))
        self.end = self._rows_at + _blocks(4 * part.rows)

    def find(self, keys: Keys) -> Rows:
        """The rows of those of some keys that are there; a row of several keys stands there several times.

        Args:
            keys: Distinct, rising.
        """
        if not self._count or not len(keys):
            return _NO_ROWS
        places = self._among(keys) if len(keys) > MANY else self._each(keys)
        return self._rows_of(places, places + 1)

    def between(self, first: int, last: int) -> Rows:
        """The rows of the keys from one to another, both included."""
        if not self._count:
            return _NO_ROWS
        start, end = self._rank(first, "left"), self._rank(last, "right")
        return self._rows_of(np.array([start]), np.array([end])) if start < end else _NO_ROWS

    def _each(self, keys: Keys) -> npt.NDArray[np.int64]:
        """Places of the keys that are there: of each, the one block that can hold it is read."""
        blocks = np.searchsorted(self._fences, keys, "right") - 1
        keys, blocks = keys[blocks >= 0], blocks[blocks >= 0]
        if not len(keys):
            return np.empty(0, np.int64)
        wanted, which = np.unique(blocks, return_inverse=True)
        table = np.frombuffer(self._gather(self._keys_at, wanted), np.uint64).reshape(len(wanted), -1)
        rows, columns = np.nonzero(table[which] == keys[:, None])
        places = blocks[rows] * table.shape[1] + columns
        # What fills the last block is no key.
        return np.asarray(places[places < self._count], np.int64)

    def _among(self, keys: Keys) -> npt.NDArray[np.int64]:
        """Places of the keys that are there: all blocks are read."""
        held = self._array(self._keys_at, np.uint64, 0, self._count)
        near = np.minimum(np.searchsorted(keys, held), len(keys) - 1)
        return np.flatnonzero(keys[near] == held)

    def _rank(self, key: int, side: Any) -> int:
        """How many keys are lower, or with `right` not higher."""
        block = max(0, int(np.searchsorted(self._fences, np.uint64(key), side)) - 1)
        per = BLOCK // 8
        held = self._array(self._keys_at, np.uint64, block * per, min((block + 1) * per, self._count))
        return block * per + int(np.searchsorted(held, np.uint64(key), side))

    def _rows_of(self, begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> Rows:
        """The rows of stretches of keys."""
        found = []
        for first, last in zip(begin.tolist(), end.tolist(), strict=True):
            starts = self._array(self._starts_at, np.uint32, first, last + 1)
            found.append(self._array(self._rows_at, np.uint32, int(starts[0]), int(starts[-1])))
        return np.concatenate(found) if found else _NO_ROWS

    def _array(self, place: int, kind: Any, begin: int, end: int) -> npt.NDArray[Any]:
        """Some of the values that begin at a block."""
        size = np.dtype(kind).itemsize
        first = begin * size // BLOCK
        raw = self._file.read(place + first, _blocks(end * size) - first)
        return np.frombuffer(raw, kind, end - begin, begin * size - first * BLOCK)

    def _gather(self, place: int, blocks: npt.NDArray[np.int64]) -> bytes:
        """Some blocks, neighbours in one read."""
        runs = np.split(blocks, np.flatnonzero(np.diff(blocks) > 1) + 1) if len(blocks) else []
        return b"".join(self._file.read(place + int(run[0]), len(run)) for run in runs)


_NO_ROWS: Rows = np.empty(0, np.uint32)


def _blocks(size: int) -> int:
    return -(-size // BLOCK)
