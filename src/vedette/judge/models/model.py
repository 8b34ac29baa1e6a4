"""A model directory: `model.npz` (flat arrays), `features.yaml`, `profile.json`, `model.json` (the card).

The definitions say what the inputs mean, the profile how they lay when the model was trained.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from vedette.core.errors import DataError
from vedette.judge.models.calibration import Calibration
from vedette.judge.models.profile import Profile, read_profile
from vedette.judge.models.trees import Floats, Trees
from vedette.sense.features.definition import FeatureSet, parse_features

FORMAT = 3
MAX_BYTES = 256 << 20
"""Largest file of a model directory."""
TREES = tuple(field.name for field in fields(Trees) if field.init)
ARRAYS, FEATURES, PROFILE, CARD = "model.npz", "features.yaml", "profile.json", "model.json"
FILES = (ARRAYS, FEATURES, PROFILE)
"""Files whose hashes the card holds; a model without a profile scores, and cannot be watched."""


@dataclass(frozen=True, slots=True)
class Model:
    """A versioned scorer. Its directory holds everything that a score depends on."""

    sha256: str
    """Of `model.npz`: trees, calibration, feature names and the version of the feature definitions."""
    feature_set: FeatureSet
    trees: Trees
    calibration: Calibration
    card: Mapping[str, Any]
    """Data span, hashes, metrics, limits; for people, never read by the scorer."""
    label_delay: int
    """Microseconds from an event to its label in the history that the model was trained on."""
    profile: Profile | None = None
    """How inputs and scores lay when it was trained; None for a model without one, which cannot be watched."""

    @property
    def id(self) -> str:
        """Source and start of the hash."""
        return f"{self.source}-{self.sha256[:12]}"

    @property
    def source(self) -> str:
        """Source file whose events it scores."""
        return self.feature_set.source

    @property
    def features(self) -> tuple[str, ...]:
        """Feature names, in the order of every vector."""
        return self.feature_set.names

    @property
    def bias(self) -> float:
        """Raw score that contributions start from."""
        return self.trees.bias

    def raw(self, vector: Floats) -> float:
        """Log odds before calibration, bit-equal to LightGBM's raw score. NaN means missing."""
        return self.trees.raw(vector)

    def score(self, vector: Floats) -> float:
        """Calibrated probability of fraud, 0..1, higher is riskier."""
        return self.calibration.score(self.trees.raw(vector))

    def scores(self, vectors: Floats) -> Floats:
        """`score` of each row."""
        return self.calibration.scores(self.trees.raws(vectors))

    def contributions(self, vector: Floats) -> Floats:
        """Log odds that each feature added, exact Shapley values; `bias` plus their sum is `raw` within 1e-9."""
        return self.trees.contributions(vector)

    def scored(self, vectors: Floats) -> tuple[Floats, Floats]:
        """`scores`, and `contributions` of each row."""
        raws, contributions = self.trees.scored(vectors)
        return self.calibration.scores(raws), contributions

    def warm(self) -> None:
        """Compiles the kernels, so that no decision waits for it."""
        vector = np.zeros(len(self.features))
        self.score(vector)
        self.scores(vector.reshape(1, -1))
        self.contributions(vector)


def store_model(
    folder: Path,
    *,
    trees: Trees,
    calibration: Calibration,
    features: FeatureSet,
    label_delay: int,
    card: dict[str, Any],
    profile: Profile | None = None,
) -> Model:
    """Writes a model directory and loads it again. The same model gives the same bytes."""
    arrays = {name: getattr(trees, name) for name in TREES}
    buffer = io.BytesIO()
    np.savez(
        buffer,
        allow_pickle=False,
        format=np.int64(FORMAT),
        names=np.array(features.names),
        features_version=np.array(features.version),
        label_delay=np.int64(label_delay),
        calibration=np.array([calibration.a, calibration.b, calibration.c]),
        knots=np.array(calibration.knots, np.float64).reshape(-1, 2),
        **arrays,
    )
    folder.mkdir(parents=True, exist_ok=True)
    contents = {ARRAYS: buffer.getvalue(), FEATURES: features.text.encode()}
    if profile is not None:
        contents[PROFILE] = profile.to_bytes()
    sha256 = hashlib.sha256(contents[ARRAYS]).hexdigest()
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    whole = {"id": f"{features.source}-{sha256[:12]}", "source": features.source, "files": files, **card}
    contents[CARD] = (json.dumps(whole, indent=2) + "\n").encode()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return load_model(folder, sha256=sha256)


def load_model(folder: Path, *, sha256: str = "") -> Model:
    """Loads a model directory.

    Args:
        folder: Directory of the model.
        sha256: Hash of `model.npz` that the caller expects, from a registry; without it the card's own is used.

    Raises:
        DataError: `model.file.unreadable`; `model.file.hash` when a file is not the one the card (or the caller) names;
            `model.file.invalid`; `model.trees.invalid`.
    """
    card = _card(folder)
    contents = {}
    for name in FILES:
        if name == PROFILE and name not in card["files"]:
            continue
        contents[name] = _read(folder / name)
        found = hashlib.sha256(contents[name]).hexdigest()
        if found != card["files"].get(name) or (sha256 and name == ARRAYS and found != sha256):
            raise DataError(
                "model.file.hash",
                f"`{name}` is not the file that was stored",
                hint="restore the model directory, or train again",
                at=str(folder / name),
            )
    try:
        features = parse_features(contents[FEATURES].decode(), path=str(folder / FEATURES))
        with np.load(io.BytesIO(contents[ARRAYS]), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        parts = {name: arrays[name] for name in TREES}
        good = int(arrays["format"]) == FORMAT and str(arrays["features_version"]) == features.version
        good = good and tuple(arrays["names"].tolist()) == features.names
        a, b, c = arrays["calibration"].tolist()
        knots = tuple((float(raw), float(score)) for raw, score in arrays["knots"].tolist())
        delay = int(arrays["label_delay"])
    except (KeyError, ValueError, OSError, EOFError, TypeError, BadZipFile) as error:
        raise DataError("model.file.invalid", "the files are no model", at=str(folder)) from error
    rising = all(one[0] < other[0] and one[1] <= other[1] for one, other in pairwise(knots))
    if not rising or any(not 0 <= score <= 1 for _, score in knots):
        raise DataError("model.file.invalid", "the calibration does not rise", at=str(folder))
    if not good:
        raise DataError("model.file.invalid", "`features.yaml` is not what the trees were trained on", at=str(folder))
    trees = Trees(**parts)
    trees.check(len(features.names))
    return Model(
        sha256=hashlib.sha256(contents[ARRAYS]).hexdigest(),
        feature_set=features,
        trees=trees,
        calibration=Calibration(a, b, c, knots),
        card=card,
        label_delay=delay,
        profile=read_profile(contents[PROFILE], at=str(folder / PROFILE)) if PROFILE in contents else None,
    )


def _card(folder: Path) -> dict[str, Any]:
    try:
        card = json.loads(_read(folder / CARD))
    except (ValueError, RecursionError) as error:
        raise DataError(
            "model.file.invalid", "the card is no JSON, or nests too deep", at=str(folder / CARD)
        ) from error
    if not isinstance(card, dict) or not isinstance(card.get("files"), dict):
        raise DataError("model.file.invalid", "the card names no files", at=str(folder / CARD))
    return card


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError("model.file.unreadable", f"larger than {MAX_BYTES} bytes", at=str(path))
        return path.read_bytes()
    except OSError as error:
        raise DataError("model.file.unreadable", "no such model file", at=str(path)) from error
