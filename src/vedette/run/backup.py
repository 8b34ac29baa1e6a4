"""Backup and restore of a home folder while it is in use: one moment of all its databases, and a manifest of hashes.

How one moment is had of many SQLite files: every file's write lock is taken, so that for some milliseconds nobody
writes; then a read transaction is opened on each, which pins what it sees; then the locks are given back, and each file
is copied from its pinned state while everything goes on. What is not a database is copied before, so that it is never
ahead of the log: stored events and feature state are caught up from the log after a restore. Keys are copied last, so
that none is missing that signed anything.

A restored copy continues where that moment was. What happened later is lost, and an anchor that is elsewhere tells so:
`vedette audit verify` misses the records it has signed. Webhooks that were waiting go out with the ids they had.
Outside of this: PostgreSQL (its own tools; take it with nobody writing, or restore the log to an older moment than
it), and the vault, which has a home of its own and keys that a backup must not hold.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import msgspec

from vedette import __version__
from vedette.core.clock import Clock
from vedette.core.errors import DataError, DefinitionError, TransientError
from vedette.prove.keys import sync_folder

MANIFEST = "manifest.json"
LOCK_S = 10.0
"""How long the moment is looked for in which all write locks are free."""
TRY_S, PAUSE_S = 0.05, 0.05
"""A try holds what it has for so long at most, and so long is the pause before the next: writers never wait longer."""
CHUNK = 1 << 20

_HEADER = b"SQLite format 3\x00"
_KEYS = "keys"
_LEFT_OUT = {"cache", "locks"}
"""Made anew by whoever needs them."""
_SUFFIXES = ("-wal", "-shm", "-journal", ".lock")

Tell = Callable[[str, int, int], None]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a backup."""

    path: str
    """In the home folder, with `/`."""
    size: int
    """Bytes."""
    sha256: str
    mode: int
    """Permissions."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup holds."""

    version: int
    product: str
    taken: int
    """The moment, microseconds UTC."""
    databases: tuple[str, ...]
    files: tuple[Entry, ...]


def take_backup(home: Path, target: Path, clock: Clock, tell: Tell = lambda *_: None) -> Manifest:
    """Copies a home folder that may be in use.

    The manifest is written last: a folder without one is an unfinished backup, which `verify_backup` refuses.

    Args:
        home: The folder of the product's data.
        target: A folder that does not exist, or is empty.
        clock: Time of the manifest.
        tell: Hears what is copied, how many files are done, and of how many.

    Raises:
        DefinitionError: `backup.home.missing`, `backup.target.exists`.
        TransientError: `backup.database.busy` when somebody holds a write lock for more than `LOCK_S`.
    """
    if not home.is_dir():
        raise DefinitionError("backup.home.missing", "there is no home folder here", at=str(home))
    _make_empty(target)
    there = _files(home)
    databases = sorted(path for path in there if _is_database(path))
    plain = [path for path in there if path not in set(databases) and _first(path, home) != _KEYS]
    total = len(databases) + len(plain)
    for done, path in enumerate(plain, start=1):
        tell("files", done, total)
        _copy(path, target / path.relative_to(home))
    with _one_moment(databases) as pinned:
        taken = clock.now()
        for done, (path, connection) in enumerate(zip(databases, pinned, strict=True), start=len(plain) + 1):
            tell("files", done, total)
            _snapshot(connection, target / path.relative_to(home), path)
    for path in _files(home):
        if _first(path, home) == _KEYS:
            _copy(path, target / path.relative_to(home))
    names = tuple(path.relative_to(home).as_posix() for path in databases)
    files = tuple(_entry(path, target) for path in sorted(_files(target)))
    manifest = Manifest(1, __version__, taken, names, files)
    (target / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    sync_folder(target)
    return manifest


def verify_backup(folder: Path, tell: Tell = lambda *_: None) -> Manifest:
    """Every file is there, unchanged, and every database whole by SQLite's own check.

    Raises:
        DataError: `backup.manifest.missing`, `backup.manifest.invalid`, `backup.file.missing`, `backup.file.changed`,
            `backup.file.unknown`, `backup.database.damaged`.
    """
    manifest = _read(folder)
    known = {entry.path for entry in manifest.files}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if name not in known and name != MANIFEST:
            raise DataError("backup.file.unknown", "not a file of this backup", at=name)
    for done, entry in enumerate(manifest.files, start=1):
        tell("files", done, len(manifest.files))
        path = _inside(folder, entry.path)
        if not path.is_file():
            raise DataError("backup.file.missing", "a file is missing", at=entry.path)
        if _digest(path) != entry.sha256:
            raise DataError("backup.file.changed", "a file is not what was backed up", at=entry.path)
    for name in manifest.databases:
        with closing(sqlite3.connect(f"file:{folder / name}?mode=ro&immutable=1", uri=True)) as connection:
            try:
                whole = connection.execute("pragma quick_check").fetchone()[0]
            except sqlite3.DatabaseError:
                whole = "unreadable"
        if whole != "ok":
            raise DataError("backup.database.damaged", "SQLite finds this database damaged", at=name)
    return manifest


def restore_backup(folder: Path, home: Path, tell: Tell = lambda *_: None) -> Manifest:
    """Verifies a backup and puts it into a new home folder, which appears as a whole or not at all.

    Raises:
        DataError: As `verify_backup`.
        DefinitionError: `backup.target.exists`.
    """
    manifest = verify_backup(folder, tell)
    if home.exists() and any(home.iterdir()):
        raise DefinitionError("backup.target.exists", "this folder is not empty", hint="name a new one", at=str(home))
    fresh = home.with_name(f".{home.name}.restoring")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700, parents=True)
    for entry in manifest.files:
        to = _inside(fresh, entry.path)
        _copy(_inside(folder, entry.path), to)
        to.chmod(entry.mode)
    with suppress(FileNotFoundError):
        home.rmdir()
    fresh.rename(home)
    sync_folder(home.parent)
    return manifest


@contextmanager
def _one_moment(databases: list[Path]) -> Iterator[list[sqlite3.Connection]]:
    """A connection to each database, all pinned to what they held at one moment."""
    with ExitStack() as stack:
        pinned = [stack.enter_context(closing(_connect(path))) for path in databases]
        locked = [stack.enter_context(closing(_connect(path))) for path in databases]
        _lock_all(locked)
        for connection in pinned:
            connection.execute("begin")
            # A read transaction begins with its first read.
            connection.execute("select count(*) from sqlite_master").fetchone()
        for connection in locked:
            connection.execute("rollback")
        yield pinned


def _lock_all(connections: list[sqlite3.Connection]) -> None:
    """All write locks or none: who waits for one while holding another would stand in the way of writers like us."""
    end = time.monotonic() + LOCK_S
    while not all(_lock(connection) for connection in connections):
        for connection in connections:
            if connection.in_transaction:
                connection.execute("rollback")
        if time.monotonic() >= end:
            raise TransientError("backup.database.busy", "some database is always being written", hint="try again")
        time.sleep(PAUSE_S)


def _lock(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("begin immediate")
    except sqlite3.OperationalError:
        return False
    return True


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=TRY_S, isolation_level=None)


def _snapshot(connection: sqlite3.Connection, target: Path, path: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        connection.backup(copy)
        copy.execute("pragma journal_mode=delete")
    target.chmod(path.stat().st_mode & 0o777)
    _sync(target)


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A file that a compaction took away meanwhile is one that nothing refers to any more.
    with suppress(FileNotFoundError):
        shutil.copy2(path, target)
        _sync(target)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _files(folder: Path) -> list[Path]:
    """The files that a backup holds, found anew each time."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and not path.name.endswith(_SUFFIXES)
        if _first(path, folder) not in _LEFT_OUT
    ]


def _first(path: Path, folder: Path) -> str:
    return path.relative_to(folder).parts[0]


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_HEADER)) == _HEADER


def _make_empty(target: Path) -> None:
    if target.exists() and any(target.iterdir()):
        raise DefinitionError("backup.target.exists", "this folder is not empty", hint="name a new one", at=str(target))
    target.mkdir(mode=0o700, parents=True, exist_ok=True)


def _entry(path: Path, folder: Path) -> Entry:
    status = path.stat()
    return Entry(path.relative_to(folder).as_posix(), status.st_size, _digest(path), status.st_mode & 0o777)


def _digest(path: Path) -> str:
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hashed.update(chunk)
    return hashed.hexdigest()


def _inside(folder: Path, name: str) -> Path:
    """A file of the folder; a manifest from a stranger may name others."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or Path(name).is_absolute():
        raise DataError("backup.manifest.invalid", "a name leads out of the backup", at=name[:200])
    return path


def _read(folder: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise DataError(
            "backup.manifest.missing", "not a whole backup", hint="it was cut; take another", at=str(folder)
        ) from None
    except msgspec.DecodeError as error:
        raise DataError("backup.manifest.invalid", f"not a manifest: {error}", at=str(folder)) from None
    for entry in manifest.files:
        _inside(folder, entry.path)
    if not set(manifest.databases) <= {entry.path for entry in manifest.files}:
        raise DataError("backup.manifest.invalid", "it names a database that it does not hold", at=str(folder))
    return manifest
