"""Files through the whole loop: into the log, and everything behind it up to the end; again for what is added."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from vedette.core.errors import DataError
from vedette.prove.evidence.collect import SETTLED
from vedette.run.pipeline.detecting import SIGNALS
from vedette.run.platform import Platform
from vedette.sense.files import Chunk, list_files
from vedette.sense.ingest import Counts
from vedette.sense.sources import Source

Tell = Callable[[str, int], None]


class Files:
    """A run over files for one tenant.

    Args:
        platform: What the records flow through.
        tenant: Whose they are.
        paths: Files and folders.
        source: Of all of them; recognised file by file when left out.
        tell: Told what is being done and how many records that was so far.
    """

    def __init__(
        self,
        platform: Platform,
        tenant: str,
        paths: Sequence[Path],
        *,
        source: Source | None = None,
        tell: Tell = lambda _what, _records: None,
    ) -> None:
        self._platform = platform
        self._intake = platform.intake(tenant)
        self._tenant = tenant
        self._paths = paths
        self._source = source
        self._tell = tell
        self._read = 0
        self._seen: dict[Path, tuple[int, int]] = {}
        self._alerts_before = platform.alerts.count(tenant)
        self._taken: dict[str, int] = {}
        self.counts: dict[str, Counts] = {}
        """Source -> what became of its records; of a file that is looked at again, only what is new counts."""

    def look(self, *, growing: bool = False) -> None:
        """Takes in what is new in the files, then runs the stages to the end of the log.

        Args:
            growing: A file may still be written to: an unfinished last line waits for the next look.

        Raises:
            DataError: `files.path.*`, `files.folder.empty`, `files.gzip.not_gzip`, on the first look; later a file
                that cannot be opened any more was rotated away.
        """
        if not self._seen:
            # The states first: what is added while a file is read is found by the next look.
            self._seen = {file: _state(file) for path in self._paths for file in list_files(path)}
            self._take(self._paths, again=False, growing=growing)
        else:
            for file, state in self._changed().items():
                known = file in self._seen
                self._seen[file] = state
                with suppress(DataError):
                    self._take([file], again=known, growing=growing)
        self._drain()

    def _changed(self) -> Mapping[Path, tuple[int, int]]:
        found: dict[Path, tuple[int, int]] = {}
        for path in self._paths:
            with suppress(DataError, FileNotFoundError):
                found |= {file: _state(file) for file in list_files(path)}
        return {file: state for file, state in found.items() if self._seen.get(file) != state}

    def _take(self, paths: Sequence[Path], *, again: bool, growing: bool) -> None:
        def tell(chunk: Chunk) -> None:
            self._read += 0 if again else chunk.count
            self._tell(chunk.path.name, self._read)

        counts = self._intake.files(paths, source=self._source, progress=tell, growing=growing)
        for name, each in counts.items():
            if again:
                each.read, each.duplicate = each.stored + each.quarantined, 0
            total = self.counts.setdefault(name, Counts())
            for field in fields(Counts):
                setattr(total, field.name, getattr(total, field.name) + getattr(each, field.name))

    def _drain(self) -> None:
        taken = self._platform.drain(lambda so_far: self._tell("storing and detecting", max(so_far.values())))
        for name, count in taken.items():
            self._taken[name] = self._taken.get(name, 0) + count

    def settle(self) -> None:
        """Waits until the newest records are settled, takes them into the evidence tree and signs its head."""
        self._drain()
        threading.Event().wait(SETTLED + 0.05)
        while self._platform.collector.collect():
            pass
        self._platform.evidence.checkpoint()

    @property
    def stages(self) -> Mapping[str, Mapping[str, int]]:
        """Stage -> records it took, and how many it is behind; for `store` also what became of them."""
        platform = self._platform
        lags = platform.lags()
        shown = {name: {"taken": count, "lag": lags[name]} for name, count in self._taken.items()}
        for outcome in ("stored", "duplicate"):
            shown["store"][outcome] = sum(
                round(platform.meters.value("vedette_source_records_total", source=name, outcome=outcome))
                for name in platform.sources
            )
        return shown

    @property
    def signals(self) -> int:
        """Signals written by this run."""
        return round(self._platform.meters.value("vedette_consumer_records_total", consumer=SIGNALS))

    @property
    def alerts_all(self) -> int:
        """Alerts of the tenant."""
        return self._platform.alerts.count(self._tenant)

    @property
    def alerts_made(self) -> int:
        """Alerts that this run added."""
        return self.alerts_all - self._alerts_before

    @property
    def evidence(self) -> int:
        """Records in the evidence tree."""
        return self._platform.evidence.size()


def _state(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns
