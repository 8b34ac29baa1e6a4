"""Files and folders become chunks of lines, with the place of every line; bad input never ends the reading.

Plain and gzip files (told by their first bytes, several members too) are read in bounded blocks and split at newlines.
A line's place is its number and its byte offset in the decompressed stream. What cannot be read as a line is one
`BadRecord`: an over-long line, the tail of a broken gzip file, a decompression bomb. Memory is bounded by
`Limits.line_bytes` plus a few blocks, whatever the file holds.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from vedette.core.errors import DataError

SUFFIXES = (".ndjson", ".jsonl", ".json", ".log", ".txt")
"""What a folder is searched for, each also with `.gz`. A file named on its own may have any name."""

HEAD_BYTES = 4_096
"""How much of a bad record's beginning is kept for quarantine."""

FINGERPRINT_BYTES = 4_096
"""How much of the first line goes into a stream's identity."""

_READ_BYTES = 1 << 16
# Small, because every further gzip member in a block costs a copy of the rest of the block.
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31
_BOM = b"\xef\xbb\xbf"
_BLANK = (b"", b"\r")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost."""

    line_bytes: int = 16 << 20
    """Longest line that is kept; a longer one is skipped without being held."""
    chunk_bytes: int = 1 << 18
    """Decompressed bytes that are split at once."""
    ratio: int = 400
    """Decompressed size over compressed size from which a file is taken for a bomb. Logs of one repeated line
    reach about 260, the format itself about 1,030."""
    ratio_from_bytes: int = 64 << 20
    """The ratio is judged only after that many decompressed bytes, so small and very regular files pass."""


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A stretch of a file that is no record."""

    line: int
    """From 1."""
    offset: int
    """Of its first byte, in the decompressed stream."""
    code: str
    message: str
    raw: bytes = b""
    """Its beginning, at most `HEAD_BYTES`."""


class Chunk:
    """Lines of one file that were read together. Blank lines are left out; a carriage return before a newline stays.

    Args:
        path: The file.
        lines: Without their newlines.
        numbers: Line number of each, from 1.
        offsets: Byte offset of each in the decompressed stream.
        bad: What could not be read as a line.
    """

    __slots__ = ("_counted", "_ended", "_lines", "_numbers", "_offsets", "bad", "first", "path", "start", "text")

    def __init__(
        self,
        path: Path,
        lines: list[bytes],
        numbers: Sequence[int],
        offsets: list[int],
        bad: Sequence[BadRecord] = (),
    ) -> None:
        self.path = path
        self.bad = list(bad)
        self.text: bytes | None = None
        """All lines with the newlines between them, blank ones too, when they were read in one piece."""
        self._counted: int | None = None
        self._ended: list[bytes] | None = []
        self._lines: list[bytes] | None = lines
        self._numbers: Sequence[int] | None = numbers
        self._offsets: list[int] | None = offsets
        self.first = self.start = 0
        """Then the number and the byte offset of the first line."""

    @classmethod
    def whole(cls, path: Path, text: bytes, first: int, start: int) -> Chunk:
        """Lines that follow upon each other; their places are found when somebody asks.

        Args:
            path: The file.
            text: The lines with the newlines between them.
            first: Number of the first line.
            start: Byte offset of the first line.
        """
        chunk = cls(path, [], (), [])
        chunk.text, chunk.first, chunk.start = text, first, start
        chunk._ended = chunk._lines = chunk._numbers = chunk._offsets = None
        return chunk

    @property
    def ended(self) -> list[bytes]:
        """Of a text in one piece: its lines, cut after each newline."""
        if self._ended is None:
            # At a third of what it costs to count the newlines.
            self._ended = io.BytesIO(self.text or b"").readlines()
        return self._ended

    @property
    def length(self) -> int:
        """Of a text in one piece: how many lines it has, blank ones too."""
        text = self.text or b""
        return len(self.ended) + (not text or text.endswith(b"\n")) if self._counted is None else self._counted

    def none_blank(self, count: int) -> None:
        """Tells that all lines were found to be records, so that nobody has to look for blank ones."""
        self._counted = count
        if self._numbers is None:
            self._numbers = range(self.first, self.first + count)

    def _cut(self) -> None:
        text = self.text or b""
        lines = text.split(b"\n")
        offsets = list(accumulate((len(line) + 1 for line in lines[:-1]), initial=self.start))
        numbers: Sequence[int] = range(self.first, self.first + len(lines))
        if any(line in _BLANK for line in lines):
            good = [place for place, line in enumerate(lines) if line not in _BLANK]
            lines, numbers, offsets = (
                [lines[place] for place in good],
                [numbers[place] for place in good],
                [offsets[place] for place in good],
            )
        self._lines, self._numbers, self._offsets = lines, numbers, offsets

    @property
    def lines(self) -> list[bytes]:
        """The lines, without their newlines."""
        if self._lines is None:
            self._cut()
        assert self._lines is not None  # noqa: S101 - cut
        return self._lines

    @property
    def numbers(self) -> Sequence[int]:
        """Line number of each, from 1."""
        if self._numbers is None:
            self._cut()
        assert self._numbers is not None  # noqa: S101 - cut
        return self._numbers

    @property
    def offsets(self) -> list[int]:
        """Byte offset of each line in the decompressed stream."""
        if self._offsets is None:
            self._cut()
        assert self._offsets is not None  # noqa: S101 - cut
        return self._offsets

    @property
    def first_line(self) -> int:
        """Number of the first line, or 0 when the chunk holds bad records only."""
        return self.numbers[0] if self.numbers else 0

    @property
    def count(self) -> int:
        """Records read: lines and bad ones."""
        return len(self.numbers) + len(self.bad)

    def after(self, offset: int) -> Chunk:
        """The records that begin at `offset` or later."""
        first = bisect_left(self.offsets, offset)
        bad = [each for each in self.bad if each.offset >= offset]
        return Chunk(self.path, self.lines[first:], self.numbers[first:], self.offsets[first:], bad)


class _Broken(Exception):
    """The byte stream cannot go on; what came before it is good."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def list_files(path: Path) -> list[Path]:
    """The file (or pipe) itself, or what lies under a folder with one of `SUFFIXES`, in the order of their names.

    Raises:
        DataError: `files.path.missing` when there is nothing at `path`, `files.folder.empty` when a folder has none.
    """
    if path.is_file() or path.is_fifo():
        return [path]
    if not path.is_dir():
        raise DataError("files.path.missing", "no such file or folder", at=str(path))
    found = sorted(
        each for each in path.rglob("*") if each.is_file() and each.name.removesuffix(".gz").endswith(SUFFIXES)
    )
    if not found:
        raise DataError("files.folder.empty", f"no file named {', '.join(SUFFIXES)} (or .gz) in it", at=str(path))
    return found


def read_lines(path: Path, *, limits: Limits = Limits(), growing: bool = False) -> Iterator[Chunk]:
    """Reads a file, or every file of a folder, chunk by chunk.

    Args:
        path: A plain or gzip file, or a folder (see `list_files`).
        limits: What one file may cost.
        growing: Leave out a last line without a newline: it is still being written.

    Yields:
        Chunks in file order. A broken gzip tail gives the whole lines before it, then one bad record.

    Raises:
        DataError: `files.path.missing`, `files.folder.empty`, `files.path.unreadable`, and `files.gzip.not_gzip` when a
            file named on its own ends in `.gz` but is none; inside a folder that is a bad record, and reading goes on.
    """
    for file in list_files(path):
        if file == path:
            yield from _read_file(file, limits, growing=growing)
            continue
        try:
            yield from _read_file(file, limits, growing=growing)
        except DataError as error:
            yield Chunk(file, [], [], [], [BadRecord(1, 0, error.code, error.message)])


def spans(path: Path, size: int) -> list[tuple[int, int]]:
    """Stretches of a plain file that begin and end at the beginning of a line, each of `size` bytes or a line more."""
    found, begin, whole = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while begin < whole:
            file.seek(min(begin + size, whole))
            while (piece := file.readline(_READ_BYTES)) and not piece.endswith(b"\n"):
                pass
            found.append((begin, file.tell()))
            begin = file.tell()
    return found


class Stretch:
    """One of the `spans` of a file; a later span's first line is number 2.

    Args:
        path: The file.
        span: Where it begins and ends.
        limits: What it may cost.
    """

    def __init__(self, path: Path, span: tuple[int, int], limits: Limits = Limits()) -> None:
        self._path = path
        self._span = span
        self._limits = limits
        self.lines = 0
        """How many lines it has, once its chunks are read."""

    def chunks(self) -> Iterator[Chunk]:
        """Its chunks."""
        begin, end = self._span
        lines = _Lines(self._path, self._limits)
        lines.offset = begin
        # Only the first line of a file may have a mark before it; that of a later span is counted from 2 and put right.
        first = lines.line = 1 if begin == 0 else 2
        with self._path.open("rb") as file:
            file.seek(begin)
            while block := file.read(min(self._limits.chunk_bytes, end - file.tell())):
                if (chunk := lines.feed(block)) is not None:
                    yield chunk
            if (chunk := lines.end()) is not None:
                yield chunk
        self.lines = lines.line - first


def stream_identity(path: Path, first_line: bytes, name: str = "") -> str:
    """Names the stream that a file's records are numbered in.

    The resolved path and a hash of the first record: a file that grows stays the same stream, a rotated file that takes
    over the name is another one. A moved or compressed copy is another stream unless `name` says otherwise.
    """
    digest = hashlib.sha256(first_line[:FINGERPRINT_BYTES].strip()).hexdigest()[:16]
    return f"{name or path.resolve()}#{digest}"


def _read_file(path: Path, limits: Limits, *, growing: bool) -> Iterator[Chunk]:
    try:
        with path.open("rb") as file:
            # Looked at, not read: a pipe cannot be wound back.
            magic = file.peek(len(_GZIP_MAGIC))[: len(_GZIP_MAGIC)]
            if magic and magic != _GZIP_MAGIC and path.suffix == ".gz":
                raise DataError(
                    "files.gzip.not_gzip", "named .gz but not gzip", hint="rename it or compress it", at=str(path)
                )
            blocks = _inflate(file, limits) if magic == _GZIP_MAGIC else _plain(file, limits)
            yield from _split(path, blocks, limits, growing=growing)
    except OSError as error:
        raise DataError("files.path.unreadable", error.strerror or "cannot be read", at=str(path)) from error


def _plain(file: BinaryIO, limits: Limits) -> Iterator[bytes]:
    while block := file.read(limits.chunk_bytes):
        yield block


def _inflate(file: BinaryIO, limits: Limits) -> Iterator[bytes]:
    """Decompressed blocks of at most `chunk_bytes`; never more than one of them in memory."""
    engine = zlib.decompressobj(_GZIP_WINDOW)
    pending = b""
    read = written = 0
    while True:
        if engine.eof:
            read -= len(engine.unused_data)
            pending = (engine.unused_data or file.read(_READ_BYTES)).lstrip(b"\0")
            if not pending:
                return
            engine = zlib.decompressobj(_GZIP_WINDOW)
        elif not pending:
            pending = file.read(_READ_BYTES)
        if not pending:
            # The engine may hold the rest of one match that did not fit the last block.
            yield engine.flush()
            if engine.eof:
                continue
            raise _Broken("files.gzip.truncated", "the gzip file ends before its last member does")
        read += len(pending)
        try:
            block = engine.decompress(pending, limits.chunk_bytes)
        except zlib.error as error:
            raise _Broken("files.gzip.corrupt", f"the gzip file is damaged: {error}") from error
        pending = engine.unconsumed_tail
        read -= len(pending)
        written += len(block)
        if written > limits.ratio_from_bytes and written > read * limits.ratio:
            raise _Broken("files.gzip.ratio", f"{written} bytes out of {read}: more than {limits.ratio} times")
        if block:
            yield block


class _Lines:
    """Cuts blocks into lines; holds the unfinished last one, but never more than `line_bytes` of it."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self.limits = limits
        self.line = 1
        self.offset = 0
        self.head: list[bytes] = []
        self.held = 0
        self._whole_one: Chunk | None = None
        """Whose lines are not counted yet: whoever takes it may count them at no cost."""

    def feed(self, block: bytes) -> Chunk | None:
        """The lines that end in this block, if any does."""
        self._count()
        cut = block.rfind(b"\n")
        if cut < 0:
            self._hold(block)
            return None
        if self.held + cut <= self.limits.line_bytes:
            chunk = self._whole(b"".join((*self.head, memoryview(block)[:cut])))
        else:
            lines = block[:cut].split(b"\n")
            chunk = self._chunk(self._finish(lines[0]), lines)
        self._hold(block[cut + 1 :])
        return chunk

    def _whole(self, text: bytes) -> Chunk:
        """Lines none of which can be over-long."""
        self.head, self.held = [], 0
        if self.line == 1 and text.startswith(_BOM):
            lines = text.split(b"\n")
            return self._chunk((lines[0], len(lines[0])), lines)
        chunk = Chunk.whole(self.path, text, self.line, self.offset)
        self.offset += len(text) + 1
        self._whole_one = chunk
        return chunk

    def _count(self) -> None:
        if self._whole_one is not None:
            self.line += self._whole_one.length
            self._whole_one = None

    def end(self) -> Chunk | None:
        """The last line, when it has no newline."""
        self._count()
        if not self.held:
            return None
        return self._chunk(self._finish(b""), [b""])

    def broken(self, reason: _Broken) -> Chunk:
        """The stream ended badly: what is held is no whole record."""
        self._count()
        raw = b"".join(self.head)[:HEAD_BYTES]
        return Chunk(self.path, [], [], [], [BadRecord(self.line, self.offset, reason.code, reason.message, raw)])

    def _hold(self, piece: bytes) -> None:
        if not piece:
            return
        self.held += len(piece)
        self.head.append(piece)
        if self.held > self.limits.line_bytes:
            self.head = [b"".join(self.head)[:HEAD_BYTES]]

    def _finish(self, piece: bytes) -> tuple[bytes, int]:
        """The first line of a block with what was held before it (its beginning, if over-long), and its true length."""
        length = self.held + len(piece)
        line = b"".join((*self.head, piece))
        self.head, self.held = [], 0
        return line, length

    def _chunk(self, first: tuple[bytes, int], lines: list[bytes]) -> Chunk:
        lines[0], length = first
        sizes = [length, *map(len, lines[1:])]
        offsets = list(accumulate((size + 1 for size in sizes), initial=self.offset))
        numbers = range(self.line, self.line + len(lines))
        if self.line == 1 and lines[0].startswith(_BOM):
            lines[0] = lines[0][len(_BOM) :]
        self.offset = offsets.pop()
        self.line += len(lines)
        if max(sizes) > self.limits.line_bytes or min(sizes) <= 1:
            return self._sifted(lines, numbers, offsets, sizes)
        return Chunk(self.path, lines, numbers, offsets)

    def _sifted(self, lines: list[bytes], numbers: range, offsets: list[int], sizes: list[int]) -> Chunk:
        """The slow way: takes over-long lines and blank ones out."""
        limit = self.limits.line_bytes
        bad = [
            BadRecord(number, offset, "files.line.too_long", f"{size} bytes, the limit is {limit}", line[:HEAD_BYTES])
            for line, number, offset, size in zip(lines, numbers, offsets, sizes, strict=True)
            if size > limit
        ]
        good = [place for place, line in enumerate(lines) if sizes[place] <= limit and line not in _BLANK]
        return Chunk(
            self.path,
            [lines[place] for place in good],
            [numbers[place] for place in good],
            [offsets[place] for place in good],
            bad,
        )


def _split(path: Path, blocks: Iterator[bytes], limits: Limits, *, growing: bool) -> Iterator[Chunk]:
    lines = _Lines(path, limits)
    try:
        for block in blocks:
            chunk = lines.feed(block)
            if chunk is not None and (chunk.text or chunk.count):
                yield chunk
    except _Broken as reason:
        yield lines.broken(reason)
        return
    last = None if growing else lines.end()
    if last is not None and last.count:
        yield last
