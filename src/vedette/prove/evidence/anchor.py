"""Anchors: where the signed heads of the tree are kept outside the database that they vouch for.

Who can rewrite the whole database can also recompute the whole tree; only something kept elsewhere disagrees. An anchor
keeps the signed checkpoints, the keys they were first signed with, and, when it can afford 32 bytes a record, the leaf
hashes, with which damage is placed at the very record instead of between two checkpoints.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from vedette.core.errors import PermanentError
from vedette.prove.keys import OWNER_ONLY, sync_folder
from vedette.prove.verifier import HASH_BYTES, Invalid, VerifierKey, parse_key

_NOTE = re.compile(r"^(?:[^\n]+\n)+\n(?:\u2014 [^\n]+\n)+(?=\n)", re.MULTILINE)
_TAIL = 128 * 1024
"""Bytes read to find the last note: more than two notes of the largest size."""


class Anchor(Protocol):
    """A place outside the database. Implementations must be append-only and durable when a call returns."""

    def publish(self, note: str, first: int, leaves: Sequence[bytes], key: VerifierKey) -> None:
        """Adds a signed checkpoint with the leaf hashes since the last one; `first` is the index of the first leaf.

        Publishing the same again changes nothing.
        """

    def notes(self) -> list[str]:
        """Every signed checkpoint, oldest first."""

    def last_note(self) -> str | None:
        """The newest signed checkpoint."""

    def keys(self) -> list[VerifierKey]:
        """Keys that published here, oldest first."""

    def leaf_count(self) -> int:
        """Leaf hashes kept; 0 when this anchor keeps none."""

    def leaves(self, first: int, count: int) -> list[bytes]:
        """Leaf hashes from an index on, fewer at the end."""


class FileAnchor:
    """Files in a folder that belongs on another disk, share or machine than the database.

    `checkpoints` holds signed notes with an empty line after each, `leaves` 32 bytes a record, `keys` a verifier key a
    line. Leaves are synced before the note that covers them, so a crash leaves at most a torn tail that no note covers.

    Args:
        folder: Made with mode 0700 when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._notes = folder / "checkpoints"
        self._leaves = folder / "leaves"
        self._keys = folder / "keys"

    def publish(self, note: str, first: int, leaves: Sequence[bytes], key: VerifierKey) -> None:
        """Adds a checkpoint.

        Raises:
            PermanentError: `evidence.anchor.diverged` when the leaves kept here are not those of the database.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if key not in self.keys():
            _append(self._keys, f"\n{key}\n".encode())
        kept = self.leaves(first, len(leaves))
        if self.leaf_count() < first or kept != list(leaves[: len(kept)]):
            raise PermanentError(
                "evidence.anchor.diverged",
                f"the anchor holds other leaf hashes than the database from record {first} on",
                hint="run `vedette audit verify`",
                at=str(self._leaves),
            )
        whole = self.leaf_count() * HASH_BYTES
        if self._leaves.exists() and self._leaves.stat().st_size > whole:
            os.truncate(self._leaves, whole)  # part of a hash, from a crash while writing
        _append(self._leaves, b"".join(leaves[len(kept) :]))
        if note != self.last_note():
            _append(self._notes, f"{self._gap()}{note}\n".encode())
        sync_folder(self._folder)

    def notes(self) -> list[str]:
        """Every complete note; what a crash tore is passed over."""
        if not self._notes.exists():
            return []
        return _NOTE.findall(self._notes.read_text(encoding="utf-8", errors="replace"))

    def last_note(self) -> str | None:
        """The newest complete note, from the end of the file."""
        if not self._notes.exists():
            return None
        with self._notes.open("rb") as file:
            file.seek(max(0, self._notes.stat().st_size - _TAIL))
            found: list[str] = _NOTE.findall(file.read().decode("utf-8", errors="replace"))
        return found[-1] if found else None

    def keys(self) -> list[VerifierKey]:
        """Keys that published here, oldest first."""
        text = self._keys.read_text(encoding="utf-8", errors="replace") if self._keys.exists() else ""
        found = []
        for line in text.split("\n"):
            with suppress(Invalid):  # a torn or damaged line is no key, and what it signed will not verify
                found.append(parse_key(line))
        return found

    def leaf_count(self) -> int:
        """Whole leaf hashes kept."""
        return self._leaves.stat().st_size // HASH_BYTES if self._leaves.exists() else 0

    def leaves(self, first: int, count: int) -> list[bytes]:
        """Leaf hashes from an index on."""
        if not self._leaves.exists():
            return []
        with self._leaves.open("rb") as file:
            file.seek(first * HASH_BYTES)
            return list(_chunks(file.read(count * HASH_BYTES)))

    def _gap(self) -> str:
        """What separates a note from a torn one before it."""
        if not self._notes.exists():
            return ""
        with self._notes.open("rb") as file:
            file.seek(max(0, self._notes.stat().st_size - 2))
            return "" if file.read() in {b"\n\n", b""} else "\n\n"


def _chunks(raw: bytes) -> Iterator[bytes]:
    return (raw[i : i + HASH_BYTES] for i in range(0, len(raw) - HASH_BYTES + 1, HASH_BYTES))


def _append(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
