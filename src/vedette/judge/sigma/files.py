"""Rule files of a folder or a `.tar.gz`, read within bounds. An archive is never unpacked to disk."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vedette.core.errors import DataError

SUFFIXES = {".yml", ".yaml"}
FILE_BYTES = 1 << 20
"""Longest rule file; the longest of SigmaHQ has 25 kB."""
TOTAL_BYTES = 512 << 20
"""Most bytes read out of one archive, so that a decompression bomb ends."""


@dataclass(frozen=True, slots=True)
class RuleFile:
    """One file that may hold rules."""

    path: str
    """Inside the folder or archive, with `/`."""
    content: bytes
    problem: str = ""
    """Why there is no content, such as being too long."""


def rule_files(root: Path, only: str = "") -> Iterator[RuleFile]:
    """Every `.yml` and `.yaml` file below a folder or in an archive, or the single file named; sorted by path.

    Args:
        root: Folder, `.tar.gz` (or `.tgz`, `.tar`) archive, or one rule file.
        only: Glob over the paths inside; `*` stays within one folder, `**` crosses them. Empty: all.

    Raises:
        DataError: `sigma.rules.missing`, `sigma.rules.unreadable`.
    """
    wanted = _glob(only or "**")
    if root.is_dir():
        found = _folder(root, wanted)
    elif not root.exists():
        raise DataError("sigma.rules.missing", "no such file or folder", at=str(root))
    elif root.suffix in SUFFIXES:
        found = iter([_bounded(root.name, root)])
    else:
        found = _archive(root, wanted)
    return iter(sorted(found, key=lambda file: file.path))


def _glob(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(known.get(part) or re.escape(part) for part in parts), re.DOTALL)


def _folder(root: Path, wanted: re.Pattern[str]) -> Iterator[RuleFile]:
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.suffix in SUFFIXES and wanted.fullmatch(name) and path.is_file():
            yield _bounded(name, path)


def _bounded(name: str, path: Path) -> RuleFile:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES + 1)
    except OSError as error:
        return RuleFile(name, b"", f"cannot be read: {error.strerror}")
    return _checked(name, content)


def _checked(name: str, content: bytes) -> RuleFile:
    if len(content) > FILE_BYTES:
        return RuleFile(name, b"", f"longer than {FILE_BYTES} bytes")
    return RuleFile(name, content)


def _archive(root: Path, wanted: re.Pattern[str]) -> Iterator[RuleFile]:
    total = 0
    try:
        with tarfile.open(root, "r|*") as archive:
            for member in archive:
                total += member.size
                if total > TOTAL_BYTES:
                    raise DataError("sigma.rules.unreadable", f"archive holds over {TOTAL_BYTES} bytes", at=str(root))
                name = member.name.removeprefix("./")
                if not member.isfile() or PurePosixPath(name).suffix not in SUFFIXES or not wanted.fullmatch(name):
                    continue
                opened = archive.extractfile(member)
                yield _checked(name, opened.read(FILE_BYTES + 1) if opened else b"")
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, OSError) as error:
        raise DataError("sigma.rules.unreadable", f"not a readable archive: {error}", at=str(root)) from error
