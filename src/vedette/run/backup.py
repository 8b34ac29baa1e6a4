"""Backup and restore of a home folder while it is in use: one moment of all its databases, and a manifest of hashes.

How one moment is had of many databases: see `core.moment`. What is not a database is copied before, so that it is never
ahead of the log: stored events and feature state are caught up from the log after a restore. Keys are copied last, so
that none is missing that signed anything.

A restored copy continues where that moment was. What happened later is lost, and an anchor that is elsewhere tells so:
`vedette audit verify` misses the records it has signed. Webhooks that were waiting go out with the ids they had.
A PostgreSQL database is dumped by its own tools from the same moment. Secrets that several services share are held in a
folder `shared`, and restored into the new home under that name. Outside of this: Redis, which is filled from the
log, and the vault, which has a home of its own and keys that a backup must not hold.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from vedette import __version__
from vedette.core.clock import Clock
from vedette.core.errors import DataError, DefinitionError
from vedette.core.moment import File, Server, Source, fill, one_moment
from vedette.prove.keys import sync_folder

MANIFEST = "manifest.json"
DUMP = "postgres.dump"
"""What PostgreSQL held, for `pg_restore`."""
CHUNK = 1 << 20

_HEADER = b"SQLite format 3\x00"
_KEYS = "keys"
SHARED = "shared"
"""Where a backup, and the home it is restored to, has what services share."""
_SHARED_FOLDERS = {_KEYS, "secrets"}
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


def take_backup(
    home: Path,
    target: Path,
    clock: Clock,
    tell: Tell = lambda *_: None,
    *,
    database_url: str = "",
    shared: Path | None = None,
) -> Manifest:
    """Copies a home folder that may be in use.

    The manifest is written last: a folder without one is an unfinished backup, which `verify_backup` refuses.

    Args:
        home: The folder of the product's data.
        target: A folder that does not exist, or is empty.
        clock: Time of the manifest.
        tell: Hears what is copied, how many files are done, and of how many.
        database_url: PostgreSQL that the installation keeps money, state and runs in; empty: it has none.
        shared: Folder of the secrets that it shares with other services; None: it has its own.

    Raises:
        DefinitionError: `backup.home.missing`, `backup.shared.missing`, `backup.shared.collides`,
            `backup.target.exists`, `backup.tool.missing`.
        TransientError: `backup.database.busy` when somebody holds a write lock for more than `moment.LOCK_S`;
            `backup.database.unreachable`.
        VedetteError: `backup.tool.failed`.
    """
    if not home.is_dir():
        raise DefinitionError("backup.home.missing", "there is no home folder here", at=str(home))
    beside = _beside(home, shared)
    _make_empty(target)
    there = _files(home)
    databases = sorted(path for path in there if _is_database(path))
    plain = [path for path in there if path not in set(databases) and _first(path, home) != _KEYS]
    sources: list[tuple[Source, Path]] = [(Server(database_url), target / DUMP)] if database_url else []
    sources += [(File(path), target / path.relative_to(home)) for path in databases]
    total = len(sources) + len(plain)
    for done, path in enumerate(plain, start=1):
        tell("files", done, total)
        _copy(path, target / path.relative_to(home))
    with one_moment([source for source, _ in sources]):
        taken = clock.now()
        for done, (source, copy) in enumerate(sources, start=len(plain) + 1):
            tell("files", done, total)
            copy.parent.mkdir(parents=True, exist_ok=True)
            source.copy(copy)
            _sync(copy)
    for path in _files(home):
        if _first(path, home) == _KEYS:
            _copy(path, target / path.relative_to(home))
    if beside is not None:
        for path in _files(beside):
            if _first(path, beside) in _SHARED_FOLDERS:
                _copy(path, target / SHARED / path.relative_to(beside))
    names = tuple(path.relative_to(home).as_posix() for path in databases)
    files = tuple(_entry(path, target) for path in sorted(_files(target)))
    manifest = Manifest(1, __version__, taken, names, files)
    (target / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    sync_folder(target)
    return manifest


def _beside(home: Path, shared: Path | None) -> Path | None:
    """The folder of shared secrets, when a copy of the home does not hold it already."""
    if shared is None or shared.resolve().is_relative_to(home.resolve()):
        return None
    if not shared.is_dir():
        hint = "VEDETTE_SHARED names the folder with the keys/ and secrets/ of all services"
        raise DefinitionError(
            "backup.shared.missing", "there is no folder of shared secrets", hint=hint, at=str(shared)
        )
    if (home / SHARED).exists():
        message = "the home has something of the name under which shared secrets are kept"
        raise DefinitionError("backup.shared.collides", message, at=str(home / SHARED))
    return shared


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


def restore_backup(folder: Path, home: Path, tell: Tell = lambda *_: None, *, database_url: str = "") -> Manifest:
    """Verifies a backup and puts it into a new home folder, which appears as a whole or not at all.

    What PostgreSQL held is put into an empty database before, in one transaction: killed in between, drop it and begin
    again.

    Args:
        folder: The backup.
        home: A folder that does not exist, or is empty.
        tell: As of `take_backup`.
        database_url: An empty PostgreSQL database, where the backup holds one.

    Raises:
        DataError: As `verify_backup`.
        DefinitionError: `backup.target.exists`, `backup.database.unnamed`, `backup.tool.missing`.
        VedetteError: `backup.tool.failed`.
    """
    manifest = verify_backup(folder, tell)
    dumped = any(entry.path == DUMP for entry in manifest.files)
    if dumped and not database_url:
        hint = "name an empty PostgreSQL database in VEDETTE_DATABASE_URL"
        raise DefinitionError("backup.database.unnamed", "the backup holds a PostgreSQL database", hint=hint)
    if home.exists() and any(home.iterdir()):
        raise DefinitionError("backup.target.exists", "this folder is not empty", hint="name a new one", at=str(home))
    fresh = home.with_name(f".{home.name}.restoring")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700, parents=True)
    for entry in manifest.files:
        if entry.path != DUMP:
            to = _inside(fresh, entry.path)
            _copy(_inside(folder, entry.path), to)
            to.chmod(entry.mode)
    if dumped:
        fill(database_url, folder / DUMP)
    with suppress(FileNotFoundError):
        home.rmdir()
    fresh.rename(home)
    sync_folder(home.parent)
    return manifest


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
