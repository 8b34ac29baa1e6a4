"""One Delta Lake table: idempotent appends by one writer at a time, readers never wait.

An append is one Delta commit, so it happened whole or not at all, also when the process is killed in the middle: what a
killed writer left behind is a data file that no commit names, and `compact` removes it after a week. Commits survive
the death of the process; they are not synced one by one against a power cut.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from vedette.core.clock import to_iso
from vedette.core.errors import NotFoundError

PARTITION = ("tenant", "date")
"""Every table is partitioned by these."""

ORPHAN_HOURS = 168
"""Age from which `compact` removes files that no commit names."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a consumer has come, kept in the same commit as what it wrote."""

    app: str
    """Name of the consumer and its partition of the log, such as `store/event/0`."""
    offset: int
    """Offset after the last record of the batch. Only ever grows."""


class Table:
    """A Delta table in a folder, made at its first append.

    Args:
        folder: Where it lives; its parent is made when missing.
        version: The commit to read, for one that nothing is written to; None reads the newest each time.
    """

    def __init__(self, folder: Path, version: int | None = None) -> None:
        self.folder = folder
        self._version = version
        self._delta: DeltaTable | None = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the table's write lock, across processes. The lock ends with the process, however it ends."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / f".{self.folder.name}.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def delta(self) -> DeltaTable | None:
        """The table at its newest commit, or at its own version; None before the first.

        Raises:
            NotFoundError: `store.version.erased`: that version, or a file of it, is no longer there.
        """
        if self._version is not None:
            self._delta = self._delta or self._pinned(self._version)
        elif self._delta is not None:
            self._delta.update_incremental()
        elif DeltaTable.is_deltatable(str(self.folder)):
            self._delta = DeltaTable(str(self.folder))
        return self._delta

    def _pinned(self, version: int) -> DeltaTable:
        try:
            delta = DeltaTable(str(self.folder), version=version)
        except DeltaError as error:
            raise _erased(self.folder.name) from error
        paths = pa.table(delta.get_add_actions())["path"].to_pylist()
        if not all((self.folder / unquote(str(path))).is_file() for path in paths):
            raise _erased(self.folder.name)
        return delta

    def holds(self, mark: Mark) -> bool:
        """True when a batch that ended at this mark, or after it, has been appended."""
        delta = self.delta()
        version = delta.transaction_version(mark.app) if delta else None
        return version is not None and version >= mark.offset

    def append(self, rows: pa.Table, mark: Mark | None = None) -> None:
        """Adds rows and the mark in one commit; new columns are added to the table. Call it inside `writing`.

        Both or neither: after a kill, `holds(mark)` says which.
        """
        actions = [Transaction(mark.app, mark.offset)] if mark else None
        write_deltalake(
            self._delta or str(self.folder),
            rows,
            mode="append",
            partition_by=list(PARTITION),
            schema_mode="merge",
            commit_properties=CommitProperties(app_transactions=actions),
        )

    def dataset(self, tenants: Sequence[str], dates: Sequence[str] | None = None) -> pads.Dataset | None:
        """The rows of some tenants, and only theirs, as an Arrow dataset; None when the table does not exist.

        Files of other tenants are not listed in it, and a filter on the column stands over it as well.
        """
        listed = self._listed(tenants, dates)
        return listed.filter(pc.field("tenant").isin(list(tenants))) if listed else None

    def _listed(self, tenants: Sequence[str], dates: Sequence[str] | None) -> pads.Dataset | None:
        """The files that can hold such rows."""
        delta = self.delta()
        if delta is None:
            return None
        wanted: list[tuple[str, str, list[str]]] = [("tenant", "in", list(tenants))]
        if dates is not None:
            wanted.append(("date", "in", list(dates)))
        # Arrow's own file system: the default one calls back into Python from reading threads, which crashes when a
        # query that stopped early is still reading ahead while the interpreter shuts down.
        files = pafs.SubTreeFileSystem(str(self.folder), pafs.LocalFileSystem())
        dataset: pads.Dataset = delta.to_pyarrow_dataset(filesystem=files, file_pruning_predicate=wanted)
        return dataset

    def files(self, tenant: str, since: int, until: int) -> list[tuple[str, str, int]]:
        """(Path in the folder, date, rows) of the data files that can hold a tenant's events of a time.

        Args:
            tenant: Whose.
            since: Event time, microseconds UTC.
            until: Event time to stop before.
        """
        delta = self.delta()
        if delta is None:
            return []
        added = pa.table(delta.get_add_actions(flatten=True))
        first, last = to_iso(max(0, since))[:10], to_iso(max(0, until - 1))[:10]
        names = ("path", "partition.tenant", "partition.date", "num_records")
        rows = zip(*(added[name].to_pylist() for name in names), strict=True)
        return [
            (unquote(str(path)), str(date), int(count or 0))
            for path, owner, date, count in rows
            if owner == tenant and first <= str(date) <= last
        ]

    def every_file(self) -> list[str]:
        """Paths of all data files that the newest commit names."""
        delta = self.delta()
        return [unquote(str(path)) for path in pa.table(delta.get_add_actions())["path"].to_pylist()] if delta else []

    def compact(self) -> Mapping[str, int]:
        """Joins small files and removes old leftovers; what the table holds does not change.

        Returns:
            `removed`, `added`: data files that were joined and that came of it; `orphans`: leftovers deleted.
        """
        with self.writing():
            delta = self.delta()
            if delta is None:
                return {"removed": 0, "added": 0, "orphans": 0}
            metrics = delta.optimize.compact()
            delta.create_checkpoint()
            orphans = delta.vacuum(retention_hours=ORPHAN_HOURS, dry_run=False, full=True)
            return {"removed": metrics["numFilesRemoved"], "added": metrics["numFilesAdded"], "orphans": len(orphans)}


def _erased(name: str) -> NotFoundError:
    hint = "joining small files keeps the rows and removes old versions after a week"
    return NotFoundError("store.version.erased", "this version of the table is no longer there", at=name, hint=hint)


def known_keys(dataset: pads.Dataset | None, where: pc.Expression, keys: pa.Table) -> set[tuple[str, str]]:
    """Which of the (tenant, id) pairs in `keys` the dataset already has among the rows that satisfy `where`.

    Streams over the two columns: memory is bounded by the pairs that are found.
    """
    if dataset is None:
        return set()
    wanted = pc.unique(keys["id"].combine_chunks())
    scanner = dataset.scanner(columns=["tenant", "id"], filter=where, batch_readahead=1, fragment_readahead=1)
    found: set[tuple[str, str]] = set()
    for batch in scanner.to_batches():
        hits = batch.filter(pc.is_in(batch.column("id"), value_set=wanted))
        pairs: list[Any] = hits.to_pylist()
        found.update((pair["tenant"], pair["id"]) for pair in pairs)
    return found
