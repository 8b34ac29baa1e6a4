"""Data of any length, scanned a bounded block at a time: what is found is what a scan of the whole would find.

Each block is read with what stands before it, where the context of a number is, and after it, where a number or a key
that begins in the block goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vedette.prove.dlp.scan import Finding, scan

BLOCK = 1 << 20
BACK = 4_096
"""Bytes before a block in which the context of its numbers is looked for."""
AHEAD = 8_192
"""Bytes behind a block in which what begins in it goes on."""


def scan_block(path: Path, start: int, size: int = BLOCK) -> tuple[list[Finding], int]:
    """What begins in a block of a file, at its places in the file, and where the next block starts.

    Args:
        path: The file.
        start: First byte of the block.
        size: Bytes of the block.

    Raises:
        OSError: The file cannot be read.
    """
    first = max(0, start - BACK)
    with path.open("rb") as file:
        # The first line may name the columns of all that follow.
        header = file.read(BACK).partition(b"\n")[0] + b"\n" if first else b""
        file.seek(first)
        data = file.read(start - first + size + AHEAD)
    end = min(first + len(data), start + size)
    shift = first - len(header)
    found = (Finding(one.kind, shift + one.start, shift + one.end) for one in scan(header + data))
    return [one for one in found if start <= one.start < end], end


def files_in(folder: Path) -> Iterator[Path]:
    """Regular files below a folder, in the order of their names; links lead nowhere."""
    for path in sorted(folder.iterdir() if folder.is_dir() else [folder] if folder.is_file() else []):
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from files_in(path)
        elif path.is_file():
            yield path
