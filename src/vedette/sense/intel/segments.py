"""Segments: an index of the observables of stored events, by which indicators are hunted in the past.

One segment for each data file of the event store, made from that file alone: for each canonical value that its events
hold, and each name above, a 64-bit hash and the rows; for addresses their numbers too, so that networks are ranges. A
data file never changes, so a segment never does; one that is missing or damaged is made when it is asked for, one whose
file is gone is removed. It can be deleted at any time. What it finds are candidates: the events themselves say whether.
"""

from __future__ import annotations

import glob
import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow.parquet as pq

from vedette.core.clock import MICROS
from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.sense.history import Span
from vedette.sense.intel.observables import Observables, texts
from vedette.sense.intel.postings import Keys, PostingsFile, Rows, postings, write_postings
from vedette.sense.intel.values import Kind, address, canonical, host_of, parents, url_keys
from vedette.sense.store import ENVELOPE, Store, to_event

VERSION = 2
"""Of the form of segments; part of their names."""
FOLDER = "_observed"
"""Beside the table's partitions; Delta leaves alone what begins with a line."""
REMEMBERED = 1 << 20
"""Most distinct values of a source whose keys are remembered while segments are made."""
LEFT = 3_600 * MICROS
"""Age from which a file that a killed writer left is removed."""
FETCHED = 2_000
"""Events read at a time."""


class DataFile(NamedTuple):
    """One data file of a table."""

    source: str
    path: Path
    date: str
    rows: int


class Candidate(NamedTuple):
    """Rows of a data file that may hold what is looked for."""

    file: DataFile
    rows: npt.NDArray[np.int64]


class Segments:
    """The index of a store.

    Args:
        store: Whose tables.
        observables: Source -> where its observables are.
    """

    def __init__(self, store: Store, observables: Mapping[str, Observables]) -> None:
        self._store = store
        self._observables = observables
        self._keys: dict[str, dict[tuple[Kind, str], tuple[int, ...]]] = {}

    def files(self, tenant: str, span: Span) -> list[DataFile]:
        """The data files that can hold a tenant's events of a span, of sources with observables."""
        found = []
        for source in self._store.names():
            if source in self._observables:
                folder = self._store.folder / source
                for path, date, rows in self._store.table(source).files(tenant, span.start, span.end):
                    found.append(DataFile(source, folder / path, date, rows))
        return found

    def prepare(
        self, files: Sequence[DataFile], progress: Callable[[int, int], None] = lambda _done, _all: None
    ) -> int:
        """Makes the segments that are missing; gives how many. Costs about 5 CPU seconds a million events."""
        missing = [file for file in files if not _place(file).exists()]
        for number, file in enumerate(missing):
            progress(number, len(missing))
            self._make(file)
        self._keys.clear()
        return len(missing)

    def tidy(self, now: int) -> int:
        """Removes the segments of data files that are gone, and what killed writers left; gives how many.

        Args:
            now: Microseconds UTC.
        """
        gone = [*self._gone(now)]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _gone(self, now: int) -> Iterator[Path]:
        for folder in self._store.folder.glob(f"*/{FOLDER}"):
            live = {_name(Path(name)) for name in self._store.table(folder.parent.name).every_file()}
            for path in folder.iterdir():
                young = path.name.startswith(".") and _changed(path) > now - LEFT
                if path.name not in live and not young:
                    yield path

    def look(self, files: Iterable[DataFile], values: Iterable[str]) -> Iterator[Candidate]:
        """The rows that may hold any of some indicators' values; a segment that is missing or damaged is made anew.

        Args:
            files: Where to look.
            values: Canonical ones.
        """
        hashes, ranges = _wanted(values)
        for file in files:
            try:
                found = _found(_place(file), hashes, ranges)
            except (DataError, FileNotFoundError):
                self._make(file)
                found = _found(_place(file), hashes, ranges)
            if len(found):
                yield Candidate(file, found.astype(np.int64))

    # Making

    def _make(self, file: DataFile) -> None:
        keys, rows = list[int](), list[int]()
        addresses, address_rows = list[int](), list[int]()
        start = 0
        for batch in pq.ParquetFile(file.path).iter_batches(20_000, columns=["data"]):
            column = batch.column(0)
            for number, whole, net in self._values(
                file.source, [orjson.loads(str(each)) for each in column.to_pylist()]
            ):
                keys.append(whole)
                rows.append(start + number)
                if net >= 0:
                    addresses.append(net)
                    address_rows.append(start + number)
            start += batch.num_rows
        write_postings(_place(file), (postings(keys, rows), postings(addresses, address_rows)))

    def _values(self, source: str, records: Sequence[dict[str, Any]]) -> Iterator[tuple[int, int, int]]:
        """(Row, hash, IPv4 number or upper half of an IPv6 address, else -1) of all values."""
        known = self._keys.setdefault(source, {})
        for field, kind, read in self._observables[source].fields:
            plain = "." not in field
            for number, data in enumerate(records):
                value = data.get(field) if plain else read(data)
                if value is None or value == "":
                    continue
                for text in texts(value, kind):
                    keys = known.get((kind, text))
                    if keys is None:
                        if len(known) >= REMEMBERED:
                            known.clear()
                        keys = known[kind, text] = _keys_of(kind, text)
                    for key in keys[1:]:
                        yield number, key, keys[0] if key == keys[1] else -1


def hash_of(value: str) -> int:
    """64 bits of BLAKE2b of a canonical value."""
    return int.from_bytes(hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _keys_of(kind: Kind, text: str) -> tuple[int, ...]:
    """The number of an address (-1 for none), and hashes of all that indicators may call a value."""
    names, own = _names(kind, text)
    number = _number(own) if own else -1
    return (number, *(hash_of(name) for name in names))


def _names(kind: Kind, text: str) -> tuple[list[str], str]:
    """All canonical values, and the address among them, which is first then."""
    plain = text.lower().rstrip(".")
    if kind is Kind.URL:
        try:
            url = canonical(Kind.URL, text)
        except DataError:
            return [], ""
        host = host_of(url)
        more, own = _names(Kind.DOMAIN, host) if host else ([], "")
        return [*more, *url_keys(url)], own
    if kind in {Kind.IPV4, Kind.IPV6, Kind.DOMAIN}:
        bare = plain.rpartition(":")[0] if plain.count(":") == 1 else plain
        if own := address(bare) if bare[-1:].isdecimal() or ":" in bare else "":
            return [own], own
        return (parents(plain), "") if kind is Kind.DOMAIN and "." in plain else ([], "")
    return [plain], ""


def _number(own: str) -> int:
    found = ipaddress.ip_address(own)
    return int(found) if found.version == 4 else (int(found) >> 64) | 1 << 63  # noqa: PLR2004


def _wanted(values: Iterable[str]) -> tuple[Keys, list[tuple[int, int]]]:
    """Hashes to look for, and ranges of addresses."""
    hashes, ranges = [], []
    for value in values:
        if "/" in value and value[0] != "/":
            net = ipaddress.ip_network(value)
            first, last = str(net.network_address), str(net.broadcast_address)
            ranges.append((_number(first), _number(last)))
        else:
            hashes.append(hash_of(value))
    return np.unique(np.array(hashes, np.uint64)), ranges


def _found(place: Path, hashes: Keys, ranges: Sequence[tuple[int, int]]) -> Rows:
    """Rows whose key is among some, or whose address lies in some ranges; each once."""
    with PostingsFile(place) as held:
        keys, numbers = held.parts
        return np.unique(np.concatenate([keys.find(hashes), *(numbers.between(*each) for each in ranges)]))


def _place(file: DataFile) -> Path:
    return file.path.parents[2] / FOLDER / _name(file.path)


def _name(path: Path) -> str:
    """What the segment of a data file is called."""
    return f"{hashlib.blake2b(path.name.encode(), digest_size=12).hexdigest()}.{VERSION}"


def _changed(path: Path) -> int:
    """When a file was last written, microseconds UTC; 0 for one that is gone."""
    try:
        return path.stat().st_mtime_ns // 1_000
    except FileNotFoundError:
        return 0


def events_of(candidate: Candidate) -> Iterator[Event]:
    """The events of the rows that may hold what is looked for. Only the pages that hold such rows are unpacked."""
    # Tenant and date stand in the folder's name, not in the file.
    columns = ", ".join(name for name in ENVELOPE.names if name not in {"tenant", "date"})
    path = candidate.file.path
    tenant = next(part for part in path.parts if part.startswith("tenant=")).removeprefix("tenant=")
    query = (
        f"select {columns} from read_parquet(?, file_row_number=true, hive_partitioning=false)"
        " where file_row_number in (select unnest(?::bigint[])) order by file_row_number"
    )
    with duckdb.connect(":memory:", config={"threads": 1, "autoinstall_known_extensions": False}) as connection:
        found = connection.sql(query, params=[glob.escape(str(path)), candidate.rows.tolist()])
        for batch in found.to_arrow_reader(FETCHED):
            for row in batch.to_pylist():
                yield to_event({**row, "tenant": tenant})
