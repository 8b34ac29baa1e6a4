"""The folder of a demo: what is where in it, and that nobody's other folder is ever emptied."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from vedette.core.errors import DataError

MARK = "vedette-demo"
"""Name of the file that says: this folder was made by the demo and may be replaced by the next one."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where everything of one demo is."""

    path: Path

    @property
    def home(self) -> Path:
        """The product's data."""
        return self.path / "home"

    @property
    def history(self) -> Path:
        """Labelled payments of the sixty days before."""
        return self.path / "history.parquet"

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.path / "model"

    @property
    def clock(self) -> Path:
        """The clock's file."""
        return self.path / "clock"

    @property
    def truth(self) -> Path:
        """What really happened."""
        return self.path / "truth.ndjson"

    @property
    def score(self) -> Path:
        """The score board, as JSON."""
        return self.path / "score.json"


def check_folder(path: Path) -> None:
    """Whether a demo may have this folder.

    Raises:
        DataError: `demo.folder.other`: it holds something that no demo made.
    """
    if path.exists() and not (path.is_dir() and ((path / MARK).is_file() or not any(path.iterdir()))):
        raise DataError(
            "demo.folder.other",
            "this folder holds something else, and a demo replaces its folder",
            hint="name another with --out",
            at=str(path),
        )


def make_folder(path: Path) -> Folder:
    """An empty folder for a demo; an earlier demo's is replaced.

    Raises:
        DataError: `demo.folder.other`.
    """
    check_folder(path)
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    (path / MARK).write_text("made by `vedette demo`; the next one replaces this folder\n", encoding="utf-8")
    return Folder(path)
