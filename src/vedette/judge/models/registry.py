"""The registry: models of an installation, each under the hash of its arrays, each with a signed entry.

An entry says what was registered, by whom and why: the hashes of every file of the model directory, in a C2SP signed
note. A model is loaded only when its entry's signature is by a key of this installation's ring and every file is the
one the entry names; so who can write to the folder, but not sign, can break a model and never change one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vedette.core.clock import Clock
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.prove.keys import KeyRing
from vedette.prove.verifier import Invalid, VerifierKey, open_note

if TYPE_CHECKING:
    from vedette.judge.models.model import Model

KEY = "vedette.local/models"
PURPOSE = "models"
NOTE = "entry.note"
HEADER = "vedette model entry"
MAX_NOTE = 64 << 10
"""Longest note; the text of a longer one is not looked at."""
SHORTEST = 6
"""Characters of a hash that may name a model."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What was registered."""

    id: str
    """Source and start of the hash."""
    source: str
    sha256: str
    """Of the flat arrays: what is served."""
    files: dict[str, str]
    """File of the model directory -> SHA-256, the card among them."""
    features_version: str
    time: int
    """Microseconds UTC."""
    operator: str
    note: str = ""

    def to_text(self) -> str:
        """What is signed."""
        return f"{HEADER}\n{msgspec.json.encode(self, order='deterministic').decode()}\n"


class Registry:
    """Models of an installation. Safe for several processes: a model's folder appears whole or not at all.

    Args:
        folder: `models` under home.
        keys: Signs and verifies entries.
        clock: Times of entries.
    """

    def __init__(self, folder: Path, keys: KeyRing, clock: Clock) -> None:
        self._folder = folder
        self._keys = keys
        self._clock = clock

    def add(self, folder: Path, *, operator: str, note: str = "") -> Entry:
        """Takes a model directory in; one that is there already keeps its entry.

        Args:
            folder: Of the model.
            operator: Who registers it.
            note: Why.

        Raises:
            DataError: What `load_model` refuses.
        """
        from vedette.judge.models.model import CARD, FILES, load_model

        model = load_model(folder)
        place = self._folder / model.sha256
        if place.exists():
            return self._entry(place)
        names = [name for name in (*FILES, CARD) if (folder / name).exists()]
        fresh = self._folder / f".{model.sha256}.{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for name in names:
            shutil.copyfile(folder / name, fresh / name)
        entry = Entry(
            id=model.id,
            source=model.source,
            sha256=model.sha256,
            files={name: hashlib.sha256((fresh / name).read_bytes()).hexdigest() for name in names},
            features_version=model.feature_set.version,
            time=self._clock.now(),
            operator=operator,
            note=note[:500],
        )
        (fresh / NOTE).write_text(self._keys.signer().sign_note(entry.to_text()), encoding="utf-8")
        try:
            fresh.rename(place)
        except OSError:
            # Another process was first: its entry stands.
            shutil.rmtree(fresh, ignore_errors=True)
        return self._entry(place)

    def entries(self) -> list[Entry]:
        """Every model whose entry is sound, newest first; `damaged` names the others."""
        found = [entry for place in self._places() if (entry := self._sound(place))]
        return sorted(found, key=lambda entry: (-entry.time, entry.id))

    def damaged(self) -> list[str]:
        """Hashes of models whose entry is missing, not signed by us, or of another model."""
        return [place.name for place in self._places() if not self._sound(place)]

    def find(self, name: str) -> Entry:
        """An entry by id, by hash, or by the start of the hash.

        Raises:
            NotFoundError: `model.registry.unknown`.
            ConflictError: `model.registry.ambiguous`.
            DataError: `model.registry.signature`.
        """
        bare = name.rpartition("-")[2]
        places = [place for place in self._places() if len(bare) >= SHORTEST and place.name.startswith(bare)]
        if not places:
            raise NotFoundError("model.registry.unknown", "no such model is registered", at=name[:80])
        if len(places) > 1:
            raise ConflictError("model.registry.ambiguous", "several models begin so", at=name[:80])
        return self._entry(places[0])

    def load(self, name: str) -> Model:
        """A registered model, after its signature and the hash of every file were checked.

        Raises:
            DataError: `model.registry.signature`, `model.registry.changed`; what `load_model` refuses.
            NotFoundError, ConflictError: As `find`.
        """
        entry = self.find(name)
        place = self._folder / entry.sha256
        for file, digest in entry.files.items():
            if _digest(place / file) != digest:
                raise DataError(
                    "model.registry.changed",
                    f"`{file}` is not the file that was registered",
                    hint="restore the folder from a backup, or register the model again",
                    at=str(place / file),
                )
        from vedette.judge.models.model import load_model

        model = load_model(place, sha256=entry.sha256)
        if (model.sha256, model.feature_set.version) != (entry.sha256, entry.features_version):
            raise DataError("model.registry.changed", "the model is not the one that was registered", at=entry.id)
        return model

    def folder_of(self, entry: Entry) -> Path:
        """Where a registered model's files are."""
        return self._folder / entry.sha256

    def _places(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(place for place in self._folder.iterdir() if place.is_dir() and not place.name.startswith("."))

    def _sound(self, place: Path) -> Entry | None:
        try:
            return self._entry(place)
        except DataError:
            return None

    def _entry(self, place: Path) -> Entry:
        entry = read_entry(place / NOTE, self._keys.verifiers())
        if entry.sha256 != place.name:
            raise DataError("model.registry.signature", "the entry is of another model", at=str(place))
        return entry


def read_entry(path: Path, keys: Sequence[VerifierKey]) -> Entry:
    """A signed entry.

    Raises:
        DataError: `model.registry.signature` when it is missing, damaged, or signed by none of the keys.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = open_note(file.read(MAX_NOTE + 1), keys)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("model.registry.signature", "the model has no entry", at=str(path)) from error
    except Invalid as error:
        hint = "register the model again: only this installation's key signs entries"
        raise DataError("model.registry.signature", "the entry is not signed by us", hint=hint, at=str(path)) from error
    header, _, body = text.partition("\n")
    try:
        entry = msgspec.json.decode(body, type=Entry)
    except msgspec.MsgspecError as error:
        raise DataError("model.registry.signature", "the note is no entry of a model", at=str(path)) from error
    if header != HEADER:
        raise DataError("model.registry.signature", "the note is no entry of a model", at=str(path))
    return entry


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
