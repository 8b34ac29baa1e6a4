"""A byte search for card numbers in whatever a product leaves behind.

A number is looked for plain and in part, split by any signs, as base64 at each offset, percent-encoded, in hexadecimal,
as UTF-16 and as JSON's escapes, in every file as it lies on the disk, and in what is packed inside: rows of databases
(long values lie there in pieces), columns of Parquet, members of archives, compressed streams.
"""

from __future__ import annotations

import base64
import bz2
import contextlib
import gzip
import io
import lzma
import re
import shutil
import sqlite3
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from ahocorasick_rs import BytesAhoCorasick

_SPLIT = re.compile(
    rb"(?<=[0-9])(?:[ \t\r\n\-._/+,:]|%20|%2[DdEeFf]|%0[Aa]|\xc2\xa0|\xe2\x80[\x80-\xaf]){1,3}(?=[0-9])"
)
"""Signs between two digits of a number that somebody split."""
DEPTH = 3
"""Packed things inside packed things that are opened."""


def traces(number: str) -> list[bytes]:
    """Forms in which a number could stand somewhere. Splits are undone by the search itself."""
    groups = [number, *(sign.join(number[n : n + 4] for n in range(0, len(number), 4)) for sign in " -")]
    # base64 at each of the three offsets a text can have in a stream; the ends depend on what stands beside.
    encoded = [base64.b64encode(b"x" * pad + form.encode()).decode()[4:-4] for form in groups for pad in range(3)]
    spelled = [
        "".join(f"%{ord(digit):02X}" for digit in number),
        "".join(f"\\u{ord(digit):04x}" for digit in number),
        number.encode().hex(),
        number.encode().hex().upper(),
        number.encode("utf-16-le").decode("latin-1"),
    ]
    return [text.encode("latin-1") for text in (number[:14], number[2:], *encoded, *spelled)]


class Search:
    """Looks for numbers.

    Args:
        numbers: Card numbers that must be nowhere.
    """

    def __init__(self, numbers: Iterable[str]) -> None:
        self._automaton = BytesAhoCorasick([trace for number in numbers for trace in traces(number)])
        self.read = 0
        """Bytes that were looked at."""

    def found(self, raw: bytes) -> bool:
        """Whether one of the numbers stands in these bytes, as they are or with its splits undone."""
        self.read += len(raw)
        if self._automaton.find_matches_as_indexes(raw):
            return True
        joined = _SPLIT.sub(b"", raw)
        return len(joined) != len(raw) and bool(self._automaton.find_matches_as_indexes(joined))

    def leaks(self, *folders: Path) -> list[str]:
        """Places in folders of files where a number stands: in the name of a file, or inside."""
        found = []
        for path in sorted(each for folder in folders for each in folder.rglob("*")):
            if self.found(str(path).encode()):
                found.append(f"{path}: its name")
            if path.is_file() and not path.is_symlink():
                found += [f"{path}{where}" for where, raw in unpacked(path.read_bytes()) if self.found(raw)]
            if path.name.endswith("-wal") and path.stat().st_size:
                found += [f"{path}{where}" for where, raw in unpacked(caught_up(path)) if self.found(raw)]
        return found


def caught_up(log: Path) -> bytes:
    """The database that a write-ahead log belongs to, with what the log holds."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        shutil.copy(log.with_name(log.name.removesuffix("-wal")), copy)
        shutil.copy(log, f"{copy}-wal")
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        return copy.read_bytes()


def unpacked(raw: bytes, where: str = "", depth: int = DEPTH) -> Iterator[tuple[str, bytes]]:
    """Bytes as they are, and what is packed in them, each with its place."""
    yield where, raw
    if depth == 0:
        return
    for name, inner in _inside(raw):
        yield from unpacked(inner, f"{where}!{name}", depth - 1)


def _inside(raw: bytes) -> Iterator[tuple[str, bytes]]:
    if raw.startswith(b"SQLite format 3\0"):
        yield from _rows(raw)
    elif raw.startswith(b"PAR1"):
        table = pq.read_table(pa.BufferReader(raw))
        for name in table.column_names:
            yield name, "\n".join(map(str, table[name].to_pylist())).encode("utf-8", "surrogatepass")
    elif zipfile.is_zipfile(io.BytesIO(raw)):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            yield from ((name, archive.read(name)) for name in archive.namelist())
    elif raw[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            yield from ((each.name, archive.extractfile(each).read()) for each in archive if each.isfile())
    else:
        yield from _streams(raw)


def _streams(raw: bytes) -> Iterator[tuple[str, bytes]]:
    openers = {
        b"\x1f\x8b": gzip.decompress,
        b"BZh": bz2.decompress,
        b"\xfd7zXZ": lzma.decompress,
        b"\x28\xb5\x2f\xfd": lambda data: pa.CompressedInputStream(pa.BufferReader(data), "zstd").read(),
        b"\x78\x9c": zlib.decompress,
    }
    for magic, opener in openers.items():
        if raw.startswith(magic):
            with contextlib.suppress(OSError, EOFError, lzma.LZMAError, zlib.error):
                yield "stream", opener(raw)


def _rows(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Every row of every table: a value that spills lies on several pages, and a number may be cut by their edge."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        # As if it kept no write-ahead log: one in memory has no place for that.
        connection.deserialize(raw[:18] + b"\1\1" + raw[20:])
        connection.text_factory = bytes
        names = [name.decode() for (name,) in connection.execute("select name from sqlite_master where type='table'")]
        for name in names:
            lines = [b"\x1f".join(map(_bytes, row)) for row in connection.execute(f'select * from "{name}"')]
            yield name, b"\n".join(lines)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
